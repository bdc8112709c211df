"""Every whole params file is valid as a whole: its rows, the names they point to, the sizes, and DVC's view of it."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from dvc.dependency import ParamsDependency
from dvc.repo import Repo

from flows.override import TABLES
from ldm.autoencoder.config import Identity
from ldm.config import Run, Section, load, lookup, section
from ldm.sampling.config import DDPM, BicubicMethod
from ldm.sources.config import Drawn

ROOT = Path(__file__).resolve().parents[1]
FILES = [ROOT / "params.yaml", *sorted((ROOT / "presets").glob("*.yaml"))]

MADE = ("data/prepared/", "data/latents/", "models/", "samples/", "metrics/")
"""Where stages write what other stages read."""


class Params:
    """A params file with every row of every table checked by its section."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.values = load(path)
        self.run = section(self.values, Run, "run", file=path.name)
        self.tables = {table: self._rows(table, cls) for table, cls in TABLES.items()}

    def __getitem__(self, table: str) -> dict[str, Any]:
        return self.tables[table]

    def _rows(self, table: str, cls: type[Section]) -> dict[str, Section]:
        group, _, name = table.partition(".")
        names = self.values[group][name] if name else self.values[group]
        return {row: section(self.values, cls, f"{table}.{row}", file=self.path.name) for row in names}

    @property
    def drawn(self) -> dict[str, Any]:
        """The rows that make samples: models', and other methods'."""
        return self["samples"] | {name: row.root for name, row in self["methods"].items()}

    def size(self, latents: str) -> int:
        """Pixels a side of a latent."""
        row = self["latents"][latents]
        return self.pixels(latents) // self.factor(row.autoencoder)

    def pixels(self, latents: str) -> int:
        """Pixels a side of a picture that is encoded."""
        row = self["latents"][latents]
        return row.crop or self["datasets"][row.dataset].size

    def factor(self, autoencoder: str) -> int:
        row = self["autoencoders"][autoencoder].root
        return 1 if isinstance(row, Identity) else row.model.factor

    def splits(self, dataset: str) -> set[str]:
        """The splits that a data set surely has."""
        row = self["datasets"][dataset]
        cut = getattr(row.source, "given_splits", False)
        kept = {"validation": row.validation or cut, "test": row.test or cut}
        held_out = {"held_out"} if isinstance(row.source, Drawn) and row.source.held_out else set()
        given = row.source.splits.given() if hasattr(row.source, "splits") else {}
        return {"train", *given} | held_out | {split for split, part in kept.items() if part}


@pytest.fixture(scope="module", params=FILES, ids=[file.relative_to(ROOT).as_posix() for file in FILES])
def params(request) -> Params:
    return Params(request.param)


def test_every_row_is_valid_and_no_table_is_unknown(params):
    groups = {table.partition(".")[0] for table in TABLES}
    assert set(params.values) == groups | {"run"}
    assert set(params.values["evaluation"]) == {"references", "autoencoders", "samples"}


def test_sizes_fit_their_factors(params):
    for row in params["autoencoders"].values():
        if not isinstance(row.root, Identity):
            size = params["datasets"][row.root.dataset].size
            assert (row.root.train.crop or size) % row.root.model.factor == 0
            assert (row.root.train.crop or size) <= size
    for name, row in params["latents"].items():
        size = params.pixels(name)
        assert size <= params["datasets"][row.dataset].size
        assert size % params.factor(row.autoencoder) == 0
        assert row.low_resolution is None or size % row.low_resolution.factor == 0
    for row in params["diffusion"].values():
        assert params.size(row.latents) % row.unet.factor == 0


def test_a_model_uses_the_autoencoder_of_its_latents(params):
    for row in params["diffusion"].values():
        assert row.autoencoder == params["latents"][row.latents].autoencoder
    for row in params["samples"].values():
        model = params["diffusion"][row.model]
        assert row.autoencoder == model.autoencoder
        side = params.pixels(row.latents)
        assert (row.size or [side, side]) == [side, side] or model.condition.channels.kind == "none", (
            "channels have the latents' size"
        )
        assert row.size is not None or side == params.pixels(model.latents)
        assert row.snapshot is None or row.snapshot in model.train.snapshots


NEEDS = {
    "text": {"drawn", "captions", "coco", "parquet", "webdataset"},
    "clip_text": {"drawn", "captions", "coco", "parquet", "webdataset"},
    "label": {"drawn", "class_folders", "parquet", "webdataset"},
    "layout": {"drawn", "boxes", "coco", "open_images"},
    "label_map": {"drawn", "label_maps", "coco"},
}
"""The sources that can have what a condition is made of; the others are made of the picture alone."""

CACHED = {
    "layout": "layout",
    "low_resolution": "low_resolution",
    "label_map": "label_map",
    "mask": "mask",
    "grey": "grey",
}
"""The key of a latents row that keeps what a condition reads."""


def test_a_model_has_the_conditions_that_it_names(params):
    for row in params["diffusion"].values():
        latents = params["latents"][row.latents]
        source = params["datasets"][latents.dataset].source
        for part in (row.condition.tokens, row.condition.channels):
            assert source.kind in NEEDS.get(part.kind, {source.kind})
            assert part.kind not in CACHED or getattr(latents, CACHED[part.kind]), f"latents keep no {part.kind}"
        if any(s.guidance != 1 and params["diffusion"][s.model] is row for s in params["samples"].values()):
            drops = [getattr(part, "drop", 0) for part in (row.condition.tokens, row.condition.channels)]
            assert max(drops) > 0, "guidance needs a model trained on the null condition too"


def test_a_sampler_takes_no_more_steps_than_the_schedule_has(params):
    for row in params["samples"].values():
        if not isinstance(row.sampler, DDPM):
            assert row.sampler.num_steps <= params["diffusion"][row.model].schedule.steps


def test_every_split_named_is_one_that_the_data_set_has(params):
    for row in params.drawn.values():
        assert row.split in params.splits(params["latents"][row.latents].dataset)
    for table in ("evaluation.references", "evaluation.autoencoders"):
        for row in params[table].values():
            assert row.split in params.splits(row.dataset)


def channels(params: Params, samples: str) -> str:
    """What kind of picture a row of `samples` or `methods` was told of."""
    if samples in params["samples"]:
        row = params["samples"][samples]
        return "mask" if row.keep_known else params["diffusion"][row.model].condition.channels.kind
    method = params["methods"][samples].root
    return "low_resolution" if isinstance(method, BicubicMethod) else method.condition.channels


def test_a_name_is_a_models_samples_or_another_methods(params):
    assert not params["samples"].keys() & params["methods"].keys()


def test_figures_compare_like_with_like(params):
    references = params["evaluation.references"]
    for row in params["evaluation.autoencoders"].values():
        reference = references[row.reference]
        assert (row.dataset, row.split, row.features) == (reference.dataset, reference.split, reference.features)
    for row in params["evaluation.samples"].values():
        reference, samples = references[row.reference], params.drawn[row.samples]
        dataset = params["latents"][samples.latents].dataset
        assert (row.dataset, row.features) == (reference.dataset, reference.features) == (dataset, reference.features)
        assert samples.split == reference.split
        if "caption_colour" in row.figures:
            assert isinstance(params["datasets"][dataset].source, Drawn)
        if "paired" in row.figures:
            assert channels(params, row.samples) != "none"
        if "neighbours" in row.figures:
            assert samples.split != "train" or channels(params, row.samples) == "none", "they resemble what they are of"
            assert params.splits(dataset) & {"test", "validation"}, "held-out pictures set the rule"
        if "clip_score" in row.figures:
            assert row.clip != "none"
            assert params["datasets"][dataset].source.kind in NEEDS["text"]


@pytest.mark.parametrize("name", ["photos", "photos-gpu", "cifar10", "cifar10-gpu"])
def test_whole_photographs_that_are_made_are_looked_up_among_those_of_training(name):
    params = Params(ROOT / "presets" / f"{name}.yaml")
    kinds = {row.samples: channels(params, row.samples) for row in params["evaluation.samples"].values()}
    looked_up = {row.samples for row in params["evaluation.samples"].values() if "neighbours" in row.figures}
    assert looked_up == {samples for samples, kind in kinds.items() if kind in ("none", "label_map")}


def test_a_study_compares_samples_of_the_same_originals(params):
    for row in params["studies"].values():
        first, second = params.drawn[row.first], params.drawn[row.second]
        assert first.split == second.split
        for samples in (first, second):
            assert params["latents"][samples.latents].dataset == row.dataset


def test_weights_and_pictures_that_are_named_none_are_in_the_project():
    assert (ROOT / "data/raw/none").is_dir()
    for folder in ("data/weights", "models/autoencoders", "models/diffusion"):
        assert (ROOT / folder / "none").is_dir()


def test_dvc_makes_a_stage_of_every_row_and_every_name_points_to_another_stage(params, tmp_path):
    shutil.copyfile(params.path, tmp_path / "params.yaml")
    shutil.copyfile(ROOT / "dvc.yaml", tmp_path / "dvc.yaml")
    stages = {stage.name: stage for stage in Repo.init(str(tmp_path), no_scm=True).index.stages}
    assert len(stages) == sum(len(rows) for rows in params.tables.values()) + len(["report"])
    made = {str(out) for stage in stages.values() for out in stage.outs}
    for name in stages.keys() - {"report"}:  # which reads whole folders of them
        deps = stages[name].deps
        read = {str(dep) for dep in deps if str(dep).startswith(MADE) and not str(dep).endswith("/none")}
        assert read <= made, f"{name} reads what no stage makes"
    for dep in (dep for stage in stages.values() for dep in stage.deps if isinstance(dep, ParamsDependency)):
        for place in dep.params:
            lookup(params.values, place)  # by DVC itself it would be a parsing of the file for each stage
