"""How fast does a first stage train with perceptual and adversarial losses, beside diffusers' AutoencoderKL?

Ours is the loop itself, `ldm.autoencoder.train`, on the KL-f8 of presets/paper.yaml, which reads and decodes its
pictures while it trains. The peer is the released code's step: the adaptive weight by two gradients at the last layer,
one backward pass through all losses, then the discriminator; with AutoencoderKL, the package `lpips` with a random VGG
trunk, our discriminator, fused Adam and an average of the weights, on one batch that is on the device already. It has
what makes it quickest: one forward pass where the release has two, no gradients of the discriminator that nothing uses,
channels last, and every part compiled, the last layer apart, for compiled code differentiates a graph whole.
`reduce-overhead` is with CUDA graphs, `mixed` with them where no graph goes backward twice. Weights are random, of the
same number; the discriminator joins at the first step; bfloat16 on a GPU, float32 on a CPU.
"""

import argparse
import gc
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any
from unittest.mock import patch

import torch
import torch._functorch.config as functorch
from torch import Tensor, nn

import ldm.nn.vision  # noqa: F401  (makes torchvision importable, which diffusers and lpips need)
from benchmarks.caching import first_stage, prepare
from benchmarks.measure import arguments, result, side_by_side, table, write
from ldm.autoencoder.config import KL
from ldm.autoencoder.loss import hinge_loss
from ldm.autoencoder.model import PatchDiscriminator, build
from ldm.autoencoder.train import JUDGE_BETAS, train_coder
from ldm.config import Run
from ldm.data.batches import batches, workers
from ldm.data.pictures import to_float
from ldm.data.shards import Images
from ldm.files import sha256, write_json
from ldm.interop import diffusers_config
from ldm.progress import Progress
from ldm.training.exact import placed, precision, setup

NEEDS = ("cuda", "diffusers", "lpips")
GOAL = 1.5
NONE = Path("none")
READERS = 4
"""Threads that read ahead for ours, so that decoding does not bound it."""
ENDLESS = 10**9
Step = Callable[[], Any]


def row(batch: int, small: bool) -> KL:
    """The paper's row with another batch and its discriminator from the start; no pictures or checkpoints between."""
    config = first_stage("kl-f8", small)
    assert isinstance(config, KL)
    often = {"steps": ENDLESS, "save_every": ENDLESS, "picture_every": ENDLESS}
    train = config.train.model_copy(update={"batch": batch, "crop": None, "ema": 0.9999} | often)
    return config.model_copy(update={"train": train, "loss": config.loss.model_copy(update={"adversarial_start": 0})})


def run_of(device: str, mode: str) -> Run:
    half = "bfloat16" if device == "cuda" else "float32"
    threads = torch.get_num_threads()
    return Run.model_validate(
        {"mode": mode, "device": device, "precision": half, "threads": threads, "instructions": "native"}
    )


def random_lpips() -> nn.Module:
    """LPIPS with its published heads on a random VGG16."""
    import lpips

    torch.manual_seed(0)
    distance: nn.Module = lpips.LPIPS(net="vgg", pnet_rand=True, verbose=False)
    return distance.requires_grad_(False)


def trunk_weights(folder: Path, distance: nn.Module) -> Path:
    """The trunk of `distance` as a folder of data/weights."""
    folder.mkdir()
    named = {name.split(".", 1)[1]: tensor for name, tensor in distance.net.state_dict().items()}
    torch.save({f"features.{name}": tensor for name, tensor in named.items()}, folder / "vgg16.pth")
    digest = sha256(folder / "vgg16.pth")
    write_json(
        folder / "weights.json", {"kind": "vgg16", "file": "vgg16.pth", "sha256": digest, "source": "drawn at random"}
    )
    return folder


def train_ours(config: KL, run: Run, folder: Path) -> Iterator[Progress]:
    return train_coder(config, run, folder / "prepared", folder / "vgg16", NONE, folder / "out", folder / "state")


def peer(config: KL) -> tuple[nn.Module, nn.Module, PatchDiscriminator]:
    """diffusers' model without its last layer, that layer, and the discriminator as our loop draws it."""
    from diffusers import AutoencoderKL

    torch.manual_seed(config.train.seed)
    ours = build(config)
    discriminator = PatchDiscriminator(config.loss.discriminator_channels, config.loss.discriminator_layers)
    model = AutoencoderKL.from_config(diffusers_config.first_stage(config, ours))
    assert sum(p.numel() for p in model.parameters()) == sum(p.numel() for p in ours.parameters())
    last, model.decoder.conv_out = model.decoder.conv_out, nn.Identity()
    return model, last, discriminator


def train_theirs(config: KL, run: Run, distance: nn.Module, image: Tensor, how: str) -> Step:
    """A step in the setting `how`: eager, default, reduce-overhead or mixed."""
    from diffusers.training_utils import EMAModel

    device = setup(run.model_copy(update={"mode": "fast"}))  # the peer at its best; ours is captured by now
    t, weights = config.train, config.loss
    model, last, discriminator = (placed(part, device).train() for part in peer(config))
    trained = [*model.parameters(), *last.parameters()]
    optimiser = torch.optim.Adam(trained, lr=t.lr, betas=(t.betas[0], t.betas[1]), fused=True)
    judge_optimiser = torch.optim.Adam(discriminator.parameters(), lr=t.lr, betas=JUDGE_BETAS, fused=True)
    ema = EMAModel(trained, decay=t.ema, foreach=True)

    def coded(image: Tensor) -> tuple[Tensor, Tensor]:
        posterior = model.encode(image).latent_dist
        return model.decode(posterior.sample()).sample, posterior.kl().mean()

    def likelihood(image: Tensor, reconstruction: Tensor) -> Tensor:
        error = (image - reconstruction).abs() + weights.perceptual_weight * distance(image, reconstruction)
        return error.sum() / len(error)

    def fooling(reconstruction: Tensor) -> Tensor:
        return -discriminator(reconstruction).mean()

    def judging(image: Tensor, reconstruction: Tensor) -> Tensor:
        return hinge_loss(discriminator(image), discriminator(reconstruction))

    once, twice = {"mixed": ("reduce-overhead", "default")}.get(how, (how, how))
    coded, judging = compiled(coded, once), compiled(judging, once)
    likelihood, fooling = compiled(likelihood, twice), compiled(fooling, twice)

    def step() -> dict[str, Tensor]:
        torch.compiler.cudagraph_mark_step_begin()
        optimiser.zero_grad(set_to_none=True)
        discriminator.requires_grad_(False)
        with precision(run):
            features, kl = coded(image)
            reconstruction = last(features).float()
            with functorch.patch(donated_buffer=False):  # these graphs go backward twice
                rec, fooled = likelihood(image, reconstruction), fooling(reconstruction)
        pull, push = (torch.autograd.grad(loss, last.weight, retain_graph=True)[0].norm() for loss in (rec, fooled))
        weight = (pull / (push + 1e-4)).clamp(0, 1e4).detach()
        (rec + weights.kl_weight * kl + weights.adversarial_weight * weight * fooled).backward()
        optimiser.step()
        ema.step(trained)
        judge_optimiser.zero_grad(set_to_none=True)
        discriminator.requires_grad_(True)
        with precision(run):
            judged = judging(image, reconstruction.detach())
        judged.backward()
        judge_optimiser.step()
        seen = {"reconstruction": rec, "kl": kl, "adaptive_weight": weight, "discriminator": judged}
        return {name: value.detach() for name, value in seen.items()}

    return step


def compiled(function: Callable[..., Any], mode: str) -> Callable[..., Any]:
    return function if mode == "eager" else torch.compile(function, mode=mode)


def loading(config: KL, folder: Path, count: int) -> float:
    """Pictures a second that are read and decoded where nothing else is done."""
    data, t = Images(folder, "train"), config.train
    read = batches(data.batch, t.seed, 0, count + 1, t.batch, len(data), workers())
    next(read)
    started = time.perf_counter()
    for _ in read:
        pass
    return count * t.batch / (time.perf_counter() - started)


def repeated(step: Step, count: int) -> Step:
    """`count` steps in one, which returns what the last one does."""
    return lambda: [step() for _ in range(count)][-1]


def measured(options: argparse.Namespace) -> dict[str, Any]:
    """Ours beside one setting of the peer after another, in turn."""
    device = torch.device(options.device)
    config, run = row(options.batch, options.small), run_of(options.device, options.mode)
    taken, peak, ready, failed = dict[str, list[float]](), dict[str, float](), dict[str, float](), dict[str, str]()
    losses: dict[str, dict[str, float]] = {}

    def found() -> dict[str, Any]:
        return result(
            options, taken, peak_gib=peak, seconds_to_ready=ready, failed=failed, loaded_per_second=rate, goal=GOAL,
            losses=losses,
        )  # fmt: skip

    def warmed(name: str, made: Callable[[], Step]) -> Step:
        """The step after `warmup` calls; what these needed at most, in memory and time, is written down."""
        started = time.perf_counter()
        before = torch.cuda.memory_allocated() if device.type == "cuda" else 0
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        step = made()
        repeated(step, options.warmup)()
        if device.type == "cuda":
            torch.cuda.synchronize()
            peak[name] = (torch.cuda.max_memory_allocated() - before) / 2**30
        ready[name] = time.perf_counter() - started
        print(f"{name}: ready after {ready[name]:.0f} s", flush=True)
        return repeated(step, options.steps)

    with tempfile.TemporaryDirectory() as name, patch.dict(os.environ, {"LDM_WORKERS": str(READERS)}):
        folder = Path(name)
        prepared = prepare(folder / "prepared", options.pictures, options.size, READERS)
        rate = loading(config, prepared, 2 * options.steps)
        distance = random_lpips()
        trunk_weights(folder / "vgg16", distance)
        distance = placed(distance, device)
        pixels = Images(prepared, "train").batch(torch.arange(options.batch))
        image = to_float(pixels.to(device)).contiguous(memory_format=torch.channels_last)
        records = train_ours(config, run, folder)
        ours = warmed("ours", lambda: lambda: next(records))
        for how in options.peers.split(","):
            name = f"diffusers, {how}"
            try:
                theirs = warmed(name, lambda how=how: train_theirs(config, run, distance, image, how))
                pair = side_by_side({"ours": ours, name: theirs}, device=device.type, warmup=1, repeats=options.repeats)
                losses[name] = {term: value.item() for term, value in theirs().items()}
            except (RuntimeError, AssertionError) as error:  # of its compiler
                failed[name] = " ".join(repr(error).split())[:300]
                continue
            finally:
                theirs = None
                torch.compiler.reset()
                gc.collect()
                torch.cuda.empty_cache()
            for side, spans in pair.items():
                taken.setdefault(side, []).extend(span / options.steps for span in spans)
                print(f"{side}: {1000 * median(taken[side]):.1f} ms", flush=True)
            write_json(options.out, found())  # the peer compiles for minutes: what is measured is kept
        records.close()
    return found()


def main(argv: list[str] | None = None) -> dict[str, Any]:
    options = arguments(
        __doc__,
        argv,
        batch=8,
        size=256,
        pictures=64,
        warmup=10,
        steps=10,
        repeats=4,
        peers="default,reduce-overhead,mixed",
        mode=("fast", "exact"),
        small=False,
    )
    found = measured(options)
    print(f"failed: {found['failed'] or 'none'}")
    middle = found["median"]
    best = min((spent for name, spent in middle.items() if name != "ours"), default=None)
    if best is None:
        raise SystemExit(f"first_stage: no setting of the peer works here: {found['failed']}")
    found["ratio"] = best / middle["ours"]
    rows = [
        [name, 1000 * spent, options.batch / spent, best / spent, found["peak_gib"].get(name, "")]
        for name, spent in middle.items()
    ]
    title = f"A training step of KL-f8 at {options.size}, batch {options.batch}; goal {GOAL} times the peer's best"
    table(title, ["", "ms", "images/s", "times diffusers' best", "GiB"], rows)
    print(f"ours reads its pictures meanwhile; alone, {READERS} threads read {found['loaded_per_second']:.0f} a second")
    write(options.out, found)
    return found


if __name__ == "__main__":
    main()
