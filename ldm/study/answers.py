"""The key and the raters' files, checked against each other before anything is counted."""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from ldm.config import Section, check
from ldm.files import read_json
from ldm.study.trials import Shown, Side


class KeyTrial(Section):
    """What stood where."""

    source: str
    left: Shown
    right: Shown


class Key(Section):
    """key.json: what the page does not say."""

    study: str
    task: Literal["super_resolution", "any"]
    first: str
    second: str
    catch_pass: float = Field(ge=0, le=1)
    trials: dict[str, KeyTrial]

    @property
    def names(self) -> dict[Shown, str]:
        return {"first": self.first, "second": self.second, "original": "original", "mosaic": "mosaic"}


class Answer(Section):
    trial: str
    choice: Side
    response_ms: int = Field(ge=0)
    """From the hiding of the pictures to the choice."""
    shown_ms: int = Field(ge=0)
    """How long the pictures were on the screen."""
    looks: int = Field(ge=1)
    """More than 1 where the rater left the page during the pair and saw it again."""


class Answers(Section):
    """One rater's file, as the page writes it."""

    study: str
    rater: Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]
    trials: list[Answer]


def read_key(path: Path) -> Key:
    return check(read_json(path), Key, "key", file=str(path))


def read_answers(paths: Sequence[Path], key: Key) -> list[Answers]:
    """The raters of `paths`, each once. ValueError of one line at a file that cannot be answers to this key's study."""
    found: dict[str, tuple[Path, Answers]] = {}
    for path in paths:
        answers = check(_parsed(path), Answers, "answers", file=str(path))
        _must_match(path, answers, key)
        before, same = found.setdefault(answers.rater, (path, answers))
        if same != answers:
            raise ValueError(
                f"{path}: rater {answers.rater} chose otherwise in {before}; leave out one of the two files"
            )
    return [answers for _, answers in found.values()]


def _parsed(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror}); name the files that the raters sent") from None
    except (ValueError, RecursionError):
        raise ValueError(f"{path}: not a file of answers (not JSON); ask the rater to download it again") from None


def _must_match(path: Path, answers: Answers, key: Key) -> None:
    if answers.study != key.study:
        raise ValueError(
            f"{path}: answers to study {answers.study}, the key is of study {key.study}; "
            "score them with the key exported beside their page"
        )
    times = Counter(answer.trial for answer in answers.trials)
    if unknown := sorted(times.keys() - key.trials.keys()):
        raise ValueError(f"{path}: trial {unknown[0]} is not of this study; the file was changed, leave it out")
    if twice := sorted(trial for trial, count in times.items() if count > 1):
        raise ValueError(f"{path}: trial {twice[0]} is answered twice; the file was changed, leave it out")
    if len(times) < len(key.trials):
        raise ValueError(
            f"{path}: answers {len(times)} of {len(key.trials)} trials; ask the rater to finish, or leave it out"
        )
