"""Near-copies never straddle two parts, and a picture's part depends on its content alone."""

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from ldm.sources.splits import assign, near_copies, thumbnail


def photo(seed: int, size: int = 96) -> Image.Image:
    """Soft random shapes, as different from seed to seed as photographs are."""
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 5, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((size, size), Image.Resampling.BICUBIC)


def groups(*images: Image.Image) -> list[int]:
    return near_copies(np.stack([thumbnail(image) for image in images])).tolist()


@pytest.mark.parametrize("seed", range(5))
def test_scaled_brightened_and_resaved_pictures_are_near_copies(seed, tmp_path):
    original = photo(seed)
    original.save(tmp_path / "a.jpg", quality=50)
    copies = [
        original.resize((48, 48), Image.Resampling.BICUBIC),
        ImageEnhance.Brightness(original).enhance(1.01),
        Image.open(tmp_path / "a.jpg"),
    ]
    assert len(set(groups(original, *copies))) == 1


def test_different_pictures_stay_apart():
    assert len(set(groups(*map(photo, range(200))))) == 200


def test_near_copies_of_near_copies_are_one_group():
    def shade(value: int) -> Image.Image:
        return Image.new("RGB", (16, 16), (value, value, value))

    assert len(set(groups(*(shade(value) for value in range(100, 130, 3))))) == 1
    assert len(set(groups(shade(100), shade(104)))) == 2


def test_groups_are_those_of_the_definition_over_all_pairs():
    rng = np.random.default_rng(0)
    base = rng.integers(0, 8, (100, 1, 1, 3)) * 32 + rng.integers(-6, 7, (100, 8, 8, 3))
    copies = base + rng.integers(-4, 5, (100, 1, 1, 1)) + rng.integers(-5, 6, (100, 8, 8, 3))
    thumbnails = np.concatenate([base, copies]).clip(0, 255).astype(np.uint8)
    values = thumbnails.astype(np.float64)
    grey = values.mean(-1)
    halves = [part.mean((1, 2)) for part in (grey[:, :4], grey[:, :, :4], grey[:, 2:6, 2:6])]
    averages = np.column_stack([values.mean((1, 2)), *halves])
    flat = values.reshape(200, -1)
    near = (abs(flat[:, None] - flat[None]) <= 12).all(-1) & (abs(averages[:, None] - averages[None]) <= 3).all(-1)
    assert 40 < near[:100, 100:].diagonal().sum() < 100, "some copies are near, some are not"
    for _ in range(8):
        near = near @ near
    found = near_copies(thumbnails)
    assert (near == (found[:, None] == found[None])).all()


def hashes(count: int) -> list[str]:
    return [np.random.default_rng(i).bytes(32).hex() for i in range(count)]


def test_a_part_follows_from_the_smallest_hash_of_its_group():
    names = hashes(400)
    alone = assign(list(range(400)), names, [None] * 400, 0.1, 0.2)
    assert 50 < alone.count("test") < 110
    assert 20 < alone.count("validation") < 65
    order = np.random.default_rng(0).permutation(400).tolist()
    shuffled = assign(order, [names[i] for i in order], [None] * 400, 0.1, 0.2)
    assert [alone[i] for i in order] == shuffled
    assert assign(list(range(300)), names[:300], [None] * 300, 0.1, 0.2) == alone[:300]
    pairs = assign([i // 2 for i in range(400)], names, [None] * 400, 0.1, 0.2)
    for first in range(0, 400, 2):
        smaller = min(first, first + 1, key=lambda i: names[i])
        assert pairs[first] == pairs[first + 1] == alone[smaller]


def test_a_larger_validation_part_leaves_the_test_part_as_it_is():
    names = hashes(200)
    few, many = (assign(list(range(200)), names, [None] * 200, part, 0.2) for part in (0.0, 0.3))
    assert "validation" not in few
    assert [part == "test" for part in few] == [part == "test" for part in many]


def test_given_splits_are_kept_and_near_copies_of_their_pictures_are_left_out():
    given = ["test", "train", "validation", "test", "validation", "train"]
    parts = assign([0, 0, 1, 1, 2, 3], ["f" * 64] * 6, given, 0.0, 0.0)
    assert parts == ["test", None, None, "test", "validation", "train"]


def test_what_is_given_as_train_is_cut_into_train_and_validation():
    parts = assign(list(range(200)), hashes(200), ["train"] * 200, 0.25, 0.0)
    assert set(parts) == {"train", "validation"}


def test_held_out_is_by_meaning():
    assert assign([0, 0], ["0" * 64, "f" * 64], ["held_out", None], 0.0, 0.0) == ["held_out", "train"]
