"""From a picture to its low-resolution image: antialiased bicubic, or BSRGAN's random chain (arXiv 2103.14006)."""

import io
from collections.abc import Callable
from dataclasses import dataclass
from math import cos, pi, sin, sqrt

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from numpy import ndarray
from PIL import Image
from scipy import ndimage
from torch import Tensor

from ldm.data import pictures

Degrade = Callable[[UInt8[Tensor, "3 h w"], int, torch.Generator], UInt8[Tensor, "3 low_h low_w"]]
Values = Float[ndarray, "_ _ 3"]
"""A picture in [0, 1], double precision."""


@dataclass(frozen=True, kw_only=True)
class Chain:
    """Widths and strengths of BSRGAN's steps."""

    blurs: int
    blur: float
    """The blur's widths are multiplied with it."""
    noise: tuple[int, int]
    """Standard deviation in grey levels, of 255."""
    quality: tuple[int, int]
    """Of JPEG."""
    resized: float
    """How often the first reduction is a resizing; else the picture is blurred and every n-th pixel taken."""


BSR = Chain(blurs=2, blur=1.0, noise=(2, 25), quality=(30, 95), resized=0.75)
BSR_LIGHT = Chain(blurs=1, blur=0.25, noise=(1, 2), quality=(80, 95), resized=0.8)
_JPEG = 0.9
"""How often there is a JPEG beside the last one."""
_HALVED = 0.25
"""How often a 4x reduction begins with a 2x one."""


class _Draw:
    """Numbers of one picture's generator."""

    def __init__(self, key: torch.Generator) -> None:
        self.key = key

    def uniform(self, first: float = 0.0, last: float = 1.0) -> float:
        return first + (last - first) * torch.rand((), generator=self.key, dtype=torch.float64).item()

    def whole(self, first: int, last: int) -> int:
        """Both ends included."""
        return first + int(self.uniform() * (last - first + 1))

    def order(self, count: int) -> list[int]:
        return torch.randperm(count, generator=self.key).tolist()

    def normal(self, *shape: int) -> ndarray:
        return torch.randn(shape, generator=self.key, dtype=torch.float64).numpy()


def bicubic(pixels: UInt8[Tensor, "3 h w"], factor: int, key: torch.Generator) -> UInt8[Tensor, "3 low_h low_w"]:
    """Nothing is drawn."""
    return pictures.low_resolution(pixels, factor)


def bsr(pixels: UInt8[Tensor, "3 h w"], factor: int, key: torch.Generator) -> UInt8[Tensor, "3 low_h low_w"]:
    return _degraded(BSR, pixels, factor, _Draw(key))


def bsr_light(pixels: UInt8[Tensor, "3 h w"], factor: int, key: torch.Generator) -> UInt8[Tensor, "3 low_h low_w"]:
    return _degraded(BSR_LIGHT, pixels, factor, _Draw(key))


DEGRADATIONS: dict[str, Degrade] = {"bicubic": bicubic, "bsr": bsr, "bsr_light": bsr_light}


def _degraded(chain: Chain, pixels: Tensor, factor: int, draw: _Draw) -> UInt8[Tensor, "3 low_h low_w"]:
    """Blurs, two reductions, noise and JPEG in random order, the second reduction after the first, and a last JPEG."""
    _, height, width = pixels.shape
    if height % factor or width % factor:
        raise ValueError(f"size {width} x {height} is not a multiple of low_resolution {factor}")
    size = height // factor, width // factor
    values = pixels.permute(1, 2, 0).double().numpy() / 255
    if factor == 4 and draw.uniform() < _HALVED:
        # The release takes either MATLAB's bicubic here, which is antialiased, or a random interpolation.
        half = (height // 2, width // 2)
        values = _resized(values, half, draw) if draw.uniform() < 0.5 else _interpolated(values, half, "antialiased")
        factor = 2

    def reduce(values: Values) -> Values:
        return _first_reduction(values, chain, factor, draw)

    def reduce_to_size(values: Values) -> Values:
        return _resized(values, size, draw)

    def compress(values: Values) -> Values:
        return _jpeg(values, draw.whole(*chain.quality)) if draw.uniform() < _JPEG else values

    steps: list[Callable[[Values], Values]] = [reduce, reduce_to_size, compress]
    steps += [lambda values: _blurred(values, chain, factor, draw)] * chain.blurs
    steps += [lambda values: _noisy(values, chain, draw)]
    order = draw.order(len(steps))
    first, second = sorted((order.index(0), order.index(1)))
    order[first], order[second] = 0, 1
    for step in order:
        values = steps[step](values)
    values = _jpeg(values, draw.whole(*chain.quality))
    return torch.from_numpy(_bytes(values)).permute(2, 0, 1).contiguous()


def _first_reduction(values: Values, chain: Chain, factor: int, draw: _Draw) -> Values:
    if draw.uniform() < chain.resized:
        by = draw.uniform(1.0, 2.0 * factor)
        height, width = (max(1, int(side / by)) for side in values.shape[:2])
        return _resized(values, (height, width), draw)
    kernel = _gaussian(25, draw.uniform(0.1, 0.6 * factor), shift=(factor - 1) / 2)
    return _convolved(values, kernel)[::factor, ::factor]


def _resized(values: Values, size: tuple[int, int], draw: _Draw) -> Values:
    return _interpolated(values, size, ("bilinear", "bicubic", "area")[draw.whole(0, 2)])


def _interpolated(values: Values, size: tuple[int, int], how: str) -> Values:
    """Bilinear and bicubic without antialiasing, as in the release (OpenCV's), so that reductions alias."""
    x = torch.from_numpy(np.ascontiguousarray(values.transpose(2, 0, 1)))[None]
    if how == "area" and (size[0] > x.shape[2] or size[1] > x.shape[3]):
        how = "bilinear"  # as OpenCV does where there is no area to average
    match how:
        case "area":
            y = F.interpolate(x, size=size, mode="area")
        case "antialiased":
            y = F.interpolate(x, size=size, mode="bicubic", antialias=True)
        case _:
            y = F.interpolate(x, size=size, mode=how)
    return y[0].permute(1, 2, 0).numpy().clip(0, 1)


def _blurred(values: Values, chain: Chain, factor: int, draw: _Draw) -> Values:
    """Isotropic or anisotropic, equally often; kernels of 7 to 25 pixels a side."""
    if draw.uniform() < 0.5:
        widest = chain.blur * (4 + factor)
        across, along, angle = widest * draw.uniform(), widest * draw.uniform(), pi * draw.uniform()
        kernel = _anisotropic(2 * draw.whole(2, 11) + 3, angle, across, along)
    else:
        kernel = _gaussian(2 * draw.whole(2, 11) + 3, chain.blur * (2 + 0.2 * factor) * draw.uniform())
    return _convolved(values, kernel)


def _gaussian(side: int, sigma: float, shift: float = 0.0) -> ndarray:
    """`shift` moves its centre towards the end, by which taking every n-th pixel keeps the picture where it was."""
    along = np.arange(side) - side // 2 - shift
    bell = np.exp(-(along**2) / (2 * max(sigma, 1e-3) ** 2))
    kernel = np.outer(bell, bell)
    return _normalised(kernel, side)


def _anisotropic(side: int, angle: float, first: float, second: float) -> ndarray:
    """The Gaussian whose covariance has the eigenvalues `first`, in the direction of `angle`, and `second`."""
    place = np.arange(side) - side // 2
    x, y = place[None, :], place[:, None]
    u, v = x * cos(angle) + y * sin(angle), y * cos(angle) - x * sin(angle)
    return _normalised(np.exp(-(u**2 / max(first, 1e-3) + v**2 / max(second, 1e-3)) / 2), side)


def _normalised(kernel: ndarray, side: int) -> ndarray:
    if kernel.sum() < 1e-12:  # narrower than a pixel, between two of them
        kernel = np.zeros((side, side))
        kernel[side // 2, side // 2] = 1.0
    return kernel / kernel.sum()


def _convolved(values: Values, kernel: ndarray) -> Values:
    return ndimage.correlate(values, kernel[:, :, None], mode="mirror").clip(0, 1)


def _noisy(values: Values, chain: Chain, draw: _Draw) -> Values:
    """Gaussian: of each colour by itself (.4), of grey (.4), or of colours that go together (.2)."""
    sigma, chance = draw.whole(*chain.noise) / 255, draw.uniform()
    height, width = values.shape[:2]
    if chance > 0.6:
        noise = sigma * draw.normal(height, width, 3)
    elif chance < 0.4:
        noise = sigma * draw.normal(height, width, 1)
    else:
        directions, _ = np.linalg.qr(draw.normal(3, 3))
        strengths = [chain.noise[1] / 255 * sqrt(draw.uniform()) for _ in range(3)]
        noise = (draw.normal(height, width, 3) * strengths) @ directions
    return (values + noise).clip(0, 1)


def _jpeg(values: Values, quality: int) -> Values:
    file = io.BytesIO()
    Image.fromarray(_bytes(values)).save(file, "JPEG", quality=quality)
    with Image.open(file) as image:
        return np.asarray(image.convert("RGB")) / 255


def _bytes(values: Values) -> UInt8[ndarray, "h w 3"]:
    return np.rint(values.clip(0, 1) * 255).astype(np.uint8)
