"""Two dvc.locks, and two environments, side by side: what differs, and what only follows from that."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from ldm.files import MANIFEST

Lock = Mapping[str, Mapping[str, Any]]
"""What dvc.lock says of each stage."""


@dataclass(frozen=True, kw_only=True)
class Output:
    """One output of a stage that was rebuilt, with its hash before and after; None where it was not there."""

    stage: str
    path: str
    committed: str | None
    rebuilt: str | None

    @property
    def verdict(self) -> str:
        if self.committed == self.rebuilt:
            return "same"
        if self.committed is None:
            return "not in the committed dvc.lock"
        return "missing" if self.rebuilt is None else "differs"


def compare(committed: Lock, rebuilt: Lock) -> list[Output]:
    """Every output of every stage of `rebuilt`."""
    outputs = []
    for stage, entry in rebuilt.items():
        before, after = _hashes(committed.get(stage, {}), "outs"), _hashes(entry, "outs")
        for path in before | after:
            outputs.append(Output(stage=stage, path=path, committed=before.get(path), rebuilt=after.get(path)))
    return outputs


def roots(committed: Lock, rebuilt: Lock) -> dict[str, list[str]]:
    """The stages that differ while no other stage that differs feeds them, and which of their inputs changed.

    All other differences may follow from theirs. A root of which no input changed is not reproducible by itself.
    """
    differing = [output for output in compare(committed, rebuilt) if output.verdict != "same"]
    found = {}
    for stage in dict.fromkeys(output.stage for output in differing):
        before, after = _inputs(committed.get(stage, {})), _inputs(rebuilt[stage])
        changed = [place for place in before | after if before.get(place) != after.get(place)]
        others = [output.path for output in differing if output.stage != stage]
        if not any(_overlap(place, path) for place in changed for path in others):
            found[stage] = changed
    return found


def differing_files(output: Output, cache: Path, rebuilt_cache: Path) -> list[str]:
    """Which files of a folder differ, where both DVC caches hold the list that its hash stands for."""
    before, after = _listing(cache, output.committed), _listing(rebuilt_cache, output.rebuilt)
    if output.verdict != "differs" or not before or not after:
        return []
    names = [name for name in sorted(before | after) if before.get(name) != after.get(name)]
    return [name for name in names if name != MANIFEST] or names  # a manifest only repeats what the others say


def environment_differences(committed: Mapping[str, Any], here: Mapping[str, Any]) -> list[str]:
    """A line about each thing that bytes may depend on and that is not as it was where dvc.lock was made."""
    return [
        f"{name}: {committed.get(name, 'unknown')} where dvc.lock was made, {here.get(name, 'unknown')} here"
        for name in {**committed, **here}
        if committed.get(name) != here.get(name)
    ]


def _hashes(entry: Mapping[str, Any], part: str) -> dict[str, str]:
    return {one["path"]: one[one.get("hash", "md5")] for one in entry.get(part, [])}


def _inputs(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Hashes of dependencies by path, and values of parameters by file and place."""
    return _hashes(entry, "deps") | {
        f"{file}: {place}": value for file, params in entry.get("params", {}).items() for place, value in params.items()
    }


def _overlap(one: str, other: str) -> bool:
    return PurePath(one).is_relative_to(other) or PurePath(other).is_relative_to(one)


def _listing(cache: Path, digest: str | None) -> dict[str, str]:
    """Hash of each file in the folder of which `digest` is the hash; empty where the cache does not know it."""
    if not digest or not digest.endswith(".dir"):
        return {}
    path = cache / "files/md5" / digest[:2] / digest[2:]
    return {file["relpath"]: file["md5"] for file in json.loads(path.read_bytes())} if path.is_file() else {}
