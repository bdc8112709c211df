"""The curves of a training: a row for each reported step."""

import csv
import io
import math
from collections.abc import Mapping
from pathlib import Path

from ldm.files import write_bytes

REPORT_EVERY = 20
"""Steps between rows, each the mean over these steps. Looking at the loss more often would make a GPU wait."""


class History:
    """Rows of scalars; part of the resume state, so that an interrupted run writes the same curves."""

    def __init__(self, rows: list[dict[str, float]] | None = None) -> None:
        self.rows = rows or []

    def add(self, step: int, scalars: Mapping[str, float]) -> None:
        self.rows.append({"step": step, **scalars})

    def write(self, path: Path) -> None:
        """As csv in the order of the fullest row, six significant digits; a scalar that a row lacks is left empty."""
        columns = list(dict.fromkeys(key for row in sorted(self.rows, key=len, reverse=True) for key in row))
        text = io.StringIO()
        writer = csv.DictWriter(text, columns, lineterminator="\n", restval="")
        writer.writeheader()
        writer.writerows(
            {key: value if key == "step" else f"{value:.6g}" for key, value in row.items()} for row in self.rows
        )
        write_bytes(path, text.getvalue().encode())


def finite(scalars: Mapping[str, float], step: int, saved: int | None) -> None:
    """Stop a run whose loss left the numbers before its state is saved over a good one."""
    bad = [key for key, value in scalars.items() if not math.isfinite(value)]
    if bad:
        again = (
            f"goes on from the checkpoint of step {saved}" if saved else "begins anew, for there is no checkpoint yet"
        )
        raise ValueError(
            f"{', '.join(bad)} is not a finite number at step {step}. The same command {again}; "
            "should it come to this again, lower train.lr or raise train.warmup, which begins anew"
        )
