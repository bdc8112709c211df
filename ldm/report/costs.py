"""What training and sampling cost, and what they give, in the layout of the paper's table 18."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from ldm.report.collect import Metrics, Results
from ldm.report.figures import cell, column
from ldm.report.names import head_of
from ldm.report.paper import keys_of, parameters
from ldm.report.rates import ROWS, WHAT, machine
from ldm.report.records import Record
from ldm.report.tables import Cell, Row, Table

QUALITY = ("fid", "fd", "is", "precision", "recall")
UNTIMED, UNMEASURED, UNMADE = Cell(value="not timed"), Cell(value="not measured"), Cell(value="not made")
NO_COST = Cell(value="0", beside="pixels")


@dataclass(frozen=True, kw_only=True)
class Costed:
    """A row of the table: samples, or a model of which none were timed."""

    name: str
    model: str
    classifier: str
    """`none` where none leads the samples."""
    first_stage: str
    training: Record
    guiding: Record
    """Of the classifier's training."""
    sampling: Record
    coding: Record
    """Of the first stage's training."""

    @property
    def machines(self) -> list[str]:
        rates = (self.coding, self.training, self.guiding, self.sampling)
        return list(dict.fromkeys(machine(rate) for rate in rates if len(rate)))


def costs(results: Results) -> Table | None:
    """A row a set of samples, and one for a trained model without; None where nothing was timed.

    Only what was timed with the rows of this params.yaml: of another model by the same name it says nothing. What was
    not timed or measured of a row is said not to have been.
    """
    costed = list(_costed(results))
    if not costed:
        return None
    led = any(one.classifier != "none" for one in costed)
    machines = list(dict.fromkeys(name for one in costed for name in one.machines))
    measured = [_metrics(one.name, results) for one in costed]
    found = [one for one in measured if one]
    keys = [key for family in QUALITY for key in keys_of(family, [one.figures for one in found])]
    references = {one.section.text("reference") for one in found}
    rows = tuple(
        Row(
            words=one.name,
            beside="; ".join(one.machines) if len(machines) > 1 else "",
            cells=(
                *_hours(one, results, led),
                *_rates(one),
                _parameters(one, results),
                *_quality(figures, keys, references),
            ),
        )
        for one, figures in zip(costed, measured, strict=True)
    )
    heads = ["first stage, hours", "training, hours", *(["classifier, hours"] if led else [])]
    heads += ["training, images/s", "sampling, images/s", "parameters", *(head_of(key) for key in keys)]
    notes = [
        f"Measured on {'; '.join(machines)}; rates are no part of what DVC rebuilds, and hours are all steps at the "
        "rate of a few. A first stage serves every model on it",
        *([f"Distances are against {next(iter(references))}"] if len(references) == 1 else []),
        *([] if keys else ["Quality was measured of none of them"]),
    ]
    return Table(columns=tuple(heads), rows=rows, notes=tuple(notes))


def untimed(results: Results) -> list[str]:
    """What was timed with other parameters, in words."""
    return [note for table in WHAT if (note := results.rates.note(table, results.params.table(ROWS[table])))]


def _costed(results: Results) -> Iterator[Costed]:
    rates, params = results.rates, results.params
    samples, models = params.table("samples"), params.table("diffusion")
    timed = [name for name in samples if len(rates.of("samples", name))]
    sampled = {samples.table(name).text("model") for name in timed}
    rows = [(name, samples.table(name).text("model"), samples.table(name)) for name in timed]
    rows += [
        (name, name, models.table(name)) for name in models if name not in sampled and len(rates.of("training", name))
    ]
    for name, model, section in rows:
        classifier, coder = str(section.get("classifier", "none")), str(section.get("autoencoder"))
        yield Costed(
            name=name,
            model=model,
            classifier=classifier,
            first_stage=coder,
            training=rates.of("training", model),
            guiding=rates.of("training", classifier),
            sampling=rates.of("samples", name if name in timed else ""),
            coding=rates.of("autoencoders", coder),
        )


def _hours(one: Costed, results: Results, led: bool) -> Iterator[Cell | None]:
    pixels = results.params.table("autoencoders").table(one.first_stage).get("kind") == "identity"
    yield NO_COST if pixels else _number(one.coding, "hours")
    yield _number(one.training, "hours")
    if led:
        yield _number(one.guiding, "hours") if one.classifier != "none" else None


def _rates(one: Costed) -> Iterator[Cell]:
    for rate, steps in ((one.training, ""), (one.sampling, "num_steps")):
        made = [f"{rate.count(steps)} steps"] if steps and len(rate) else []
        beside = ", ".join([*made, f"batch {rate.count('batch')}"]) if len(rate) else ""
        yield replace(_number(rate, "images_per_second"), beside=beside)


def _parameters(one: Costed, results: Results) -> Cell:
    return parameters(results, one.model, one.classifier) or UNMADE


def _quality(one: Metrics | None, keys: Sequence[str], references: set[str]) -> Iterator[Cell]:
    for key in keys:
        found = cell(column(one), key) if one else None
        if one and found and len(references) > 1:
            against = f"against {one.section.text('reference')}"
            found = replace(found, beside=", ".join(filter(None, (found.beside, against))))
        yield found or UNMEASURED


def _metrics(name: str, results: Results) -> Metrics | None:
    """The first that params.yaml names of these samples."""
    return next((one for one in results.metrics.values() if one.section.text("samples") == name), None)


def _number(values: Record, key: str) -> Cell:
    return Cell(value=f"{values.number(key):.3g}") if len(values) else UNTIMED
