"""What each section of the page shows, put together from what was collected; the words around it are templates."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ldm.report import figures, pictures
from ldm.report.collect import Metrics, Model, Prepared, Results, Samples, Study
from ldm.report.figures import Cell, Row, Table
from ldm.report.names import name_of, plain
from ldm.report.pictures import Captioned, Picture, Strip
from ldm.report.plots import scalars_to_draw
from ldm.report.records import Record

TITLES = {
    "text": "Text to image",
    "label": "Class to image",
    "none": "Unconditional",
    "low_resolution": "Super-resolution",
    "layout": "Layout to image",
    "label_map": "Label map to image",
    "mask": "Inpainting",
    "grey": "Colourisation",
    "clip_text": "Text to image (CLIP)",
    "clip_image": "Image variations (CLIP)",
}

SPLITS = ("train", "validation", "test", "held_out")
ATTENTION = "attention checks"


@dataclass(frozen=True, kw_only=True)
class DataView:
    prepared: Prepared
    parts: dict[str, int]
    total: int
    gallery: list[Captioned]


@dataclass(frozen=True, kw_only=True)
class ModelView:
    model: Model
    picture: Picture | None
    curves: tuple[str, ...]
    """Names of plots: plots/NAME.png and plots/NAME-dark.png"""


@dataclass(frozen=True, kw_only=True)
class SamplesView:
    samples: Samples
    gallery: list[Captioned]
    sheet: Picture


@dataclass(frozen=True, kw_only=True)
class TaskView:
    """All samples of one kind of condition with their figures."""

    condition: str
    title: str
    samples: list[SamplesView]
    strips: list[Strip]
    table: Table | None


@dataclass(frozen=True, kw_only=True)
class StudyView:
    study: Study
    counts: dict[str, int]
    """Trials of each comparison, attention checks last."""
    total: int


def data(results: Results) -> list[DataView]:
    views = []
    for prepared in results.datasets.values():
        splits = prepared.about.table("splits")
        order = [split for split in SPLITS if split in splits]
        parts = {split: splits.count(split) for split in [*order, *(s for s in splits if s not in SPLITS)]}
        gallery = pictures.data_gallery(prepared)
        views.append(DataView(prepared=prepared, parts=parts, total=sum(parts.values()), gallery=gallery))
    return views


def model_view(model: Model, kind: str) -> ModelView:
    alts = {"autoencoder": "Originals above reconstructions by {}", "diffusion": "Samples of {} at the end of training"}
    alt = alts[kind].format(model.name)
    return ModelView(
        model=model,
        picture=pictures.embed_file(model.picture, alt) if model.picture else None,
        curves=tuple(f"{kind}-{model.name}-{scalar}" for scalar in scalars_to_draw(list(model.history))),
    )


def tasks(results: Results) -> list[TaskView]:
    """One for each condition, in the order in which params.yaml first uses it."""
    by_condition: dict[str, list[Samples]] = {}
    for samples in results.samples.values():
        by_condition.setdefault(condition_of(results, samples), []).append(samples)
    return [_task(condition, members, results) for condition, members in by_condition.items()]


def _task(condition: str, members: Sequence[Samples], results: Results) -> TaskView:
    groups = pictures.comparison_groups(results, members)
    names = {samples.name for samples in members}
    measured = [m for m in results.metrics.values() if m.section.text("samples") in names]
    return TaskView(
        condition=condition,
        title=" + ".join(TITLES[kind] for kind in condition.split("+")),
        samples=[_samples(s, results, gallery=not groups) for s in members],
        strips=[pictures.comparison(group, prepared) for prepared, group in groups],
        table=figures.table(measured) if measured else None,
    )


def _samples(samples: Samples, results: Results, *, gallery: bool) -> SamplesView:
    sheet = samples.folder / "sheet.png"
    dataset = results.params.table("latents").table(samples.section.text("latents")).text("dataset")
    alt = f"The first samples of {samples.name} as one sheet"
    return SamplesView(
        samples=samples,
        gallery=pictures.sample_gallery(samples, results.datasets.get(dataset)) if gallery else [],
        sheet=pictures.embed_file(sheet, alt),
    )


def condition_of(results: Results, samples: Samples) -> str:
    return kinds(results.params.table("diffusion").table(samples.section.text("model")))


def kinds(model: Record) -> str:
    """Of the tokens and channels that a row of `diffusion` is told: text, mask or text+mask; none where neither."""
    parts = [model.table("condition").table(part).text("kind") for part in ("tokens", "channels")]
    return "+".join(kind for kind in parts if kind != "none") or "none"


def autoencoder_table(results: Results) -> Table | None:
    metrics = list(results.autoencoder_metrics.values())
    return figures.table(metrics) if metrics else None


def settings(models: Sequence[Model], rows: Mapping[str, str]) -> Table:
    """Models side by side, from their sections in params.yaml; `rows` maps a dotted place to what the page calls it."""
    made = [Row(words="Parameters", cells=tuple(Cell(value=f"{m.parameters:,}") for m in models))]
    shapes = [_latent_shape(m) for m in models]
    if any(shapes):
        cells = tuple(Cell(value=shape) if shape else None for shape in shapes)
        made.append(Row(words="Latent shape", cells=cells))
    for place, words in rows.items():
        cells = tuple(_setting(model.section, place) for model in models)
        if any(cells):
            made.append(Row(words=words, cells=cells))
    return Table(columns=tuple(m.name for m in models), rows=tuple(made))


def _setting(section: Record, place: str) -> Cell | None:
    *tables, last = place.split(".")
    for key in tables:
        section = section.table(key)
    value = section.get(last)
    return None if value is None else Cell(value=plain(value))


def _latent_shape(model: Model) -> str:
    latents = model.config.table("latents")
    return " × ".join(str(side) for side in latents.rows("latent_shape")) if "latent_shape" in latents else ""


def study(one: Study) -> StudyView:
    """How many trials the key holds of each comparison, by who meets whom in it."""
    names = {"first": one.section.text("first"), "second": one.section.text("second"), "original": "original"}
    first, second, original = names.values()
    counts = {f"{first} | {original}": 0, f"{second} | {original}": 0, f"{first} | {second}": 0, ATTENTION: 0}
    trials = one.key.table("trials")
    for trial in trials:
        sides = {trials.table(trial).text("left"), trials.table(trial).text("right")}
        known = sides <= names.keys()
        pair = " | ".join(words for side, words in names.items() if side in sides) if known else ATTENTION
        counts[pair] = counts.get(pair, 0) + 1
    counts = {pair: count for pair, count in counts.items() if count}
    return StudyView(study=one, counts=counts, total=sum(counts.values()))


def headlines(results: Results) -> list[tuple[str, str, str]]:
    """The few figures to know before reading on: value, what it is, what to hold it against."""
    found = []
    for kind, metrics in (("reconstruction", results.autoencoder_metrics), ("samples", results.metrics)):
        for one in metrics.values():
            found.extend(_headline(kind, one))
    return found


def _headline(kind: str, one: Metrics) -> list[tuple[str, str, str]]:
    own, bicubic = figures.split_bicubic(one.figures)
    distances = sorted(key for key in own if key.startswith("fd_") and not key.endswith("_floor"))
    for key in ("caption_colour", "psnr", "fid", *distances):
        if key in own:
            name = name_of(key)
            against = f"bicubic {name.write(bicubic[key])}" if key in bicubic else ""
            if f"{key}_floor" in own:
                against = f"floor {name.write(own[f'{key}_floor'])}"
            label = f"{name.words}, {one.name}" + (" reconstructions" if kind == "reconstruction" else "")
            return [(name.write(own[key]), label, against)]
    return []
