"""Whether latents tell a model what it was trained on: the same columns, and in them the same meanings."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from ldm import conditioning
from ldm.config import check
from ldm.data.latents import Latents
from ldm.diffusion.model import DiffusionModel
from ldm.files import read_json
from ldm.sampling.config import ClipGuide, Samples

TOLD = {
    "label": ("classes",),
    "text": ("vocabulary_size", "null_tokens"),
    "layout": ("layout", "box_classes"),
    "clip_text": ("clip",),
    "clip_image": ("clip",),
    "low_resolution": ("low_resolution",),
    "label_map": ("label_map_classes",),
}
"""By kind of condition, what must mean the same in latents that are trained on and in those that are sampled from."""


def check_latents(config: Samples, model: Path, about: Mapping[str, Any], autoencoder: str, data: Latents) -> None:
    """Raise ValueError of one line where `data` would tell the model something else than it was trained on.

    `about` is the model's config.json, `autoencoder` the identity of the first stage that decodes.
    """
    trained, info = about["latents"], data.info
    both = f"{data.folder} and the latents that {model} was trained on"
    if autoencoder != trained["autoencoder"]:
        raise ValueError(f"{model} was trained on latents of another autoencoder than {config.autoencoder}")
    if info["autoencoder"] != trained["autoencoder"]:
        raise ValueError(f"{both} are of different autoencoders")
    if config.size is None and info["latent_shape"] != trained["latent_shape"]:
        raise ValueError(f"{both} differ in size; say which one to sample in size")
    condition = about["diffusion"]["condition"]
    _check_columns(condition, data)
    kinds = [condition[part]["kind"] for part in ("tokens", "channels")]
    for kind, key in [(each, key) for each in kinds for key in TOLD.get(each, ())]:
        if not _agree(key, info.get(key), trained.get(key), "imported" in about):
            raise ValueError(
                f"{both} differ in {key}, so its {kind} would mean other things; "
                "sample from latents of the same data set, vocabulary and CLIP"
            )
    captions = isinstance(config.guide, ClipGuide) and config.guide.prompt is None
    if captions and not any(data.caption(row) for row in range(len(data))):
        raise ValueError(f"guide: {{kind: clip}} without a prompt takes captions, and {data.folder} has none")


def check_classifier(
    classifier: DiffusionModel, folder: Path, model: DiffusionModel, info: Mapping[str, Any], what: object
) -> None:
    """Raise ValueError of one line where `classifier`, of `folder`, does not know what `model` draws, or its labels.

    `info` is the latents.json of the latents that say what to draw, and `what` names them.
    """
    trained = read_json(folder / "config.json")["latents"]
    for key in ("autoencoder", "latent_shape", "classes"):
        if info[key] != trained[key]:
            raise ValueError(f"{what} and the latents that {folder} was trained on differ in {key}")
    ours, theirs = ([one.schedule.alpha, one.scale.shift, one.scale.factor] for one in (model, classifier))
    if not all(map(torch.equal, ours, theirs)):
        raise ValueError(f"{folder} was trained on other noisy latents: give it the model's schedule and scale")


def _check_columns(condition: Mapping[str, Any], data: Latents) -> None:
    section = check(condition, conditioning.Conditions, "condition", file=str(data.folder))
    try:
        with torch.device("meta"):
            conditioning.build(section, data.info)
    except ValueError as error:
        raise ValueError(f"{data.folder}: {error}") from None


def _agree(key: str, here: Any, trained: Any, imported: bool) -> bool:
    """Degradations may differ; an import that knows how many classes there are, not their names, has them by count."""
    if key == "low_resolution":
        return bool(here["factor"] == trained["factor"])
    if imported and key == "box_classes" and trained is None:
        return True
    if imported and key in ("classes", "label_map_classes") and trained == [f"class {i}" for i in range(len(trained))]:
        return len(here) == len(trained)
    return bool(here == trained)
