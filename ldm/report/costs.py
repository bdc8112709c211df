"""What training and sampling cost, in the layout of the paper's table 18, from rates that were measured apart."""

from ldm.report.collect import Results
from ldm.report.records import Record
from ldm.report.tables import Cell, Row, Table


def costs(results: Results) -> Table | None:
    """A row a set of samples, and one for a trained model without; None where nothing was timed.

    Only names of params.yaml: a timing of what is no longer there says nothing of this run.
    """
    training, sampling = results.rates.table("training"), results.rates.table("samples")
    diffusion, samples = results.params.table("diffusion"), results.params.table("samples")
    timed = {name: samples.table(name).text("model") for name in samples if name in sampling}
    rows = [_row(name, training.table(model), sampling.table(name)) for name, model in timed.items()]
    alone = [name for name in diffusion if name in training and name not in timed.values()]
    rows += [_row(name, training.table(name), None) for name in alone]
    if not rows:
        return None
    heads = ("training, hours", "training, images/s", "batch", "sampling, images/s", "steps", "batch")
    machine = f"Measured on {results.rates.text('device')}, PyTorch {results.rates.text('torch')}"
    notes = (f"{machine}; rates are no part of what DVC rebuilds, and hours are all steps at the rate of a few",)
    return Table(columns=heads, rows=tuple(rows), notes=notes)


def _row(name: str, training: Record, sampling: Record | None) -> Row:
    trained = (_number(training, key) for key in ("hours", "images_per_second", "batch"))
    sampled = (_number(sampling, key) for key in ("images_per_second", "num_steps", "batch"))
    return Row(words=name, cells=(*trained, *sampled))


def _number(values: Record | None, key: str) -> Cell | None:
    """None where nothing was timed."""
    return Cell(value=f"{values.number(key):.3g}") if values else None
