"""The same raw pictures, otherwise on the disk: in another order, in shards of another size, packed otherwise."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from torture.bench import Bench, Fault, clear
from torture.disk import DATASET, pictures
from torture.process import run
from torture.project import contents

PARQUET = DATASET.replace("kind: folder, given_splits: false", "kind: parquet")
COUNT = 40


def faults(bench: Bench) -> Iterator[Fault]:
    yield _order(bench)
    yield _shards(bench)


def _order(bench: Bench) -> Fault:
    """Files are made in another order each time, so that the folder lists them in another one."""
    fault = Fault(name="raw files in another order on disk")
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
            clear(project, "prepare", "mine")
            ended = run(project.folder, "prepare", "mine")
            after = contents(project.folder, ["data/prepared/mine"])
            before = before or after
            fault.add(
                ended.code == 0, [path for path in before | after if before.get(path) != after.get(path)], ended.last
            )
    return fault


def _shards(bench: Bench) -> Fault:
    """Parquet files of other sizes, with other groups of rows; the rows' ids are their own."""
    fault = Fault(name="raw shards of another size")
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
            clear(project, "prepare", "mine")
            ended = run(project.folder, "prepare", "mine")
            after = contents(project.folder, ["data/prepared/mine"])
            before = before or after
            differing = [path for path in before | after if before.get(path) != after.get(path)]
            fault.add(ended.code == 0, differing, f"{size} rows a file: {ended.last}")
    return fault


def _write(rows: list[dict[str, Any]], path: Path, group: int) -> None:
    pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=group)
