"""Text that others wrote, made fit for one line of a page, a terminal or a message."""

import re

MOST = 10_000
"""Characters. No caption or name is longer; one that is would be copied into every latent and page that shows it."""
_BREAKS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")  # control characters, and Unicode's two ends of lines
_TURNS = re.compile(r"[\u202a-\u202e\u2066-\u2069]")  # they turn what stands after them right to left


def one_line(text: str) -> str:
    """Its words with one space between them; control characters separate words too, and nothing turns the direction."""
    return " ".join(_TURNS.sub("", _BREAKS.sub(" ", text)).split())


def breaks_lines(text: str) -> bool:
    return _BREAKS.search(text) is not None


def check(text: str | None, place: str = "") -> None:
    """ValueError for what no file can hold (JSON can say half of a character) and for what is too long."""
    text = text or ""
    if len(text) > MOST:
        raise ValueError(f"{place}the text '{text[:40]}...' has {len(text):,} characters, more than {MOST:,}; cut it")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{place}the text {text!a:.60} is not Unicode; write it anew") from None
