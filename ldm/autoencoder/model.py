"""Encoder, decoder and the Gaussian latent between them (paper, section 3.1 and appendix G)."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from safetensors.torch import load_file
from torch import Tensor, nn

from ldm.autoencoder.config import KL, Architecture, Autoencoder, Identity
from ldm.config import check
from ldm.files import identity, read_json
from ldm.nn.blocks import Downsample, ResBlock, SelfAttention2d, Upsample, group_norm

EPS = 1e-6  # first stages normalise with a smaller epsilon than UNets


@dataclass(frozen=True)
class Moments:
    """The posterior of a raw latent, a diagonal Gaussian."""

    mean: Float[Tensor, "b z h w"]
    std: Float[Tensor, "b z h w"]

    def sample(self, noise: Float[Tensor, "b z h w"]) -> Float[Tensor, "b z h w"]:
        return self.mean + self.std * noise

    def kl(self) -> Float[Tensor, " b"]:
        """Divergence from the standard Gaussian, summed over a latent, in nats."""
        variance = self.std.square()
        return 0.5 * (self.mean.square() + variance - 1 - variance.log()).flatten(1).sum(1)


@runtime_checkable
class FirstStage(Protocol):
    """What every later stage asks of an autoencoder."""

    factor: int

    def encode(self, image: Float[Tensor, "b 3 H W"]) -> Moments: ...
    def decode(self, latent: Float[Tensor, "b z h w"]) -> Float[Tensor, "b 3 H W"]: ...


def _res(channels: int, out: int) -> ResBlock:
    return ResBlock(channels, out, eps=EPS)


def _attention(channels: int, wanted: bool) -> list[nn.Module]:
    return [SelfAttention2d(channels, heads=1, eps=EPS)] if wanted else []


class Encoder(nn.Sequential):
    def __init__(self, config: Architecture, out: int) -> None:
        channels = config.channels
        layers: list[nn.Module] = [nn.Conv2d(3, channels, 3, padding=1)]
        for level, mult in enumerate(config.channel_mult):
            if level:
                layers.append(Downsample(channels, padding=(0, 1, 0, 1)))
            for _ in range(config.num_res_blocks):
                layers += [_res(channels, config.channels * mult)]
                channels = config.channels * mult
                layers += _attention(channels, 2**level in config.attention_factors)
        layers += [_res(channels, channels), *_attention(channels, config.mid_attention), _res(channels, channels)]
        layers += [group_norm(channels, EPS), nn.SiLU(), nn.Conv2d(channels, out, 3, padding=1)]
        super().__init__(*layers)


class Decoder(nn.Sequential):
    def __init__(self, config: Architecture, latent_channels: int) -> None:
        channels = config.channels * config.channel_mult[-1]
        layers: list[nn.Module] = [nn.Conv2d(latent_channels, channels, 3, padding=1)]
        layers += [_res(channels, channels), *_attention(channels, config.mid_attention), _res(channels, channels)]
        for level, mult in reversed(list(enumerate(config.channel_mult))):
            for _ in range(config.num_res_blocks + 1):
                layers += [_res(channels, config.channels * mult)]
                channels = config.channels * mult
                layers += _attention(channels, 2**level in config.attention_factors)
            if level:
                layers.append(Upsample(channels))
        layers += [group_norm(channels, EPS), nn.SiLU(), nn.Conv2d(channels, 3, 3, padding=1)]
        super().__init__(*layers)

    @property
    def last_layer(self) -> Tensor:
        """Where the gradients of reconstruction and discriminator are compared."""
        last = self[-1]
        assert isinstance(last, nn.Conv2d)
        return last.weight


class KLAutoencoder(nn.Module):
    """Images in [-1, 1] of sizes that are multiples of `factor`, to raw latents `factor` times smaller."""

    def __init__(self, config: Architecture) -> None:
        super().__init__()
        z = config.latent_channels
        self.factor = config.factor
        self.encoder = Encoder(config, 2 * z)
        self.to_moments = nn.Conv2d(2 * z, 2 * z, 1)
        self.from_latent = nn.Conv2d(z, z, 1)
        self.decoder = Decoder(config, z)

    def encode(self, image: Float[Tensor, "b 3 H W"]) -> Moments:
        mean, log_variance = self.to_moments(self.encoder(image)).chunk(2, dim=1)
        return Moments(mean, torch.exp(0.5 * log_variance.clamp(-30, 20)))

    def decode(self, latent: Float[Tensor, "b z h w"]) -> Float[Tensor, "b 3 H W"]:
        return self.decoder(self.from_latent(latent))


class IdentityAutoencoder(nn.Module):
    """f1: the latent is the image, without noise."""

    factor = 1

    def encode(self, image: Float[Tensor, "b 3 H W"]) -> Moments:
        return Moments(image, torch.zeros_like(image))

    def decode(self, latent: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
        return latent


class PatchDiscriminator(nn.Sequential):
    """Judges overlapping patches (arXiv 1611.07004): a logit for each, positive for real."""

    def __init__(self, channels: int, layers: int) -> None:
        modules: list[nn.Module] = [nn.Conv2d(3, channels, 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
        for i in range(1, layers + 1):
            wide, out = channels * min(2 ** (i - 1), 8), channels * min(2**i, 8)
            stride = 2 if i < layers else 1
            modules += [nn.Conv2d(wide, out, 4, stride=stride, padding=1), group_norm(out), nn.LeakyReLU(0.2)]
        super().__init__(*modules, nn.Conv2d(out, 1, 4, padding=1))


def load(folder: Path) -> KLAutoencoder | IdentityAutoencoder:
    """The autoencoder that `train_autoencoder` wrote to `folder`, on the CPU, frozen."""
    identity(folder)
    config = check(read_json(folder / "config.json"), Autoencoder, "", file=str(folder / "config.json")).root
    match config:
        case Identity():
            return IdentityAutoencoder()
        case KL():
            model = KLAutoencoder(config.model)
            model.load_state_dict(load_file(folder / "model.safetensors"))
            return model.eval().requires_grad_(False)


def fitting(size: int, factor: int, what: str) -> None:
    """Refuse sizes that the autoencoder cannot halve evenly."""
    if size % factor:
        raise ValueError(f"{what}: size {size} is not a multiple of factor {factor}")
