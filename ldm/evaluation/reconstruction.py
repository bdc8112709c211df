"""Figures of one picture against another, and bicubic enlargement, the baseline they are held against."""

from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float, Float64, UInt8
from torch import Tensor

from ldm.data.pictures import resize, to_float
from ldm.nn.vision import Lpips, perceptual, random_trunk_lpips
from ldm.nn.weights import weights


def ssim(image: UInt8[Tensor, "b c h w"], other: UInt8[Tensor, "b c h w"]) -> Float64[Tensor, " b"]:
    """Structural similarity of each pair (Wang et al. 2004), averaged over channels and windows inside the picture.

    Gaussian window of 11 x 11 with standard deviation 1.5, K = (0.01, 0.03). Raises ValueError below 11 pixels.
    """
    if min(image.shape[-2:]) < 11:
        raise ValueError(f"SSIM needs pictures of at least 11 pixels a side, these have {min(image.shape[-2:])}")
    x, y = image.double(), other.double()
    mean_x, mean_y = _window(x), _window(y)
    variance_x, variance_y = _window(x * x) - mean_x**2, _window(y * y) - mean_y**2
    covariance = _window(x * y) - mean_x * mean_y
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    value = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    return (value / ((mean_x**2 + mean_y**2 + c1) * (variance_x + variance_y + c2))).mean((1, 2, 3))


def _window(x: Float64[Tensor, "b c h w"]) -> Float64[Tensor, "b c h-10 w-10"]:
    weight = torch.exp(-(torch.arange(-5, 6, dtype=x.dtype) ** 2) / (2 * 1.5**2))
    weight = (weight / weight.sum()).expand(x.shape[1], 1, 1, 11)
    return F.conv2d(F.conv2d(x, weight, groups=x.shape[1]), weight.transpose(2, 3), groups=x.shape[1])


def enlarge(low: UInt8[Tensor, "3 h w"], like: UInt8[Tensor, "3 H W"]) -> UInt8[Tensor, "3 H W"]:
    """`low` bicubically enlarged to the size of `like`."""
    return resize(low, like.shape[-2], like.shape[-1])


def central(pixels: UInt8[Tensor, "3 H W"], height: int, width: int) -> UInt8[Tensor, "3 height width"]:
    """The middle of `pixels`: what latents of a smaller `crop` hold of an original that is measured."""
    top, left = (pixels.shape[1] - height) // 2, (pixels.shape[2] - width) // 2
    if min(top, left) < 0:
        raise ValueError(
            f"a sample of {width} x {height} pixels is larger than the real pictures; "
            "leave paired and neighbours out of its figures"
        )
    return pixels[:, top : top + height, left : left + width]


class PerceptualDistance:
    """A perceptual distance of uint8 pictures with its honest key: `lpips` belongs to the published trunks alone.

    Without weights it is published heads on an untrained trunk, `lpips_random_trunk`.
    """

    def __init__(self, folder: Path, device: torch.device) -> None:
        found = weights(folder)
        distance = perceptual(folder) or random_trunk_lpips()
        self._device, self._distance = device, distance.to(device)
        name = distance.name
        published = found is not None and found.published and name.startswith("lpips")
        self.key = "lpips" if published else name
        self.about = {"perceptual": name} | ({"perceptual_sha256": found.sha256} if found else {})
        self.about |= {"perceptual_heads_sha256": distance.heads_sha256} if isinstance(distance, Lpips) else {}

    @torch.no_grad()
    def __call__(self, image: UInt8[Tensor, "b 3 h w"], other: UInt8[Tensor, "b 3 h w"]) -> Float[Tensor, " b"]:
        first, second = (to_float(pixels.to(self._device)) for pixels in (image, other))
        return self._distance(first, second).float().cpu()
