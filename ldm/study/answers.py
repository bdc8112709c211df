"""The key and the raters' answers, checked against each other before anything is counted."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from ldm.config import Section, check
from ldm.files import read_json, sha256
from ldm.study import returned, store
from ldm.study.config import NO_COMPLETION, Task
from ldm.study.page import told
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
    completion: str = NO_COMPLETION
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


@dataclass(frozen=True, kw_only=True)
class Raters:
    """Sorted by name."""

    finished: list[Answers]
    unfinished: list[Answers]
    """Who agreed, or began, and did not come to the end."""


def read_key(path: Path) -> Key:
    """ValueError where it is no key, or not the one whose hash the page beside it was published with."""
    key = check(read_json(path), Key, "key", file=str(path))
    page = path.parent / "public" / "index.html"
    if page.is_file() and told(page).get("key_sha256") != sha256(path):
        raise ValueError(f"{path}: not the key that {page} was sealed with (key_sha256); put that one back")
    return key


def read_answers(paths: Sequence[Path], key: Key) -> Raters:
    """The raters of `paths`, each once: their files, and databases of the server with any number of raters.

    ValueError of one line at a file that cannot be answers to this key's study.
    """
    return gather(((path, *found) for path in paths for found in _values(path)), key)


def _is_database(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(DATABASE)) == DATABASE


def gather(found: Iterable[tuple[Path, Any, bool]], key: Key) -> Raters:
    """The raters of `found`, each once: where each stands, what stands there, and whether it must be a whole list.

    What one rater answered may stand in several places, as in two downloads of one batch.
    """
    raters: dict[str, tuple[Path, Answers]] = {}
    for path, values, must_be_whole in found:
        answers = check(values, Answers, "answers", file=str(path))
        _must_match(path, answers, key)
        whole = _own_list(path, answers, key)
        if must_be_whole and len(answers.trials) < len(whole):
            raise ValueError(
                f"{path}: rater {answers.rater} answers {len(answers.trials)} of {len(whole)} trials; "
                "ask the rater to finish, or leave it out"
            )
        before, same = raters.get(answers.rater, (path, answers))
        together = {answer.trial: answer for answer in same.trials}
        if any(together.setdefault(answer.trial, answer) != answer for answer in answers.trials):
            raise ValueError(
                f"{path}: rater {answers.rater} chose otherwise in {before}; leave out one of the two files"
            )
        raters[answers.rater] = before, answers.model_copy(update={"trials": list(together.values())})
    everyone = [raters[name] for name in sorted(raters)]
    ends = [len(one.trials) == len(_own_list(path, one, key)) for path, one in everyone]
    return Raters(
        finished=[one for (_, one), end in zip(everyone, ends, strict=True) if end],
        unfinished=[one for (_, one), end in zip(everyone, ends, strict=True) if not end],
    )


def _values(path: Path) -> Iterator[tuple[Any, bool]]:
    """What the file holds: one rater's answers, or those of everyone in a database or from another platform.

    With each whether it must be whole, as only what the page hands over at the end must.
    """
    try:
        content = b"" if (database := _is_database(path)) else path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror}); name the files that the raters sent") from None
    if database:
        yield from ((rater, False) for rater, _ in store.read(path))
    elif path.suffix == ".csv":
        yield from ((rater, False) for rater in returned.from_csv(content, str(path)))
    else:
        try:
            values = json.loads(content)
        except (ValueError, RecursionError):
            raise ValueError(f"{path}: not a file of answers (not JSON); ask the rater to download it again") from None
        if isinstance(values, list):
            yield from ((rater, False) for rater in returned.from_label_studio(values, str(path)))
        else:
            yield values, True


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


def _own_list(path: Path, answers: Answers, key: Key) -> list[str]:
    """The one list that a rater's answers are of."""
    trials = {answer.trial for answer in answers.trials}
    whole = max(key.lists, key=lambda names: len(trials & set(names)))
    if astray := sorted(trials - set(whole)):
        raise ValueError(f"{path}: trial {astray[0]} is of another rater's list; the file was changed, leave it out")
    return whole
