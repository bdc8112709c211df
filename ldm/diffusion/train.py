"""The training loop of a diffusion model, whole on this page."""

import shutil
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ldm.autoencoder.model import load as load_autoencoder
from ldm.config import Run
from ldm.data.batches import batches, workers
from ldm.data.latents import Latents
from ldm.data.randomness import key_seed, rekey
from ldm.diffusion.config import Diffusion
from ldm.diffusion.folder import copy_whole, describe, save_weights
from ldm.diffusion.initial import start_from
from ldm.diffusion.loss import columns_read, diffusion_loss, raw_latent
from ldm.diffusion.model import DiffusionModel, weights_name
from ldm.diffusion.watch import HeldBack, curves, seen
from ldm.files import fresh_folder, identity, whole, write_json, write_manifest
from ldm.progress import Progress
from ldm.training.checkpoint import Checkpoints
from ldm.training.ema import EMA
from ldm.training.exact import placed, precision, setup
from ldm.training.graphed import graphed
from ldm.training.history import REPORT_EVERY, History, finite
from ldm.training.optimiser import adamw, rate, update
from ldm.training.several import Several


def train(
    config: Diffusion, run: Run, latents: Path, autoencoder: Path, initial: Path, out: Path, resume: Path
) -> Iterator[Progress]:
    """Train the model of `config` on the cached `latents` and write it to `out`.

    It starts from the model in the folder `initial`, unless that is named none. Goes on from the checkpoint in `resume`
    where there is one, and ends in the same bytes as if it had never stopped. Several processes (`Several`) each take
    a part of every batch; the first of them writes and shows.
    """
    device, t = setup(run), config.train
    several = Several(run, t, device)
    data = Latents(latents, "train")
    if identity(autoencoder) != data.info["autoencoder"]:
        raise ValueError(
            f"{latents} were not made by {autoencoder}: name the autoencoder of these latents in the diffusion row"
        )

    torch.manual_seed(t.seed)
    model = DiffusionModel(config, data.info)
    notes = [f"{latents}: {warning}" for warning in data.info["health"]["warnings"]]
    if initial.name != "none":
        notes += start_from(model, config, data.info, latents, initial)
    model = placed(model, device).train()
    schedule = model.schedule.to(device)
    ema = EMA(model, t.ema)
    optimiser = adamw(model.parameters(), t)
    parts: dict[str, Any] = {"model": model, "ema": ema.model, "optimiser": optimiser}
    history, window, start, saved = History(), list[Tensor](), 0, None
    checkpoints = Checkpoints(resume, writes=several.first)
    if found := checkpoints.load(device):
        start, there = found
        saved = start
        for name, part in parts.items():
            part.load_state_dict(there[name])
        history, window = History(there["history"]), list(there["window"])
    several.agree(start, [model, ema.model])
    columns = columns_read(model, data.shapes)
    held_back = HeldBack(latents, columns, config, load_autoencoder(autoencoder).to(device), device)
    if notes:
        yield Progress(done=start, total=t.steps, notes=notes)

    def state() -> dict[str, Any]:
        states = {name: part.state_dict() for name, part in parts.items()}
        return states | {"history": history.rows, "window": window}

    def read(batch: Tensor) -> dict[str, Tensor]:
        return data.read(several.mine(batch), columns)

    def drawn(step: int) -> dict[str, Tensor]:
        """For the whole batch, in whose order each process finds its rows."""
        rekey(draw, t.seed, "train", step)
        normal = partial(torch.randn, (t.batch, *model.shape), generator=draw, device=device)
        posterior = {"posterior": normal()} if "std" in columns else {}
        noise_step = torch.randint(len(schedule), (t.batch,), generator=draw, device=device)
        chance = partial(torch.rand, (t.batch, 2), generator=draw, device=device)
        return posterior | {"noise_step": noise_step, "noise": normal(), "chance": chance()}

    def seed_dropout(step: int, *micro_batch: int) -> None:
        """Its layers draw from the global generator."""
        torch.manual_seed(key_seed(t.seed, "dropout", step, *micro_batch))

    def gradients(
        noise_step: Tensor, noise: Tensor, chance: Tensor, **rows: Tensor
    ) -> tuple[dict[str, Tensor], list[Tensor]]:
        optimiser.zero_grad(set_to_none=True)
        raw = raw_latent(rows, rows.get("posterior"))
        with precision(run):
            losses = diffusion_loss(
                model, schedule, raw, rows, noise_step, noise, chance, norm=t.loss, snr_gamma=config.snr_gamma
            )
        losses.mean().backward()
        return {"losses": losses.detach()}, []

    draw = torch.Generator(device)
    backward = graphed(gradients, device)
    with closing(batches(read, t.seed, start, t.steps, t.batch, len(data), workers())) as ahead:
        for step, rows in enumerate(ahead, start):
            rows = {name: column.to(device, non_blocking=True) for name, column in rows.items()}
            draws = drawn(step)
            rows |= {name: several.mine(column) for name, column in draws.items()}
            result, _ = several.backward(backward, optimiser, rows, partial(seed_dropout, step))
            norm = update(optimiser, t, step)
            ema.update(step)
            window.append(seen(several.whole(result["losses"]), norm, draws["noise_step"], len(schedule)))

            done, scalars, pictures = step + 1, dict[str, float](), {}
            last = done == t.steps
            shown = done % t.picture_every == 0 and not last
            if shown and several.first:
                look = held_back.look(ema.model)
                scalars, pictures = look.scalars, look.pictures
            if done % REPORT_EVERY == 0 or done % t.save_every == 0 or shown or last:
                scalars = curves(window) | scalars | {"lr": rate(t, step)}
                finite(scalars, done, saved)
                history.add(done, scalars)
                window.clear()
            # Before the checkpoint: whoever goes on from there will not pass here again.
            if done in t.snapshots and several.first:
                save_weights(ema.model, resume / weights_name(done))
            if done % t.save_every == 0 or last:
                checkpoints.save(done, state())
                saved = done
            with checkpoints.kept_when_stopped(done, state):
                yield Progress(done=done, total=t.steps, scalars=scalars, pictures=pictures)

    several.leave()
    if not several.first:
        return
    look = held_back.look(ema.model)
    history.rows[-1] |= look.scalars
    fresh_folder(out)
    save_weights(model, out / "model.safetensors")
    save_weights(ema.model, out / weights_name())
    for step in t.snapshots:
        copy_whole(resume / weights_name(step), out / weights_name(step))
    write_json(out / "config.json", describe(config, model, latents, initial))
    if (latents / "tokenizer").is_dir():
        shutil.copytree(latents / "tokenizer", out / "tokenizer")
    history.write(out / "history.csv")
    for name, picture in look.pictures.items():
        with whole(out / f"{name}.png") as beside:
            picture.save(beside, format="png")
    write_manifest(out)
    yield Progress(done=t.steps, total=t.steps, scalars=look.scalars, pictures=look.pictures)
