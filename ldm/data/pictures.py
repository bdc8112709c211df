"""Pictures as files, as uint8 tensors and as floats in [-1, 1]; resizing as the paper does it."""

import io
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from jaxtyping import Float, Float64, Shaped, UInt8
from PIL import ExifTags, Image
from torch import Tensor

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM")
MAX_PIXELS = 100_000_000
"""A picture that claims more is refused before it is decoded: a small file can unpack to fill the memory."""
PSNR_OF_EQUAL = 100.0
"""dB. Equal pictures have no finite PSNR; they count as this, which no 8-bit picture of up to 256 x 256 can exceed."""

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What undoes each orientation of EXIF. (ImageOps.exif_transpose writes the EXIF anew, and fails at odd tags of it.)"""
_BITS = 258  # TIFF's BitsPerSample

warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)  # MAX_PIXELS answers for it
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")  # damaged metadata, which nobody here reads


class PictureError(ValueError):
    """What is wrong with a picture file, in one line."""


def read(content: bytes) -> Image.Image:
    """The picture in a file as 8-bit RGB, upright: EXIF rotation applied, transparency laid on white.

    Of an animation or of several pages it is the first. Colour profiles are passed over, as the paper's data were read.
    Raises ValueError, saying what is wrong with it, where it cannot be decoded whole.
    """
    with _decoding():
        image = _opened(content, FORMATS)
        turn = _UPRIGHT.get(image.getexif().get(ExifTags.Base.Orientation, 1))
        image = _rgb(image if turn is None else image.transpose(turn))
        image.info.clear()  # the orientation too, which has been applied
        return image


def read_labels(content: bytes) -> UInt8[np.ndarray, "h w"]:
    """The bytes of a PNG of one byte a pixel, grey or of a palette: its indices. Raises ValueError as `read` does."""
    with _decoding():
        image = _opened(content, ("PNG",))
        if image.mode not in ("L", "P"):
            raise PictureError(f"mode {image.mode}; save it as PNG with one byte a pixel, its class")
        return np.array(image)


@contextmanager
def _decoding() -> Iterator[None]:
    try:
        yield
    except PictureError:
        raise
    except Image.DecompressionBombError:
        raise PictureError(f"more than {MAX_PIXELS:,} pixels") from None
    except Exception as error:  # on damaged files Pillow's decoders raise nearly everything there is
        reason = " ".join(str(error).split()) or type(error).__name__
        raise PictureError(f"corrupt or truncated ({reason})") from None


def _opened(content: bytes, formats: tuple[str, ...]) -> Image.Image:
    """Decoded, with the colours it is stored in."""
    try:
        image = Image.open(io.BytesIO(content), formats=formats)
    except Image.UnidentifiedImageError:
        raise PictureError(f"not a picture ({', '.join(formats)})") from None
    if image.width * image.height > MAX_PIXELS:
        raise PictureError(f"{image.width} x {image.height} is more than {MAX_PIXELS:,} pixels")
    image.load()
    return image


def _rgb(image: Image.Image) -> Image.Image:
    bits = getattr(image, "tag_v2", {}).get(_BITS, (16,))
    if image.mode.startswith("I;16") and bits != (16,):  # Pillow does not bring 12 bits to 16: almost black
        raise PictureError(f"{bits[0]} bits a sample; save it with 8 or 16")
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PPM"):
        return Image.fromarray((np.asarray(image).astype(np.uint16) >> 8).astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F"):
        raise PictureError("32-bit samples are measurements, not a picture; save it with 8 or 16 bits")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")


def square(image: Image.Image, size: int) -> Image.Image:
    """The central square of `image`, after its short side was brought to `size` by antialiased bicubic.

    Raises ValueError where the short side is shorter than `size`: enlarging would teach the model blur.
    """
    short = min(image.size)
    if short < size:
        raise ValueError(f"{image.width} x {image.height} is smaller than size {size}")
    width, height = (round(side * size / short) for side in image.size)
    if (width, height) != image.size:
        image = image.resize((width, height), Image.Resampling.BICUBIC)
    left, top = (width - size) // 2, (height - size) // 2
    return image.crop((left, top, left + size, top + size))


def to_png(image: Image.Image) -> bytes:
    """PNG of the pixels alone, no metadata: equal pixels are equal bytes."""
    bare = Image.frombytes(image.mode, image.size, image.tobytes())
    file = io.BytesIO()
    bare.save(file, "PNG", compress_level=6)
    return file.getvalue()


def to_image(pixels: UInt8[Tensor, "3 h w"]) -> Image.Image:
    return Image.fromarray(np.ascontiguousarray(pixels.permute(1, 2, 0).cpu().numpy()))


def from_image(image: Image.Image) -> UInt8[Tensor, "3 h w"]:
    return torch.from_numpy(np.asarray(image).transpose(2, 0, 1).copy())


def stacked(pictures: Sequence[UInt8[Tensor, "..."]]) -> UInt8[Tensor, "b ..."]:
    """As torch.stack, and on this thread alone.

    For each of many threads that read ahead, torch would start a team of others for every copy; so this module copies
    with NumPy.
    """
    return torch.from_numpy(np.stack([picture.numpy() for picture in pictures]))


def mirrored(picture: Shaped[Tensor, "*shape"]) -> Shaped[Tensor, "*shape"]:
    """Left to right."""
    return torch.from_numpy(picture.numpy()[..., ::-1].copy())


def encode(pixels: UInt8[Tensor, "3 h w"]) -> bytes:
    return to_png(to_image(pixels))


def decode(png: bytes) -> UInt8[Tensor, "3 h w"]:
    """Pixels of any picture file; of those that `encode` wrote, exactly the pixels it was given."""
    return from_image(read(png))


def decode_map(png: bytes) -> UInt8[Tensor, "h w"]:
    """A label map: one byte a pixel, its class."""
    return torch.from_numpy(read_labels(png))


def to_float(pixels: UInt8[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """0..255 to [-1, 1], float32."""
    return pixels.float() / 127.5 - 1


def to_uint8(image: Float[Tensor, "*shape"]) -> UInt8[Tensor, "*shape"]:
    """[-1, 1] to 0..255, rounded to the nearest and clamped; `to_uint8(to_float(x)) == x` for all 256 values."""
    return ((image.float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)


def resize(pixels: UInt8[Tensor, "3 h w"], height: int, width: int) -> UInt8[Tensor, "3 height width"]:
    """Bicubic (a = -0.5), antialiased where it reduces, in uint8: Pillow's `Image.BICUBIC`."""
    return from_image(to_image(pixels).resize((width, height), Image.Resampling.BICUBIC))


def low_resolution(pixels: UInt8[Tensor, "3 h w"], factor: int) -> UInt8[Tensor, "3 low_h low_w"]:
    """`pixels` made `factor` times smaller: the low-resolution image of a super-resolution model.

    The paper's degradation for its bicubic model is 4x bicubic (section 4.4); ours is Pillow's BICUBIC, a = -0.5 and
    antialiased (its support grows by `factor`), rounded to uint8. MATLAB's `imresize`, which published x4 sets use,
    is the same kernel with other rounding; cv2's and torch's default bicubic do not antialias.
    """
    _, height, width = pixels.shape
    if height % factor or width % factor:
        raise ValueError(f"size {width} x {height} is not a multiple of low_resolution {factor}")
    return resize(pixels, height // factor, width // factor)


def grey(pixels: UInt8[Tensor, "3 h w"]) -> UInt8[Tensor, "3 h w"]:
    """The luma of ITU-R 601 (Pillow's mode L) in all three channels."""
    return from_image(to_image(pixels).convert("L").convert("RGB"))


def psnr(image: UInt8[Tensor, "b c h w"], other: UInt8[Tensor, "b c h w"]) -> Float64[Tensor, " b"]:
    """Peak signal-to-noise ratio of each pair in dB, over all channels, at most `PSNR_OF_EQUAL`."""
    error = (image.double() - other.double()).square().mean((1, 2, 3))
    return (10 * torch.log10(255.0**2 / error)).clamp(max=PSNR_OF_EQUAL)


def grid(
    images: UInt8[Tensor, "b 3 h w"] | Sequence[UInt8[Tensor, "3 h w"]], columns: int, *, enlarge: int = 1, gap: int = 2
) -> Image.Image:
    """A contact sheet on white, row by row; `enlarge` repeats each pixel so that small pictures can be seen."""
    if not len(images):
        raise ValueError("a grid needs at least one picture")
    _, height, width = images[0].shape
    columns = min(columns, len(images))
    rows = -(-len(images) // columns)
    across, down = width * enlarge + gap, height * enlarge + gap
    sheet = Image.new("RGB", (columns * across + gap, rows * down + gap), "white")
    for position, pixels in enumerate(images):
        picture = to_image(pixels)
        if enlarge != 1:
            picture = picture.resize((width * enlarge, height * enlarge), Image.Resampling.NEAREST)
        sheet.paste(picture, (gap + position % columns * across, gap + position // columns * down))
    return sheet
