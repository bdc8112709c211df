"""Whatever is changed in a picture file, it is read as a picture or said to be none in one line."""

import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from ldm.data import pictures
from tests.damage import damaged, few, works_or_says_why

PICTURE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (5, 5, 3), np.uint8)).resize((24, 20))
ANIMATED = {"save_all": True, "append_images": [PICTURE.rotate(90)]}
EXIF = Image.Exif()
EXIF[0x0112], EXIF[0x010F] = 6, "a maker"


def file(kind: str, mode: str = "RGB", **options: object) -> bytes:
    content = io.BytesIO()
    PICTURE.convert(mode).save(content, kind, **options)
    return content.getvalue()


FILES = {
    "png": file("PNG", exif=EXIF),
    "palette": file("PNG", "P", transparency=1),
    "grey and alpha": file("PNG", "LA"),
    "apng": file("PNG", **ANIMATED),
    "jpeg": file("JPEG", exif=EXIF),
    "progressive": file("JPEG", "CMYK", progressive=True),
    "mpo": file("MPO", **ANIMATED),
    "webp": file("WEBP", exif=EXIF),
    "animated webp": file("WEBP", "RGBA", lossless=True, **ANIMATED),
    "bmp": file("BMP", "P"),
    "gif": file("GIF", "P", transparency=0, **ANIMATED),
    "tiff": file("TIFF", exif=EXIF),
    "lzw": file("TIFF", "RGBA", compression="tiff_lzw"),
    "cmyk": file("TIFF", "CMYK"),
    "ppm": file("PPM"),
    "plain ppm": b"P3\n2 2\n255\n" + b"1 2 3 " * 4,
    "16 bits": b"P5\n4 4\n65535\n" + bytes(range(32)),
}


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("name", FILES)
def test_damaged_pictures(name):
    @few
    @given(st.data())
    def try_one(data: st.DataObject) -> None:
        content = data.draw(damaged(FILES[name]))
        works_or_says_why(lambda: pictures.read(content))
        works_or_says_why(lambda: pictures.read_labels(content))

    try_one()


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("name", ["png", "palette", "grey and alpha", "apng"])
def test_damaged_chunks_whose_checksums_are_right(name):
    chunks = list(_chunks(FILES[name]))

    @few
    @given(st.data())
    def try_one(data: st.DataObject) -> None:
        some = list(chunks)
        which = data.draw(st.integers(0, len(some) - 1))
        kind, body = some[which]
        if data.draw(st.booleans()):
            kind = data.draw(st.sampled_from([b"tRNS", b"PLTE", b"iCCP", b"zTXt", b"iTXt", b"eXIf", b"acTL", b"fdAT"]))
        some[which] = kind, data.draw(damaged(body))
        content = FILES[name][:8] + b"".join(_chunk(*chunk) for chunk in some)
        works_or_says_why(lambda: pictures.read(content))

    try_one()


def _chunks(png: bytes):
    place = 8
    while place < len(png):
        size = int.from_bytes(png[place : place + 4])
        yield png[place + 4 : place + 8], png[place + 8 : place + 8 + size]
        place += 12 + size


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
