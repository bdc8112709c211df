"""Answers that came back from other platforms, as the page would have written them."""

import csv
import hashlib
import io
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

Answered = tuple[str, str, str, str, float]
"""Study, who, trial, choice, seconds from the pair's appearance to the choice."""
COLUMNS = ("WorkerId", "AssignmentStatus", "Answer.answers")


def from_csv(content: bytes, where: str) -> Iterator[dict[str, Any]]:
    """Results of a batch as Mechanical Turk names their columns, each row a rater's. Rejected ones are left out."""
    try:
        rows = list(csv.DictReader(io.StringIO(content.decode("utf-8-sig"), newline="")))
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{where}: not a table of results in UTF-8 ({error}); download it again") from None
    if missing := [name for name in COLUMNS if not rows or name not in rows[0]]:
        raise ValueError(f"{where}: no column {missing[0]}; hand in the batch's results as they were downloaded")
    for row in rows:
        if row["AssignmentStatus"] == "Rejected":
            continue
        try:
            answers = dict(json.loads(row["Answer.answers"]))
        except (TypeError, ValueError, RecursionError):
            raise ValueError(
                f"{where}: Answer.answers of {_name(row['WorkerId'] or '')} is not what the page writes; "
                "reject that assignment, or leave the row out"
            ) from None
        yield answers | {"rater": _name(row["WorkerId"] or "")}


def from_label_studio(tasks: list[Any], where: str) -> Iterator[dict[str, Any]]:
    """The export called JSON: a list of tasks with their annotations. Skipped ones are left out."""
    try:
        answered: list[Answered] = []
        for task in tasks:
            for annotation in task["annotations"]:
                if annotation.get("was_cancelled"):
                    continue
                (result,) = (one for one in annotation["result"] if one["type"] == "pairwise")
                by = annotation["completed_by"]
                who = str(by["id"] if isinstance(by, Mapping) else by)
                seconds = float(annotation.get("lead_time") or 0)
                answered.append(
                    (task["data"]["study"], who, task["data"]["trial"], result["value"]["selected"], seconds)
                )
    except (KeyError, TypeError, ValueError, AttributeError):
        raise ValueError(f"{where}: not an export of Label Studio of this study; export its tasks as JSON") from None
    return _by_rater(answered)


def _by_rater(answered: Iterable[Answered]) -> Iterator[dict[str, Any]]:
    raters: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for study, who, trial, choice, seconds in answered:
        # The platform does not hide the pictures: they were on the screen until the choice.
        elapsed = round(1000 * seconds)
        answer = {"trial": trial, "choice": choice, "response_ms": elapsed, "shown_ms": elapsed, "looks": 1}
        raters.setdefault((study, who), []).append(answer)
    for (study, who), trials in raters.items():
        yield {"study": study, "rater": _name(who), "trials": trials}


def _name(who: str) -> str:
    return hashlib.sha256(who.encode()).hexdigest()[:16]
