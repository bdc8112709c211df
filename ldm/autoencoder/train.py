"""The training loop of a first stage, whole on this page."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from safetensors.torch import save_file

from ldm.autoencoder.config import KL, Autoencoder, Identity
from ldm.autoencoder.loss import adaptive_weight, hinge_loss, kl_loss, reconstruction_loss
from ldm.autoencoder.model import KLAutoencoder, PatchDiscriminator, fitting
from ldm.config import Run
from ldm.data.batches import batches, mixed, workers
from ldm.data.pictures import grid, to_float, to_uint8
from ldm.data.randomness import generator
from ldm.data.shards import Images
from ldm.files import fresh_folder, whole, write_json, write_manifest
from ldm.nn.vision import perceptual as load_perceptual
from ldm.progress import Progress
from ldm.training.checkpoint import Checkpoints
from ldm.training.ema import EMA
from ldm.training.exact import setup
from ldm.training.history import REPORT_EVERY, History, finite
from ldm.training.optimiser import adam, rate, update

PICTURES = 8
JUDGE_BETAS = 0.5, 0.9  # as released


def train(config: Autoencoder, run: Run, images: Path, weights: Path, out: Path, resume: Path) -> Iterator[Progress]:
    """Train the first stage of `config` on the prepared `images` and write it to `out` (identity: nothing to train)."""
    match config.root:
        case Identity():
            fresh_folder(out)
            write_json(out / "config.json", config.model_dump())
            write_manifest(out)
            yield Progress(done=1, total=1)
        case KL():
            yield from train_kl(config.root, run, images, weights, out, resume)


def train_kl(config: KL, run: Run, images: Path, weights: Path, out: Path, resume: Path) -> Iterator[Progress]:
    """Goes on from the checkpoint in `resume`, if any, and ends in the same bytes as if it had never stopped."""
    device, t = setup(run), config.train
    data = Images(images, "train")
    fitting(data.info["size"], config.model.factor, str(images))

    torch.manual_seed(t.seed)
    model = KLAutoencoder(config.model).to(device).train()
    discriminator = PatchDiscriminator(config.loss.discriminator_channels, config.loss.discriminator_layers).to(device)
    trunk = load_perceptual(weights) if config.loss.perceptual_weight else None
    trunk = trunk.to(device) if trunk else None
    ema = EMA(model, t.ema)
    optimiser = adam(model.parameters(), t, t.betas)
    judge_optimiser = adam(discriminator.parameters(), t, JUDGE_BETAS)
    history, window, start, saved = History(), [], 0, None
    checkpoints = Checkpoints(resume)
    if found := checkpoints.load(device):
        start, state = found
        saved = start
        model.load_state_dict(state["model"])
        discriminator.load_state_dict(state["discriminator"])
        ema.model.load_state_dict(state["ema"])
        optimiser.load_state_dict(state["optimiser"])
        judge_optimiser.load_state_dict(state["judge_optimiser"])
        history, window = History(state["history"]), list(state["window"])

    def snapshot() -> dict[str, Any]:
        return {
            "model": model.state_dict(),
            "discriminator": discriminator.state_dict(),
            "ema": ema.model.state_dict(),
            "optimiser": optimiser.state_dict(),
            "judge_optimiser": judge_optimiser.state_dict(),
            "history": history.rows,
            "window": window,
        }

    show = partial(_pictures, ema.model, images, device)

    zero = torch.zeros((), device=device)
    ahead = batches(data.batch, t.seed, start, t.steps, t.batch, len(data), workers())
    for step, pixels in enumerate(ahead, start):
        draw = generator(t.seed, "train", step, device=device)
        image = to_float(pixels.to(device))
        if t.flip:
            mirrored = torch.rand(len(image), generator=draw, device=device) < 0.5
            image = torch.where(mirrored[:, None, None, None], image.flip(-1), image)
        moments = model.encode(image)
        reconstruction = model.decode(moments.sample(torch.randn(moments.mean.shape, generator=draw, device=device)))
        rec = reconstruction_loss(image, reconstruction, config.loss, trunk)
        kl = kl_loss(moments)
        loss, judged, weight = rec + config.loss.kl_weight * kl, zero, zero
        adversarial = config.loss.adversarial_weight > 0 and step >= config.loss.adversarial_start
        if adversarial:
            fooled = -discriminator(reconstruction).mean()
            weight = adaptive_weight(rec, fooled, model.decoder.last_layer)
            loss = loss + config.loss.adversarial_weight * weight * fooled
        norm = update(optimiser, loss, t, step)
        ema.update(step)
        if adversarial:
            judged = hinge_loss(discriminator(image), discriminator(reconstruction.detach()))
            update(judge_optimiser, judged, t, step)
        window.append(torch.stack([loss.detach(), rec.detach(), kl.detach(), judged.detach(), weight, norm]))

        done, scalars = step + 1, {}
        last = done == t.steps
        if done % REPORT_EVERY == 0 or done % t.save_every == 0 or last:
            names = ("loss", "reconstruction", "kl", "discriminator", "adaptive_weight", "gradient_norm")
            scalars = dict(zip(names, torch.stack(window).mean(0).tolist(), strict=True)) | {"lr": rate(t, step)}
            finite(scalars, done, saved)
            history.add(done, scalars)
            window.clear()
        if done % t.save_every == 0 or last:
            checkpoints.save(done, snapshot())
            saved = done
        pictures = {"reconstructions": show()} if done % t.picture_every == 0 else {}
        yield Progress(done=done, total=t.steps, scalars=scalars, pictures=pictures)

    fresh_folder(out)
    with whole(out / "model.safetensors") as beside:
        save_file({name: tensor.cpu().contiguous() for name, tensor in ema.model.state_dict().items()}, beside)
    write_json(out / "config.json", config.model_dump())
    history.write(out / "history.csv")
    picture = show()
    with whole(out / "reconstructions.png") as beside:
        picture.save(beside, format="png")
    write_manifest(out)
    yield Progress(done=t.steps, total=t.steps, pictures={"reconstructions": picture})


@torch.no_grad()
def _pictures(model: KLAutoencoder, images: Path, device: torch.device) -> Image.Image:
    """Held-back pictures above their reconstructions (of the posterior's mean)."""
    data = Images(images, "train")
    if "validation" in data.info["splits"]:
        data = Images(images, "validation")
    pixels = data.batch(mixed(min(PICTURES, len(data)), len(data)))
    reconstruction = model.decode(model.encode(to_float(pixels.to(device))).mean)
    return grid(torch.cat([pixels, to_uint8(reconstruction).cpu()]), columns=len(pixels))
