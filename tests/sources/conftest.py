"""Small picture files made here, and the stage that prepares them."""

import re
import tarfile
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ldm.data.shards import SPLITS, Example, Images
from ldm.files import read_json
from ldm.sources.config import Dataset
from ldm.sources.prepare import prepare
from ldm.sources.raw import opened

_USUAL: dict[str, dict[str, object]] = {
    "folder": {"given_splits": False},
    "class_folders": {"given_splits": False},
    "captions": {"file": "captions.jsonl", "caption": ["caption"]},
}


class Prepared:
    """What `prepare` made of a folder of pictures."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.info = read_json(folder / "dataset.json")
        self.manifest = (folder / "manifest.json").read_bytes()
        self.splits = {split: Images(folder, split) for split in SPLITS if split in self.info["splits"]}

    @property
    def part(self) -> dict[str, str]:
        """The split of each id."""
        return {id: split for split, images in self.splits.items() for id in images.ids}

    def example(self, id: str) -> Example:
        images = self.splits[self.part[id]]
        return images.example(images.ids.index(id))

    def pixels(self, id: str) -> np.ndarray:
        images = self.splits[self.part[id]]
        return images.pixels(images.ids.index(id)).permute(1, 2, 0).numpy()


@pytest.fixture
def photo() -> Callable[..., Image.Image]:
    """Soft random shapes, as different from seed to seed as photographs are."""

    def make(seed: int, size: tuple[int, int] = (40, 32), mode: str = "RGB") -> Image.Image:
        coarse = np.random.default_rng(seed).integers(0, 256, (5, 5, 3), dtype=np.uint8)
        return Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC).convert(mode)

    return make


@pytest.fixture
def raw(tmp_path, photo) -> Path:
    """Twelve pictures: six of cats, five of dogs, and one below `deep/er`."""
    folder = tmp_path / "raw"
    for number in range(12):
        place = folder / ("cat" if number < 6 else "dog" if number < 11 else "deep/er")
        place.mkdir(parents=True, exist_ok=True)
        photo(number).save(place / f"{number:02d}.png")
    return folder


@pytest.fixture
def prepared(tmp_path) -> Callable[..., Prepared]:
    """Prepares `raw` into a folder of its own; keywords go into the section, those of `source` too."""
    count = iter(range(100))

    def make(raw: Path, kind: str = "folder", *, out: Path | None = None, **given: object) -> Prepared:
        section = {"size": 16, "validation": 0.0, "test": 0.0, "on_bad_image": "stop"}
        section |= {key: given.pop(key) for key in list(given) if key in section}
        source = {"kind": kind, "licence": ""} | _USUAL.get(kind, {}) | given
        number = next(count)
        out = out or tmp_path / f"prepared-{number}"
        config = Dataset.model_validate({"raw": str(raw), "source": source, **section})
        for _ in prepare(opened(config, raw), out, tmp_path / f"resume-{number}"):
            pass
        return Prepared(out)

    return make


@pytest.fixture
def mistake(prepared) -> Callable[..., str]:
    """The one line by which preparing a folder is refused; it names the folder."""

    def make(raw: Path, kind: str = "folder", **given: object) -> str:
        with pytest.raises(ValueError, match=re.escape(str(raw))) as error:
            prepared(raw, kind, **given)
        assert "\n" not in str(error.value)
        return str(error.value)

    return make


@pytest.fixture
def pack() -> Callable[..., Path]:
    """Packs files, under the names given, into an archive compressed as its name says."""

    def make(archive: Path, files: Iterable[tuple[Path, str]]) -> Path:
        kind = {".gz": "w:gz", ".tgz": "w:gz", ".bz2": "w:bz2", ".xz": "w:xz"}.get(archive.suffix, "w")
        with tarfile.open(archive, kind) as tar:
            for path, name in files:
                tar.add(path, name)
        return archive

    return make
