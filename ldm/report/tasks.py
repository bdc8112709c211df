"""All samples under one kind of condition: pictures side by side, their nearest training pictures, their figures."""

from collections.abc import Sequence
from dataclasses import dataclass

from ldm.report import figures, pictures
from ldm.report.album import Album, Picture
from ldm.report.collect import Metrics, Prepared, Results, Samples
from ldm.report.conditions import conditions_of, prompted
from ldm.report.names import how_sampled
from ldm.report.pictures import Captioned, Neighbour
from ldm.report.strips import Strip, given_to, strips
from ldm.report.tables import Table

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
    "picture": "Held to pictures",
}


@dataclass(frozen=True, kw_only=True)
class SamplesView:
    samples: Samples
    how: str
    gallery: list[Captioned]
    prompted: bool
    """Whether the captions are prompts, which stand over their samples."""
    sheet: Picture


@dataclass(frozen=True, kw_only=True)
class NeighboursView:
    name: str
    pairs: list[Neighbour]
    looked_up: int
    memorised: int
    """Of those looked up."""
    train: int
    unseen: int
    """Held-out pictures by which the rule was set."""
    unseen_share: str
    """How many of these the rule calls memorised, at most."""


@dataclass(frozen=True, kw_only=True)
class TaskView:
    condition: str
    title: str
    samples: list[SamplesView]
    strips: list[Strip]
    neighbours: list[NeighboursView]
    areas: dict[str, Table]
    """Of fills, by name: figures apart by how much was hidden."""
    table: Table | None


def tasks(results: Results, album: Album) -> list[TaskView]:
    """One for each that sampling was told, by condition or guide, in the order in which params.yaml first uses it."""
    by_condition: dict[str, list[Samples]] = {}
    for samples in results.samples.values():
        by_condition.setdefault("+".join(conditions_of(samples)) or "none", []).append(samples)
    return [_task(condition, members, results, album) for condition, members in by_condition.items()]


def _task(condition: str, members: Sequence[Samples], results: Results, album: Album) -> TaskView:
    names = {samples.name for samples in members}
    measured = [m for m in results.metrics.values() if m.section.text("samples") in names]
    return TaskView(
        condition=condition,
        title=" + ".join(TITLES.get(kind, kind.replace("_", " ").capitalize()) for kind in condition.split("+")),
        samples=[_samples(s, results, album) for s in members],
        strips=strips(results, members, f"strip-{condition.replace('_', '-')}", album),
        neighbours=[view for one in measured if (view := _neighbours(one, results, album))],
        areas={one.name: table for one in measured if (table := figures.areas(one))},
        table=figures.table(measured) if measured else None,
    )


def _samples(samples: Samples, results: Results, album: Album) -> SamplesView:
    alt = f"The first samples of {samples.name} as one sheet"
    in_strip = given_to(samples) and _dataset(samples, results)
    return SamplesView(
        samples=samples,
        how=how_sampled(samples.about, regression=results.is_regression(samples)),
        gallery=[] if in_strip else pictures.sample_gallery(samples, _dataset(samples, results), album),
        prompted=prompted(samples),
        sheet=album.sheet(samples.folder / "sheet.png", alt, f"sheet-{samples.name}"),
    )


def _dataset(samples: Samples, results: Results) -> Prepared | None:
    """The data set of the conditions, where it is there."""
    latents = results.params.table("latents").table(samples.section.text("latents"))
    return results.datasets.get(latents.text("dataset"))


def _neighbours(one: Metrics, results: Results, album: Album) -> NeighboursView | None:
    samples = results.samples[one.section.text("samples")]
    prepared = results.datasets.get(one.section.text("dataset"))
    if not one.about.get("neighbours") or prepared is None:
        return None
    rule = one.about.table("memorised")
    looked_up = int(rule.get("of", len(one.about.rows("neighbours"))))
    return NeighboursView(
        name=samples.name,
        pairs=pictures.neighbours(one, samples, prepared, album),
        looked_up=looked_up,
        memorised=round(one.figures.number("memorised") * looked_up),
        train=int(rule.get("train", 0)),
        unseen=int(rule.get("held_out", 0)),
        unseen_share=f"{100 * float(rule.get('expected_at_most', 0)):.2g} %",
    )
