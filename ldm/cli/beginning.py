"""What `ldm sample` begins from beside what the model is told: label maps, a size, a picture to start from, a guide."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ldm.cli import options
from ldm.cli.drawing import draw_all
from ldm.cli.how import drawing, parsed_size
from ldm.cli.inputs import fitted, padded, read_label_map, read_picture, sides
from ldm.cli.models import MODELS, Opened, find, open_model
from ldm.cli.rows import SHOWN_BY, Item, Rows, told
from ldm.sampling.fit import check_classifier
from ldm.sampling.guides import networks

STRENGTH = 0.6
SCALES = {"low_resolution": 16.0, "identity": 1.0, "grey": 1.0, "small": 0.5, "clip": 300.0, "classifier": 3.0}
"""Of guides, where none is said (docs/sampling.md). Each value of a 4x smaller picture is a mean of 16 pixels."""
PERCEPTUAL_SCALE = 30.0
"""Of every kind, where the distance is perceptual: it is a mean over the picture, whatever is compared."""
OF_A_PICTURE = ("low_resolution", "identity", "grey")


@dataclass(frozen=True, kw_only=True)
class Beginning:
    label_maps: Sequence[Path]
    size: str | None
    start: Path | None
    strength: float | None
    guide_kind: str | None
    guide: Path | None
    guide_scale: float | None
    guide_distance: str
    perceptual_weights: Path | None
    classifier: str | None
    estimates: int


def draw_beginning(
    model: str, given: options.Told, beginning: Beginning, how: options.How, where: options.Where
) -> list[Path]:
    _check_options(beginning, given)
    opened = open_model(model, how.autoencoder, how.snapshot, where.device)
    if opened.channels != "none" and opened.channels != "label_map":
        raise ValueError(f"{opened.name} is shown {opened.channels}: use {SHOWN_BY[opened.channels]}")
    for_guide = {"clip": "--prompt", "classifier": "--label"}.get(beginning.guide_kind or "")
    items = _shown(opened, told(opened, given, for_guide=for_guide), beginning)
    start = {"strength": STRENGTH if beginning.strength is None else beginning.strength} if beginning.start else None
    section = drawing(opened, how, start=start, guide=_guide(beginning))
    asked = given.clip_weights if beginning.guide_kind == "clip" else beginning.perceptual_weights
    classifier = find(beginning.classifier, MODELS / "diffusion") if beginning.classifier else Path("none")
    found = networks(section, asked or Path("none"), classifier, opened.device)
    if found.classifier is not None:
        check_classifier(found.classifier, classifier, opened.model, opened.info, opened.name)
    pictured = any("picture" in item.rows for item in items)
    return draw_all(opened, items, section, how, where, latents=pictured, networks=found, estimates=beginning.estimates)


def _check_options(beginning: Beginning, given: options.Told) -> None:
    kind = beginning.guide_kind
    if kind is None and (beginning.guide or beginning.guide_scale is not None):
        raise ValueError("--guide and --guide-scale need --guide-kind: what of the picture is held to")
    if beginning.guide_scale == 0:
        raise ValueError("--guide-scale 0 guides nothing: leave out --guide-kind and what belongs to it")
    if kind in OF_A_PICTURE and beginning.guide is None:
        raise ValueError(f"--guide-kind {kind} needs --guide PICTURE")
    if kind in ("small", "clip", "classifier") and beginning.guide is not None:
        raise ValueError(f"--guide-kind {kind} compares with no picture: leave out --guide")
    if kind == "clip" and not (given.clip_weights and (given.prompt or given.prompts)):
        raise ValueError("--guide-kind clip needs --prompt and --clip-weights")
    if kind in ("clip", "classifier") and beginning.guide_distance == "perceptual":
        raise ValueError(f"--guide-kind {kind} has no distance to choose: leave out --guide-distance")
    if kind == "classifier" and not (beginning.classifier and given.label):
        raise ValueError("--guide-kind classifier needs --classifier MODEL and --label")
    if kind != "classifier" and beginning.classifier:
        raise ValueError("--classifier is of --guide-kind classifier: say both")
    if (beginning.guide_distance == "perceptual") != (beginning.perceptual_weights is not None):
        raise ValueError("--guide-distance perceptual and --perceptual-weights go together")
    if beginning.strength is not None and beginning.start is None:
        raise ValueError("--strength is of --start: say both")
    if beginning.start and kind in ("identity", "grey") and beginning.start != beginning.guide:
        raise ValueError(f"--start and --guide-kind {kind} must name the same picture")


def _guide(beginning: Beginning) -> dict[str, Any] | None:
    if beginning.guide_kind is None:
        return None
    usual = PERCEPTUAL_SCALE if beginning.guide_distance == "perceptual" else SCALES[beginning.guide_kind]
    scale = usual if beginning.guide_scale is None else float(beginning.guide_scale)
    if beginning.guide_kind in ("clip", "classifier"):
        return {"kind": str(beginning.guide_kind), "scale": scale}
    return {"kind": str(beginning.guide_kind), "distance": str(beginning.guide_distance), "scale": scale}


def _shown(opened: Opened, items: list[Item], beginning: Beginning) -> list[Item]:
    size = parsed_size(beginning.size, opened.multiple)
    if opened.channels == "label_map":
        return _with_label_maps(opened, items, beginning, size)
    if beginning.label_maps:
        raise ValueError(f"{opened.name} is shown no label maps: leave out --label-map")
    rows: Rows = {}
    kept = None
    if beginning.guide_kind == "low_resolution" and beginning.guide:
        rows["low_resolution"] = read_picture(beginning.guide)
    path = beginning.start or (beginning.guide if beginning.guide_kind != "low_resolution" else None)
    if path:
        picture = read_picture(path)
        rows["picture"] = fitted(picture, size) if size else padded(picture, opened.multiple)
        kept, size = size or sides(picture), sides(rows["picture"])
    return [item.shown(rows=rows, size=size, kept=kept) for item in items]


def _with_label_maps(
    opened: Opened, items: list[Item], beginning: Beginning, size: tuple[int, int] | None
) -> list[Item]:
    if not beginning.label_maps:
        raise ValueError(f"{opened.name} is shown label maps: say --label-map FILE.png")
    if size is not None or beginning.start or beginning.guide:
        raise ValueError("a sample has the size of its label map: leave out --size, --start and --guide")
    shown = []
    for item, path in paired(items, beginning.label_maps):
        label_map = read_label_map(path, opened.info["label_map_classes"])
        whole = padded(label_map, opened.multiple)
        name = path.stem if opened.tokens == "none" else f"{path.stem}-{item.name}"
        shown.append(item.shown(name, rows={"label_map": whole}, size=sides(whole), kept=sides(label_map)))
    return shown


def paired(items: Sequence[Item], paths: Sequence[Path]) -> list[tuple[Item, Path]]:
    """One of the one with one of the other; one alone goes with all."""
    if len(items) != len(paths) and 1 not in (len(items), len(paths)):
        raise ValueError(f"{len(items)} things told and {len(paths)} pictures: give as many, or one for all")
    count = max(len(items), len(paths))
    return [(items[i % len(items)], paths[i % len(paths)]) for i in range(count)]
