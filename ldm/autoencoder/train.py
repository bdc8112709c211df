"""The training loop of a first stage, whole on this page."""

from collections.abc import Iterator, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from ldm.autoencoder.augment import cropped, mirrored
from ldm.autoencoder.config import KL, VQ, Autoencoder, Identity
from ldm.autoencoder.loss import (
    DISCRIMINATOR_LOSSES,
    Likelihood,
    adaptive_weight,
    add_apart,
    per_element,
    per_picture,
    reconstruction_error,
)
from ldm.autoencoder.model import PatchDiscriminator, VQAutoencoder, build, fitting, start_from
from ldm.autoencoder.quantiser import Usage
from ldm.autoencoder.watch import HeldBack, news, verdict
from ldm.config import Run
from ldm.data.batches import batches, workers
from ldm.data.pictures import to_float
from ldm.data.randomness import rekey
from ldm.data.shards import Images
from ldm.files import fresh_folder, whole, write_json, write_manifest
from ldm.nn.vision import perceptual as load_perceptual
from ldm.progress import Progress
from ldm.training.checkpoint import Checkpoints
from ldm.training.ema import EMA
from ldm.training.exact import placed, precision, setup
from ldm.training.graphed import graphed
from ldm.training.history import REPORT_EVERY, History, finite
from ldm.training.optimiser import adam, rate, update
from ldm.training.several import Several, rank

JUDGE_BETAS = 0.5, 0.9  # as released


def train(
    config: Autoencoder, run: Run, images: Path, weights: Path, initial: Path, out: Path, resume: Path
) -> Iterator[Progress]:
    """Train the first stage of `config` on the prepared `images` and write it to `out` (identity: nothing to train).

    `weights` holds the perceptual trunk and `initial` the autoencoder to start from; either may be a folder named none.
    """
    match config.root:
        case Identity():
            if rank():
                return
            fresh_folder(out)
            write_json(out / "config.json", config.model_dump())
            write_manifest(out)
            yield Progress(done=1, total=1)
        case KL() | VQ():
            yield from train_coder(config.root, run, images, weights, initial, out, resume)


def train_coder(
    config: KL | VQ, run: Run, images: Path, weights: Path, initial: Path, out: Path, resume: Path
) -> Iterator[Progress]:
    """Goes on from the checkpoint in `resume`, if any, and ends in the same bytes as if it had never stopped.

    Several processes (`Several`) each take a part of every batch; the first of them writes and shows.
    """
    device, t = setup(run), config.train
    several = Several(run, t, device)
    data = Images(images, "train")
    size = _size(data.info["size"], config, images)

    torch.manual_seed(t.seed)
    model = placed(build(config), device).train()
    start_from(model, config, initial)
    discriminator = PatchDiscriminator(config.loss.discriminator_channels, config.loss.discriminator_layers)
    discriminator = placed(discriminator, device)
    discriminator_loss = DISCRIMINATOR_LOSSES[config.loss.gan]
    likelihood = Likelihood(config.loss.learn_logvar).to(device)
    trunk = load_perceptual(weights) if config.loss.perceptual_weight else None
    trunk = placed(trunk, device) if trunk else None
    ema = EMA(model, t.ema)
    # Clipped apart: summed over a picture, the gradient of logvar would leave the model next to nothing.
    optimiser = adam([{"params": part.parameters()} for part in (model, likelihood)], t, t.betas)
    judge_optimiser = adam(discriminator.parameters(), t, JUDGE_BETAS)
    match config:
        case KL():
            reduced, penalty, penalty_weight, usage = per_picture, "kl", config.loss.kl_weight, None
        case VQ():
            reduced, penalty, penalty_weight = per_element, "codebook", config.loss.codebook_weight
            codebooks = [m.codebook for m in (model, ema.model) if isinstance(m, VQAutoencoder)]
            usage = Usage(codebooks, config.model.codebook.revive)

    parts: dict[str, Any] = {"model": model, "discriminator": discriminator, "likelihood": likelihood, "ema": ema.model}
    parts |= {"optimiser": optimiser, "judge_optimiser": judge_optimiser} | ({"usage": usage} if usage else {})
    history, window, start, saved = History(), list[Tensor](), 0, None
    checkpoints = Checkpoints(resume, writes=several.first)
    if found := checkpoints.load(device):
        start, there = found
        saved = start
        for name, part in parts.items():
            part.load_state_dict(there[name])
        history, window = History(there["history"]), list(there["window"])
    several.agree(start, [model, discriminator, likelihood, ema.model])
    held_back = HeldBack(images, t.batch, device)
    side = size // config.model.factor
    latent = (t.batch, config.model.latent_channels, side, side)

    def state() -> dict[str, Any]:
        states = {name: part.state_dict() for name, part in parts.items()}
        return states | {"history": history.rows, "window": window}

    def error(image: Tensor, reconstruction: Tensor) -> Tensor:
        return reconstruction_error(image, reconstruction, config.loss, trunk)

    def coding(adversarial: bool, image: Tensor, **noise: Tensor) -> tuple[dict[str, Tensor], Sequence[Tensor]]:
        """Gradients of the model. Losses go back as far as the reconstruction, each once, and from there together.

        Where the batch is in parts the adaptive weight needs the gradients of all of them: then those of the
        discriminator's loss go back apart, and are what is returned second.
        """
        optimiser.zero_grad(set_to_none=True)
        with precision(run):
            coded = model.code(image, **noise)
            painted = model.paint(coded.latent)
            reconstruction = painted.detach().requires_grad_()
            errors = error(image, reconstruction)
            rec = reduced(likelihood(errors))
            rec.backward()
            pull = reconstruction.grad
            assert pull is not None
            seen = {"loss": rec + penalty_weight * coded.penalty, "reconstruction": reduced(errors)}
            seen |= {penalty: coded.penalty, "adaptive_weight": zero}
            apart: Sequence[Tensor] = ()
            if adversarial:
                fooled = -discriminator(reconstruction).mean()
                (push,) = torch.autograd.grad(fooled, reconstruction)
                if several.alone:
                    weight = adaptive_weight(painted, pull, push, model.decoder.last_layer)
                    loss = seen["loss"] + config.loss.adversarial_weight * weight * fooled
                    seen |= {"adaptive_weight": weight, "loss": loss}
                    pull = pull + config.loss.adversarial_weight * weight * push
                else:
                    seen |= {"fooled": fooled}
                    apart = torch.autograd.grad(painted, trained, push, retain_graph=True, materialize_grads=True)
        torch.autograd.backward([painted, penalty_weight * coded.penalty], [pull, None])
        seen |= {"painted": reconstruction}
        if quantised := coded.quantised:
            seen |= {"codes": quantised.codes, "raw": quantised.raw}
        return {name: value.detach() for name, value in seen.items()}, apart

    def judging(image: Tensor, reconstruction: Tensor) -> tuple[dict[str, Tensor], list[Tensor]]:
        """Gradients of the discriminator."""
        judge_optimiser.zero_grad(set_to_none=True)
        with precision(run):
            judged = discriminator_loss(discriminator(image), discriminator(reconstruction))
        judged.backward()
        return {"discriminator": judged.detach()}, []

    draw = torch.Generator(device)
    uniform = partial(torch.rand, generator=draw, device=device)
    coders = [graphed(partial(coding, adversarial), device) for adversarial in (False, True)]
    judge = graphed(judging, device)
    zero, trained = torch.zeros((), device=device), list(model.parameters())
    joined = config.loss.adversarial_start + REPORT_EVERY if config.loss.adversarial_weight else t.steps
    read = batches(lambda batch: data.batch(several.mine(batch)), t.seed, start, t.steps, t.batch, len(data), workers())
    with closing(read) as ahead:
        for step, pixels in enumerate(ahead, start):
            rekey(draw, t.seed, "train", step)  # for the whole batch, of which each process takes its rows
            pixels = pixels.to(device, non_blocking=True)
            image = to_float(cropped(pixels, t.crop, several.mine(uniform((t.batch, 2)))) if t.crop else pixels)
            rows = {"image": mirrored(image, several.mine(uniform((t.batch,)))) if t.flip else image}
            if isinstance(config, KL):
                rows |= {"noise": several.mine(torch.randn(latent, generator=draw, device=device))}
            adversarial = config.loss.adversarial_weight > 0 and step >= config.loss.adversarial_start
            seen, apart = several.backward(coders[adversarial], optimiser, rows)
            reconstruction = seen.pop("painted")
            if usage:
                codes, raw = (several.whole(seen.pop(name)) for name in ("codes", "raw"))
            if apart:
                weight = add_apart(trained, apart, model.decoder.last_layer, config.loss.adversarial_weight)
                loss = seen["loss"] + config.loss.adversarial_weight * weight * seen.pop("fooled")
                seen |= {"adaptive_weight": weight, "loss": loss}
            seen |= {"logvar": likelihood.logvar.detach().clone()} if config.loss.learn_logvar else {}
            seen |= {"discriminator": zero, "gradient_norm": update(optimiser, t, step)}
            ema.update(step)
            if usage:
                usage.add(codes, raw, draw)
            if adversarial:
                judged, _ = several.backward(
                    judge, judge_optimiser, {"image": rows["image"], "reconstruction": reconstruction}
                )
                seen |= judged
                update(judge_optimiser, t, step)
            window.append(torch.stack(list(seen.values())))

            done, scalars, pictures, notes = step + 1, dict[str, float](), {}, []
            last = done == t.steps
            shown = done % t.picture_every == 0 and not last
            if shown and several.first:
                look = held_back.look(ema.model, error, reduced)
                pictures = {"reconstructions": look.picture}
                scalars = look.scalars
            if done % REPORT_EVERY == 0 or done % t.save_every == 0 or shown or last:
                scalars = dict(zip(seen, torch.stack(window).mean(0).tolist(), strict=True)) | scalars
                scalars |= (usage.report() if usage else {}) | {"lr": rate(t, step)}
                finite(scalars, done, saved)
                history.add(done, scalars)
                window.clear()
                notes = news(history.rows, joined)
            if done % t.save_every == 0 or last:
                checkpoints.save(done, state())
                saved = done
            with checkpoints.kept_when_stopped(done, state):
                yield Progress(done=done, total=t.steps, scalars=scalars, pictures=pictures, notes=notes)

    several.leave()
    if not several.first:
        return
    look = held_back.look(ema.model, error, reduced)
    history.rows[-1] |= look.scalars
    fresh_folder(out)
    with whole(out / "model.safetensors") as beside:
        save_file({name: tensor.cpu().contiguous() for name, tensor in ema.model.state_dict().items()}, beside)
    write_json(out / "config.json", config.model_dump() | {"size": size})
    history.write(out / "history.csv")
    with whole(out / "reconstructions.png") as beside:
        look.picture.save(beside, format="png")
    write_manifest(out)
    yield Progress(
        done=t.steps,
        total=t.steps,
        scalars=look.scalars,
        pictures={"reconstructions": look.picture},
        notes=[verdict(history.rows, t.steps, held_back.split), *look.health["warnings"]],
    )


def _size(size: int, config: KL | VQ, images: Path) -> int:
    """Pixels a side of what is trained on, pictures or crops of them; refused where the model cannot halve either."""
    factor, crop = config.model.factor, config.train.crop
    fitting(size, factor, str(images))
    if crop is not None:
        fitting(crop, factor, "train.crop")
        if crop > size:
            raise ValueError(f"train.crop: {crop} pixels do not fit in the pictures of {images}, which have {size}")
    return crop or size
