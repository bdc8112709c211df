"""The parts of a prepare stage: rendered once, kept on disk, read again picture by picture."""

import hashlib
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict
from functools import lru_cache, partial
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa

from ldm.config import shown
from ldm.data.batches import ahead, workers
from ldm.data.pictures import to_png
from ldm.sources.candidate import Make
from ldm.sources.kept import COLUMNS, keep, kept, opened
from ldm.sources.raw import Raw, fit_to_show
from ldm.sources.splits import thumbnail
from ldm.sources.text import check, one_line

_PARTS = 64  # or more
_FEWEST, _MOST = 16, 1024  # candidates in a part
_PIXELS = 1 << 23  # in a part at most: 128 pictures of 256 x 256
_OPEN = 64  # parts that are mapped at once: each may cost one of the files that a process can have open


class Work:
    """What a prepare stage renders, in parts: each the same in whatever process and order it is made."""

    def __init__(self, raw: Raw, folder: Path) -> None:
        """`folder` is where parts are kept until all are there."""
        self.raw, self._folder = raw, folder
        self._makes: Iterator[Make] = iter(())
        self._at: int | None = None
        """The number of the next of `_makes`; None: begin them anew."""
        self._opened = lru_cache(maxsize=_OPEN)(opened)

    def starts(self) -> range:
        """The number of the first candidate of each part."""
        most = max(1, min(_MOST, _PIXELS // self.raw.config.size**2))
        total = self.raw.found.total
        return range(0, total, min(most, max(_FEWEST, total // _PARTS)))

    @fit_to_show()
    def batch(self, start: int) -> pa.Table:
        """What became of each candidate of a part; rendered where it is not kept yet.

        Raises ValueError of one line at a picture that cannot be had, unless such are to be skipped.
        """
        part = kept(self._path(start))
        if part is None:
            part = pa.Table.from_pylist(list(self._rendered(start)), COLUMNS)
            keep(self._path(start), part)
        return part

    def pictures(self, start: int, row: int) -> tuple[bytes, bytes | None]:
        """Image and label map, PNGs, of a row of a part that is kept."""
        part = self._opened(self._path(start))
        return part["image"][row].as_py(), part["label_map"][row].as_py()

    def _path(self, start: int) -> Path:
        return self._folder / f"part-{start:09d}.arrow"

    def _rendered(self, start: int) -> Iterator[dict[str, Any]]:
        stop = min(start + self.starts().step, self.raw.found.total)
        makes = self._between(start, stop)
        with closing(ahead(partial(_render, self.raw), makes, workers())) as rows:
            yield from rows
        if self._at != stop:
            raise ValueError(f"{self.raw.place}: changed while it was read; start again")

    def _between(self, start: int, stop: int) -> Iterator[Make]:
        """Those of some numbers. Read on from the ones before where it can be: an archive has no other way."""
        at, self._at = self._at, None  # so it stays if this does not end well
        if at is None or at > start:
            self._makes, at = self.raw.found.candidates(), 0
        for make in islice(self._makes, stop - at):
            at += 1
            if at > start:
                yield make
        self._at = at


def _render(raw: Raw, make: Make) -> dict[str, Any]:
    """A row of COLUMNS."""
    candidate = make()
    try:
        for text in (candidate.label, candidate.caption, candidate.licence):
            check(text)
        view = candidate.view(raw.config.size)
    except ValueError as error:
        if raw.config.on_bad_image == "stop":
            mending = "mend or remove it, or say on_bad_image: skip"
            raise ValueError(f"{raw.place}/{candidate.id}: {error}; {mending}") from None
        return {"id": shown(candidate.id), "reason": shown(str(error))}
    return {
        "id": candidate.id,
        "split": candidate.split,
        "label": candidate.label,
        "caption": None if candidate.caption is None else one_line(candidate.caption),
        "licence": one_line(candidate.licence),
        "boxes": None if view.boxes is None else [asdict(box) for box in view.boxes],
        "content": hashlib.sha256(view.image.tobytes()).hexdigest(),
        "thumbnail": thumbnail(view.image).tobytes(),
        "image": to_png(view.image),
        "label_map": None if view.label_map is None else to_png(view.label_map),
    }
