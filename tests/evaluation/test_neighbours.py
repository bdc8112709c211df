"""Memorised pictures: copies are found, exact and changed, mirrored too; fresh pictures are so at the nominal rate."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from ldm.data.pictures import encode, to_image
from ldm.data.shards import Example, write_shards
from ldm.evaluation.features import extractor
from ldm.evaluation.figure import Figure
from ldm.evaluation.neighbours import Neighbours
from ldm.files import write_json, write_manifest
from ldm.sources.config import Drawn
from ldm.sources.drawn import draw, scene
from ldm.training.several import Processes

CPU = torch.device("cpu")
TRAIN, TEST, FRESH = 1200, 300, 200


def prepared(folder: Path, train: Tensor, test: Tensor) -> Path:
    for split, pictures in (("train", train), ("test", test)):
        write_shards(folder, split, (Example(id=f"{split}-{i:05d}", image=encode(p)) for i, p in enumerate(pictures)))
    write_json(folder / "dataset.json", {"size": 32, "splits": {"train": len(train), "test": len(test)}})
    write_manifest(folder)
    return folder


@pytest.fixture(scope="module")
def drawn() -> Tensor:
    config = Drawn(kind="drawn", count=TRAIN + TEST + FRESH, objects=1, seed=1, held_out=[])
    pictures = [np.array(draw(scene(config, i), 32)[0]) for i in range(config.count)]
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).contiguous()


@pytest.fixture(scope="module", params=["drawn", "photographs"])
def parts(request, tmp_path_factory, photographs) -> tuple[Path, Tensor, Tensor]:
    """A prepared folder, its training pictures, and as many fresh ones as FRESH."""
    every = request.getfixturevalue("drawn") if request.param == "drawn" else photographs(TRAIN + TEST + FRESH)
    every = every[torch.randperm(len(every), generator=torch.Generator().manual_seed(0))]
    train, test, fresh = every.split((TRAIN, TEST, FRESH))
    return prepared(tmp_path_factory.mktemp("prepared"), train, test), train, fresh


def measured(folder: Path, pictures: Tensor, none: Path, batch: int = 100) -> Neighbours:
    figure = Neighbours(folder, extractor(none, CPU), CPU, batch)
    assert isinstance(figure, Figure)
    for start in range(0, len(pictures), batch):
        rows = [{"seed": i, "id": str(i)} for i in range(start, min(start + batch, len(pictures)))]
        figure.add(rows, figure.measure(pictures[start : start + batch], rows))
    figure.complete(Processes(CPU))
    return figure


def compressed(pictures: Tensor, quality: int) -> Tensor:
    files = []
    for picture in pictures:
        file = io.BytesIO()
        to_image(picture).save(file, "JPEG", quality=quality)
        files.append(torch.from_numpy(np.array(Image.open(file))).permute(2, 0, 1))
    return torch.stack(files)


def noisy(pictures: Tensor, deviation: float) -> Tensor:
    noise = deviation * torch.randn(pictures.shape, generator=torch.Generator().manual_seed(1))
    return (pictures + noise).round().clamp(0, 255).to(torch.uint8)


def test_copies_are_memorised_and_name_their_original(parts, none):
    folder, train, _ = parts
    figure = measured(folder, train[:60], none)
    assert figure.figures() == {"memorised": 1}
    about = figure.about()
    assert [n["train_id"] for n in about["neighbours"]] == [f"train-{i:05d}" for i in range(32)]
    assert max(n["distance"] for n in about["neighbours"]) < 1e-5
    assert about["neighbours"][3].items() >= {"seed": 3, "id": "3", "memorised": True}.items()
    low, high = figure.intervals()["memorised"]
    assert 0.9 < low < high == 1


@pytest.mark.parametrize(
    ("change", "least"),
    [
        (lambda p: p.flip(-1), 1),
        (lambda p: noisy(p, 2), 0.97),
        (lambda p: noisy(p, 4), 0.9),
        (lambda p: compressed(p, 95), 0.7),
        (lambda p: (p.int() + 4).clamp(0, 255).to(torch.uint8), 0.9),
    ],
    ids=["mirrored", "a little noise", "some noise", "compressed", "brighter"],
)
def test_changed_copies_are_memorised(parts, none, change, least):
    folder, train, _ = parts
    figure = measured(folder, change(train[:100]), none)
    assert figure.figures()["memorised"] >= least


def test_fresh_pictures_are_memorised_at_most_at_the_nominal_rate(parts, none):
    folder, _, fresh = parts
    figure = measured(folder, fresh, none)
    rule = figure.about()["memorised"]
    assert rule["expected_at_most"] == pytest.approx(6 / 301, rel=1e-5)
    low, _ = figure.intervals()["memorised"]
    assert low <= rule["expected_at_most"]
    assert figure.figures()["memorised"] <= 0.03
    for way in ("features", "pixels"):
        assert rule[way]["closer_than_held_out"] == pytest.approx(0.5, abs=0.12)
    assert rule["features"]["distance_median"] == pytest.approx(rule["features"]["held_out_distance_median"], rel=0.15)


def test_copies_too_changed_to_be_told_one_by_one_are_told_together(parts, none):
    folder, train, _ = parts
    rule = measured(folder, noisy(train[:100], 24), none).about()["memorised"]
    assert rule["pixels"]["closer_than_held_out"] > 0.8
