"""What the page sets side by side: models beside other methods, in pictures, in the paper's tables and in charts."""

import functools
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from ldm.config import load
from ldm.files import read_json, write_bytes, write_json
from ldm.report import tradeoffs
from ldm.report.album import PREVIEW, Album
from ldm.report.charts import draw_chart, draw_grid
from ldm.report.collect import Samples, collect
from ldm.report.conditions import condition_of, conditions_of, held_to_pictures
from ldm.report.costs import costs, untimed
from ldm.report.first_stages import table_8
from ldm.report.memorised import neighbours_view
from ldm.report.paper import paper_tables
from ldm.report.plots import DARK, LIGHT
from ldm.report.rates import RATES, Rates
from ldm.report.records import Record, read_record
from ldm.report.sections import headlines
from ldm.report.tables import Table
from tests.report.rich import picture

Built = Callable[[Path, Path], str]


def texts(table: Table) -> dict[str, dict[str, str]]:
    """Values by row and column, each with its interval; what stands beside the row's name under `beside`."""
    return {
        row.words: {"beside": row.beside}
        | {
            head: f"{cell.value} {cell.interval}".strip()
            for head, cell in zip(table.columns, row.cells, strict=True)
            if cell
        }
        for row in table.rows
    }


@pytest.fixture(scope="module")
def tables(rich_run: Path) -> dict[int, dict[str, dict[str, str]]]:
    """By number, without those of samples held to pictures."""
    made = paper_tables(collect(rich_run))
    return {one.number: texts(one.table) for one in made if "held to pictures" not in one.title}


@pytest.fixture
def page(rich_report: Path) -> str:
    return (rich_report / "index.html").read_text(encoding="utf-8")


def heads_of_strips(page: str) -> list[list[str]]:
    strips = re.findall(r'<table class="strip".*?</thead>', page, flags=re.DOTALL)
    return [re.findall(r'<th scope="col">([^<]*)</th>', strip) for strip in strips]


def test_each_condition_that_can_be_looked_at_has_a_strip_with_all_methods(page: str):
    assert heads_of_strips(page) == [
        ["low resolution", "bicubic", "super", "super-l2", "super-guided", "original"],
        ["with its hole", "inpaint", "kept", "lama", "original"],
        ["grey", "grey", "original"],
        ["label map", "map", "original"],
        ["layout", "boxes", "original"],
        ["with its hole", "told-hole", "original"],
    ]


def test_prompts_stand_over_their_samples(page: str):
    section = page[page.index('id="task-text"') :]
    assert section.index("<figcaption>a ") < section.index("<img")


def test_prompts_stand_over_the_rows_of_strips(page: str):
    section = page[page.index('id="task-text-mask"') :]
    rows = re.findall(r'<th scope="rowgroup" colspan="3">(a [a-z]+ [a-z]+)</th></tr>\s*<tr><td><a[^>]*><img', section)
    assert rows[:8] == [picture(1000 + i, 32)[1] for i in range(8)]


@pytest.mark.parametrize(
    ("name", "how"),
    [
        ("started", "DDIM, 20 steps, from noised pictures (strength 0.5), 64 x 32 px, in patches of 32 px"),
        ("guided", "DDIM, 20 steps, guided by clip (scale 2)"),
        ("led", "DDIM, 20 steps, guided by the classifier classes (scale 3)"),
        ("kept", "DDIM, 20 steps, what is known kept at each step"),
    ],
)
def test_everything_chosen_for_sampling_is_said(page: str, name: str, how: str):
    assert f"{name} ({how}), sheet.png" in page
    if name == "guided":
        assert f"{how}, conditions of the test part" in page


def test_samples_stand_with_what_their_guide_told_and_not_among_the_unconditional(
    rich_run: Path, tables: dict[int, dict[str, dict[str, str]]]
):
    assert {number: [row for row in ("led", "guided", "kept") if row in rows] for number, rows in tables.items()} == {
        1: [],
        2: ["guided"],
        3: ["led"],  # as the paper's LDM-8-G
        5: [],
        6: ["kept"],
        7: ["kept"],
        9: [],
    }
    led = "unconditional model, DDIM, 20 steps, guided by the classifier classes (scale 3)"
    assert (tables[3]["led"]["beside"], tables[3]["led"]["parameters"]) == (led, "4.1 M")
    held = {one.title: list(texts(one.table)) for one in paper_tables(collect(rich_run)) if "held" in one.title}
    assert held == {"Table 1: unconditional, held to pictures, against small-test": ["started"]}


@pytest.mark.parametrize(
    ("tokens", "about", "condition", "said"),
    [
        ("none", {}, "none", []),
        ("none", {"guide": {"kind": "small"}}, "none", []),
        ("none", {"guide": {"kind": "low_resolution"}}, "low_resolution", ["low_resolution"]),
        ("none", {"guide": {"kind": "identity"}}, "none", ["picture"]),
        ("clip_text", {}, "text", ["clip_text"]),
        ("text", {"start": {"strength": 0.5}}, "text", ["text", "picture"]),
        ("text", {"guide": {"kind": "masked"}}, "text", ["text", "picture"]),
        ("label", {"guide": {"kind": "classifier"}}, "label", ["label"]),
        ("text", {"keep_known": True}, "mask", ["text", "mask"]),
    ],
)
def test_a_condition_is_what_model_or_guide_was_told(
    tokens: str, about: dict[str, object], condition: str, said: list[str]
):
    about = about | {"condition": {"tokens": tokens, "channels": "none"}}
    samples = Samples(name="made", section=Record({}, ""), about=Record(about, ""), folder=Path())
    assert (condition_of(samples), conditions_of(samples)) == (condition, said)
    assert held_to_pictures(samples) == ("picture" in said)


def test_a_classifier_has_curves_and_no_picture(page: str):
    section = page[page.index('id="diffusion"') :]
    shown = section[section.index("<h3>classes</h3>") :].split("<h3>")[1]
    assert "Preview at the end" not in shown
    assert 'alt="classes: ' in shown


def test_figures_of_fills_stand_apart_by_area(page: str):
    table = page[page.index("lama: figures by the part of the picture that was hidden") :]
    table = table[: table.index("</table>")]
    assert re.findall(r'<th scope="col">([^<]*)</th>', table) == ["10 to 20 %", "40 to 50 %"]
    assert re.search(r'<th scope="row">Pictures</th>\s*<td>40</td>\s*<td>40</td>', table)
    assert table.count("<td>0.246 <small>[0.230, 0.260]</small></td>") == 2
    assert "<td>5.1 <small>floor 17.5</small></td>" in table
    assert table.count('scope="row"') == 4  # pictures and three figures: what stands beside one is none of its own
    after = page[page.index("lama: figures by the part of the picture that was hidden") :]
    assert "none of which shares what was not hidden" in after[: after.index("</table>") + 1000]
    assert "stand distances between other real pictures, of 128 and 128." in page


def test_unconditional_text_and_class_tables_have_their_figures(tables: dict[int, dict[str, dict[str, str]]]):
    distance = "Fréchet distance, squeezenet features ↓"
    assert tables[1]["free"] == {
        "beside": "DDIM, 20 steps",
        distance: "6 [5.6, 6.6]",
        "Precision, squeezenet features ↑": "0.710",
        "Recall, squeezenet features ↑": "0.480",
        "parameters": "2.05 M",
    }
    assert tables[2]["text"][distance] == "6.3 [5.9, 6.9]"
    assert tables[2]["text"]["beside"] == "DDIM, 20 steps, guidance 2"
    assert "Precision, squeezenet features ↑" not in tables[2]["text"]
    assert tables[3]["class-50-g2"][distance] == "7.1 [6.7, 7.7]"
    assert tables[3]["class-s100"]["Recall, squeezenet features ↑"] == "0.480"


def test_large_pictures_are_shown_reduced_and_link_to_the_whole(page: str, rich_report: Path):
    assert f'width="{PREVIEW}"' in page
    assert re.search(r'<a href="pictures/strip-mask-00-01\.png"><img src="data:image/jpeg', page)
    assert (rich_report / "pictures/strip-mask-00-01.png").read_bytes().startswith(b"\x89PNG")


def test_tables_are_those_that_the_run_has(tables: dict[int, dict[str, dict[str, str]]]):
    assert list(tables) == [1, 2, 3, 5, 6, 7, 9]
    assert list(tables[5]) == ["bicubic", "super", "super-l2", "super-guided"]
    assert tables[5]["super-guided"]["beside"] == "DDIM, 20 steps, guided by low resolution (scale 4)"
    assert tables[5]["super-l2"]["beside"] == "regression, one pass"
    assert tables[5]["bicubic"]["beside"] == "bicubic enlargement"
    assert tables[5]["super"]["PSNR, dB ↑"] == "24.40 [24.10, 24.70]"
    assert tables[6]["inpaint"]["training, images/s"] == "310"
    assert tables[6]["inpaint"]["sampling larger, images/s"] == "30"
    assert tables[6]["inpaint"]["training, hours an epoch"] == f"{12 / 310 / 3600:.3g}"
    assert "sampling larger, images/s" not in tables[5]["super"]
    assert "parameters" not in tables[6]["lama"]
    assert tables[7]["lama"]["40 to 50 % hidden: LPIPS ↓"] == "0.246 [0.230, 0.260]"
    to_originals = "Fréchet distance to their originals, squeezenet features ↓"
    assert [tables[7]["lama"][f"{part}: {to_originals}"] for part in ("40 to 50 % hidden", "all")] == ["9.39", "1.5"]
    assert "all: Fréchet distance, squeezenet features ↓" not in tables[7]["lama"]
    assert "Fréchet distance to their originals, squeezenet features ↓" not in tables[6]["lama"]
    assert tables[7]["lama"]["all: LPIPS ↓"] == "0.137"


def test_an_enlargement_measured_beside_fills_is_no_row_among_them(rich_run: Path, tmp_path: Path):
    """As where the latents of an inpainting model have low-resolution pictures too."""
    root = shutil.copytree(rich_run, tmp_path / "run")
    measured = read_json(root / "metrics/inpaint.json")
    measured["figures"] |= {"bicubic_psnr": 25.0, "bicubic_ssim": 0.7, "bicubic_lpips": 0.02}
    write_json(root / "metrics/inpaint.json", measured)
    tables = {one.number: texts(one.table) for one in paper_tables(collect(root))}
    assert all({"inpaint", "lama"} <= set(tables[number]) and "bicubic" not in tables[number] for number in (6, 7))


def test_bicubic_measured_with_the_models_is_a_row_where_no_method_is(whole_run: Path):
    (table,) = [texts(one.table) for one in paper_tables(collect(whole_run)) if one.number == 5]
    assert list(table) == ["bicubic", "sr-f4", "sr-f1"]


def test_first_stages_stand_by_factor_codebook_channels_and_size(rich_run: Path):
    made = table_8(collect(rich_run))
    assert made is not None
    rows = {row.words: [f"{c.value} {c.beside}".strip() for c in row.cells[:4] if c] for row in made.table.rows}
    assert rows == {
        "kl-f4": ["4", "KL", "3", "32 px 1×"],
        "kl-f4-10x": ["4", "KL", "3", "320 px 10×"],
        "vq-f4": ["4", "8,192", "3", "32 px 1×"],
        "pixels": ["1", "pixels", "3", "32 px 1×"],
    }


def test_charts_draw_a_line_a_model_over_steps_and_throughput(rich_run: Path):
    training, speed = tradeoffs.charts(collect(rich_run))
    assert {line.name: [point.x for point in line.points] for line in training.lines} == {"class": [100, 200, 400]}
    assert speed.x == "images a second"
    assert {line.name: [point.x for point in line.points] for line in speed.lines} == {
        "class": [12, 30, 60],
        "class, guidance 2": [12, 30, 60],
    }
    (grid,) = tradeoffs.grids(collect(rich_run))
    real = [("floor", 1.25, "1.25"), ("train–held-out", 1.5, "1.5")]
    assert all([(o.name, o.value, o.written) for o in drawn.levels] == real for drawn in (training, speed, grid))
    assert "floor: 1.25; train–held-out: 1.5" in speed.alt
    assert (grid.rows, grid.columns) == ((1.0, 2.0), (10, 20, 50))
    assert len(grid.values) == 6


def test_throughput_that_nobody_timed_is_counted_in_evaluations(rich_run: Path, tmp_path: Path):
    root = Path(shutil.copytree(rich_run, tmp_path / "run"))
    shutil.rmtree(root / "benchmarks")
    speed = tradeoffs.charts(collect(root))[1]
    assert speed.x == "evaluations an image"
    assert [point.x for point in speed.lines[1].points] == [20, 40, 100]  # two passes with guidance
    assert costs(collect(root)) is None


def test_a_level_that_is_not_that_of_every_point_is_not_drawn(rich_run: Path, tmp_path: Path):
    """As of a distance of training pictures to held-out ones with other numbers of pictures."""
    root = Path(shutil.copytree(rich_run, tmp_path / "run"))
    values = read_json(root / "metrics/class-10-g1.json")
    values["figures"]["fd_squeezenet_train"] = 1.6
    write_json(root / "metrics/class-10-g1.json", values)
    training, speed = tradeoffs.charts(collect(root))
    assert [level.name for level in training.levels] == ["floor", "train–held-out"]
    assert [level.name for level in speed.levels] == ["floor"]


@pytest.mark.parametrize("theme", [LIGHT, DARK])
def test_charts_are_the_same_bytes_each_time(rich_run: Path, theme: object):
    results = collect(rich_run)
    for draw, drawn in ((draw_chart, tradeoffs.charts(results)[1]), (draw_grid, tradeoffs.grids(results)[0])):
        assert draw(drawn, theme) == draw(drawn, theme)


def test_costs_hold_only_what_params_name(rich_run: Path):
    table = costs(collect(rich_run))
    assert table is not None
    rows = texts(table)
    assert "gone" not in rows
    assert rows["class-s100"]["training, hours"] == "0.21"
    assert rows["super-l2"]["sampling, images/s"] == "600"
    assert rows["class-10-g1"] | {"beside": ""} == {
        "beside": "",
        "first stage, hours": "0.03",
        "training, hours": "0.21",
        "training, images/s": "310",
        "sampling, images/s": "60",
        "parameters": "2.05 M",
        "Fréchet distance, squeezenet features ↓": "9 [8.6, 9.6]",
        "Precision, squeezenet features ↑": "0.710",
        "Recall, squeezenet features ↑": "0.480",
    }
    assert "Measured on NVIDIA H100, bfloat16, PyTorch 2.13.0;" in table.notes[0]


def test_a_cost_that_nobody_measured_is_said_to_be_missing(rich_run: Path):
    table = costs(collect(rich_run))
    assert table is not None
    rows = texts(table)
    assert (rows["led"]["training, hours"], rows["led"]["classifier, hours"]) == ("not timed", "not timed")
    assert rows["led"]["parameters"] == "4.1 M"
    larger = rows["inpaint-larger"]  # sampled for its rate alone
    assert (larger["training, hours"], larger["Recall, squeezenet features ↑"]) == ("0.21", "not measured")
    assert {row.words: row.cells[-1].beside for row in table.rows if row.cells[-1]}["inpaint"] == "against large-test"


@pytest.mark.parametrize(
    ("place", "value", "gone"),
    [
        ("samples.class-10-g1.seed", 8, {"class-10-g1"}),
        ("diffusion.super.train.steps", 500, {"super", "super-guided"}),
        ("autoencoders.kl-f4.model.latent_channels", 4, {"class-10-g1", "super", "super-guided", "inpaint"}),
        ("datasets.large.size", 640, {"inpaint"}),
        ("run.mode", "fast", {"class-10-g1", "super", "super-guided", "inpaint"}),
    ],
)
def test_rates_of_other_parameters_are_not_shown_and_said_to_be_there(
    rich_run: Path, tmp_path: Path, place: str, value: object, gone: set[str]
):
    """Two presets may use the same names, and a row may change after it was timed."""
    root = Path(shutil.copytree(rich_run, tmp_path / "run"))
    params = load(root / "params.yaml")
    *tables, last = place.split(".")
    functools.reduce(dict.__getitem__, tables, params)[last] = value
    write_bytes(root / "params.yaml", yaml.safe_dump(params, sort_keys=False).encode())
    results = collect(root)
    named = {"class-10-g1", "super", "super-guided", "inpaint"}
    assert {name for name in named if not len(results.rates.of("samples", name))} == gone
    (note,) = [note for note in untimed(results) if note.startswith("Sampling")]
    assert all(name in note for name in gone) or "more" in note
    if "class-10-g1" in gone:
        assert tradeoffs.charts(results)[1].x == "evaluations an image"
    if "super" in gone:
        (table,) = [one.table for one in paper_tables(results) if one.number == 5]
        assert "sampling, images/s" not in texts(table)["super"]
        assert any(note.startswith("Sampling was timed with other parameters") for note in table.notes)


def test_committed_rates_are_those_of_the_preset_that_names_them():
    """Change the rows of a preset, and its rates are no longer shown: time it again, or leave them out."""
    root = Path(__file__).parents[2]
    params = Record(load(root / "presets/sweep-photos.yaml"), "presets/sweep-photos.yaml")
    rates = Rates(params=params, measured=read_record(root / RATES))
    assert all(len(rates.of("samples", f"f{f}-s{s}")) for f in (1, 2, 4, 8, 16, 32) for s in (10, 20, 50, 100, 200))


def test_memorised_samples_are_said_to_be_in_the_grid_and_beside_their_neighbours(page: str):
    grid, beside = page[page.index('id="task-none"') :].split("<h3>")[1:3]
    assert grid.count("<strong>memorised</strong>") == 3
    assert beside.startswith("free beside the nearest training pictures")
    assert "3 of 12 samples are training pictures, or nearly." in beside
    assert beside.count("<strong>memorised</strong>") == 3


def test_samples_that_are_together_too_close_to_training_pictures_are_said_to_be(
    page: str, rich_run: Path, tmp_path: Path
):
    """Twelve samples and twelve held-out pictures: chance alone brings 0.5 + 3 sqrt(25 / (12 * 144)) = 0.861."""
    assert "lie closer to training pictures than chance explains (by pixels at 16 x 16)" in page
    assert "all comparisons: 24\u00a0% by features, 96\u00a0% by pixels at 16 x 16; it would be 50" in page
    root = Path(shutil.copytree(rich_run, tmp_path / "run"))
    values = read_json(root / "metrics/free.json")
    for closer, too_close in ((0.86, ""), (0.862, "pixels at 16 x 16")):
        values["about"]["memorised"]["pixels"]["closer_than_held_out"] = closer
        write_json(root / "metrics/free.json", values)
        results = collect(root)
        view = neighbours_view(results.metrics["free"], results, Album())
        assert view is not None
        assert view.too_close == too_close


def test_an_interval_of_one_end_is_one_line_that_names_it(rich_run: Path, tmp_path: Path, built: Built):
    root = Path(shutil.copytree(rich_run, tmp_path / "run"))
    values = read_json(root / "metrics/free.json")
    write_json(root / "metrics/free.json", values | {"intervals": {"fd_squeezenet": [1.0]}})
    with pytest.raises(ValueError, match=r"metrics/free\.json: intervals\.fd_squeezenet"):
        built(root, tmp_path / "report")


def test_a_sweep_has_one_headline(rich_run: Path):
    found = headlines(collect(rich_run))
    words = [words for _, words, _ in found]
    assert [word for word in words if "class" in word] == ["Fréchet distance, squeezenet features, class-10-g1"]
    assert [word for word in words if "kl-f4" in word] == ["PSNR, dB, kl-f4 reconstructions"]
    real = ["floor 1.25", "train–held-out 1.5"]
    assert all(against == real for _, words, against in found if "distance" in words)
