"""Low-resolution images: of the right size, the same by key, and degraded as much as the style says."""

import pytest
import torch

from ldm.data import pictures
from ldm.data.degradations import DEGRADATIONS
from ldm.data.randomness import generator


def photo(side: int = 64) -> torch.Tensor:
    """Soft colours with one hard edge."""
    coarse = torch.rand(1, 3, 5, 5, generator=torch.Generator().manual_seed(2))
    picture = torch.nn.functional.interpolate(coarse, size=(side, side), mode="bicubic", align_corners=True)[0]
    picture[:, :, side // 2 :] *= 0.4
    return pictures.to_uint8(picture.clamp(0, 1) * 2 - 1)


@pytest.mark.parametrize("name", DEGRADATIONS)
@pytest.mark.parametrize("factor", [2, 4, 8])
def test_sizes_and_keys(name, factor):
    degrade = DEGRADATIONS[name]
    wide = photo()[:, :32]
    small = degrade(wide, factor, generator("a", 1))
    assert (small.shape, small.dtype) == ((3, 32 // factor, 64 // factor), torch.uint8)
    assert torch.equal(small, degrade(wide, factor, generator("a", 1)))
    assert torch.equal(small, degrade(wide, factor, generator("a", 2))) == (name == "bicubic")
    with pytest.raises(ValueError, match="size 64 x 31 is not a multiple of low_resolution"):
        degrade(photo()[:, :31], factor, generator("a", 1))


def test_what_was_given_is_not_changed():
    before = photo()
    for degrade in DEGRADATIONS.values():
        degrade(before, 4, generator("a", 1))
    assert torch.equal(before, photo())


def test_the_whole_chain_does_more_harm_than_the_light_one():
    """Mean distance to the clean low-resolution image, in grey levels of 255."""
    clean = pictures.low_resolution(photo(), 4).float()

    def harm(name: str) -> float:
        made = [DEGRADATIONS[name](photo(), 4, generator("harm", i)).float() for i in range(40)]
        return sum((one - clean).abs().mean().item() for one in made) / len(made)

    assert harm("bicubic") == 0
    assert 4 < harm("bsr_light") < 18
    assert 1.5 * harm("bsr_light") < harm("bsr") < 40


def test_on_average_nothing_moves():
    """Reductions that take every n-th pixel blur with a shifted kernel, so that edges stay where they are."""
    picture = torch.zeros(3, 64, 64, dtype=torch.uint8)
    picture[:, :, 32:] = 200
    made = torch.stack([DEGRADATIONS["bsr_light"](picture, 4, generator("edge", i)).float() for i in range(60)])
    profile = made.mean((0, 1, 2))
    assert (profile[:8].mean() + profile[8:].mean()).item() / 2 == pytest.approx(100, abs=4)
    crossing = 7 + (100 - profile[7]) / (profile[8] - profile[7])
    assert crossing.item() == pytest.approx(7.5, abs=0.15)
