"""The training loop of a diffusion model, whole on this page."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

from ldm.autoencoder.model import FirstStage
from ldm.autoencoder.model import load as load_autoencoder
from ldm.conditioning import nothing_dropped
from ldm.config import Run
from ldm.data.batches import batches, mixed, workers
from ldm.data.latents import Latents
from ldm.data.pictures import grid, to_uint8
from ldm.data.randomness import generator, key_seed
from ldm.diffusion.config import Diffusion
from ldm.diffusion.loss import diffusion_loss, raw_latent
from ldm.diffusion.model import DiffusionModel
from ldm.diffusion.preview import preview
from ldm.files import fresh_folder, identity, whole, write_json, write_manifest
from ldm.progress import Progress
from ldm.training.checkpoint import Checkpoints
from ldm.training.ema import EMA
from ldm.training.exact import setup
from ldm.training.history import REPORT_EVERY, History, finite
from ldm.training.optimiser import adamw, rate, update

PICTURES = 16


def train(config: Diffusion, run: Run, latents: Path, autoencoder: Path, out: Path, resume: Path) -> Iterator[Progress]:
    """Train the model of `config` on the cached `latents` and write it to `out`.

    Goes on from the checkpoint in `resume` where there is one, and ends in the same bytes as if it had never stopped.
    """
    device, t = setup(run), config.train
    data = Latents(latents, "train")
    first_stage = load_autoencoder(autoencoder).to(device)
    if identity(autoencoder) != data.info["autoencoder"]:
        raise ValueError(
            f"{latents} were not made by {autoencoder}: name the autoencoder of these latents in the diffusion row"
        )

    torch.manual_seed(t.seed)
    model = DiffusionModel(config, data.info).to(device).train()
    schedule = model.schedule.to(device)
    ema = EMA(model, t.ema)
    optimiser = adamw(model.parameters(), t)
    history, window, start, saved = History(), [], 0, None
    checkpoints = Checkpoints(resume)
    if found := checkpoints.load(device):
        start, state = found
        saved = start
        model.load_state_dict(state["model"])
        ema.model.load_state_dict(state["ema"])
        optimiser.load_state_dict(state["optimiser"])
        history, window = History(state["history"]), list(state["window"])

    def snapshot() -> dict[str, Any]:
        return {
            "model": model.state_dict(),
            "ema": ema.model.state_dict(),
            "optimiser": optimiser.state_dict(),
            "history": history.rows,
            "window": window,
        }

    show = partial(_pictures, ema.model, first_stage, latents, t.seed, device)
    ahead = batches(data.read, t.seed, start, t.steps, t.batch, len(data), workers())
    for step, rows in enumerate(ahead, start):
        rows = {name: column.to(device, non_blocking=True) for name, column in rows.items()}
        torch.manual_seed(key_seed(t.seed, "dropout", step))  # dropout layers draw from the global generator
        draw = generator(t.seed, "train", step, device=device)
        loss = diffusion_loss(
            model, schedule, raw_latent(rows, draw), rows,
            norm=t.loss, generator=draw,
        )  # fmt: skip
        norm = update(optimiser, loss, t, step)
        ema.update(step)
        window.append(torch.stack([loss.detach(), norm]))

        done, scalars = step + 1, {}
        last = done == t.steps
        if done % REPORT_EVERY == 0 or done % t.save_every == 0 or last:
            mean_loss, mean_norm = torch.stack(window).mean(0).tolist()
            scalars = {"loss": mean_loss, "gradient_norm": mean_norm, "lr": rate(t, step)}
            finite(scalars, done, saved)
            history.add(done, scalars)
            window.clear()
        if done % t.save_every == 0 or last:
            checkpoints.save(done, snapshot())
            saved = done
        pictures = {"samples": show()} if done % t.picture_every == 0 else {}
        yield Progress(done=done, total=t.steps, scalars=scalars, pictures=pictures)

    fresh_folder(out)
    _save(model.state_dict(), out / "model.safetensors")
    _save(ema.model.state_dict(), out / "ema.safetensors")
    about = {"diffusion": config.model_dump(), "latents": data.info, "latents_identity": identity(latents)}
    about["parameters"] = {
        "unet": sum(p.numel() for p in model.unet.parameters()),
        "conditioner": sum(p.numel() for p in model.conditioner.parameters()),
    }
    write_json(out / "config.json", about)
    history.write(out / "history.csv")
    picture = show()
    with whole(out / "samples.png") as beside:
        picture.save(beside, format="png")
    write_manifest(out)
    yield Progress(done=t.steps, total=t.steps, pictures={"samples": picture})


def _save(state: dict[str, Tensor], path: Path) -> None:
    with whole(path) as beside:
        save_file({name: tensor.cpu().contiguous() for name, tensor in state.items()}, beside)


@torch.no_grad()
def _pictures(
    model: DiffusionModel, first_stage: FirstStage, latents: Path, seed: int, device: torch.device
) -> Image.Image:
    """Samples under the first held-back conditions, from noise that stays the same all through a training."""
    data = Latents(latents, "train")
    if "validation" in data.info["counts"]:
        data = Latents(latents, "validation")
    rows = {name: column.to(device) for name, column in data.read(mixed(min(PICTURES, len(data)), len(data))).items()}
    count = len(rows["label"])
    noise = torch.randn((count, *model.shape), generator=generator(seed, "preview", device=device), device=device)
    condition = model.condition(rows, nothing_dropped(count, device))
    latent = preview(model.denoiser(condition), noise, model.schedule.to(device))
    return grid(to_uint8(first_stage.decode(model.scale.inverse(latent))).cpu(), columns=8)
