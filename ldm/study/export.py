"""Stage export_study: two methods' samples and their originals become a page that tells nothing, and a key."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, Literal

from PIL import Image

from ldm.data.pictures import to_png
from ldm.files import fresh_folder, identity, sha256, write_bytes, write_json, write_manifest
from ldm.progress import Progress
from ldm.study.config import Study, Task
from ldm.study.page import render
from ldm.study.pictures import enlarge, mosaic, same_length
from ldm.study.sets import MIDDLES, Quartet, common, read_quartets
from ldm.study.trials import Plan, Shown, Trial, keyed, plan, stride

Made = tuple[str, Shown | Literal["middle"]]
"""A picture by its original's id and what made it."""
Named = tuple[str, Shown | Literal["middle"], int]
"""The same as one rotation of the lists shows it, under a name of its own there.

With one name in all, an attention check would be known by its two pictures, which are together in every list.
"""


def export(config: Study, first: Path, second: Path, images: Path, public: Path, key: Path) -> Iterator[Progress]:
    """Write the folder `public` (index.html, pictures/, manifest.json), to be shown to anyone, and the file `key`.

    `first` and `second` are folders of samples of the same originals, `images` the prepared data set of these. The key
    is a file of its own, outside `public`, for it says which method made which picture; the page holds its hash, by
    which a key opened later is known to be the one that was sealed.
    """
    if key.resolve().is_relative_to(public.resolve()):
        raise ValueError(f"{key}: the key would be published; put it outside {public}")
    sources = common(first, second, config)
    secret = _secret(config, first, second, images)
    planned = plan(config, sources, secret)
    shown = [*planned.practice, *chain.from_iterable(planned.lists)]
    quartets = read_quartets(first, second, images, {trial.source for trial in shown}, config.task)
    paths = {
        name: f"pictures/{keyed(secret, 'picture', *name)[:20]}.png"
        for trial in shown
        for name in _places(trial, config.task).values()
    }

    made = {(source, picture): b"" for source, picture, _ in paths}
    for done, (source, picture) in enumerate(made):
        yield Progress(done=done, total=len(made), unit="pictures")
        made[source, picture] = to_png(_picture(quartets[source], picture, config.enlarge))
    encoded = same_length({path: made[source, picture] for (source, picture, _), path in paths.items()})

    width, height = (side * config.enlarge for side in quartets[shown[0].source].original.size)
    page = _public(config, planned, paths) | {"width": width, "height": height}
    study = page["study"] = _identity(page, encoded)
    fresh_folder(public)
    write_json(key, _key(config, planned, study))
    page["key_sha256"] = sha256(key)
    for path in sorted(encoded):  # by name, so that not even the times of writing follow the trials
        write_bytes(public / path, encoded[path])
    write_bytes(public / "index.html", render(page).encode())
    write_manifest(public)
    yield Progress(done=len(made), total=len(made), unit="pictures")


def _secret(config: Study, first: Path, second: Path, images: Path) -> str:
    """Known to those who have the pictures: a seed alone could be found by trying."""
    return json.dumps([config.seed, identity(first), identity(second), identity(images)])


def _places(trial: Trial, task: Task) -> dict[str, Named]:
    """Which picture the trial shows where: left, right and, where there is one, middle."""
    places: dict[str, Named] = {
        "left": (trial.source, trial.left, trial.rotation),
        "right": (trial.source, trial.right, trial.rotation),
    }
    return places | ({"middle": (trial.source, "middle", 0)} if MIDDLES[task] else {})


def _picture(quartet: Quartet, name: Shown | Literal["middle"], factor: int) -> Image.Image:
    original = quartet.original
    image = mosaic(original) if name == "mosaic" else getattr(quartet, name)
    return enlarge(image, (original.width * factor, original.height * factor))


def _public(config: Study, planned: Plan, paths: Mapping[Named, str]) -> dict[str, Any]:
    """What the page is told: never which picture is whose."""

    def listed(trials: Sequence[Trial]) -> list[dict[str, str]]:
        return [
            {"trial": trial.name} | {slot: paths[name] for slot, name in _places(trial, config.task).items()}
            for trial in trials
        ]

    return {
        "task": config.task,
        "question": config.words,
        "seconds": config.seconds,
        "consent": config.agreement,
        "hand_in": config.hand_in,
        "practice": listed(planned.practice),
        "stride": stride(len(planned.lists[0])),
        "lists": [listed(trials) for trials in planned.lists],
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
        "completion": config.completion,
        "lists": [[trial.name for trial in trials] for trials in planned.lists],
        "trials": {
            trial.name: {"source": trial.source, "left": trial.left, "right": trial.right}
            for trial in chain.from_iterable(planned.lists)
        },
    }
