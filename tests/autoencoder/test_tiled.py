"""Tiles decode to what the whole decodes to, as far as the decoder is local."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from ldm.autoencoder.config import Architecture
from ldm.autoencoder.model import IdentityAutoencoder, KLAutoencoder, Moments
from ldm.autoencoder.tiled import decode_tiled

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


@torch.no_grad()
def test_one_tile_is_the_whole():
    model, latent = KLAutoencoder(SMALL), torch.randn(2, 3, 8, 6)
    assert torch.equal(decode_tiled(model, latent, tile=8, overlap=2), model.decode(latent))


@torch.no_grad()
@pytest.mark.parametrize(("tile", "overlap"), [(8, 4), (9, 5), (12, 4)])
@pytest.mark.parametrize("size", [(8, 21), (17, 23), (24, 24)])
def test_a_local_decoder_gives_the_same_away_from_the_seams(size, tile, overlap):
    model, latent = Local(), torch.randn(1, 3, *size)
    whole, tiled = model.decode(latent), decode_tiled(model, latent, tile, overlap)
    assert tiled.shape == whole.shape
    near = torch.zeros(tuple(2 * side for side in size), dtype=torch.bool)
    for axis, side in enumerate(size):
        starts = [*range(0, max(0, side - tile), tile - overlap), max(0, side - tile)]
        edges = [e for s in starts for e in (s, min(side, s + tile)) if 0 < e < side]
        for edge in edges:  # two places inside of an edge see beyond it
            near.narrow(axis, 2 * max(0, edge - 2), 2 * min(4, side - max(0, edge - 2))).fill_(True)
    assert not near.all()
    torch.testing.assert_close(tiled[..., ~near], whole[..., ~near])


def test_where_nothing_is_seen_of_the_neighbours_there_are_no_seams():
    latent = torch.randn(2, 3, 19, 14)
    for tile, overlap in ((5, 0), (5, 2), (6, 5)):
        torch.testing.assert_close(decode_tiled(IdentityAutoencoder(), latent, tile, overlap), latent)


@pytest.mark.parametrize("overlap", [-1, 4])
def test_an_overlap_must_be_smaller_than_its_tile(overlap):
    with pytest.raises(ValueError, match="choose an overlap from 0 to 3"):
        decode_tiled(IdentityAutoencoder(), torch.zeros(1, 3, 8, 8), 4, overlap)
