"""COCO: its JSON of boxes and of captions, and COCO-Stuff's label maps."""

import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from ldm.data.shards import Box
from ldm.sources.candidate import Found
from ldm.sources.config import Coco, CocoFiles
from ldm.sources.joined import Facts, MapFiles, candidates, check_once, pairs, picture_names
from ldm.sources.maps import class_names, shown
from ldm.sources.rows import is_number
from ldm.sources.tree import Tree, inside

_MENDING = "put it there or mend source.splits"
_UNUSED = ("segmentation", "segments_info", "url", "coco_url", "flickr_url", "date_captured", "area")


def coco(config: Coco, raw: Path) -> Found:
    """One caption a picture: of several the one of lowest annotation id. Crowds are left out of the boxes."""
    tree = Tree(raw)
    maps = MapFiles(classes=(), shift=config.label_map_shift)
    if config.label_map_classes is not None:
        maps = MapFiles(classes=class_names(tree, config.label_map_classes), shift=config.label_map_shift)
    parts = {split: _Part(tree, files) for split, files in config.splits.given().items()}
    check_once(raw, {split: part.names for split, part in parts.items()})
    categories = parts["train"].categories
    for split, part in parts.items():
        if part.categories != categories:
            raise ValueError(f"{raw}: the categories of {split} are not those of train; take files of one release")
    ids = {category: number for number, category in enumerate(sorted(categories))}
    facts = {name: part.facts(name, split, ids, config.licence) for split, part in parts.items() for name in part.names}
    return Found(
        candidates=partial(candidates, tree, facts, facts, maps),
        total=len(facts),
        box_classes=tuple(categories[category] for category in sorted(categories)) or None,
        label_map_classes=shown(maps.classes) if maps.classes else None,
    )


@dataclass(frozen=True)
class _Instances:
    size: tuple[float, float]
    boxes: list[tuple[int, list[float]]]
    """Category id, and x, y, width, height in pixels."""


class _Part:
    """What the files of one split say of its pictures, by name."""

    def __init__(self, tree: Tree, files: CocoFiles):
        self._files = files
        self._pictures = set(picture_names(tree, files.pictures))
        self._maps: dict[str, str | None] = {}
        if files.label_maps is not None:
            self._maps = pairs(tree, files.pictures, files.label_maps)
            self._pictures = set(self._maps)
        self.categories: dict[int, str] = {}
        self._instances: dict[str, _Instances] = {}
        self._captions: dict[str, str] = {}
        if files.instances is not None:
            self.categories, self._instances = _instances(_Annotations(tree, files.instances, files.pictures))
        if files.captions is not None:
            self._captions = _captions(_Annotations(tree, files.captions, files.pictures))
        listed = self._instances.keys() | self._captions.keys()
        self.names = sorted(self._pictures | listed)
        if listed and not listed & self._pictures:
            file = files.instances or files.captions
            raise ValueError(f"{tree.raw}/{files.pictures}: none of the pictures of {file} is there; {_MENDING}")

    def facts(self, name: str, split: str, ids: dict[int, int], licence: str) -> Facts | str:
        files = self._files
        if name not in self._pictures:
            return f"not there, but in {files.instances if name in self._instances else files.captions}"
        if files.instances is not None and name not in self._instances:
            return f"not in {files.instances}"
        if files.captions is not None and name not in self._captions:
            return f"no caption in {files.captions}"
        if files.label_maps is not None and self._maps[name] is None:
            return f"no label map of its name in {files.label_maps}"
        known = self._instances.get(name)
        return Facts(
            split=split,
            caption=self._captions.get(name),
            licence=licence,
            boxes=None if known is None else tuple(_boxes(known, ids)),
            size=None if known is None else known.size,
            label_map=self._maps.get(name),
        )


def _boxes(known: _Instances, ids: dict[int, int]) -> Iterator[Box]:
    width, height = known.size
    for category, (x, y, across, down) in known.boxes:
        yield Box(x=x / width, y=y / height, width=across / width, height=down / height, category=ids[category])


class _Annotations:
    """One of COCO's JSON files: `images`, `annotations`, and `categories` where it has boxes."""

    def __init__(self, tree: Tree, file: str, pictures: str):
        self.place = f"{tree.raw}/{file}"
        with tree.open(file, _MENDING) as content:
            try:
                values = json.loads(content.read(), object_hook=_bare)
            except (ValueError, RecursionError) as error:
                raise ValueError(f"{self.place}: not valid JSON: {' '.join(str(error).split())}") from None
        self._values = values if isinstance(values, dict) else {}
        self.images: dict[int, dict[str, Any]] = {}
        self.names: dict[int, str] = {}
        seen: set[str] = set()
        for place, image in self.entries("images"):
            id, name = _need(image, "id", int, place), inside(pictures, _need(image, "file_name", str, place))
            if id in self.images or name in seen:
                raise ValueError(f"{place}: duplicate id {id} or file_name '{name}'; keep one")
            self.images[id], self.names[id] = image, name
            seen.add(name)

    def entries(self, key: str) -> Iterator[tuple[str, dict[str, Any]]]:
        values = self._values.get(key)
        if not isinstance(values, list):
            there = ", ".join(self._values) or "nothing"
            raise ValueError(f"{self.place}: no list of '{key}' (there is: {there}); take COCO's own file")
        for number, entry in enumerate(values):
            if not isinstance(entry, dict):
                raise ValueError(f"{self.place}, {key}[{number}]: expected an object; take COCO's own file")
            yield f"{self.place}, {key}[{number}]", entry

    def name(self, annotation: dict[str, Any], place: str) -> str:
        """Of the picture that an annotation is about."""
        id = _need(annotation, "image_id", int, place)
        if id not in self.names:
            raise ValueError(f"{place}: image_id {id} is not among its images; take files of one release")
        return self.names[id]


def _need(entry: dict[str, Any], key: str, kind: type, place: str) -> Any:
    value = entry.get(key)
    if not isinstance(value, kind) or isinstance(value, bool):
        raise ValueError(f"{place}: '{key}' is {value!r:.40}, expected {kind.__name__}; take COCO's own file")
    return value


def _bare(entry: dict[str, Any]) -> dict[str, Any]:
    """Outlines are nine tenths of the file: dropped while it is read, they do not fill the memory."""
    for key in _UNUSED:
        entry.pop(key, None)
    return entry


def _instances(read: _Annotations) -> tuple[dict[int, str], dict[str, _Instances]]:
    categories = {
        _need(entry, "id", int, place): _need(entry, "name", str, place) for place, entry in read.entries("categories")
    }
    boxes: dict[str, list[tuple[int, list[float]]]] = defaultdict(list)
    for place, entry in read.entries("annotations"):
        name, category, box = read.name(entry, place), _need(entry, "category_id", int, place), entry.get("bbox")
        if category not in categories:
            raise ValueError(f"{place}: category_id {category} is not among its categories; take files of one release")
        if not isinstance(box, list) or len(box) != 4 or not all(map(is_number, box)) or min(box[2:]) < 0:
            raise ValueError(f"{place}: 'bbox' is not x, y, width, height in pixels; take COCO's own instances file")
        if not entry.get("iscrowd"):
            boxes[name].append((category, box))
    found = {}
    for id, name in read.names.items():
        width, height = read.images[id].get("width"), read.images[id].get("height")
        if width is None or height is None or not (is_number(width) and is_number(height) and min(width, height) > 0):
            raise ValueError(f"{read.place}: image {id} has no width and height; take COCO's own instances file")
        found[name] = _Instances((width, height), boxes[name])
    return categories, found


def _captions(read: _Annotations) -> dict[str, str]:
    first: dict[str, tuple[int, str]] = {}
    for place, entry in read.entries("annotations"):
        if "caption" not in entry:
            raise ValueError(f"{place}: no 'caption' (there is: {', '.join(entry)}); name a captions file there")
        name, id = read.name(entry, place), _need(entry, "id", int, place)
        words = " ".join(_need(entry, "caption", str, place).split())
        if words and (name not in first or id < first[name][0]):
            first[name] = (id, words)
    return {name: caption for name, (_, caption) in first.items()}
