"""Tar files in which members of one name, KEY.jpg and KEY.txt, are one sample."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath

from ldm.sources.candidate import Candidate, Found, Make, missing, photo
from ldm.sources.config import WebDataset
from ldm.sources.joined import EXTENSIONS, check_once
from ldm.sources.tree import extract, matching, members

_PICTURES = frozenset(ending.removeprefix(".") for ending in EXTENSIONS)


def webdataset(config: WebDataset, raw: Path) -> Found:
    """A sample's id is its tar's name without ending, and its key: keys need be unique in one tar only."""
    splits = {split: matching(raw, pattern) for split, pattern in config.splits.given().items()}
    check_once(raw, {split: [_stem(name) for name, _ in tars] for split, tars in splits.items()})
    total = sum(_count(path) for tars in splits.values() for _, path in tars)
    if not total:
        raise ValueError(f"{raw}: no sample in the tar files; pack KEY.jpg and what belongs to it side by side")
    return Found(candidates=partial(_candidates, config, splits), total=total)


def _stem(name: str) -> str:
    return name.partition(".tar")[0]


@dataclass
class _Sample:
    key: str
    endings: list[str] = field(default_factory=list)
    content: dict[str, bytes] = field(default_factory=dict)
    wrong: str | None = None


def _split_name(name: str) -> tuple[str, str]:
    """Key and ending: `a/b.input.jpg` is (`a/b`, `input.jpg`)."""
    file = PurePosixPath(name).name
    key, _, ending = file.partition(".")
    return name.removesuffix(file) + key, ending.lower()


def _count(path: Path) -> int:
    """Samples in a tar, from its headers; ValueError where a key comes again after another."""
    seen: set[str] = set()
    before = None
    for name, _, _ in members(path, "r:*"):
        key, _ = _split_name(name)
        if key != before and key in seen:
            raise ValueError(
                f"{path}: duplicate key '{key}': its members are not side by side; pack it in order of name"
            )
        seen.add(key)
        before = key
    return len(seen)


def _samples(path: Path, wanted: frozenset[str]) -> Iterator[_Sample]:
    sample: _Sample | None = None
    for name, tar, member in members(path, "r:*"):
        key, ending = _split_name(name)
        if sample is None or sample.key != key:
            if sample is not None:
                yield sample
            sample = _Sample(key)
        if ending in sample.endings:
            raise ValueError(f"{path}: duplicate member '{name}'; pack it again")
        sample.endings.append(ending)
        if ending in wanted:
            content = extract(path, tar, member)
            if isinstance(content, str):
                sample.wrong = f".{ending}: {content}"
            else:
                sample.content[ending] = content
    if sample is not None:
        yield sample


def _candidates(config: WebDataset, splits: Mapping[str, list[tuple[str, Path]]]) -> Iterator[Make]:
    wanted = _PICTURES | {_ending(value) for value in (config.label, config.caption) if value is not None}
    for split, tars in splits.items():
        for name, path in tars:
            for sample in _samples(path, wanted):
                yield partial(_candidate, config, sample, split, f"{_stem(name)}/{sample.key}")


def _candidate(config: WebDataset, sample: _Sample, split: str, id: str) -> Candidate:
    if sample.wrong is not None:
        return missing(id, sample.wrong)
    pictures = sorted(_PICTURES & set(sample.endings))
    if len(pictures) != 1:
        there = ", ".join(sample.endings)
        return missing(id, f"{'several pictures' if pictures else 'no picture'} of this key (there is: {there})")
    try:
        label = None if config.label is None else _text(sample, config.label)
        caption = None if config.caption is None else _text(sample, config.caption)
    except ValueError as error:
        return missing(id, str(error))
    content = sample.content[pictures[0]]
    return photo(id, content, split=split, label=label, caption=caption, licence=config.licence)


def _ending(place: str) -> str:
    return "json" if place.startswith("json.") else place


def _text(sample: _Sample, place: str) -> str:
    """What a sample has at an ending, or at a key of its JSON."""
    ending = _ending(place)
    if ending not in sample.content:
        raise ValueError(f"no member .{ending} of this key (there is: {', '.join(sample.endings)})")
    try:
        text = sample.content[ending].decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f".{ending} is not UTF-8 at byte {error.start}") from None
    if place.startswith("json."):
        text = _json(text, place.removeprefix("json."))
    if not text.strip():
        raise ValueError(f"nothing in {place}")
    return " ".join(text.split())


def _json(text: str, key: str) -> str:
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f".json is not valid: {' '.join(str(error).split())}") from None
    value = values.get(key) if isinstance(values, dict) else None
    if not isinstance(value, str | int) or isinstance(value, bool):
        there = ", ".join(values) if isinstance(values, dict) else "no object"
        raise ValueError(f"no text at '{key}' in .json (there is: {there})")
    return str(value)
