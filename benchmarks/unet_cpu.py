"""How fast does a CPU train and sample, beside diffusers' UNet2DModel of the same architecture and weights?

The CelebA-HQ LDM-4 UNet of the paper, narrower (--channels; the paper has 224). A training step is forward, backward,
clipping, AdamW and the average of the weights; sampling is --num-steps DDIM steps. diffusers runs as it comes, with its
weights channels last, and compiled where there is a C++ compiler (--no-compile leaves that out); the ratio is to the
best of them. All in float32 with random inputs that are not zero, in turn in one process.
"""

import argparse
import copy
import shutil
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

import ldm.nn.vision  # noqa: F401  (makes torchvision importable, which diffusers needs)
from benchmarks.measure import arguments, result, side_by_side, table, write
from ldm.diffusion.config import Linear
from ldm.diffusion.model import denoised
from ldm.diffusion.schedule import Schedule
from ldm.interop import diffusers_config, diffusers_names
from ldm.interop.links import write as named_as_theirs
from ldm.nn.condition import Condition
from ldm.nn.packed import packed
from ldm.sampling.samplers import ddim
from ldm.training.config import Training
from ldm.training.ema import EMA
from ldm.training.optimiser import adamw, update
from ldm.unet.config import UNet as Config
from ldm.unet.model import UNet

NEEDS = ("diffusers",)
GOAL = 1.2
LATENT_CHANNELS = 3
Step = Callable[[], Any]


def ours_and_theirs(channels: int, size: int) -> tuple[UNet, nn.Module]:
    """Two UNets, asserted to predict the same; weights are random, also where ours begin at zero."""
    from diffusers import UNet2DModel

    config = Config(
        channels=channels, channel_mult=[1, 2, 3, 4], num_res_blocks=2, attention_factors=[2, 4, 8],
        head_channels=32, transformer_depth=1, dropout=0.0,
    )  # fmt: skip
    ours = UNet(config, latent_channels=LATENT_CHANNELS)
    for parameter in ours.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.02)
    into = {"into": LATENT_CHANNELS, "out": LATENT_CHANNELS, "size": size, "token_width": 0}
    theirs = UNet2DModel.from_config(diffusers_config.unet(config, ours, **into))
    theirs.load_state_dict(named_as_theirs(diffusers_names.unet(ours), ours.state_dict()))
    noisy, step = torch.randn(1, LATENT_CHANNELS, size, size), torch.tensor([500])
    with torch.no_grad():
        torch.testing.assert_close(ours(noisy, step), theirs(noisy, step).sample, rtol=1e-3, atol=1e-3)
    return ours, theirs


def peers(theirs: nn.Module, compiled: bool) -> dict[str, nn.Module]:
    """diffusers' model in each setting that it may be quickest in."""
    settings = {
        "diffusers": theirs,
        "diffusers, channels last": copy.deepcopy(theirs).to(memory_format=torch.channels_last),  # type: ignore[call-overload]
    }
    if compiled:
        settings["diffusers, compiled"] = torch.compile(copy.deepcopy(theirs))
    return settings


def frozen(theirs: nn.Module) -> nn.Module:
    """Compiled for sampling alone, with weights laid out once."""
    model = copy.deepcopy(theirs).eval().requires_grad_(False)
    return torch.compile(model, options={"freezing": True})  # type: ignore[return-value]


def train_ours(model: UNet, noisy: torch.Tensor, step: torch.Tensor, noise: torch.Tensor) -> Step:
    config = Training(
        steps=1000, batch=len(noisy), lr=1e-6, warmup=0, decay="none", ema=0.9999, seed=0, save_every=1000,
        picture_every=1000,
    )  # fmt: skip
    model = copy.deepcopy(model).train()
    optimiser, ema = adamw(model.parameters(), config), EMA(model, config.ema)

    def train() -> None:
        optimiser.zero_grad(set_to_none=True)
        nn.functional.mse_loss(model(noisy, step), noise).backward()
        update(optimiser, config, 0)
        ema.update(1000)

    return train


def train_theirs(model: nn.Module, noisy: torch.Tensor, step: torch.Tensor, noise: torch.Tensor) -> Step:
    """As diffusers' own example of unconditional training does it, with the optimiser's quickest form."""
    from diffusers.training_utils import EMAModel

    model = model.train()
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-6, fused=True)
    ema = EMAModel(model.parameters(), decay=0.9999, foreach=True)

    def train() -> None:
        optimiser.zero_grad(set_to_none=True)
        nn.functional.mse_loss(model(noisy, step).sample, noise).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        ema.step(model.parameters())

    return train


def sample_ours(model: UNet, start: torch.Tensor, num_steps: int) -> Step:
    model = packed(copy.deepcopy(model).eval().requires_grad_(False))  # as the stage `sample` has it
    schedule = Schedule.from_config(Linear(kind="linear", steps=1000, beta_start=0.0015, beta_end=0.0195))
    steps = torch.linspace(999, 0, num_steps).long().tolist()

    def denoise(noisy: torch.Tensor, step: torch.Tensor) -> torch.Tensor:
        return denoised("epsilon", noisy, model(noisy, step, Condition()), *schedule.at(step))

    @torch.no_grad()
    def sample() -> None:
        for _ in ddim(denoise, start, schedule, steps, 0.0, lambda i: torch.zeros_like(start)):
            pass

    return sample


def sample_theirs(model: nn.Module, start: torch.Tensor, num_steps: int) -> Step:
    from diffusers import DDIMScheduler

    scheduler = DDIMScheduler(1000, 0.0015, 0.0195, "scaled_linear", clip_sample=False)
    scheduler.set_timesteps(num_steps)

    @torch.no_grad()
    def sample() -> None:
        noisy = start
        for step in scheduler.timesteps:
            noisy = scheduler.step(model(noisy, step).sample, step, noisy).prev_sample

    return sample


def measured(options: argparse.Namespace) -> dict[str, Any]:
    torch.manual_seed(0)
    ours, theirs = ours_and_theirs(options.channels, options.size)
    compiled = bool(shutil.which("c++")) and not options.no_compile
    settings = peers(theirs, compiled)
    shape = (options.batch, LATENT_CHANNELS, options.size, options.size)
    noisy, noise, step = torch.randn(shape), torch.randn(shape), torch.randint(1000, (options.batch,))
    taken: dict[str, list[float]] = {}
    for question, one, other, rest in (
        ("sampling", sample_ours, sample_theirs, (noisy, options.num_steps)),
        ("training", train_ours, train_theirs, (noisy, step, noise)),
    ):
        steps = {f"{question}: ours": one(ours, *rest)}
        here = dict(settings)
        if compiled and question == "sampling":
            here["diffusers, compiled and frozen"] = frozen(theirs)
        steps |= {f"{question}: {name}": other(model, *rest) for name, model in here.items()}
        taken |= side_by_side(steps, device="cpu", warmup=2, repeats=options.repeats)
    parameters = sum(p.numel() for p in ours.parameters())
    return result(options, taken, parameters=parameters, threads=torch.get_num_threads(), goal=GOAL)


def main() -> None:
    options = arguments(__doc__, channels=128, size=32, batch=4, num_steps=5, repeats=7, no_compile=False)
    if options.device != "cpu":
        raise SystemExit("unet_cpu: it measures the CPU; give --device cpu")
    found = measured(options)
    middle, found["ratio"] = found["median"], {}
    rows = []
    for question, done in (("sampling", options.batch * options.num_steps), ("training", options.batch)):
        here = {name.partition(": ")[2]: spent for name, spent in middle.items() if name.startswith(question)}
        best = min(spent for name, spent in here.items() if name != "ours")
        found["ratio"][question] = best / here["ours"]
        rows += [[f"{question}, {name}", spent, done / spent, best / spent] for name, spent in here.items()]
    title = f"{found['parameters']:,} parameters, {found['threads']} threads, float32; goal: {GOAL:g} times"
    table(title, ["", "seconds", "images x evaluations/s", "times diffusers' best"], rows)
    write(options.out, found)


if __name__ == "__main__":
    main()
