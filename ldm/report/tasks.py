"""All samples under one kind of condition: pictures side by side, their nearest training pictures, their figures."""

from collections.abc import Sequence
from dataclasses import dataclass

from ldm.report import figures, pictures
from ldm.report.album import Album, Picture
from ldm.report.collect import Metrics, Prepared, Results, Samples
from ldm.report.conditions import conditions_of, prompted
from ldm.report.memorised import NeighboursView, memorised_ids, neighbours_view
from ldm.report.names import how_sampled
from ldm.report.pictures import Captioned
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
    neighbours: list[NeighboursView]


@dataclass(frozen=True, kw_only=True)
class TaskView:
    condition: str
    title: str
    samples: list[SamplesView]
    strips: list[Strip]
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
        samples=[_samples(s, measured, results, album) for s in members],
        strips=strips(results, members, f"strip-{condition.replace('_', '-')}", album),
        areas={one.name: table for one in measured if (table := figures.areas(one))},
        table=figures.table(measured, enlarged="low_resolution" in condition) if measured else None,
    )


def _samples(samples: Samples, measured: Sequence[Metrics], results: Results, album: Album) -> SamplesView:
    own = [one for one in measured if one.section.text("samples") == samples.name]
    alt = f"The first samples of {samples.name} as one sheet"
    prepared = _dataset(samples, results)
    in_strip = given_to(samples) and prepared
    return SamplesView(
        samples=samples,
        how=how_sampled(samples.about, regression=results.is_regression(samples)),
        gallery=[] if in_strip else pictures.sample_gallery(samples, prepared, memorised_ids(own), album),
        prompted=prompted(samples),
        sheet=album.sheet(samples.folder / "sheet.png", alt, f"sheet-{samples.name}"),
        neighbours=[view for one in own if (view := neighbours_view(one, results, album))],
    )


def _dataset(samples: Samples, results: Results) -> Prepared | None:
    """The data set of the conditions, where it is there."""
    latents = results.params.table("latents").table(samples.section.text("latents"))
    return results.datasets.get(latents.text("dataset"))
