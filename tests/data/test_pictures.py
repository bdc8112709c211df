"""Pictures: exact round trips, and every kind of file as 8-bit RGB."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from ldm.data import pictures


def pixels(seed: int, height: int = 12, width: int = 10) -> torch.Tensor:
    return torch.randint(0, 256, (3, height, width), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def file(image: Image.Image, kind: str, **options) -> bytes:
    content = io.BytesIO()
    image.save(content, kind, **options)
    return content.getvalue()


def test_decode_undoes_encode_and_equal_pixels_are_equal_bytes():
    assert torch.equal(pictures.decode(pictures.encode(pixels(0))), pixels(0))
    noted = pictures.to_image(pixels(0))
    noted.info["comment"] = "metadata"
    assert pictures.to_png(noted) == pictures.encode(pixels(0))


def test_floats_and_bytes():
    values = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(pictures.to_uint8(pictures.to_float(values)), values)
    assert pictures.to_float(values).aminmax() == (-1, 1)
    assert pictures.to_uint8(torch.tensor([-9.0, 9.0, 0.0])).tolist() == [0, 255, 128]


def test_the_rotation_of_a_camera_is_applied():
    exif = Image.Exif()
    exif[0x0112] = 6  # shown after a quarter turn clockwise
    shown = pictures.read(file(pictures.to_image(pixels(1)), "PNG", exif=exif))
    assert np.array_equal(np.asarray(shown), np.rot90(np.asarray(pictures.to_image(pixels(1))), -1))
    assert not shown.getexif()


def test_transparency_is_laid_on_white():
    image = Image.new("RGBA", (2, 1), (200, 0, 0, 255))
    image.putpixel((1, 0), (200, 0, 0, 0))
    assert [pictures.read(file(image, "PNG")).getpixel((x, 0)) for x in (0, 1)] == [(200, 0, 0), (255, 255, 255)]
    palette = image.convert("RGB").quantize(2)
    palette.info["transparency"] = palette.getpixel((0, 0))
    assert pictures.read(file(palette, "PNG", transparency=palette.getpixel((0, 0)))).getpixel((0, 0)) == (
        255,
        255,
        255,
    )


@pytest.mark.parametrize("mode", ["L", "LA", "P", "1", "CMYK"])
def test_other_modes_become_rgb(mode):
    image = Image.new("RGB", (4, 4), "white").convert(mode)
    assert pictures.read(file(image, "TIFF" if mode == "CMYK" else "PNG")).getpixel((0, 0)) == (255, 255, 255)


SIXTEEN = np.array([[0, 0x8000, 0xFFFF]], np.uint16)


def test_sixteen_bits_are_scaled_not_clipped():
    grey = Image.fromarray(SIXTEEN)
    colour = b"P6 3 1 65535\n" + np.repeat(SIXTEEN, 3).astype(">u2").tobytes()
    for content in (file(grey, "PNG"), file(grey, "TIFF"), b"P5 3 1 65535\n" + SIXTEEN.astype(">u2").tobytes(), colour):
        assert [pictures.read(content).getpixel((x, 0))[0] for x in range(3)] == [0, 128, 255]


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_of_an_animation_or_of_several_pages_the_first_is_the_picture(kind):
    first, second = (Image.new("RGB", (16, 16), colour) for colour in ("red", "blue"))
    lossless = {"lossless": True} if kind == "WEBP" else {}
    content = file(first, kind, save_all=True, append_images=[second], **lossless)
    assert Image.open(io.BytesIO(content)).n_frames == 2
    assert pictures.read(content).getcolors() == [(256, (255, 0, 0))]


def test_a_picture_is_known_by_its_content_not_by_a_name():
    for kind in ("PNG", "TIFF", "BMP", "PPM"):
        assert torch.equal(pictures.decode(file(pictures.to_image(pixels(4)), kind)), pixels(4))


def test_an_odd_tag_of_the_camera_does_not_refuse_its_picture():
    """Pillow cannot write this EXIF again: a float in the place of a text."""
    exif = Image.Exif()
    exif[0x0112] = 3
    exif[0x010F] = "maker"
    text, number = b"\x01\x0f\x00\x02\x00\x00\x00\x06", b"\x01\x0f\x00\x0b\x00\x00\x00\x01"
    block = exif.tobytes().replace(text, number)
    shown = pictures.read(file(pictures.to_image(pixels(5)), "PNG", exif=block))
    assert np.array_equal(np.asarray(shown), np.rot90(np.asarray(pictures.to_image(pixels(5))), 2))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"hello", "not a picture"),
        (b"", "not a picture"),
        (file(pictures.to_image(pixels(2, 64, 64)), "PNG")[:-2000], "corrupt or truncated"),
        (file(pictures.to_image(pixels(2, 64, 64)), "JPEG")[:-500], "corrupt or truncated"),
        (file(Image.new("F", (4, 4)), "TIFF"), "32-bit"),
    ],
)
def test_what_cannot_be_read_is_said_in_one_line(content, message):
    with pytest.raises(ValueError, match=message) as caught:
        pictures.read(content)
    assert "\n" not in str(caught.value)
    assert "0x" not in str(caught.value)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("size", [(1, 100_000), (100_000, 1), (7, 7), (7, 10_000_000)])
def test_absurd_sizes_are_smaller_than_any_size_asked_for(size):
    bands = pictures.read(file(Image.new("1", size), "PNG"))
    with pytest.raises(ValueError, match=f"{size[0]} x {size[1]} is smaller than size 8"):
        pictures.square(bands, 8)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_decompression_bomb_is_refused_before_it_is_decoded():
    bomb = file(Image.new("1", (11_000, 10_000)), "PNG")
    assert len(bomb) < 100_000
    with pytest.raises(ValueError, match="11000 x 10000 is more than 100,000,000 pixels"):
        pictures.read(bomb)
    with pytest.raises(ValueError, match="more than 100,000,000 pixels"):
        pictures.read(file(Image.new("1", (20_000, 20_000)), "PNG"))


def test_square_takes_the_middle():
    wide = Image.new("RGB", (300, 100), "black")
    wide.paste("white", (100, 0, 200, 100))
    assert np.asarray(pictures.square(wide, 100)).min() == 255
    assert pictures.square(wide, 40).size == (40, 40)
    with pytest.raises(ValueError, match="300 x 100 is smaller than size 128"):
        pictures.square(wide, 128)


def test_low_resolution_is_antialiased():
    """A checkerboard of single pixels has only its mean at half the size; point sampling would keep black or white."""
    board = ((torch.arange(16)[:, None] + torch.arange(16)) % 2 * 255).to(torch.uint8).expand(3, 16, 16)
    small = pictures.low_resolution(board, 4)
    assert small.shape == (3, 4, 4)
    assert small.min() >= 120
    assert small.max() <= 135
    flat = torch.full((3, 16, 16), 77, dtype=torch.uint8)
    assert torch.equal(pictures.low_resolution(flat, 4), torch.full((3, 4, 4), 77, dtype=torch.uint8))
    with pytest.raises(ValueError, match="size 10 x 12 is not a multiple of low_resolution 4"):
        pictures.low_resolution(pixels(0), 4)


def test_a_grid_holds_every_picture():
    images = torch.stack([pixels(seed) for seed in range(5)])
    sheet = pictures.grid(images, 3, enlarge=2, gap=1)
    assert sheet.size == (3 * 21 + 1, 2 * 25 + 1)
    corner = sheet.crop((22, 26, 22 + 20, 26 + 24)).resize((10, 12), Image.Resampling.NEAREST)
    assert torch.equal(pictures.from_image(corner), images[4])


def test_a_label_map_has_one_byte_a_pixel():
    labels = Image.fromarray(np.arange(12, dtype=np.uint8).reshape(3, 4))
    assert pictures.decode_map(pictures.to_png(labels)).tolist() == np.arange(12).reshape(3, 4).tolist()
    with pytest.raises(ValueError, match="one byte a pixel"):
        pictures.decode_map(pictures.encode(pixels(0)))


def test_grey_is_the_luma_in_three_channels():
    grey = pictures.grey(pixels(3))
    assert torch.equal(grey[0], grey[1])
    assert torch.equal(grey[0], grey[2])
    luma = (torch.tensor([0.299, 0.587, 0.114])[:, None, None] * pixels(3)).sum(0)
    assert (grey[0] - luma).abs().max() <= 0.51


def test_psnr_of_one_grey_level_everywhere_and_of_equal_pictures():
    black = torch.zeros(1, 3, 16, 16, dtype=torch.uint8)
    assert pictures.psnr(black, black + 1).item() == pytest.approx(48.1308, abs=1e-4)  # 20 log10 255
    assert pictures.psnr(black, black).item() == pictures.PSNR_OF_EQUAL
