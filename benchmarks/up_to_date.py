"""How long does `dvc repro` take to say that everything is up to date, with every stage of presets/paper.yaml?

Every output is a placeholder, committed with `dvc commit -f` in a copy of the project: DVC compares sizes and times, so
what is in the files costs nothing. --samples: pictures a model has drawn, in shards as the stage `sample` writes them;
--loose: of so many models each picture is a file of its own, to see what the shards save.
"""

import math
import os
import pstats
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.measure import arguments, result, seconds, table, write
from ldm.data.samples import SHARD_ROWS

NEEDS = ("dvc",)
ROOT = Path(__file__).resolve().parents[1]
GOAL = 5.0
PARTS = {
    "parameters: params.yaml parsed for each stage, and searched": [("dvc/dependency/param.py", "read_params")],
    "dvc.yaml and dvc.lock parsed": [("dvc/dvcfile.py", "_load_yaml")],
    "stages made of them": [("dvc/stage/loader.py", "load_stage")],
    "dependencies and outputs compared": [("dvc/output.py", "status")],
    "locks of each stage's files": [("dvc/rwlock.py", "_edit_rwlock")],
}
"""Functions of DVC, none of which calls another, that a profile is summed over."""


def copy_of_project(folder: Path, preset: str) -> None:
    """Its files, new ones too, with `preset` as params.yaml, nothing built, in a git repository of its own."""
    listing = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listed = subprocess.run(listing, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file() and name != "dvc.lock":
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    shutil.copy(ROOT / "presets" / f"{preset}.yaml", folder / "params.yaml")
    subprocess.run(["git", "init", "--quiet"], cwd=folder, check=True)


def add_placeholders(folder: Path, samples: int, loose: int) -> int:
    """A small file for each output and each missing input of DVC's stages; how many stages there are."""
    from dvc.repo import Repo

    with Repo(str(folder)) as repo:
        stages = list(repo.index.stages)
        outputs = sorted({Path(out.fspath) for stage in stages for out in stage.outs})
        inputs = sorted({Path(dep.fspath) for stage in stages for dep in stage.deps} - {*outputs})
    for path in (path for path in [*outputs, *inputs] if not path.exists()):
        if path.suffix == ".json":
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f'{{"{path.stem}": 0}}\n')
        elif path.parent != folder / "samples":
            _fill(path, ["manifest.json", "content"])
        elif loose > 0:
            loose -= 1
            _fill(path, [f"{sample:06}.png" for sample in range(samples)])
        else:
            _fill(path, [f"samples-{shard:05}.parquet" for shard in range(math.ceil(samples / SHARD_ROWS))])
    return len(stages)


def _fill(folder: Path, names: list[str]) -> None:
    folder.mkdir(parents=True)
    for name in names:
        (folder / name).write_text(f"{folder.name}/{name}\n")


def dvc(folder: Path, *command: str, profile: Path | None = None) -> str:
    """What `dvc COMMAND` prints."""
    profiled = ["-m", "cProfile", "-o", str(profile)] if profile else []
    environment = os.environ | {"DO_NOT_TRACK": "1", "DVC_NO_ANALYTICS": "1"}
    return subprocess.run(
        [sys.executable, *profiled, "-m", "dvc", *command],
        cwd=folder, env=environment, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip


def shares(profile: Path) -> dict[str, float]:
    """Of the profiled time, the share of each of PARTS, and of all else."""
    profiled = pstats.Stats(str(profile))
    total: float = profiled.total_tt  # type: ignore[attr-defined]
    spent = dict.fromkeys(PARTS, 0.0)
    for (file, _, function), (*_, cumulative, _) in profiled.stats.items():  # type: ignore[attr-defined]
        for part, places in PARTS.items():
            if any(file.endswith(place) and function == name for place, name in places):
                spent[part] += cumulative / total
    return spent | {"all else: imports, graph, printing": 1 - sum(spent.values())}


def main() -> None:
    options = arguments(__doc__, preset="paper", samples=50_000, loose=0, repeats=5)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary).resolve() / "project"
        copy_of_project(folder, options.preset)
        stages = add_placeholders(folder, options.samples, options.loose)
        dvc(folder, "commit", "--force", "--quiet")
        said = dvc(folder, "repro")
        if "Data and pipelines are up to date." not in said:
            sys.exit(f"dvc repro ran stages where all of them are up to date:\n{said[-2000:]}")
        taken = seconds(lambda: dvc(folder, "repro"), device="cpu", warmup=0, repeats=options.repeats)
        dvc(folder, "repro", profile=Path(temporary, "profile"))
        spent = shares(Path(temporary, "profile"))
    measured = result(options, {"dvc repro": taken}, stages=stages, goal=GOAL, shares=spent)
    took = measured["median"]["dvc repro"]
    title = f"dvc repro, {stages} stages of presets/{options.preset}.yaml up to date: {took:.1f} s (goal {GOAL:g} s)"
    table(title, ["where", "share of a profiled run"], [[part, f"{share:.0%}"] for part, share in spent.items()])
    write(options.out, measured)


if __name__ == "__main__":
    main()
