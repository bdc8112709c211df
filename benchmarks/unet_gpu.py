"""How fast does a GPU train and sample, beside diffusers' UNet2DModel of the same architecture, in bfloat16?

The CelebA-HQ LDM-4 UNet of the paper (274,056,163 parameters, latents of 3 x 64 x 64). A training step is forward,
backward, clipping, AdamW and the average of the weights; sampling is DDIM, with guidance too, by a batch of two
conditions. diffusers runs channels last and compiled, as it comes and with mode="reduce-overhead" (CUDA graphs); the
ratio is to the better. Inputs are random and not zero. `floor`: the products of a step at this GPU's measured rate.
"""

import argparse
import gc
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import ldm.nn.vision  # noqa: F401  (makes torchvision importable, which diffusers needs)
from benchmarks.measure import arguments, result, seconds, table, write
from ldm.config import Run, load, section
from ldm.diffusion.config import Diffusion
from ldm.diffusion.model import DiffusionModel
from ldm.files import write_json
from ldm.interop import diffusers_config
from ldm.interop.described import described
from ldm.nn.condition import Condition
from ldm.sampling.guidance import guided
from ldm.sampling.samplers import ddim
from ldm.training.ema import EMA
from ldm.training.exact import placed, precision, setup
from ldm.training.graphed import graphed
from ldm.training.optimiser import adamw, update

NEEDS = ("cuda", "diffusers")
GOALS = {"training": 1.5, "sampling": 1.5, "exact to fast": 0.9, "guided, batch 64": 1.95, "guided, batch 1": 1.3}
ROW = "celeba256"
Step = Callable[[], Any]


def model_of(small: bool) -> tuple[Diffusion, DiffusionModel]:
    """The paper's row; `small`: a narrow one, to see that everything works."""
    params = load("presets/paper.yaml")
    if small:
        params["diffusion"][ROW]["unet"] |= {"channels": 128, "channel_mult": [1, 1], "attention_factors": [2]}
    torch.manual_seed(0)
    config = section(params, Diffusion, f"diffusion.{ROW}")
    model = DiffusionModel(config, described(params, ROW))
    for parameter in model.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.02)
    return config, model


def run_of(device: str, mode: str) -> Run:
    half = "bfloat16" if device == "cuda" else "float32"
    threads = torch.get_num_threads()
    return Run.model_validate(
        {"mode": mode, "device": device, "precision": half, "threads": threads, "instructions": "native"}
    )


def train_ours(small: bool, batch: dict[str, Tensor], device: str, mode: str) -> Step:
    """The parts of ldm/diffusion/train.py, without its data."""
    run = run_of(device, mode)
    config, model = model_of(small)
    unet = placed(model.unet, setup(run)).train()
    optimiser, ema = adamw(unet.parameters(), config.train), EMA(unet, config.train.ema)

    def gradients(**rows: Tensor) -> Tensor:
        optimiser.zero_grad(set_to_none=True)
        with precision(run):
            loss = F.mse_loss(unet(rows["noisy"], rows["step"]).float(), rows["noise"])
        loss.backward()
        return loss.detach()

    backward = graphed(gradients, torch.device(device))

    def step() -> None:
        backward(**batch)
        update(optimiser, config.train, 0)
        ema.update(1000)

    return step


def train_theirs(small: bool, batch: dict[str, Tensor], device: str, mode: str) -> Step:
    """As diffusers' example of unconditional training does it, with the optimiser's and average's quickest forms."""
    from diffusers.training_utils import EMAModel

    setup(run_of(device, "fast"))
    model = peer(small, device).train()
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-6, fused=True)
    ema = EMAModel(model.parameters(), decay=0.9999, foreach=True)
    network = compiled(model, mode)
    noisy = batch["noisy"].contiguous(memory_format=torch.channels_last)

    def step() -> None:
        optimiser.zero_grad(set_to_none=True)
        torch.compiler.cudagraph_mark_step_begin()
        with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
            loss = F.mse_loss(network(noisy, batch["step"]).sample.float(), batch["noise"])
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        ema.step(model.parameters())

    return step


def peer(small: bool, device: str) -> nn.Module:
    from diffusers import UNet2DModel

    _, ours = model_of(small)
    config = diffusers_config.unet(ours.unet.config, ours.unet, into=3, out=3, size=64, token_width=0)
    theirs = UNet2DModel.from_config(config)
    assert sum(p.numel() for p in theirs.parameters()) == sum(p.numel() for p in ours.unet.parameters())
    return theirs.to(device).to(memory_format=torch.channels_last)


def compiled(model: nn.Module, mode: str) -> Callable[..., Any]:
    return model if mode == "eager" else torch.compile(model, mode=None if mode == "default" else mode)


def sample_ours(small: bool, start: Tensor, device: str, num_steps: int, guidance: float) -> Step:
    setup(run_of(device, "fast"))
    _, model = model_of(small)
    model = placed(model, torch.device(device)).eval().requires_grad_(False)
    if device == "cuda":
        model.in_half()
    schedule = model.schedule.to(torch.device(device))
    denoise = guided(model.denoiser, Condition(), Condition(), guidance)
    steps = torch.linspace(999, 0, num_steps).long().tolist()

    @torch.no_grad()
    def sample() -> None:
        for _ in ddim(denoise, start, schedule, steps, 0.0, lambda i: start):
            pass

    return sample


def sample_theirs(small: bool, start: Tensor, device: str, num_steps: int, mode: str) -> Step:
    from diffusers import DDIMScheduler

    setup(run_of(device, "fast"))
    model = peer(small, device).eval().requires_grad_(False)
    start = start.contiguous(memory_format=torch.channels_last)
    if device == "cuda":
        model, start = model.to(torch.bfloat16), start.to(torch.bfloat16)
    network = compiled(model, mode)
    scheduler = DDIMScheduler(1000, 0.0015, 0.0195, "scaled_linear", clip_sample=False)
    scheduler.set_timesteps(num_steps, device=device)

    @torch.no_grad()
    def sample() -> None:
        noisy = start
        for step in scheduler.timesteps:
            torch.compiler.cudagraph_mark_step_begin()
            noisy = scheduler.step(network(noisy, step).sample, step, noisy).prev_sample

    return sample


def measured(options: argparse.Namespace) -> dict[str, Any]:
    small, device = options.small, options.device
    sizes = (options.batch, *([2] if small else [64, 1]))
    torch.manual_seed(1)
    shape = (options.batch, 3, 64, 64)
    batch = {
        "noisy": torch.randn(shape, device=device), "noise": torch.randn(shape, device=device),
        "step": torch.randint(1000, (options.batch,), device=device),
    }  # fmt: skip
    modes = options.modes.split(",")
    sides: dict[str, Callable[[], Step]] = {
        f"training, ours, {mode}": partial(train_ours, small, batch, device, mode) for mode in ("fast", "exact")
    }
    sides |= {f"training, diffusers, {mode}": partial(train_theirs, small, batch, device, mode) for mode in modes}
    for count in sizes[1:]:
        start = torch.randn((count, *shape[1:]), device=device)
        for name, guidance in (("ours", 1.0), ("ours, guided", 2.0)):
            sides[f"sampling {count}, {name}"] = partial(sample_ours, small, start, device, options.num_steps, guidance)
        last = modes[-1]  # of sampling this one alone, for each compiles for minutes
        theirs = partial(sample_theirs, small, start, device, options.num_steps, last)
        sides[f"sampling {count}, diffusers, {last}"] = theirs
    taken, peak, failed = dict[str, list[float]](), dict[str, float](), dict[str, str]()
    rates = ceilings(options, batch)
    found: dict[str, Any] = {}
    for name, made in sides.items():
        if options.only and not name.startswith(options.only):
            continue
        if device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        try:
            taken[name] = seconds(made(), device=device, warmup=options.warmup, repeats=options.repeats)
        except RuntimeError as error:  # a peer's compiler
            failed[name] = " ".join(str(error).split())[:300]
            continue
        finally:
            torch.compiler.reset()
            gc.collect()
            torch.cuda.empty_cache()
        peak[name] = torch.cuda.max_memory_allocated() / 2**30 if device == "cuda" else 0.0
        print(f"{name}: {sorted(taken[name])[len(taken[name]) // 2]:.4f} s", flush=True)
        found = result(options, taken, peak_gib=peak, failed=failed, goals=GOALS) | rates
        write_json(options.out, found)  # peers compile for minutes: what is measured is kept
    return found


def ceilings(options: argparse.Namespace, batch: dict[str, Tensor]) -> dict[str, float]:
    """Rates of this device on random data, and what a training step's products take at them."""
    side, words, device = (256, 2**16, "cpu") if options.small else (8192, 2**30, options.device)
    a, b = (torch.randn(side, side, device=device, dtype=torch.bfloat16) for _ in range(2))
    source = torch.randn(words, device=device)
    product = min(seconds(lambda: a @ b, device=device))
    copy = min(seconds(source.clone, device=device))
    _, model = model_of(options.small)
    unet = model.unet.to("meta")
    with FlopCounterMode(display=False) as counter:
        unet(*(batch[name][:1].to("meta") for name in ("noisy", "step"))).sum().backward()
    flops = counter.get_total_flops() * options.batch
    return {
        "matmul_tflops": 2 * side**3 / product / 1e12, "copy_tb_per_s": 8 * words / copy / 1e12,
        "training_tflop": flops / 1e12, "floor_seconds": flops / (2 * side**3 / product),
    }  # fmt: skip


def main() -> None:
    options = arguments(
        __doc__, batch=48, num_steps=50, warmup=4, repeats=10, modes="default,reduce-overhead", only="", small=False
    )
    found = measured(options)
    middle = found["median"]
    rows = []
    for name, spent in middle.items():
        kind, count = name.split(",")[0], options.batch
        if kind.startswith("sampling"):
            count = int(kind.split()[1]) * options.num_steps
        peers = [s for other, s in middle.items() if other.startswith(f"{kind}, diffusers")]
        rows.append([name, 1000 * spent, count / spent, min(peers) / spent if peers else "", found["peak_gib"][name]])
    print(f"matmul {found['matmul_tflops']:.0f} TFLOP/s, copy {found['copy_tb_per_s']:.2f} TB/s")
    print(f"a training step: {found['training_tflop']:.1f} TFLOP, at least {1000 * found['floor_seconds']:.1f} ms")
    print(f"failed: {found['failed'] or 'none'}")
    title = f"274 M UNet, bfloat16, {found['machine']['gpu']}, torch {found['machine']['torch']}; goals: {GOALS}"
    table(title, ["", "ms", "images (x steps)/s", "times diffusers' best", "GiB"], rows)
    write(options.out, found)


if __name__ == "__main__":
    main()
