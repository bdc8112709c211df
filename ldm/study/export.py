"""Stage export_study: two methods' samples and their originals become a page that tells nothing, and a key."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from ldm.data.pictures import to_png
from ldm.files import fresh_folder, write_bytes, write_json, write_manifest
from ldm.progress import Progress
from ldm.study.config import Study
from ldm.study.page import render
from ldm.study.pictures import enlarge, mosaic, same_length
from ldm.study.sets import Quartet, common, read_quartets
from ldm.study.trials import Plan, Trial, keyed, plan


def export(config: Study, first: Path, second: Path, images: Path, public: Path, key: Path) -> Iterator[Progress]:
    """Write the folder `public` (index.html, pictures/, manifest.json), to be shown to anyone, and the file `key`.

    `first` and `second` are folders of samples of the same originals, `images` the prepared data set of these. The key
    is a file of its own, outside `public`, for it says which method made which picture.
    """
    if key.resolve().is_relative_to(public.resolve()):
        raise ValueError(f"{key}: the key would be published; put it outside {public}")
    planned = plan(config, common(first, second, config.trials))
    shown = [*planned.practice, *planned.trials]
    sources = {trial.source for trial in shown}
    quartets = read_quartets(first, second, images, sources, low_resolution=config.task == "super_resolution")

    encoded: dict[str, bytes] = {}
    slots: dict[str, dict[str, str]] = {}
    for done, trial in enumerate(shown):
        yield Progress(done=done, total=len(shown), unit="pairs")
        slots[trial.name] = {}
        for slot, image in _pictures(trial, quartets[trial.source], config.enlarge).items():
            path = f"pictures/{keyed(config.seed, 'picture', trial.name, slot)[:20]}.png"
            slots[trial.name][slot] = path
            encoded[path] = to_png(image)
    encoded = same_length(encoded)

    width, height = (side * config.enlarge for side in quartets[shown[0].source].original.size)
    page = _public(config, planned, slots) | {"width": width, "height": height}
    study = page["study"] = _identity(page, encoded)
    fresh_folder(public)
    for path in sorted(encoded):  # by name, so that not even the times of writing follow the trials
        write_bytes(public / path, encoded[path])
    write_bytes(public / "index.html", render(page).encode())
    write_manifest(public)
    write_json(key, _key(config, planned, study))
    yield Progress(done=len(shown), total=len(shown), unit="pairs")


def _pictures(trial: Trial, quartet: Quartet, factor: int) -> dict[str, Image.Image]:
    """The pictures that the trial shows, by place: left, right and, where there is one, middle; all of one size."""
    original = quartet.original
    made = {"first": quartet.first, "second": quartet.second, "original": original, "mosaic": mosaic(original)}
    shown = {"left": made[trial.left], "right": made[trial.right]}
    if quartet.low_resolution is not None:
        shown["middle"] = quartet.low_resolution
    size = (original.width * factor, original.height * factor)
    return {slot: enlarge(image, size) for slot, image in shown.items()}


def _public(config: Study, planned: Plan, slots: Mapping[str, Mapping[str, str]]) -> dict[str, Any]:
    """What the page is told: never which picture is whose, nor which trials are attention checks."""

    def listed(trials: Sequence[Trial]) -> list[dict[str, str]]:
        return [{"trial": trial.name, **slots[trial.name]} for trial in trials]

    return {
        "question": config.words,
        "seconds": config.seconds,
        "hand_in": config.hand_in,
        "practice": listed(planned.practice),
        "trials": listed(planned.trials),
    }


def _identity(page: Mapping[str, Any], encoded: Mapping[str, bytes]) -> str:
    """A name for exactly these trials with exactly these pictures, by which answers find their key."""
    hashes = {path: hashlib.sha256(encoded[path]).hexdigest() for path in sorted(encoded)}
    text = json.dumps([page, hashes], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _key(config: Study, planned: Plan, study: str) -> dict[str, Any]:
    return {
        "study": study,
        "task": config.task,
        "first": config.first,
        "second": config.second,
        "catch_pass": config.catch_pass,
        "trials": {
            trial.name: {"source": trial.source, "left": trial.left, "right": trial.right} for trial in planned.trials
        },
    }
