"""The same raw pictures, otherwise on the disk: in another order, in shards of another size, packed otherwise."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from torture.bench import Bench, Fault, Try, clear, differing
from torture.disk import DATASET, MINE, pictures
from torture.process import run
from torture.project import contents

PARQUET = DATASET.replace(
    "kind: folder, given_splits: false", "kind: parquet, splits: {train: 'part-*.parquet'}, image: image, id: id"
)
COUNT = 40


def tries() -> Iterator[Try]:
    yield "raw files in another order on disk", _order
    yield "raw shards of another size", _shards


def _order(bench: Bench, fault: Fault) -> None:
    """Files are made in another order each time, so that the folder lists them in another one."""
    with bench.copy() as project:
        project.edit("datasets:\n", DATASET)
        raw, before = project.folder / "data/raw/mine", dict[str, bytes]()
        pictures(bench, raw, COUNT)
        files = {file.name: file.read_bytes() for file in raw.iterdir()}
        for _ in range(6):
            shutil.rmtree(raw)
            raw.mkdir()
            for name in bench.chance.sample(sorted(files), COUNT):
                (raw / name).write_bytes(files[name])
            clear(project, MINE)
            ended = run(project.folder, "prepare", "mine")
            after = contents(project.folder, MINE)
            before = before or after
            fault.add(ended.code == 0, differing(before, after), ended.last)


def _shards(bench: Bench, fault: Fault) -> None:
    """Parquet files of other sizes, with other groups of rows; the rows' ids are their own."""
    with bench.copy() as project:
        project.edit("datasets:\n", PARQUET)
        raw, before = project.folder / "data/raw/mine", dict[str, bytes]()
        loose = project.folder / "loose"
        pictures(bench, loose, COUNT)
        rows = [
            {"id": file.stem, "image": {"bytes": file.read_bytes(), "path": file.name}}
            for file in sorted(loose.iterdir())
        ]
        for size in (COUNT, 1, 7, 16):
            shutil.rmtree(raw, ignore_errors=True)
            raw.mkdir()
            mixed = bench.chance.sample(rows, COUNT)
            for start in range(0, COUNT, size):
                _write(mixed[start : start + size], raw / f"part-{start:03}.parquet", group=max(1, size // 3))
            clear(project, MINE)
            ended = run(project.folder, "prepare", "mine")
            after = contents(project.folder, MINE)
            before = before or after
            fault.add(ended.code == 0, differing(before, after), f"{size} rows a file: {ended.last}")


def _write(rows: list[dict[str, Any]], path: Path, group: int) -> None:
    pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=group)
