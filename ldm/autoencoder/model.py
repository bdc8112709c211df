"""Encoder, decoder and the latent between them: Gaussian, quantised or the picture itself (paper, section 3.1)."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ldm.autoencoder.config import KL, VQ, Architecture, Identity, QuantisedArchitecture, read_row
from ldm.autoencoder.quantiser import Codebook, Quantised
from ldm.files import identity
from ldm.nn.blocks import Downsample, NormSiLU, ResBlock, SelfAttention2d, Upsample, group_norm, with_groups
from ldm.nn.weights import load_into

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
        layers += [NormSiLU(channels, EPS), nn.Conv2d(channels, out, 3, padding=1)]
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
        layers += [NormSiLU(channels, EPS), nn.Conv2d(channels, 3, 3, padding=1)]
        super().__init__(*layers)

    @property
    def last_layer(self) -> Tensor:
        """Where the gradients of reconstruction and discriminator are compared."""
        last = self[-1]
        assert isinstance(last, nn.Conv2d)
        return last.weight


@dataclass(frozen=True)
class Coded:
    """What a step of training needs of a batch."""

    latent: Float[Tensor, "b z h w"]
    """For `paint`; differentiable."""
    penalty: Float[Tensor, ""]
    """Divergence from the standard Gaussian, or the codebook's loss."""
    quantised: Quantised | None = None


class _Coder(nn.Module):
    """Images in [-1, 1] of sizes that are multiples of `factor`, to raw latents `factor` times smaller."""

    def __init__(self, config: Architecture, encoded: int) -> None:
        super().__init__()
        z = config.latent_channels
        self.factor, self.latent_channels = config.factor, z
        self.encoder = Encoder(config, encoded)
        self.to_moments = nn.Conv2d(encoded, encoded, 1)
        self.from_latent = nn.Conv2d(z, z, 1)
        self.decoder = Decoder(config, z)
        with_groups(self, config.norm_groups)

    def paint(self, latent: Float[Tensor, "b z h w"]) -> Float[Tensor, "b 3 H W"]:
        return self.decoder(self.from_latent(latent)).float()


class KLAutoencoder(_Coder):
    """The latent is a diagonal Gaussian, kept near the standard one."""

    def __init__(self, config: Architecture) -> None:
        super().__init__(config, 2 * config.latent_channels)

    def encode(self, image: Float[Tensor, "b 3 H W"]) -> Moments:
        mean, log_variance = self.to_moments(self.encoder(image)).float().chunk(2, dim=1)
        return Moments(mean, torch.exp(0.5 * log_variance.clamp(-30, 20)))

    def decode(self, latent: Float[Tensor, "b z h w"]) -> Float[Tensor, "b 3 H W"]:
        return self.paint(latent)

    def code(self, image: Float[Tensor, "b 3 H W"], noise: Float[Tensor, "b z h w"]) -> Coded:
        """For training: a sample of the posterior, and the divergence in nats, averaged over the batch."""
        moments = self.encode(image)
        return Coded(moments.sample(noise), moments.kl().mean())


class VQAutoencoder(_Coder):
    """The latent is what the nearest codes stand for; rounding to them counts as the decoder's first layer."""

    def __init__(self, config: QuantisedArchitecture) -> None:
        super().__init__(config, config.latent_channels)
        self.codebook = Codebook(config.codebook.size, config.latent_channels)
        self.beta = config.codebook.beta

    def encode(self, image: Float[Tensor, "b 3 H W"]) -> Moments:
        """The latent before rounding, without noise."""
        mean = self.to_moments(self.encoder(image)).float()
        return Moments(mean, torch.zeros_like(mean))

    def decode(self, latent: Float[Tensor, "b z h w"]) -> Float[Tensor, "b 3 H W"]:
        return self.paint(self.codebook(latent))

    def code(self, image: Float[Tensor, "b 3 H W"]) -> Coded:
        """For training: the codes, with gradients that pass straight through."""
        quantised = self.codebook.quantise(self.encode(image).mean, self.beta)
        return Coded(quantised.latent, quantised.loss, quantised)


class IdentityAutoencoder(nn.Module):
    """f1: the latent is the image, without noise."""

    factor, latent_channels = 1, 3

    def encode(self, image: Float[Tensor, "b 3 H W"]) -> Moments:
        return Moments(image, torch.zeros_like(image))

    def decode(self, latent: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
        return latent


class PatchDiscriminator(nn.Sequential):
    """Judges overlapping patches (arXiv 1611.07004): a logit for each, positive for real.

    The release has batch norm; with group norm the judgement of a picture depends on that picture alone, not on its
    batch, nor on how the batch is spread over processes, and there are no running averages to keep in step.
    """

    def __init__(self, channels: int, layers: int) -> None:
        modules: list[nn.Module] = [nn.Conv2d(3, channels, 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
        for i in range(1, layers + 1):
            wide, out = channels * min(2 ** (i - 1), 8), channels * min(2**i, 8)
            stride = 2 if i < layers else 1
            modules += [nn.Conv2d(wide, out, 4, stride=stride, padding=1), group_norm(out), nn.LeakyReLU(0.2)]
        super().__init__(*modules, nn.Conv2d(out, 1, 4, padding=1))


def build(config: KL | VQ) -> KLAutoencoder | VQAutoencoder:
    """The untrained first stage of `config`, drawn from torch's global generator."""
    match config:
        case KL():
            return KLAutoencoder(config.model)
        case VQ():
            return VQAutoencoder(config.model)


def load(folder: Path) -> KLAutoencoder | VQAutoencoder | IdentityAutoencoder:
    """The autoencoder that `train_autoencoder` wrote to `folder`, on the CPU, frozen.

    Raises ValueError of one line where the weights are damaged, or not those of the model that config.json describes.
    """
    config = _section(folder)
    if isinstance(config, Identity):
        return IdentityAutoencoder()
    model = build(config)
    load_into(model, folder / "model.safetensors")
    return model.eval().requires_grad_(False)


def start_from(model: KLAutoencoder | VQAutoencoder, config: KL | VQ, initial: Path) -> None:
    """Give `model` the weights in `initial`, an autoencoder's folder; nothing where it is named none.

    Raises ValueError of one line for an autoencoder of another architecture.
    """
    if initial.name == "none":
        return
    other = _section(initial)
    differing = [key for key, value in _shape(config).items() if _shape(other).get(key) != value]
    if differing:
        raise ValueError(
            f"init_from: {initial} was trained with another {', '.join(differing)};"
            " name one of the same architecture, or none"
        )
    load_into(model, initial / "model.safetensors")


def _section(folder: Path) -> KL | VQ | Identity:
    identity(folder)
    return read_row(folder / "config.json")


def _shape(config: KL | VQ | Identity) -> dict[str, Any]:
    """What must agree for weights to fit and mean the same."""
    if isinstance(config, Identity):
        return {"kind": config.kind}
    shape = {"kind": config.kind} | config.model.model_dump(exclude={"codebook"})
    return shape | ({"codebook": config.model.codebook.size} if isinstance(config, VQ) else {})


def fitting(size: int, factor: int, what: str) -> None:
    """Refuse sizes that the autoencoder cannot halve evenly."""
    if size % factor:
        raise ValueError(f"{what}: size {size} is not a multiple of factor {factor}")
