"""First stages side by side in the layout of the paper's table 8, by the size at which they were measured."""

from ldm.report.collect import Metrics, Results
from ldm.report.figures import cell, column
from ldm.report.names import head_of
from ldm.report.paper import PaperTable, caption, keys_of
from ldm.report.records import Record
from ldm.report.tables import Cell, Row, Table

FAMILIES = ("rfid", "rfd", "ris", "psnr", "lpips", "ssim")
"""In the paper's order; its PSIM is LPIPS."""


def table_8(results: Results) -> PaperTable | None:
    """A row a measurement, in the order of params.yaml; None where none was measured."""
    metrics = list(results.autoencoder_metrics.values())
    if not metrics:
        return None
    columns = [column(one) for one in metrics]
    keys = [key for family in FAMILIES for key in keys_of(family, [one.figures for one in columns])]
    rows = tuple(
        Row(words=one.name, cells=(*_what(one, results), *(cell(values, key) for key in keys)))
        for one, values in zip(metrics, columns, strict=True)
    )
    heads = ("f", "|Z|", "c", "measured at", *(head_of(key) for key in keys))
    notes = (caption(8, metrics), "A distance is to be compared with others at the same size and reference only")
    table = Table(columns=heads, rows=rows, notes=notes)
    return PaperTable(number=8, title="Table 8: first stages", table=table)


def _what(one: Metrics, results: Results) -> tuple[Cell, Cell, Cell, Cell | None]:
    """Downsampling factor, entries of the codebook, channels of the latent, and the size in that of training."""
    section = results.params.table("autoencoders").table(one.section.text("autoencoder"))
    if section.text("kind") == "identity":
        return Cell(value="1"), Cell(value="pixels"), Cell(value="3"), _size(one, section, results)
    model = section.table("model")
    codebook = model.table("codebook")
    codes = f"{codebook.count('size'):,}" if "size" in codebook else "KL"
    factor = 2 ** (len(model.rows("channel_mult")) - 1)
    channels = str(model.count("latent_channels"))
    return Cell(value=str(factor)), Cell(value=codes), Cell(value=channels), _size(one, section, results)


def _size(one: Metrics, section: Record, results: Results) -> Cell | None:
    datasets = results.params.table("datasets")
    measured, trained = (datasets.table(name) for name in (one.section.text("dataset"), section.text("dataset")))
    if "size" not in measured or "size" not in trained:
        return None
    size = measured.count("size")
    crop = section.table("train").get("crop") or trained.count("size")
    return Cell(value=f"{size} px", beside=f"{size / crop:.3g}×")
