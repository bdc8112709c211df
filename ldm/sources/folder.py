"""Pictures from the user's files: a folder, or class folders."""

from functools import partial
from pathlib import Path, PurePosixPath

from ldm.sources.candidate import Found
from ldm.sources.config import ClassFolders, Folder
from ldm.sources.joined import NO_MAPS, Facts, candidates, picture_names
from ldm.sources.tree import Tree

_GIVEN = {"train": "train", "validation": "validation", "valid": "validation", "val": "validation", "test": "test"}


def folder(config: Folder, raw: Path) -> Found:
    tree = Tree(raw)
    names = picture_names(tree)
    splits = _given_splits(tree, names) if config.given_splits else {}
    facts = {name: Facts(split=splits.get(name), licence=config.licence) for name in names}
    return Found(candidates=partial(candidates, tree, facts, names, NO_MAPS), total=len(names))


def class_folders(config: ClassFolders, raw: Path) -> Found:
    """The label is the name of the folder that a picture lies in."""
    tree = Tree(raw)
    names = picture_names(tree)
    splits = _given_splits(tree, names) if config.given_splits else {}
    labels = {name: PurePosixPath(name).parent.name for name in names}
    for name, label in labels.items():
        if not label or (config.given_splits and label.lower() in _GIVEN):
            raise ValueError(f"{tree.raw}: '{name}' lies in no class folder; move it into one named after its class")
    if len(set(labels.values())) < 2:
        raise ValueError(f"{tree.raw}: all pictures are of one class, '{labels[names[0]]}'; say source.kind: folder")
    facts = {n: Facts(split=splits.get(n), label=labels[n], licence=config.licence) for n in names}
    return Found(candidates=partial(candidates, tree, facts, names, NO_MAPS), total=len(names))


def _given_splits(tree: Tree, names: list[str]) -> dict[str, str]:
    splits: dict[str, str] = {}
    for name in names:
        given = [_GIVEN[part.lower()] for part in PurePosixPath(name).parent.parts if part.lower() in _GIVEN]
        if not given:
            raise ValueError(
                f"{tree.raw}: '{name}' is in no folder named {', '.join(_GIVEN)}; move it or say given_splits: false"
            )
        splits[name] = given[0]
    return splits
