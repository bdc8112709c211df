"""Tiles decode and encode to what the whole does, as far as the first stage is local."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from ldm.autoencoder.config import Architecture
from ldm.autoencoder.model import IdentityAutoencoder, KLAutoencoder, Moments
from ldm.autoencoder.tiled import blended, decode_tiled, encode_tiled

SMALL = Architecture(
    channels=8, channel_mult=[1, 2], num_res_blocks=1, attention_factors=[], mid_attention=True, latent_channels=3
)


class Local(nn.Module):
    """A first stage of factor 2 that sees two latent places around each."""

    factor = 2

    def __init__(self) -> None:
        super().__init__()
        self.blur = nn.Conv2d(3, 3, 5, padding=2)

    def encode(self, image: torch.Tensor) -> Moments:
        return Moments(image, image)

    def decode(self, latent: torch.Tensor) -> torch.Tensor:
        return F.interpolate(self.blur(latent), scale_factor=2.0)


def seams(size, tile, overlap, reach):
    """Places with another tile's end, or their own, within `reach`."""
    near = torch.zeros(size, dtype=torch.bool)

    def mark(rows, columns):
        for axis, span in enumerate((rows, columns)):
            for end in (span.start, span.stop):
                if 0 < end < size[axis]:
                    first = max(0, end - reach)
                    near.narrow(axis, first, min(size[axis], end + reach) - first).fill_(True)
        return torch.zeros(1, 1, rows.stop - rows.start, columns.stop - columns.start)

    blended(mark, size, tile, overlap)
    return near


@torch.no_grad()
def test_one_tile_is_the_whole():
    model, latent = KLAutoencoder(SMALL), torch.randn(2, 3, 8, 6)
    assert torch.equal(decode_tiled(model, latent, tile=8, overlap=2), model.decode(latent))
    image = torch.randn(2, 3, 16, 12)
    tiled, whole = encode_tiled(model, image, tile=8, overlap=2), model.encode(image)
    assert torch.equal(tiled.mean, whole.mean)
    assert torch.equal(tiled.std, whole.std)


@torch.no_grad()
@pytest.mark.parametrize(("tile", "overlap"), [(8, 4), (9, 5), (12, 4)])
@pytest.mark.parametrize("size", [(8, 21), (17, 23), (24, 24)])
def test_a_local_decoder_gives_the_same_away_from_the_seams(size, tile, overlap):
    model, latent = Local(), torch.randn(1, 3, *size)
    whole, tiled = model.decode(latent), decode_tiled(model, latent, tile, overlap)
    assert tiled.shape == whole.shape
    near = seams(size, tile, overlap, reach=2).repeat_interleave(2, 0).repeat_interleave(2, 1)
    assert not near.all()
    torch.testing.assert_close(tiled[..., ~near], whole[..., ~near])


@torch.no_grad()
@pytest.mark.parametrize(("size", "tile", "overlap"), [((26, 44), 26, 8), ((47, 30), 25, 5)])
def test_an_encoder_without_attention_and_norms_gives_the_same_away_from_the_seams(size, tile, overlap):
    model = KLAutoencoder(SMALL.model_copy(update={"mid_attention": False}))
    for module in model.modules():
        if isinstance(module, nn.GroupNorm):  # it sees the whole tile
            module.forward = lambda x: x
    image = torch.randn(1, 3, 2 * size[0], 2 * size[1])
    whole, tiled = model.encode(image), encode_tiled(model, image, tile, overlap)
    near = seams(size, tile, overlap, reach=9)
    assert not near.all()
    for name in ("mean", "std"):
        expected, found = getattr(whole, name), getattr(tiled, name)
        assert found.shape == expected.shape
        torch.testing.assert_close(found[..., ~near], expected[..., ~near])
        assert not torch.allclose(found[..., near], expected[..., near])


def test_where_nothing_is_seen_of_the_neighbours_there_are_no_seams():
    latent = torch.randn(2, 3, 19, 14)
    for tile, overlap in ((5, 0), (5, 2), (6, 5)):
        torch.testing.assert_close(decode_tiled(IdentityAutoencoder(), latent, tile, overlap), latent)
        moments = encode_tiled(IdentityAutoencoder(), latent, tile, overlap)
        torch.testing.assert_close(moments.mean, latent)
        assert not moments.std.any()


@pytest.mark.parametrize("overlap", [-1, 4])
def test_an_overlap_must_be_smaller_than_its_tile(overlap):
    with pytest.raises(ValueError, match="choose an overlap from 0 to 3"):
        decode_tiled(IdentityAutoencoder(), torch.zeros(1, 3, 8, 8), 4, overlap)
