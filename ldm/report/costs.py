"""What training and sampling cost, in the layout of the paper's table 18, from rates that were measured apart."""

from ldm.report.collect import Results
from ldm.report.rates import machine
from ldm.report.records import Record
from ldm.report.tables import Cell, Row, Table


def costs(results: Results) -> Table | None:
    """A row a set of samples, and one for a trained model without; None where nothing was timed.

    Only what was timed with the rows of this params.yaml: of another model by the same name it says nothing.
    """
    rates, samples = results.rates, results.params.table("samples")
    timed = {name: samples.table(name).text("model") for name in samples if len(rates.of("samples", name))}
    pairs = {name: (rates.of("training", model), rates.of("samples", name)) for name, model in timed.items()}
    for name in results.params.table("diffusion"):
        if name not in timed.values() and len(rates.of("training", name)):
            pairs[name] = rates.of("training", name), rates.of("samples", "")
    if not pairs:
        return None
    machines = {name: dict.fromkeys(machine(rate) for rate in pair if len(rate)) for name, pair in pairs.items()}
    every = list(dict.fromkeys(one for some in machines.values() for one in some))
    rows = tuple(
        _row(name, *pair, beside="; ".join(machines[name]) if len(every) > 1 else "") for name, pair in pairs.items()
    )
    heads = ("training, hours", "training, images/s", "batch", "sampling, images/s", "steps", "batch")
    measured = f"Measured on {'; '.join(every)}"
    notes = (f"{measured}; rates are no part of what DVC rebuilds, and hours are all steps at the rate of a few",)
    return Table(columns=heads, rows=rows, notes=notes)


def untimed(results: Results) -> list[str]:
    """What was timed with other parameters, in words."""
    rates = results.rates
    notes = (
        rates.note("samples", results.params.table("samples")),
        rates.note("training", results.params.table("diffusion")),
    )
    return [note for note in notes if note]


def _row(name: str, training: Record, sampling: Record, beside: str) -> Row:
    trained = (_number(training, key) for key in ("hours", "images_per_second", "batch"))
    sampled = (_number(sampling, key) for key in ("images_per_second", "num_steps", "batch"))
    return Row(words=name, beside=beside, cells=(*trained, *sampled))


def _number(values: Record, key: str) -> Cell | None:
    """None where nothing was timed."""
    return Cell(value=f"{values.number(key):.3g}") if len(values) else None
