"""Every row of a preset that has all kinds of rows passes through the report."""

import re
from pathlib import Path

import pytest

from ldm.config import load
from ldm.report.build import build
from ldm.report.collect import collect
from ldm.report.paper import paper_tables
from tests.report.preset import write_preset

TASKS = Path(__file__).parents[2] / "presets/tasks.yaml"


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder of presets/tasks.yaml with its report."""
    root = tmp_path_factory.mktemp("tasks")
    write_preset(root, TASKS)
    for _ in build(root, root / "report"):
        pass
    return root


def test_every_row_of_tasks_is_on_the_page(tasks: Path):
    page = (tasks / "report/index.html").read_text(encoding="utf-8")
    read = re.sub(r"<pre.*?</pre>", "", page, flags=re.DOTALL)
    params = load(TASKS)
    assert all(f"Contact sheet of {name}<" in read for name in params["samples"] | params["methods"])
    heads = set(re.findall(r'<th scope="col">([^<]*)</th>', read))
    fills = read[read.index("Inpainting: figures of this run") :]
    assert (
        "bicubic" not in fills[: fills.index("</table>")]
    )  # measured with them, for their latents have small pictures
    assert heads >= params["evaluation"]["samples"].keys() | params["evaluation"]["autoencoders"].keys()
    titles = re.findall(r'<section id="task-[^"]*">\s*<h2>([^<]*)</h2>', read)
    assert titles == [
        "Unconditional",
        "Class to image",
        "Text to image",
        "Super-resolution",
        "Text to image + Inpainting",
        "Layout to image",
        "Label map to image",
        "Inpainting",
        "Colourisation",
        "Text to image + Held to pictures",
    ]


def test_every_measured_row_of_tasks_stands_in_the_tables_of_its_task(tasks: Path):
    rows = {one.title: [row.words for row in one.table.rows] for one in paper_tables(collect(tasks))}
    fills = ["text-and-mask", "unconditional-inpainting"]
    sweep = [f"text-g{guidance}-s{steps}" for guidance in (1, 2, 4) for steps in (10, 50)]
    higher = ["bicubic", "super-resolution", "super-resolution-guided", "super-resolution-regression"]
    assert rows == {
        "Table 1: unconditional, against scenes-test": ["unconditional", "unconditional-raw"],
        "Table 2: text to image, against scenes-test": ["text", "text-plms", "text-dpm", "text-ddpm", *sweep],
        "Table 2: text to image, held to pictures, against scenes-test": ["text-from-picture"],
        "Table 3: class to image, against scenes-test": ["label", "classifier"],
        "Table 5: super-resolution, against scenes-test": [*higher, "unconditional-guided"],
        "Table 6: inpainting efficiency, against scenes-test": fills,
        "Table 6: inpainting efficiency, against pairs-test": ["inpainting", "inpainting-s4"],
        "Table 7: inpainting, against scenes-test": fills,
        "Table 7: inpainting, against pairs-test": ["inpainting", "inpainting-s4"],
        "Table 9: layout to image, against pairs-test": ["layout"],
    }
