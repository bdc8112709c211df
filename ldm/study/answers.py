"""The key and the raters' answers, checked against each other before anything is counted."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from ldm.config import Section, check
from ldm.files import read_json
from ldm.study import returned, store
from ldm.study.config import Task
from ldm.study.trials import Shown, Side

DATABASE = b"SQLite format 3\0"
"""How the server's database begins."""


class KeyTrial(Section):
    """What stood where."""

    source: str
    left: Shown
    right: Shown


class Key(Section):
    """key.json: what the page does not say."""

    study: str
    task: Task
    first: str
    second: str
    catch_pass: float = Field(ge=0, le=1)
    lists: list[list[str]]
    """Names of trials. A rater answers one list."""
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
    """One rater's answers, as the page writes them."""

    study: str
    rater: Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]
    trials: list[Answer]


def read_key(path: Path) -> Key:
    return check(read_json(path), Key, "key", file=str(path))


def read_answers(paths: Sequence[Path], key: Key) -> list[Answers]:
    """The raters of `paths`, each once: their files, and databases of the server with any number of raters.

    ValueError of one line at a file that cannot be answers to this key's study.
    """
    return gather(((path, values) for path in paths for values in _values(path)), key)


def unfinished(path: Path) -> int:
    """How many raters of a server's database did not come to the end; a rater's own file is always whole."""
    return store.unfinished(path) if _is_database(path) else 0


def _is_database(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(DATABASE)) == DATABASE


def gather(found: Iterable[tuple[Path, Any]], key: Key) -> list[Answers]:
    """The raters of `found` (where each stands, and what stands there), each once and sorted by name."""
    raters: dict[str, tuple[Path, Answers]] = {}
    for path, values in found:
        answers = check(values, Answers, "answers", file=str(path))
        _must_match(path, answers, key)
        before, same = raters.setdefault(answers.rater, (path, answers))
        if _choices(same) != _choices(answers):
            raise ValueError(
                f"{path}: rater {answers.rater} chose otherwise in {before}; leave out one of the two files"
            )
    return [answers for _, (_, answers) in sorted(raters.items())]


def _choices(answers: Answers) -> list[Answer]:
    return sorted(answers.trials, key=lambda answer: answer.trial)


def _values(path: Path) -> Iterator[Any]:
    """What the file holds: one rater's answers, or those of everyone in a database or from another platform."""
    try:
        content = b"" if (database := _is_database(path)) else path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror}); name the files that the raters sent") from None
    if database:
        yield from store.read_answers(path)
    elif path.suffix == ".csv":
        yield from returned.from_csv(content, str(path))
    else:
        try:
            values = json.loads(content)
        except (ValueError, RecursionError):
            raise ValueError(f"{path}: not a file of answers (not JSON); ask the rater to download it again") from None
        yield from returned.from_label_studio(values, str(path)) if isinstance(values, list) else [values]


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
    whole = max(key.lists, key=lambda names: len(times.keys() & names))
    if astray := sorted(times.keys() - set(whole)):
        raise ValueError(f"{path}: trial {astray[0]} is of another rater's list; the file was changed, leave it out")
    if len(times) < len(whole):
        raise ValueError(
            f"{path}: rater {answers.rater} answers {len(times)} of {len(whole)} trials; "
            "ask the rater to finish, or leave it out"
        )
