"""Pictures and label maps side by side."""

from functools import partial
from pathlib import Path

from ldm.sources.candidate import Found
from ldm.sources.config import LabelMaps
from ldm.sources.joined import Facts, MapFiles, candidates, check_once, pairs
from ldm.sources.maps import class_names, shown
from ldm.sources.tree import Tree


def label_maps(config: LabelMaps, raw: Path) -> Found:
    tree = Tree(raw)
    classes = class_names(tree, config.label_map_classes)
    facts: dict[str, Facts | str] = {}
    splits = {split: pairs(tree, at.pictures, at.label_maps) for split, at in config.splits.given().items()}
    check_once(raw, splits)
    for split, pictures in splits.items():
        folder = config.splits.given()[split].label_maps
        for name, label_map in pictures.items():
            whole = Facts(split=split, licence=config.licence, label_map=label_map)
            facts[name] = whole if label_map else f"no label map of its name in {folder}"
    return Found(
        candidates=partial(candidates, tree, facts, facts, MapFiles(classes=classes)),
        total=len(facts),
        label_map_classes=shown(classes),
    )
