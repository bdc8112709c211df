"""The sample stage: pictures from a trained model under the conditions of a data set's split."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import torch
from jaxtyping import Float, Int, UInt8
from safetensors.torch import load_file, save_file
from torch import Tensor

from ldm.autoencoder.model import FirstStage
from ldm.autoencoder.model import load as load_autoencoder
from ldm.conditioning import nothing_dropped, null_dropped
from ldm.config import Run
from ldm.data.batches import mixed
from ldm.data.latents import Latents
from ldm.data.pictures import encode, grid, to_uint8
from ldm.data.randomness import noise
from ldm.data.samples import Sample, write_samples
from ldm.diffusion.model import DiffusionModel, load
from ldm.diffusion.schedule import Schedule
from ldm.files import fresh_folder, identity, whole, write_json, write_manifest
from ldm.progress import Progress
from ldm.sampling.config import DDIM, DDPM, Samples
from ldm.sampling.guidance import guided
from ldm.sampling.samplers import ddim, ddpm, time_steps
from ldm.training.exact import setup

SHEET = 64


def sample(
    config: Samples, run: Run, model: Path, autoencoder: Path, latents: Path, out: Path, resume: Path
) -> Iterator[Progress]:
    """Draw `config.count` samples and write them to `out`; batches found in `resume` are not drawn again."""
    device = setup(run)
    diffusion, about = load(model)
    diffusion = diffusion.to(device)
    first_stage = load_autoencoder(autoencoder).to(device)
    if identity(autoencoder) != about["latents"]["autoencoder"]:
        raise ValueError(f"{model} was trained on latents of another autoencoder than {autoencoder}")
    data = Latents(latents, config.split)
    if data.info["latent_shape"] != about["latents"]["latent_shape"]:
        raise ValueError(f"{latents} and the latents that {model} was trained on differ in size")
    if isinstance(config.sampler, DDIM):
        time_steps(len(diffusion.schedule), config.sampler.num_steps)

    batches = -(-config.count // config.batch)
    wanted = _conditions(data, batches * config.batch)
    resume.mkdir(parents=True, exist_ok=True)
    pictures: list[UInt8[Tensor, "3 h w"]] = []
    for start in range(0, config.count, config.batch):
        kept = resume / f"batch-{start:09d}.safetensors"
        if not kept.is_file():
            rows = data.read(wanted[start : start + config.batch])
            batch = _batch(config, diffusion, first_stage, rows, start, device)
            with whole(kept) as beside:
                save_file({"pictures": batch}, beside)
        pictures += load_file(kept)["pictures"][: config.count - start]
        yield Progress(
            done=len(pictures), total=config.count, unit="samples", pictures={"samples": grid(pictures[-SHEET:], 8)}
        )

    fresh_folder(out)
    write_samples(out, _rows(data, wanted, pictures))
    sheet = grid(pictures[:SHEET], columns=8)
    with whole(out / "sheet.png") as beside:
        sheet.save(beside, format="png")
    sampler = config.sampler.model_dump() | {"num_steps": _num_steps(config, diffusion.schedule)}
    write_json(
        out / "sampling.json",
        {
            "sampler": sampler,
            "guidance": config.guidance,
            "seed": config.seed,
            "count": config.count,
            "split": config.split,
            "model": config.model,
            "model_identity": identity(model),
            "autoencoder_identity": identity(autoencoder),
            "condition": about["diffusion"]["condition"],
        },
    )
    write_manifest(out)
    shutil.rmtree(resume)


def _conditions(data: Latents, count: int) -> Int[Tensor, " count"]:
    """The row whose condition each sample takes: every picture as it was first drawn, whatever the seed."""
    first_draws = (data.draws == 0).nonzero().flatten()
    return first_draws[mixed(count, len(first_draws))]


@torch.no_grad()
def _batch(
    config: Samples,
    model: DiffusionModel,
    first_stage: FirstStage,
    rows: dict[str, Tensor],
    start: int,
    device: torch.device,
) -> UInt8[Tensor, "b 3 H W"]:
    """Always exactly `config.batch` samples, so that the bytes of one never depend on how many are wanted."""
    seeds = range(start, start + config.batch)
    rows = {name: values.to(device) for name, values in rows.items()}

    def keyed(*step: int) -> Float[Tensor, "b c h w"]:
        return torch.stack([noise(model.shape, config.seed, i, *step) for i in seeds]).to(device)

    wanted = model.condition(rows, nothing_dropped(config.batch, device))
    null = model.condition(rows, null_dropped(model.conditioner, config.batch, device))
    denoise = guided(model.denoiser, wanted, null, config.guidance)
    schedule = model.schedule.to(device)
    match config.sampler:
        case DDIM(num_steps=num_steps, eta=eta):
            path = ddim(denoise, keyed(), schedule, num_steps, eta, keyed)
        case DDPM():
            path = ddpm(denoise, keyed(), schedule, keyed)
    for latent in path:
        last = latent
    return to_uint8(first_stage.decode(model.scale.inverse(last))).cpu()


def _rows(data: Latents, wanted: Int[Tensor, " count"], pictures: list[UInt8[Tensor, "3 h w"]]) -> Iterator[Sample]:
    for i, (at, picture) in enumerate(zip(wanted.tolist(), pictures, strict=False)):  # the last batch is filled up
        row = data.read(torch.tensor([at]))
        low = row.get("low_resolution")
        label = int(row["label"])
        yield Sample(
            id=data.ids[at],
            seed=i,
            image=encode(picture),
            label=None if label < 0 else label,
            caption=data.caption(at),
            low_resolution=None if low is None else encode(low[0]),
        )


def _num_steps(config: Samples, schedule: Schedule) -> int:
    return config.sampler.num_steps if isinstance(config.sampler, DDIM) else len(schedule)
