"""What each section of the page shows, put together from what was collected; the words around it are templates."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ldm.report import figures, pictures
from ldm.report.album import Album, Picture
from ldm.report.collect import Metrics, Model, Prepared, Results, Study
from ldm.report.names import REAL, name_of, plain
from ldm.report.paper import keys_of
from ldm.report.pictures import Captioned
from ldm.report.plots import scalars_to_draw
from ldm.report.records import Record
from ldm.report.tables import Cell, Row, Table

SPLITS = ("train", "validation", "test", "held_out")
ATTENTION = "attention checks"
PLAN = "In the layout of the paper's table 4: what each rater is asked; their answers fill it (ldm study score)"
OF_ANOTHER = (
    "studies/{}/preferences.json is of another export of this study, so it is not shown; score the answers again"
)
COMPARISONS = ("first_over_original", "second_over_original", "first_over_second")


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
class StudyView:
    study: Study
    counts: dict[str, int]
    """Trials of each comparison that a rater sees, attention checks last."""
    total: int
    lists: int
    table: Table
    """The paper's table 4, where there are no answers yet with what is asked."""
    scored: bool


def data(results: Results, album: Album) -> list[DataView]:
    views = []
    for prepared in results.datasets.values():
        splits = prepared.about.table("splits")
        order = [split for split in SPLITS if split in splits]
        parts = {split: splits.count(split) for split in [*order, *(s for s in splits if s not in SPLITS)]}
        gallery = pictures.data_gallery(prepared, album)
        views.append(DataView(prepared=prepared, parts=parts, total=sum(parts.values()), gallery=gallery))
    return views


def model_view(model: Model, kind: str, album: Album) -> ModelView:
    alts = {"autoencoder": "Originals above reconstructions by {}", "diffusion": "Samples of {} at the end of training"}
    alt = alts[kind].format(model.name)
    return ModelView(
        model=model,
        picture=album.sheet(model.picture, alt, f"{kind}-{model.name}") if model.picture else None,
        curves=tuple(f"{kind}-{model.name}-{scalar}" for scalar in scalars_to_draw(list(model.history))),
    )


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
    """How many trials of each comparison one list of the key has, by who meets whom in it."""
    names = {"first": one.section.text("first"), "second": one.section.text("second"), "original": "original"}
    first, second, original = names.values()
    counts = {f"{first} | {original}": 0, f"{second} | {original}": 0, f"{first} | {second}": 0, ATTENTION: 0}
    trials, lists = one.key.table("trials"), one.key.rows("lists")
    for trial in lists[0]:
        sides = {trials.table(trial).text("left"), trials.table(trial).text("right")}
        known = sides <= names.keys()
        pair = " | ".join(words for side, words in names.items() if side in sides) if known else ATTENTION
        counts[pair] = counts.get(pair, 0) + 1
    if scored := one.scored:
        table = _table_4((first, second), scored)
    else:
        task_1 = tuple(Cell(value=f"{counts[f'{name} | {original}']} pairs") for name in (first, second))
        task_2 = (Cell(value=f"{counts[f'{first} | {second}']} pairs"), Cell(value="the same pairs"))
        notes = (PLAN, *([OF_ANOTHER.format(one.name)] if one.preferences else []))
        table = Table(columns=(first, second), rows=_tasks(task_1, task_2), notes=notes)
    counts = {pair: count for pair, count in counts.items() if count}
    total = sum(counts.values())
    return StudyView(study=one, counts=counts, total=total, lists=len(lists), table=table, scored=bool(scored))


def _tasks(task_1: tuple[Cell, ...], task_2: tuple[Cell, ...]) -> tuple[Row, Row]:
    return Row(words="Task 1: preferred to the original", cells=task_1), Row(words="Task 2: preferred", cells=task_2)


def _table_4(names: tuple[str, str], scored: Record) -> Table:
    """As `ldm study score --json` has it."""
    first, second, each_other = (scored.table(comparison) for comparison in COMPARISONS)
    task_2 = (_preference(each_other), _preference(each_other, other=True))
    counted, left_out, unfinished = (scored.count(key) for key in ("counted", "left_out", "unfinished"))
    tests = ", ".join(
        f"{one} {share.count('raters_for')} : {share.count('raters_against')} (p = {share.number('p'):.2g})"
        for one, share in zip(
            (f"{names[0]} over the original", f"{names[1]} over the original", f"{names[0]} over {names[1]}"),
            (first, second, each_other),
            strict=True,
        )
    )
    notes = (
        f"In the layout of the paper's table 4, of {counted} raters; {left_out} left out, who got less than "
        f"{100 * scored.number('catch_pass'):g} % of the attention checks right, and {unfinished} who did not finish",
        "In brackets 95 % intervals, as wide as answers of one rater, and to one pair, are alike",
        f"Raters who mostly chose the one and the other, with the two-sided sign test on them: {tests}",
    )
    rows = _tasks((_preference(first), _preference(second)), task_2)
    return Table(columns=names, rows=rows, notes=notes)


def _preference(share: Record, *, other: bool = False) -> Cell:
    """How often the one was chosen, or the `other`."""
    answers, chosen = share.count("answers"), share.count("chosen")
    low, high = share.number("low"), share.number("high")
    if other:
        chosen, low, high = answers - chosen, 1 - high, 1 - low
    ends = f"[{100 * low:.1f}, {100 * high:.1f}]"
    return Cell(value=f"{100 * chosen / answers:.1f} %", interval=ends, beside=f"{chosen} of {answers}")


def headlines(results: Results) -> list[tuple[str, str, list[str]]]:
    """The few figures to know before reading on: value, what it is, what to hold it against.

    Of a model that was measured more than once, as in a sweep, it is the measurement that params.yaml names first,
    of the weights at the end of training where they were measured.
    """
    found, seen = [], set[str]()
    for one in results.autoencoder_metrics.values():
        if (coder := one.section.text("autoencoder")) not in seen:
            found.extend(_headline("reconstruction", one))
        seen.add(coder)
    seen = set()
    for one in sorted(results.metrics.values(), key=lambda one: _of_snapshot(one, results)):
        if (made_by := _made_by(one, results)) not in seen:
            found.extend(_headline("samples", one))
        seen.add(made_by)
    return found


def _of_snapshot(one: Metrics, results: Results) -> bool:
    samples = results.samples.get(one.section.text("samples"))
    return samples is not None and samples.section.get("snapshot") is not None


def _made_by(one: Metrics, results: Results) -> str:
    """The model and the part whose conditions were sampled; a method by its own name."""
    samples = results.samples.get(one.section.text("samples"))
    if samples is None or samples.method != "model":
        return one.name
    return f"{samples.section.text('model')} {samples.section.text('split')}"


def _headline(kind: str, one: Metrics) -> list[tuple[str, str, list[str]]]:
    own, bicubic = figures.split_bicubic(one.figures)
    for key in ("caption_colour", "psnr", *keys_of("fid", [own]), *keys_of("fd", [own])):
        if key in own:
            name = name_of(key)
            beside = {"bicubic": bicubic.get(key)} | {words: own.get(f"{key}_{end}") for end, words in REAL.items()}
            against = [f"{words} {name.write(value)}" for words, value in beside.items() if value is not None]
            label = f"{name.words}, {one.name}" + (" reconstructions" if kind == "reconstruction" else "")
            return [(name.write(own[key]), label, against)]
    return []
