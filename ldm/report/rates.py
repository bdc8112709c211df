"""Measured rates, each known by the rows of params.yaml that it was measured with: two presets may share names."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ldm.report.records import Record

RATES = Path("benchmarks/results/rates.json")
Table = Literal["samples", "training", "autoencoders"]
ROWS: Mapping[Table, str] = {"samples": "samples", "training": "diffusion", "autoencoders": "autoencoders"}
"""The table of params.yaml whose names a table of rates has."""
WHAT: Mapping[Table, str] = {
    "samples": "Sampling",
    "training": "Training",
    "autoencoders": "Training of first stages",
}
LISTED = 6
"""Names in a note, before it counts the others."""


def key(params: Mapping[str, Any], table: Table, name: str) -> str:
    """A hash of all rows that decide how fast samples.NAME is drawn, or diffusion.NAME or autoencoders.NAME trained."""
    if table == "autoencoders":
        trained = params["autoencoders"][name]
        size = params["datasets"].get(trained.get("dataset"), {}).get("size")
        return _hash([trained, size, params["run"]])
    sample = params["samples"][name] if table == "samples" else {}
    model = params["diffusion"].get(sample.get("model") if sample else name)
    named = sample or model
    latents = params["latents"].get(named.get("latents"), {})
    size = params["datasets"].get(latents.get("dataset"), {}).get("size")
    coder = params["autoencoders"].get(named.get("autoencoder"))
    rows = [sample, model, coder, latents, size, params["run"]]
    if classifier := params["diffusion"].get(sample.get("classifier")):
        rows.append(classifier)
    return _hash(rows)


def _hash(rows: list[Any]) -> str:
    return hashlib.sha256(json.dumps(rows, sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True, kw_only=True)
class Rates:
    """{table: {hash of rows: {name, device, torch, precision, and what was measured}}}"""

    params: Record
    measured: Record

    def of(self, table: Table, name: str) -> Record:
        """What was measured with just these rows of params.yaml; empty where nothing was."""
        rows = self.params.table(ROWS[table])
        return self.measured.table(table).table(key(self.params.values_, table, name) if name in rows else "")

    def note(self, table: Table, names: Iterable[str]) -> str:
        """Which of the `names` were measured with other rows only; empty where none was."""
        known = {self.measured.table(table).table(rows).get("name") for rows in self.measured.table(table)}
        other = [name for name in names if name in known and not len(self.of(table, name))]
        if not other:
            return ""
        more = f" and {len(other) - LISTED} more" if len(other) > LISTED else ""
        return f"{WHAT[table]} was timed with other parameters, and is not shown, of {', '.join(other[:LISTED])}{more}"


def machine(rate: Record) -> str:
    return f"{rate.text('device')}, {rate.text('precision')}, PyTorch {rate.text('torch')}"
