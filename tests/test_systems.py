"""The table of the paper's systems in docs/architecture.md: what it names is there, and it names every model."""

import re
from pathlib import Path
from typing import NamedTuple

import pytest

from ldm.config import load

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PRESETS = {name: load(ROOT / "presets" / f"{name}.yaml") for name in ("paper", "tasks")}
PLACES = {"train_autoencoder": "autoencoders", "train_diffusion": "diffusion", "sample": "samples"}


class System(NamedTuple):
    name: str
    rows: list[str]
    preset: str
    command: str
    tests: list[str]
    pictures: list[str]


def systems() -> list[System]:
    text = (DOCS / "architecture.md").read_text(encoding="utf-8")
    table = text[text.index("| system | rows |") :].split("\n\n")[0].splitlines()[2:]
    found = []
    for line in table:
        name, rows, command, tests, pictures = (cell.strip() for cell in line.strip("|").split("|"))
        preset = "tasks" if "presets/tasks.yaml" in rows else "paper"
        named = re.findall(r"`([^`]+)`", rows)
        found.append(
            System(name, named, preset, command.strip("`"), tests.split(", "), re.findall(r"\(([^)]+)\)", pictures))
        )
    return found


@pytest.mark.parametrize("system", systems(), ids=lambda system: system.name)
def test_rows_command_tests_and_pictures_are_there(system: System) -> None:
    params = PRESETS[system.preset]
    rows = set().union(*(params[place] for place in PLACES.values()))
    assert set(system.rows) <= rows
    stage, _, name = system.command.removeprefix("dvc repro ").partition("@")
    assert name in params[PLACES[stage]]
    assert all((ROOT / test).is_file() for test in system.tests)
    assert all((DOCS / picture).is_file() for picture in system.pictures)


def test_every_model_of_the_paper_is_in_the_table_and_can_be_drawn_and_measured() -> None:
    paper = PRESETS["paper"]
    named = {row for system in systems() for row in system.rows}
    assert set(paper["autoencoders"]) | set(paper["diffusion"]) <= named
    drawn = {row[key] for row in paper["samples"].values() for key in ("model", "classifier")} - {"none"}
    assert drawn == set(paper["diffusion"])
    assert {row["samples"] for row in paper["evaluation"]["samples"].values()} == set(paper["samples"])
