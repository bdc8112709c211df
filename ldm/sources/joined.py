"""Pictures of a tree joined, by name, with what other files say of them."""

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath

from ldm.data.shards import Box
from ldm.sources.candidate import Candidate, Make, Marks, missing, photo
from ldm.sources.maps import Names
from ldm.sources.tree import Tree, below, inside

EXTENSIONS = (".jpg", ".jpeg", ".jfif", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm")


@dataclass(frozen=True, kw_only=True, slots=True)
class Facts:
    """What is known of one picture; the fields are those of Candidate and Marks."""

    split: str | None = None
    label: str | None = None
    caption: str | None = None
    licence: str = ""
    boxes: tuple[Box, ...] | None = None
    size: tuple[float, float] | None = None
    label_map: str | None = None
    """Its name in the tree."""


@dataclass(frozen=True, kw_only=True)
class MapFiles:
    """How label maps are read."""

    classes: Names
    shift: int = 0


def candidates(
    tree: Tree, facts: Mapping[str, Facts | str] | Callable[[str], Facts | str], names: Collection[str], maps: MapFiles
) -> Iterator[Make]:
    """One for each of `names`; a text in place of facts says why that picture cannot be had."""
    of = facts.__getitem__ if isinstance(facts, Mapping) else facts
    wanted = set()
    beside = set()
    for name in names:
        known = of(name)
        if isinstance(known, str):
            yield partial(missing, name, known)
        else:
            wanted.add(name)
            beside |= {known.label_map} if known.label_map else set()
    read_map = tree.reader(beside)
    for name, read in tree.read(wanted):
        known = of(name)
        assert isinstance(known, Facts)
        yield partial(_candidate, name, known, read, read_map, maps)


def _candidate(
    name: str, known: Facts, read: Callable[[], bytes | str], read_map: Callable[[str], bytes | str], maps: MapFiles
) -> Candidate:
    content = read()
    label_map = read_map(known.label_map) if known.label_map else None
    if isinstance(content, str):
        return missing(name, content)
    if isinstance(label_map, str):
        return missing(name, f"its label map: {label_map}")
    marks = Marks(
        boxes=known.boxes,
        size=known.size,
        label_map=label_map,
        label_map_shift=maps.shift,
        label_map_classes=maps.classes,
    )
    given = {"split": known.split, "label": known.label, "caption": known.caption, "licence": known.licence}
    return photo(name, content, marks=marks, **given)


NO_MAPS = MapFiles(classes=())


def picture_names(tree: Tree, folder: str = ".") -> list[str]:
    """The pictures in `folder` or deeper, known by their extension; ValueError where there is none."""
    files = below(tree.names, folder)
    names = [name for name in files if name.lower().endswith(EXTENSIONS)]
    if not names:
        place = tree.raw if folder == "." else f"{tree.raw}/{folder}"
        found = f"{len(files)} other files" if files else "it is empty"
        raise ValueError(f"{place}: no pictures there ({found}); put {', '.join(EXTENSIONS)} files into it")
    return names


def pairs(tree: Tree, pictures: str, label_maps: str) -> dict[str, str | None]:
    """The label map of each picture: the PNG of the same name below `label_maps`, None where there is none."""
    maps = {stem(name, label_maps): name for name in below(tree.names, label_maps) if name.lower().endswith(".png")}
    if not maps:
        raise ValueError(f"{tree.raw}/{label_maps}: no PNG there; put the label maps there or mend source.splits")
    taken = set(maps.values())
    found = {name: maps.get(stem(name, pictures)) for name in picture_names(tree, pictures) if name not in taken}
    if not any(found.values()):
        raise ValueError(f"{tree.raw}/{label_maps}: no PNG is named as a picture in {tree.raw}/{pictures}; rename them")
    return found


def stem(name: str, folder: str) -> str:
    """`name` as seen from `folder`, without its ending."""
    return PurePosixPath(name.removeprefix(inside(folder, ""))).with_suffix("").as_posix()


def check_once(raw: Path, splits: Mapping[str, Collection[str]]) -> None:
    """ValueError where a name belongs to two splits."""
    seen: dict[str, str] = {}
    for split, names in splits.items():
        for name in names:
            if name in seen:
                raise ValueError(f"{raw}: '{name}' is in {seen[name]} and in {split}; mend source.splits")
            seen[name] = split
