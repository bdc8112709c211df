"""Files with a few places changed, as strategies of hypothesis, and what such a file may come to.

In the suite each test tries a few, always the same; `FUZZ=2000 pytest -k damaged` tries as many others.
"""

import copy
import json
import os
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

ROOT = Path(__file__).resolve().parents[1]
_MANY = int(os.environ.get("FUZZ", "0"))

few = settings(
    max_examples=_MANY or 20,
    derandomize=not _MANY,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

numbers = st.sampled_from([b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f", b"\x80\0\0\0"])


@st.composite
def damaged(draw: st.DrawFn, content: bytes) -> bytes:
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.integers(0, min(len(content), draw(st.sampled_from([64, 512, len(content)])))))
        before, after = content[:place], content[place:]
        match draw(st.sampled_from(["set", "flip", "number", "drop", "insert", "again", "cut"])):
            case "set":
                content = before + draw(st.binary(min_size=1, max_size=2)) + after[1:]
            case "flip":
                content = before + bytes(b ^ 1 << draw(st.integers(0, 7)) for b in after[:1]) + after[1:]
            case "number":
                content = before + draw(numbers) + after[4:]
            case "drop":
                content = before + after[draw(st.integers(1, 64)) :]
            case "insert":
                content = before + draw(st.binary(min_size=1, max_size=16)) + after
            case "again":
                content = before + after[:16] + after
            case "cut":
                content = before
    return content


odd = st.one_of(
    st.none(),
    st.booleans(),
    st.floats(),
    st.integers(),
    st.text(max_size=8),
    st.sampled_from([10**400, 2**63, 1e308, "", "../x", "/etc/passwd", "a\n\x1b", "\ud800", "\u202e", "x" * 20_000]),
    st.sampled_from([[], {}, [[]], [None], {"": 1}, [1, 2, 3, 4], ["kind"], {"kind": "x"}]).map(copy.deepcopy),
)
"""What JSON or YAML may hold in any place."""


@st.composite
def changed(draw: st.DrawFn, values: Any) -> Any:
    """`values` with something odd in one to three of their places, or without what was there."""
    values = json.loads(json.dumps(values))
    for _ in range(draw(st.integers(1, 3))):
        places = list(_places(values))
        if not places:
            return draw(odd)
        parent, key = draw(st.sampled_from(places))
        match draw(st.sampled_from(["odd", "gone", "more"])):
            case "odd":
                parent[key] = draw(odd)
            case "gone":
                del parent[key]
            case "more" if isinstance(parent, list):
                parent.append(parent[key])
            case "more":
                parent[draw(st.text(max_size=4))] = draw(odd)
    return values


def _places(values: Any) -> Iterator[tuple[Any, Any]]:
    keys = list(values) if isinstance(values, dict) else range(len(values)) if isinstance(values, list) else ()
    for key in keys:
        yield values, key
        yield from _places(values[key])


def works_or_says_why(call: Callable[[], object]) -> None:
    """Holds that `call` ends well, or in a ValueError of ours of one line that can be shown."""
    refused: ValueError | None = None
    try:
        call()
    except ValueError as error:
        refused = error
    if refused is not None:
        said, raised_in = str(refused), Path(traceback.extract_tb(refused.__traceback__)[-1].filename)
        assert raised_in.is_relative_to(ROOT / "ldm"), f"{raised_in}: {refused!r} reaches the user as a traceback"
        assert said.isprintable(), f"{said!r} is more than one line"
        assert 0 < len(said) < 1000
        assert " at 0x" not in said, f"{said} differs from run to run"
