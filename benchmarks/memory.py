"""How much GPU memory does training each model of presets/paper.yaml take, and which batch fits 80 GB or 141 GB?

Computed without a GPU: a training step runs on torch's meta device, where tensors have shapes and no numbers, and the
bytes of every tensor are counted from its birth to its death. Weights, gradients, Adam's moments and the average are
float32, activations bfloat16 as autocast makes them, with the fused norms of ldm/nn/fused.py as it allocates, kernels
left out. Each CUDA graph keeps its memory for itself, so a step needs the sum over its graphs and all else. Not
counted: the CUDA context, the libraries' workspaces, and what the allocator cannot use.

With --device cuda each step is run as well, at the row's batch or at the largest that fits this card, and what the
allocator reserved stands beside, with the images a second. --only names rows.
"""

import gc
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cache, partial
from statistics import median
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor, nn

from benchmarks._counted import Counted
from benchmarks.measure import arguments, machine, seconds, table, write
from ldm.autoencoder.config import KL, VQ, Autoencoder
from ldm.autoencoder.loss import DISCRIMINATOR_LOSSES, Likelihood, adaptive_weight, per_picture, reconstruction_error
from ldm.autoencoder.model import PatchDiscriminator, build
from ldm.autoencoder.train import JUDGE_BETAS
from ldm.config import Run, load, section
from ldm.data.latents import DTYPES
from ldm.diffusion.config import Diffusion
from ldm.diffusion.loss import columns_read, diffusion_loss, raw_latent
from ldm.diffusion.model import DiffusionModel
from ldm.interop.described import described
from ldm.nn.vision import random_trunk_lpips
from ldm.sources.config import Dataset
from ldm.training.config import Training
from ldm.training.ema import EMA
from ldm.training.exact import placed, precision, setup
from ldm.training.graphed import graphed
from ldm.training.optimiser import adam, adamw, update

CARDS = {"80 GB": 80e9, "141 GB": 141e9}
"""Bytes. Cards of these names hold a few percent more, which is left for what is not counted."""
GIB = 2**30
CLASSES, LABEL_MAP_CLASSES = 1000, 182
"""Of ImageNet and COCO-Stuff."""
Step = Callable[[], None]
M = TypeVar("M", bound=nn.Module)
T = TypeVar("T")


class Machine(Protocol):
    """What a step runs on, or is counted on."""

    device: torch.device

    def placed(self, model: M) -> M: ...
    def precision(self) -> AbstractContextManager[object]: ...
    def graphed(self, function: Callable[..., T], name: str) -> Callable[..., T]: ...
    def update(self, optimiser: torch.optim.Optimizer, config: Training) -> None: ...


class Real:
    """The device itself, with what ldm/training has for it."""

    def __init__(self, device: str) -> None:
        half = "bfloat16" if device == "cuda" else "float32"
        self.run = Run.model_validate(
            {"mode": "fast", "device": device, "precision": half, "threads": 1, "instructions": "native"}
        )
        self.device = setup(self.run)

    def placed(self, model: M) -> M:
        return placed(model, self.device)

    def precision(self) -> AbstractContextManager[object]:
        return precision(self.run)

    def graphed(self, function: Callable[..., T], name: str) -> Callable[..., T]:
        return graphed(function, self.device)

    def update(self, optimiser: torch.optim.Optimizer, config: Training) -> None:
        update(optimiser, config, 0)


@dataclass(frozen=True)
class Needs:
    """Bytes of a step."""

    parameters: int
    """Their number."""
    static: int
    """Weights, gradients, moments, averages: what is there between two steps."""
    reserved: int


def diffusion_step(params: Mapping[str, Any], name: str, batch: int, on: Machine) -> tuple[nn.Module, Step]:
    """The model and a step of ldm/diffusion/train.py, without its data."""
    config = section(params, Diffusion, f"diffusion.{name}")
    classes, label_map_classes = (list(map(str, range(n))) for n in (CLASSES, LABEL_MAP_CLASSES))
    info = described(params, name, classes=classes, label_map_classes=label_map_classes)
    with torch.device(on.device):
        model = DiffusionModel(config, info)
    model = on.placed(model).train()
    schedule, norm = model.schedule.to(on.device), config.train.loss
    rows = {"label": torch.zeros(batch, dtype=torch.int64, device=on.device)}
    for column in columns_read(model, info["shapes"]):
        shape, dtype = (batch, *info["shapes"][column]), DTYPES[column]
        some = torch.randn(shape, device=on.device) if dtype.is_floating_point else torch.randint(100, shape)
        rows[column] = some.to(on.device, dtype)
    ema, optimiser = EMA(model, config.train.ema), adamw(model.parameters(), config.train)
    draw = generator(on)

    def gradients(noise_step: Tensor, noise: Tensor, chance: Tensor, **rows: Tensor) -> Tensor:
        optimiser.zero_grad(set_to_none=True)
        raw = raw_latent(rows, rows.get("posterior"))
        with on.precision():
            losses = diffusion_loss(
                model, schedule, raw, rows, noise_step, noise, chance, norm=norm, snr_gamma=config.snr_gamma
            )
        losses.mean().backward()
        return losses.detach()

    backward = on.graphed(gradients, "gradients")
    normal = partial(torch.randn, (batch, *model.shape), generator=draw, device=on.device)

    def step() -> None:
        draws = {"posterior": normal()} if "std" in rows else {}
        draws["noise_step"] = torch.randint(len(schedule), (batch,), device=on.device)
        draws |= {"noise": normal(), "chance": torch.rand((batch, 2), generator=draw, device=on.device)}
        backward(**rows, **draws)
        on.update(optimiser, config.train)
        ema.update(0)

    return model, step


def first_stage_step(params: Mapping[str, Any], name: str, batch: int, on: Machine) -> tuple[nn.Module, Step]:
    """The model and a step of ldm/autoencoder/train.py, of those after the discriminator has joined.

    The graph of the steps before then stays in memory, so both are run. LPIPS has a random trunk of the same size.
    """
    config = section(params, Autoencoder, f"autoencoders.{name}").root
    assert isinstance(config, KL | VQ)
    t, weights = config.train, config.loss
    size = t.crop or section(params, Dataset, f"datasets.{config.dataset}").size
    with torch.device(on.device):
        model, likelihood = build(config), Likelihood(weights.learn_logvar)
        discriminator = PatchDiscriminator(weights.discriminator_channels, weights.discriminator_layers)
        image = torch.zeros((batch, 3, size, size))
    latent = (batch, config.model.latent_channels, *(size // model.factor,) * 2)
    model, discriminator = on.placed(model).train(), on.placed(discriminator)
    trunk = on.placed(random_trunk_lpips())
    ema = EMA(model, t.ema)
    optimiser = adam([{"params": part.parameters()} for part in (model, likelihood)], t, t.betas)
    judge_optimiser = adam(discriminator.parameters(), t, JUDGE_BETAS)
    draw = generator(on)

    def coding(adversarial: bool, image: Tensor, **noise: Tensor) -> Tensor:
        optimiser.zero_grad(set_to_none=True)
        with on.precision():
            coded = model.code(image, **noise)
            painted = model.paint(coded.latent)
            reconstruction = painted.detach().requires_grad_()
            rec = per_picture(likelihood(reconstruction_error(image, reconstruction, weights, trunk)))
            rec.backward()
            pull = reconstruction.grad
            assert pull is not None
            if adversarial:
                fooled = -discriminator(reconstruction).mean()
                (push,) = torch.autograd.grad(fooled, reconstruction)
                weight = adaptive_weight(painted, pull, push, model.decoder.last_layer)
                pull = pull + weights.adversarial_weight * weight * push
        torch.autograd.backward([painted, coded.penalty], [pull, None])
        return reconstruction.detach()

    def judging(image: Tensor, reconstruction: Tensor) -> Tensor:
        judge_optimiser.zero_grad(set_to_none=True)
        with on.precision():
            judged = DISCRIMINATOR_LOSSES[weights.gan](discriminator(image), discriminator(reconstruction))
        judged.backward()
        return judged.detach()

    before = on.graphed(partial(coding, False), "coding")
    after = on.graphed(partial(coding, True), "coding adversarially")
    judge = on.graphed(judging, "judging")

    def step() -> None:
        noise = {"noise": torch.randn(latent, generator=draw, device=on.device)} if isinstance(config, KL) else {}
        before(image=image, **noise)
        reconstruction = after(image=image, **noise)
        on.update(optimiser, t)
        ema.update(0)
        judge(image=image, reconstruction=reconstruction)
        on.update(judge_optimiser, t)

    return model, step


def generator(on: Machine) -> torch.Generator:
    return torch.Generator("cpu" if on.device.type == "meta" else on.device)


STEPS: dict[str, Callable[..., tuple[nn.Module, Step]]] = {
    "autoencoders": first_stage_step,
    "diffusion": diffusion_step,
}


def computed(kind: str, *which: Any) -> Needs:
    """What a step on a GPU needs."""
    with Counted(gpu=True).counting() as counted:
        model, step = STEPS[kind](*which, counted)
        for _ in range(2):  # the first makes the moments
            step()
        return Needs(sum(p.numel() for p in model.parameters()), counted.held, counted.reserved)


def measured(kind: str, params: Mapping[str, Any], name: str, batch: int) -> dict[str, Any]:
    """The bytes that the allocator of this GPU reserved for a step, and how fast it is; of fewer where it has to be."""
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    try:
        _, step = STEPS[kind](params, name, batch, Real("cuda"))
        taken = seconds(step, device="cuda", repeats=5)
    except torch.OutOfMemoryError:
        if batch == 1:
            raise
        fewer = int(0.9 * batch)  # tried when this one's tensors are gone with the error
    else:
        reserved = torch.cuda.max_memory_reserved()
        return {"batch": batch, "reserved": reserved, "images_per_second": batch / median(taken)}
    return measured(kind, params, name, fewer)


def largest(limit: float, needs: Callable[[int], int], batch: int) -> int:
    """The largest batch that needs no more than `limit`: near it by the line through two others, then one by one."""
    other = max(1, batch // 2)
    batch += batch == other
    per_picture = (needs(batch) - needs(other)) / (batch - other)
    found = max(0, int(batch + (limit - needs(batch)) / per_picture))
    while found and needs(found) > limit:
        found -= 1
    while needs(found + 1) <= limit:
        found += 1
    return found


def tabulated(params: Mapping[str, Any], kind: str, name: str, device: str) -> dict[str, Any]:
    """All that the table says of a row, in bytes."""
    batch = params[kind][name]["train"]["batch"]
    all_of = cache(partial(computed, kind, params, name))

    def needs(batch: int) -> int:
        return all_of(batch).reserved

    half = max(1, batch // 2)
    about = {
        "parameters": all_of(batch).parameters,
        "batch": batch,
        "static": all_of(batch).static,
        "activations_per_picture": (needs(batch) - needs(half)) / (batch - half) if batch > half else None,
        "peak": needs(batch),
        "largest_batch": {card: largest(limit, needs, batch) for card, limit in CARDS.items()},
    }
    if device == "cuda":
        there = 0.95 * torch.cuda.get_device_properties(0).total_memory  # the rest is for what is not counted
        fitting = batch if needs(batch) <= there else largest(there, needs, batch)
        about["measured"] = measured(kind, params, name, fitting)
    return about


def checkpointing(params: Mapping[str, Any], name: str) -> dict[str, Any]:
    """`params` whose row `diffusion.NAME` keeps only what goes into each block."""
    row = params["diffusion"][name]
    changed = row | {"unet": row["unet"] | {"checkpointing": True}}
    return {**params, "diffusion": params["diffusion"] | {name: changed}}


def main() -> None:
    options = arguments(__doc__, only="")
    params = load("presets/paper.yaml")
    models: dict[str, Any] = {}
    for kind in STEPS:
        for name, row in params[kind].items():
            if row.get("kind") == "identity" or (options.only and name not in options.only.split(",")):
                continue
            print(name, flush=True)
            models[name] = tabulated(params, kind, name, options.device)
            if kind == "diffusion" and models[name]["peak"] > CARDS["80 GB"]:
                changed = checkpointing(params, name)
                models[f"{name}, checkpointing"] = tabulated(changed, kind, name, options.device)
    columns = ["model", "parameters", "batch", "static GiB", "GiB a picture", "peak GiB"]
    columns += [f"largest batch in {card}" for card in CARDS]
    columns += ["measured at", "GiB", "images/s"] if options.device == "cuda" else []
    table("Memory of a training step", columns, map(_cells, models, models.values()))
    settings = {"precision": "bfloat16", "cards": CARDS}
    write(options.out, {"machine": machine(options.device), "settings": settings, "bytes": models})


def _cells(name: str, about: Mapping[str, Any]) -> list[Any]:
    sizes = [about["static"], about["activations_per_picture"], about["peak"]]
    static, a_picture, peak = ("-" if size is None else size / GIB for size in sizes)
    cells = [name, about["parameters"], about["batch"], static, a_picture, peak, *about["largest_batch"].values()]
    if "measured" not in about:
        return cells
    batch, reserved, rate = about["measured"].values()
    return [*cells, batch, reserved / GIB, rate]


if __name__ == "__main__":
    main()
