"""From a released checkpoint to model folders that every stage takes as its own."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import BertTokenizer

from ldm.autoencoder.config import KL, VQ, Autoencoder, Identity
from ldm.autoencoder.model import build
from ldm.config import lookup, section
from ldm.diffusion.config import Diffusion
from ldm.diffusion.model import DiffusionModel, LatentScale
from ldm.diffusion.schedule import Schedule
from ldm.files import identity, sha256
from ldm.interop import released
from ldm.interop.checkpoint import Contents, load_tensors
from ldm.interop.described import described, row_tokenizer
from ldm.interop.folders import free, whole_model, write_autoencoder, write_diffusion, wrote
from ldm.interop.links import read
from ldm.interop.walk import denoising, groups
from ldm.progress import Progress


def import_checkpoint(
    file: Path,
    row: str,
    params: Mapping[str, Any],
    models: Path,
    *,
    params_file: str = "params.yaml",
    name: str | None = None,
    vocabulary: Path | None = None,
) -> Iterator[Progress]:
    """Write the model in `file`, a released checkpoint, with the architecture of a row of `params`.

    `row` is a name in `diffusion` or in `autoencoders` (with its table before it, `diffusion.NAME`, where both have
    it). A first stage becomes models/autoencoders/NAME; a diffusion model becomes models/diffusion/NAME and its first
    stage models/autoencoders/NAME of its own row. `name` is another name for the folder of the row itself.
    `vocabulary` is the vocab.txt of a text model. The last Progress says what was read and what was left out.

    Raises ValueError where anything in the file is missing, unknown or of another shape than the row's.
    """
    table, row = find_row(params, row, params_file)
    folder = models / table / (name or row)
    yield Progress(done=0, total=2, unit="files")
    contents = Contents(file, load_tensors(file))
    source = {"file": file.name, "sha256": sha256(file)}
    yield Progress(done=1, total=2, unit="files")
    if table == "autoencoders":
        config = trained_stage(params, row, params_file)
        state = _own_stage(contents, config)
        contents.end()
        write_autoencoder(folder, config, state, source)
    else:
        free(folder)
        _import_diffusion(contents, row, params, params_file, models, folder, source, vocabulary)
    yield Progress(done=2, total=2, unit="files", notes=[*contents.notes, *wrote(folder)])


def find_row(params: Mapping[str, Any], row: str, file: str) -> tuple[str, str]:
    """The table and the name of a row that may be given with its table before it."""
    tables = ("diffusion", "autoencoders")
    table, dot, name = row.partition(".")
    if dot and table in tables:
        lookup(params, row, file=file)
        return table, name
    found = [table for table in tables if row in (params.get(table) or {})]
    if len(found) == 2:
        raise ValueError(
            f"{file}: diffusion and autoencoders both have {row}; say diffusion.{row} or autoencoders.{row}"
        )
    if not found:
        lookup(params, f"diffusion.{row}", file=file)
    return found[0], row


def trained_stage(params: Mapping[str, Any], row: str, file: str) -> KL | VQ:
    config = section(params, Autoencoder, f"autoencoders.{row}", file=file).root
    if isinstance(config, Identity):
        raise ValueError(f"{file}: autoencoders.{row}: kind identity has no weights to import")
    return config


def _own_stage(contents: Contents, config: KL | VQ) -> dict[str, Tensor]:
    """Of a first stage's own checkpoint, averaged where it keeps an average; or of a diffusion model's."""
    if contents.has(released.FIRST_STAGE):
        contents.leave_out(lambda name: not name.startswith(released.FIRST_STAGE), "only the first stage is asked for")
        return _stage(contents, config, released.FIRST_STAGE)
    training = ("loss.", f"{released.EMA}loss", f"{released.EMA}decay", f"{released.EMA}num_updates")
    contents.leave_out(lambda name: name.startswith(training), "of a first stage's training")
    averages = contents.take(released.EMA)
    if averages:
        names = {released.averaged(name): name for name in contents.take("")}
        contents.rest = {names.get(name, released.EMA + name): tensor for name, tensor in averages.items()}
        contents.notes.append("read the averaged weights, not the last ones")
    return _stage(contents, config, "")


def _stage(contents: Contents, config: KL | VQ, prefix: str) -> dict[str, Tensor]:
    contents.leave_out(lambda name: name.startswith(f"{prefix}loss."), "of a first stage's training")
    with torch.device("meta"):
        model = build(config)
    _norms(model, contents.path)
    theirs = contents.take(prefix)
    state = read(released.first_stage(model, config.model), theirs, model.state_dict(), f"{contents.path}: first stage")
    contents.notes.append(f"read: {len(theirs)} tensors of the first stage")
    return state


def _norms(model: nn.Module, path: Path) -> None:
    """Norms of other groups have weights of the same shapes, and compute something else."""
    if groups(model) != [32]:
        raise ValueError(
            f"{path}: released models have norms of 32 groups, the row's narrow widths have {groups(model)}; "
            "every width must be a multiple of 32; say norm_groups: 32 where one is below 128"
        )


def _import_diffusion(
    contents: Contents,
    row: str,
    params: Mapping[str, Any],
    params_file: str,
    models: Path,
    folder: Path,
    source: Mapping[str, Any],
    vocabulary: Path | None,
) -> None:
    config = denoising(section(params, Diffusion, f"diffusion.{row}", file=params_file))
    tokenizer = wanted_tokenizer(config, row, params, params_file, vocabulary)
    _schedule(contents, config)
    factor = _scale_factor(contents, config)
    same = {f"{released.CONDITION}{name}" for name in _repeated(contents)}
    contents.leave_out(lambda name: name in same, "the first stage once more")
    classes, label_map_classes = _classes(contents, config)
    encoder = models / "autoencoders" / config.autoencoder
    stage = None
    if contents.has(released.FIRST_STAGE):
        stage_config = trained_stage(params, config.autoencoder, params_file)
        stage = _stage(contents, stage_config, released.FIRST_STAGE)
    info = described(
        params, row, file=params_file, std=1 / factor, tokenizer=tokenizer,
        classes=classes, label_map_classes=label_map_classes,
    )  # fmt: skip
    with torch.device("meta"):
        model = DiffusionModel(config, info)
    _norms(model, contents.path)
    conditioner = _conditioner(contents, model, config)
    unet, averaged = _unets(contents, model)
    contents.end()
    # Nothing is written before all of the file is understood.
    if stage is not None:
        info["autoencoder"] = write_autoencoder(encoder, stage_config, stage, source)
        contents.notes += wrote(encoder)
    else:
        info["autoencoder"] = identity(encoder)
        contents.notes.append(f"no first stage in the file: it goes with {encoder}")
    scale = LatentScale.from_statistics(config.scale, info)
    raw, ema = (whole_model(scale, state, conditioner) for state in (unet, averaged))
    write_diffusion(folder, config, info, raw, ema, source, tokenizer)


def wanted_tokenizer(
    config: Diffusion, row: str, params: Mapping[str, Any], file: str, vocabulary: Path | None
) -> BertTokenizer | None:
    """What makes ids of captions, for a text model."""
    if _kind(config.condition.tokens) != "text":
        return None
    if vocabulary is None:
        raise ValueError(
            f"{file}: diffusion.{row}: a text model needs the words it was trained with: "
            "--vocabulary vocab.txt (bert-base-uncased's for released models)"
        )
    return row_tokenizer(params, row, vocabulary, file)


def _kind(part: Any) -> str:
    return part.kind


def _schedule(contents: Contents, config: Diffusion) -> None:
    """Check the buffers that follow from the betas, then leave them out: they are computed anew."""
    found = contents.rest.get("alphas_cumprod")
    if found is not None:
        ours = Schedule.from_config(config.schedule).alpha.square()
        if found.shape != ours.shape or not torch.allclose(found.float(), ours, atol=1e-5, rtol=1e-4):
            betas = contents.rest.get("betas", torch.tensor([float("nan")]))
            ends = f"{betas[0]:.6g} and {betas[-1]:.6g}" if len(betas) else "?"
            raise ValueError(
                f"{contents.path}: another schedule than the row's: {len(found)} steps with betas between {ends}"
            )
    contents.leave_out(lambda name: name in released.SCHEDULE, "they follow from the row's schedule, and agree with it")


def _scale_factor(contents: Contents, config: Diffusion) -> float:
    """What raw latents are multiplied by."""
    buffer = contents.rest.pop("scale_factor", None)
    found = None if buffer is None else float(buffer)
    if found is not None:
        contents.notes.append(f"read: scale_factor {found:.7g}")
    match config.scale:
        case "channel":
            raise ValueError(f"{contents.path}: released models scale all channels alike; say scale: std or a number")
        case "std":
            if found is None:
                raise ValueError(f"{contents.path}: no scale_factor, which scale: std needs; say scale: 1.0 in the row")
            return found
        case number:
            if found is not None and abs(found - number) > 1e-5 * abs(number):
                raise ValueError(f"{contents.path}: scale_factor {found:.7g}, but the row says scale: {number:g}")
            return float(number)


def _repeated(contents: Contents) -> list[str]:
    """Names of a first stage that is kept a second time, as what encodes the condition."""
    condition = contents.rest
    names = [name.removeprefix(released.FIRST_STAGE) for name in condition if name.startswith(released.FIRST_STAGE)]
    pairs = [(name, condition.get(released.CONDITION + name)) for name in names]
    return [
        name
        for name, tensor in pairs
        if tensor is not None and torch.equal(tensor, condition[released.FIRST_STAGE + name])
    ]


def _classes(contents: Contents, config: Diffusion) -> tuple[list[str], list[str]]:
    """Numbers for names: a checkpoint knows how many classes there are, not what they are."""
    embedding = contents.rest.get(f"{released.CONDITION}embedding.weight")
    mapper = contents.rest.get(f"{released.CONDITION}channel_mapper.weight")
    count = 0
    if embedding is not None and _kind(config.condition.tokens) == "label":
        # With drop the last row is the null condition, which was trained; without, there is none.
        count = len(embedding) - (1 if getattr(config.condition.tokens, "drop", 0.0) > 0 else 0)
    maps = 0 if mapper is None else mapper.shape[1]
    return [f"class {i}" for i in range(count)], [f"class {i}" for i in range(maps)]


def _conditioner(contents: Contents, model: DiffusionModel, config: Diffusion) -> dict[str, Tensor]:
    tokens, channels = _kind(config.condition.tokens), _kind(config.condition.channels)
    ours = model.conditioner.state_dict()
    if not any(".logits." in name for name in ours):
        logits = f"{released.CONDITION}transformer.to_logits."
        contents.leave_out(lambda name: name.startswith(logits), "the row says unused_logits: false")
    theirs = contents.take(released.CONDITION)
    count = len(theirs)
    if tokens == "label" and "embedding.weight" in theirs:
        table, rows = theirs["embedding.weight"], ours["tokens.embedding.weight"].shape[0]
        if len(table) == rows - 1:
            theirs["embedding.weight"] = torch.cat([table, torch.zeros_like(table[:1])])
            contents.notes.append("the null class is zero: this model was trained without one, so it cannot be guided")
    links = released.conditioner(model.conditioner, tokens, channels)
    state = read(links, theirs, ours, f"{contents.path}: condition")
    if theirs:
        contents.notes.append(f"read: {count} tensors of what encodes the condition")
    return state


def _unets(contents: Contents, model: DiffusionModel) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The UNet and its average; where none is kept, the UNet is its own."""
    ours, links = model.unet.state_dict(), list(released.unet(model.unet))
    theirs = contents.take(released.UNET)
    unet = read(links, theirs, ours, f"{contents.path}: UNet")
    contents.notes.append(f"read: {len(theirs)} tensors of the UNet")
    if not contents.has(released.EMA):
        contents.notes.append("no averaged weights in the file: ema.safetensors holds the others")
        return unet, unet
    kept = (f"{released.EMA}decay", f"{released.EMA}num_updates")
    contents.leave_out(lambda name: name in kept, "of the average's warm-up")
    names = {released.averaged(f"diffusion_model.{name}"): name for link in links for name in link.theirs}
    found = {names.get(name, name): tensor for name, tensor in contents.take(released.EMA).items()}
    averaged = read(links, found, ours, f"{contents.path}: averaged UNet")
    contents.notes.append(f"read: {len(found)} tensors of the averaged UNet")
    return unet, averaged
