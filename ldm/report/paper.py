"""This run's figures in the layout of the paper's tables: a row a method, a column a figure.

Only the layout is the paper's: no figure is. What was measured against other pictures stands in a table of its own, and
so do samples that were held to pictures which a table's condition does not give.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from ldm.report.collect import Metrics, Results, Samples
from ldm.report.conditions import condition_of, held_to_pictures
from ldm.report.figures import Column, area_bins, bicubic_beside, cell, column, is_bicubic
from ldm.report.names import ORIGINALS, head_of, how_sampled, plain
from ldm.report.records import Record
from ldm.report.tables import Cell, Row, Table

HIDDEN = (0.4, 0.5)
"""The bin of table 7: so much of the picture is hidden."""
Extra = Callable[[Results, Samples], Cell | None]


@dataclass(frozen=True, kw_only=True)
class Layout:
    """One of the paper's tables, of samples under one kind of condition."""

    number: int
    title: str
    condition: str
    families: tuple[str, ...]
    """First words of the keys of its figures, in order; a key's other words name the features."""
    extras: Mapping[str, Extra]
    """Columns after the figures."""
    binned: bool = False
    """The figures stand there twice: for pictures that are hidden by `HIDDEN`, and for all."""


@dataclass(frozen=True, kw_only=True)
class PaperTable:
    number: int
    title: str
    table: Table


def paper_tables(results: Results) -> list[PaperTable]:
    """Those about samples for which the run has something, in the paper's order."""
    return [
        PaperTable(
            number=layout.number,
            title=f"Table {layout.number}: {layout.title}{', held to pictures' if held else ''}, against {reference}",
            table=_table(layout, members, results),
        )
        for layout in LAYOUTS
        for (reference, held), members in _groups(layout.condition, results).items()
    ]


def keys_of(family: str, figures: Sequence[Mapping[str, float]], *, to_originals: bool = False) -> list[str]:
    """Keys of the family in any of the `figures`, in order of name; floors and spreads are none of their own.

    `to_originals`: distances to the pictures that samples were made from, in the place of those to the reference.
    """
    keys = {key for one in figures for key in one if key.partition("_")[0] == family}
    keys = {key for key in keys if key.endswith(ORIGINALS) == to_originals}
    return sorted(key for key in keys if key.rpartition("_")[2] not in ("floor", "train", "std"))


def caption(number: int, metrics: Sequence[Metrics]) -> str:
    """Whose layout it is, and how its figures were measured."""
    features = dict.fromkeys(_features(one.about) for one in metrics)
    counts = sorted({one.about.count("count") for one in metrics if "count" in one.about})
    measured = f", {' or '.join(f'{count:,}' for count in counts)} pictures" if counts else ""
    words = (
        f"In the layout of the paper's table {number}, with figures of this run alone: {'; '.join(features)}{measured}"
    )
    return words + (", in brackets 95 % intervals" if any(len(one.intervals) for one in metrics) else "")


def _groups(condition: str, results: Results) -> dict[tuple[str, bool], list[Metrics]]:
    """By reference, and by whether samples were held to pictures."""
    found: dict[tuple[str, bool], list[Metrics]] = {}
    for one in results.metrics.values():
        samples = results.samples.get(one.section.text("samples"))
        if samples and condition_of(samples) == condition:
            found.setdefault((one.section.text("reference"), held_to_pictures(samples)), []).append(one)
    return dict(sorted(found.items(), key=lambda group: group[0][1]))


def _table(layout: Layout, members: Sequence[Metrics], results: Results) -> Table:
    members = sorted(members, key=lambda one: not is_bicubic(one))
    columns = [column(one) for one in members]
    made_by: list[Samples | None] = [results.samples[one.section.text("samples")] for one in members]
    # Where fills were measured beside an enlargement, for their latents have it too, it is no method of theirs.
    bicubic = bicubic_beside(members[0]) if layout.condition == "low_resolution" else None
    if bicubic and not any(is_bicubic(one) for one in members):
        columns, made_by = [bicubic, *columns], [None, *made_by]
    figures = [one.figures for one in columns]
    keys = [
        key
        for family in layout.families
        for key in (layout.binned and keys_of(family, figures, to_originals=True)) or keys_of(family, figures)
    ]
    notes = [caption(layout.number, members)]
    heads = [head_of(key) for key in keys]
    cells = [[cell(one, key) for key in keys] for one in columns]
    if layout.binned:
        hidden = [_hidden(one) for one in members]
        shown = [key for key in keys if any(key in one.figures for one in hidden)]
        part = f"{100 * HIDDEN[0]:.0f} to {100 * HIDDEN[1]:.0f} % hidden"
        heads = [*(f"{part}: {head_of(key)}" for key in shown), *(f"all: {head}" for head in heads)]
        cells = [[*(cell(one, key) for key in shown), *row] for one, row in zip(hidden, cells, strict=True)]
        counts = ", ".join(f"{one.measured['count']} of {one.name}" for one in hidden)
        notes.append(f"Pictures with {part}: {counts}")
    extra_heads, extras = _extras(layout, made_by, results)
    if layout.extras.keys() & _RATES.keys():
        named = [one for one in made_by if one]
        notes.append(results.rates.note("samples", [one.name for one in named]))
        notes.append(results.rates.note("training", dict.fromkeys(str(one.section.get("model")) for one in named)))
    rows = tuple(
        Row(words=one.name, beside=_how(samples, results), cells=(*row, *more))
        for one, samples, row, more in zip(columns, made_by, cells, extras, strict=True)
    )
    return Table(columns=(*heads, *extra_heads), rows=rows, notes=tuple(filter(None, notes)))


def _extras(
    layout: Layout, made_by: Sequence[Samples | None], results: Results
) -> tuple[list[str], list[list[Cell | None]]]:
    """Heads of the columns after the figures, and their cells row by row; a column of nothing is left out."""
    columns = {
        words: [extra(results, one) if one else None for one in made_by] for words, extra in layout.extras.items()
    }
    columns = {words: cells for words, cells in columns.items() if any(cells)}
    return list(columns), [[cells[row] for cells in columns.values()] for row in range(len(made_by))]


def _how(samples: Samples | None, results: Results) -> str:
    if samples is None:
        return ""
    how = how_sampled(samples.about, regression=results.is_regression(samples))
    told = samples.method != "model" or samples.told("tokens") != "none" or samples.told("channels") != "none"
    return how if told or condition_of(samples) == "none" else f"unconditional model, {how}"


def _hidden(one: Metrics) -> Column:
    """The figures of pictures of which 40 to 50 % are hidden; none where there were no such."""
    return area_bins(one).get(HIDDEN) or Column(name=one.name, figures={}, measured={"count": "0"})


def _features(about: Record) -> str:
    if not about.get("features"):
        return "no features"
    weights = f"weights {plain(about.text('features_sha256'))}" if about.get("features_sha256") else "never trained"
    return f"features {about.text('features').replace('_', ' ')} ({weights})"


def parameters(results: Results, model: str, classifier: str) -> Cell | None:
    """Of the model, and of the classifier that leads it; None where they are not made."""
    names = [name for name in (model, classifier) if name != "none"]
    if not names or any(name not in results.diffusion for name in names):
        return None
    counts = [results.diffusion[name].parameters for name in names]
    beside = f"classifier {counts[1] / 1e6:.4g} M of them" if len(counts) > 1 else ""
    return Cell(value=f"{sum(counts) / 1e6:.4g} M", beside=beside)


def _training_rate(results: Results, samples: Samples) -> Cell | None:
    rate = results.rates.of("training", str(samples.section.get("model")))
    return Cell(value=f"{rate.number('images_per_second'):.3g}") if len(rate) else None


def _hours_an_epoch(results: Results, samples: Samples) -> Cell | None:
    """Every training picture once, at the rate of training."""
    model = str(samples.section.get("model"))
    rate = results.rates.of("training", model)
    latents = results.params.table("diffusion").table(model).get("latents")
    dataset = results.datasets.get(str(results.params.table("latents").table(str(latents)).get("dataset")))
    if not len(rate) or dataset is None:
        return None
    seconds = dataset.about.table("splits").count("train") / rate.number("images_per_second")
    return Cell(value=f"{seconds / 3600:.3g}")


def _sampling_rate(results: Results, samples: Samples) -> Cell | None:
    rate = results.rates.of("samples", samples.name)
    return Cell(value=f"{rate.number('images_per_second'):.3g}") if len(rate) else None


def _larger_rate(results: Results, samples: Samples) -> Cell | None:
    """Of the first timed row of the same model that is larger than in training, by its size, which the cell names."""
    trained = _trained_size(results, str(samples.section.get("model")))
    for name, section in ((name, results.params.table("samples").table(name)) for name in results.params["samples"]):
        if section.get("model") == samples.section.get("model") and section.get("size"):
            height, width = section.rows("size")
            if not len(rate := results.rates.of("samples", name)) or max(height, width) <= trained:
                continue
            return Cell(value=f"{rate.number('images_per_second'):.3g}", beside=f"{height} x {width} px")
    return None


def _parameters(results: Results, samples: Samples) -> Cell | None:
    return parameters(results, *(str(samples.section.get(key, "none")) for key in ("model", "classifier")))


def _trained_size(results: Results, model: str) -> int:
    """Pixels a side of the data that the model was trained on; 0 where params.yaml does not say."""
    latents = str(results.params.table("diffusion").table(model).get("latents"))
    dataset = str(results.params.table("latents").table(latents).get("dataset"))
    return int(results.params.table("datasets").table(dataset).get("size", 0))


_PARAMETERS: dict[str, Extra] = {"parameters": _parameters}
_RATES: dict[str, Extra] = {"training, images/s": _training_rate, "sampling, images/s": _sampling_rate}
_DISTANCES = ("fid", "fd")
LAYOUTS = (
    Layout(
        number=1,
        title="unconditional",
        condition="none",
        families=(*_DISTANCES, "precision", "recall"),
        extras=_PARAMETERS,
    ),
    Layout(
        number=2,
        title="text to image",
        condition="text",
        families=(*_DISTANCES, "is", "clip", "caption"),
        extras=_PARAMETERS,
    ),
    Layout(
        number=3,
        title="class to image",
        condition="label",
        families=(*_DISTANCES, "is", "precision", "recall"),
        extras=_PARAMETERS,
    ),
    Layout(
        number=5,
        title="super-resolution",
        condition="low_resolution",
        families=(*_DISTANCES, "is", "psnr", "ssim"),
        extras=_PARAMETERS | _RATES,
    ),
    Layout(
        number=6,
        title="inpainting efficiency",
        condition="mask",
        families=_DISTANCES,
        extras=_PARAMETERS
        | _RATES
        | {"sampling larger, images/s": _larger_rate, "training, hours an epoch": _hours_an_epoch},
    ),
    Layout(
        number=7,
        title="inpainting",
        condition="mask",
        families=(*_DISTANCES, "lpips"),
        extras={},
        binned=True,
    ),
    Layout(
        number=9,
        title="layout to image",
        condition="layout",
        families=_DISTANCES,
        extras=_PARAMETERS,
    ),
)
