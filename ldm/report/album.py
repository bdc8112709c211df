"""Pictures as they stand in the page, and the files beside it that hold them at full size."""

import base64
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path

from PIL import Image

from ldm.report.records import open_picture

SMALL = 128
"""Pictures below this many pixels wide are shown enlarged, each pixel a square, never smoothed by the browser."""
PREVIEW = 256
"""Larger pictures of a gallery or a strip are shown this wide, and link to a file that has all their pixels."""
SHEET = 1024
"""The same for sheets of many pictures."""
QUALITY = 92


@dataclass(frozen=True, kw_only=True)
class Picture:
    url: str
    width: int
    height: int
    alt: str
    file: str = ""
    """The picture at full size, relative to the page; empty where the page itself has it so."""

    @property
    def pixelated(self) -> bool:
        return self.width < SMALL

    def enlarged(self, room: int) -> int:
        """The largest whole multiple of the width, up to four, that `room` CSS pixels hold; else the width itself."""
        return self.width * max(1, min(4, room // self.width))


@dataclass(kw_only=True)
class Album:
    """What the page shows is embedded in it; what it shows reduced, or may be wanted alone, is a file beside it too."""

    files: dict[str, bytes] = field(default_factory=dict)
    """By path relative to the page."""

    def picture(self, content: bytes, place: Path | str, alt: str, name: str, limit: int = PREVIEW) -> Picture:
        """A PNG as it is where it is at most `limit` pixels wide; a larger one as a JPEG preview, the PNG beside it.

        `place` is what an error names, and `name` what the file is called.
        """
        image = open_picture(content, place)
        if image.width <= limit:
            return embedded(content, "png", image.size, alt)
        size = (limit, max(1, round(image.height * limit / image.width)))
        reduced = encoded(image.resize(size, Image.Resampling.LANCZOS), "JPEG", quality=QUALITY, subsampling=0)
        return embedded(reduced, "jpeg", size, alt, self.keep(name, content))

    def sheet(self, path: Path, alt: str, name: str) -> Picture:
        """A PNG file with many pictures, always kept beside the page too."""
        try:
            content = path.read_bytes()
        except OSError as error:
            raise ValueError(f"{path}: cannot be read ({error.strerror}); run the stage that writes it") from None
        shown = self.picture(content, path, alt, name, SHEET)
        return Picture(url=shown.url, width=shown.width, height=shown.height, alt=alt, file=self.keep(name, content))

    def keep(self, name: str, content: bytes) -> str:
        """Put a PNG beside the page as pictures/NAME.png; return that path."""
        path = f"pictures/{name}.png"
        assert self.files.setdefault(path, content) == content, path
        return path


def embedded(content: bytes, kind: str, size: tuple[int, int], alt: str, file: str = "") -> Picture:
    url = f"data:image/{kind};base64," + base64.b64encode(content).decode()
    return Picture(url=url, width=size[0], height=size[1], alt=alt, file=file)


def encoded(image: Image.Image, kind: str, **options: int) -> bytes:
    buffer = BytesIO()
    image.save(buffer, format=kind, **options)
    return buffer.getvalue()
