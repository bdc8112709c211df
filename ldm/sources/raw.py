"""Raw pictures of any source, opened: what is wrong with them as a whole is said here, before one is rendered."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ldm.config import shown
from ldm.sources import config as sections
from ldm.sources.boxes import boxes
from ldm.sources.candidate import Found
from ldm.sources.captions import captions
from ldm.sources.coco import coco
from ldm.sources.config import Dataset
from ldm.sources.drawn import drawn
from ldm.sources.folder import class_folders, folder
from ldm.sources.label_maps import label_maps
from ldm.sources.lmdb import lmdb
from ldm.sources.open_images import open_images
from ldm.sources.parquet import parquet
from ldm.sources.text import check
from ldm.sources.webdataset import webdataset


@dataclass(frozen=True, kw_only=True)
class Raw:
    """What is to be prepared."""

    config: Dataset
    place: Path
    found: Found


@contextmanager
def fit_to_show() -> Iterator[None]:
    """A ValueError, which may quote names and texts of those who made the files, becomes one line that can be shown."""
    try:
        yield
    except ValueError as error:
        if type(error) is ValueError:
            error.args = (shown(str(error)),)
        raise


@fit_to_show()
def opened(config: Dataset, place: Path) -> Raw:
    """Raises ValueError of one line for what is wrong at `place`."""
    found = _find(config.source, place)
    for name in (*(found.classes or ()), *(found.box_classes or ()), *(found.label_map_classes or ())):
        check(name, f"{place}: ")
    return Raw(config=config, place=place, found=found)


def _find(source: sections.Source, raw: Path) -> Found:
    match source:
        case sections.Drawn():
            return drawn(source)
        case sections.Folder():
            return folder(source, raw)
        case sections.ClassFolders():
            return class_folders(source, raw)
        case sections.Captions():
            return captions(source, raw)
        case sections.Coco():
            return coco(source, raw)
        case sections.OpenImages():
            return open_images(source, raw)
        case sections.LabelMaps():
            return label_maps(source, raw)
        case sections.Boxes():
            return boxes(source, raw)
        case sections.Lmdb():
            return lmdb(source, raw)
        case sections.Parquet():
            return parquet(source, raw)
        case sections.WebDataset():
            return webdataset(source, raw)
