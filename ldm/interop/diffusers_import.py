"""From folders of diffusers to our model folders."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import BertTokenizer

from ldm.autoencoder.config import KL, VQ, Autoencoder, Identity
from ldm.autoencoder.model import build
from ldm.config import check, section
from ldm.data.tokens import load_tokenizer
from ldm.diffusion.config import Diffusion
from ldm.diffusion.model import DiffusionModel, LatentScale
from ldm.diffusion.schedule import Schedule
from ldm.files import identity, read_json, sha256
from ldm.interop import diffusers_config, diffusers_names
from ldm.interop.checkpoint import load_tensors
from ldm.interop.described import described
from ldm.interop.diffusers_export import OURS, REST
from ldm.interop.folders import free, part, whole_model, write_autoencoder, write_diffusion, wrote
from ldm.interop.importing import find_row, trained_stage, wanted_tokenizer
from ldm.interop.links import Link, read
from ldm.interop.walk import denoising
from ldm.nn.transformer import Transformer
from ldm.progress import Progress

STAGES = ("vqvae", "vae")
"""What pipelines call the folder of a first stage."""


@dataclass(frozen=True)
class Row:
    """What a folder is read as."""

    config: Diffusion | KL | VQ
    stage: KL | VQ | None
    """A diffusion model's first stage, where the folder has one."""
    info: dict[str, Any] | None
    """The description of its latents, where it was exported from here."""


def import_diffusers(
    folder: Path,
    row: str | None,
    params: Mapping[str, Any] | None,
    models: Path,
    *,
    params_file: str = "params.yaml",
    name: str | None = None,
    vocabulary: Path | None = None,
) -> Iterator[Progress]:
    """Write the model in `folder`, a pipeline's (with `unet` in it) or a first stage's, as `import_checkpoint` does.

    A folder that was exported from here needs no `row` and no `params`, only a `name`; it comes back as it was.
    """
    yield Progress(done=0, total=2, unit="files")
    exported = (folder / OURS).is_file() and row is None
    if row is None and not exported:
        raise ValueError(f"{folder}: not exported from here (no {OURS}); say which row of params it is (--as ROW)")
    if not exported and params is None:
        raise ValueError(f"{folder}: row {row} of which params? (--params FILE)")
    found = _exported(folder) if exported else _rows(folder, str(row), params or {}, params_file)
    place = name or (folder.name if row is None else row.rpartition(".")[2])
    if isinstance(found.config, Diffusion):
        target = models / "diffusion" / place
        free(target)
        notes = _diffusion(folder, found, models, target, row, params, params_file, vocabulary)
    else:
        target = models / "autoencoders" / place
        write_autoencoder(target, found.config, _stage(folder, found.config), source(folder))
        notes = ["read the first stage"]
    yield Progress(done=2, total=2, unit="files", notes=[*notes, *wrote(target)])


def source(folder: Path) -> dict[str, str]:
    """Which file an import came from."""
    path = _weights(folder)
    return {"file": f"{folder.name}/{path.name}", "sha256": sha256(path)}


def _exported(folder: Path) -> Row:
    about, file = read_json(folder / OURS), str(folder / OURS)
    if "diffusion" not in about:
        return Row(_trained(check(about, Autoencoder, "", file=file), file), None, None)
    config = denoising(check(about["diffusion"], Diffusion, "diffusion", file=file))
    stage = _stage_folder(folder)
    if stage is None:
        return Row(config, None, about["latents"])
    of_stage = str(stage / OURS)
    return Row(
        config, _trained(check(read_json(stage / OURS), Autoencoder, "", file=of_stage), of_stage), about["latents"]
    )


def _rows(folder: Path, row: str, params: Mapping[str, Any], file: str) -> Row:
    table, row = find_row(params, row, file)
    if table == "autoencoders":
        return Row(trained_stage(params, row, file), None, None)
    config = denoising(section(params, Diffusion, f"diffusion.{row}", file=file))
    stage = trained_stage(params, config.autoencoder, file) if _stage_folder(folder) else None
    return Row(config, stage, None)


def _trained(config: Autoencoder, file: str) -> KL | VQ:
    if isinstance(config.root, Identity):
        raise ValueError(f"{file}: kind identity has no weights to import")
    return config.root


def _stage_folder(folder: Path) -> Path | None:
    return next((folder / name for name in STAGES if (folder / name).is_dir()), None)


def _diffusion(
    folder: Path,
    found: Row,
    models: Path,
    target: Path,
    row: str | None,
    params: Mapping[str, Any] | None,
    file: str,
    vocabulary: Path | None,
) -> list[str]:
    config = found.config
    assert isinstance(config, Diffusion)
    place, notes = _stage_folder(folder), ["read the UNet"]
    words = read_json(place / "config.json") if place else {}
    tokenizer: BertTokenizer | None
    if found.info is not None:
        info, tokenizer = dict(found.info), None
        if (folder / "tokenizer").is_dir():
            tokenizer = load_tokenizer(folder / "tokenizer")
    else:
        assert row is not None
        assert params is not None
        name = find_row(params, row, file)[1]
        if vocabulary is None and (folder / "tokenizer" / "vocab.txt").is_file():
            vocabulary = folder / "tokenizer" / "vocab.txt"
        tokenizer = wanted_tokenizer(config, name, params, file, vocabulary)
        info = described(params, name, file=file, std=1 / _factor(config, words, folder), tokenizer=tokenizer)
    with torch.device("meta"):
        model = DiffusionModel(config, info)
    _schedule(folder, config)
    unet = _unet(folder, model, config)
    conditioner, scale = _rest(folder, model, config, info)
    stage = None if place is None or found.stage is None else _stage(place, found.stage)
    encoder = models / "autoencoders" / config.autoencoder
    if stage is not None and found.stage is not None and place is not None:
        info["autoencoder"] = write_autoencoder(encoder, found.stage, stage, source(place))
        notes += wrote(encoder)
    else:
        info["autoencoder"] = identity(encoder)
        notes.append(f"no first stage in the folder: it goes with {encoder}")
    state = whole_model(scale, unet, conditioner)
    write_diffusion(target, config, info, state, state, source(folder / "unet"), tokenizer)
    return notes


def _factor(config: Diffusion, stage: Mapping[str, Any], folder: Path) -> float:
    match config.scale:
        case "channel":
            raise ValueError(f"{folder}: say scale: std or a number in the row")
        case "std":
            if "scaling_factor" not in stage:
                raise ValueError(
                    f"{folder}: no scaling_factor in its first stage's config.json, which scale: std needs"
                )
            return float(stage["scaling_factor"])
        case number:
            return float(number)


def _schedule(folder: Path, config: Diffusion) -> None:
    path = folder / "scheduler" / "scheduler_config.json"
    if not path.is_file():
        return
    words = read_json(path)
    theirs, ours = diffusers_config.alphas_cumprod(words), Schedule.from_config(config.schedule).alpha.square()
    if theirs.shape != ours.shape or not torch.allclose(theirs.float(), ours, atol=1e-5, rtol=1e-4):
        raise ValueError(f"{path}: another schedule than the row's")
    objective = words.get("prediction_type", "epsilon")
    if objective != diffusers_config.PREDICTION[config.objective]:
        raise ValueError(f"{path}: prediction_type {objective}, but the row says objective: {config.objective}")


def _unet(folder: Path, model: DiffusionModel, config: Diffusion) -> dict[str, Tensor]:
    expected = diffusers_config.unet_of(model, config)
    return _read(folder / "unet", expected, diffusers_names.unet(model.unet), model.unet.state_dict())


def _rest(
    folder: Path, model: DiffusionModel, config: Diffusion, info: Mapping[str, Any]
) -> tuple[dict[str, Tensor], LatentScale]:
    """What encodes the condition, and the latent scale."""
    ours = model.conditioner.state_dict()
    if (folder / REST).is_file():
        state = load_tensors(folder / REST)
        links = [Link(name, (name,)) for name in (f"conditioner.{key}" for key in ours)]
        links += [Link(f"scale.{name}", (f"scale.{name}",)) for name in ("shift", "factor")]
        shapes = {f"conditioner.{key}": tensor for key, tensor in ours.items()}
        shapes |= {f"scale.{name}": getattr(model.scale, name) for name in ("shift", "factor")}
        read_back = read(links, state, shapes, str(folder / REST))
        scale = LatentScale(*(read_back[f"scale.{name}"].flatten() for name in ("shift", "factor")))
        return part(read_back, "conditioner"), scale
    scale = LatentScale.from_statistics(config.scale, dict(info))
    if not ours:
        return {}, scale
    transformer = getattr(model.conditioner.tokens, "transformer", None)
    if not isinstance(transformer, Transformer) or not (folder / "bert").is_dir():
        raise ValueError(f"{folder}: the weights that encode the condition are not in it (neither {REST} nor bert)")
    theirs = load_tensors(_weights(folder / "bert"))
    if not hasattr(transformer, "logits"):
        theirs = {name: tensor for name, tensor in theirs.items() if not name.startswith("to_logits.")}
    state = read(diffusers_names.text(transformer), theirs, transformer.state_dict(), str(folder / "bert"))
    return {f"tokens.transformer.{name}": tensor for name, tensor in state.items()}, scale


def _stage(folder: Path, config: KL | VQ) -> dict[str, Tensor]:
    with torch.device("meta"):
        model = build(config)
    expected = diffusers_config.first_stage(config, model)
    return _read(folder, expected, diffusers_names.first_stage(model, config.model), model.state_dict())


def _read(
    folder: Path, expected: Mapping[str, Any], links: Iterable[Link], ours: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    if wrong := diffusers_config.differences(read_json(folder / "config.json"), expected):
        raise ValueError(f"{folder}/config.json: another architecture than the row's: {'; '.join(wrong)}")
    attention: Callable[[str], str] = diffusers_names.current
    theirs = {
        attention(name) if "attentions." in name else name: tensor
        for name, tensor in load_tensors(_weights(folder)).items()
    }
    return read(links, theirs, ours, str(folder))


def _weights(folder: Path) -> Path:
    """The file of weights in a folder as diffusers or transformers save it; a pipeline's stands for its UNet's."""
    folder = folder / "unet" if (folder / "unet").is_dir() else folder
    names = ("diffusion_pytorch_model", "model", "pytorch_model")
    for path in (folder / f"{name}.{ending}" for ending in ("safetensors", "bin") for name in names):
        if path.is_file():
            return path
    raise ValueError(f"{folder}: no diffusion_pytorch_model.safetensors or .bin in it")
