"""First stages: the paper's sizes, the Gaussian between encoder and decoder, the loss."""

import pytest
import torch
from torch import nn

from ldm.autoencoder.config import KL, Architecture, Autoencoder, Loss
from ldm.autoencoder.loss import adaptive_weight, hinge_loss, reconstruction_loss
from ldm.autoencoder.model import (
    Decoder,
    Encoder,
    IdentityAutoencoder,
    KLAutoencoder,
    Moments,
    PatchDiscriminator,
    fitting,
)
from ldm.config import load, section

SMALL = Architecture(
    channels=8, channel_mult=[1, 2, 2], num_res_blocks=1, attention_factors=[], mid_attention=True, latent_channels=3
)
LOSS = {
    "kl_weight": 1e-6,
    "perceptual_weight": 0.0,
    "l2_weight": 0.0,
    "adversarial_weight": 0.5,
    "adversarial_start": 0,
    "discriminator_channels": 8,
    "discriminator_layers": 2,
}

# The released configurations: name, latent channels, multipliers, attention at factors, encoder and decoder parameters
RELEASED = [
    ("kl-f4", 3, [1, 2, 4], [], 22_351_238, 32_960_771),
    ("kl-f8", 4, [1, 2, 4, 4], [], 34_163_592, 49_490_179),
    ("kl-f16", 16, [1, 1, 2, 2, 4], [16], 28_265_760, 41_343_875),
    ("kl-f32", 64, [1, 1, 2, 2, 4, 4], [16, 32], 42_614_656, 61_244_803),
]


@pytest.mark.parametrize(("name", "z", "mult", "attention", "encoder", "decoder"), RELEASED)
def test_as_many_parameters_as_the_released_first_stage(name, z, mult, attention, encoder, decoder):
    released = Architecture(
        channels=128,
        channel_mult=mult,
        num_res_blocks=2,
        attention_factors=attention,
        mid_attention=True,
        latent_channels=z,
    )

    def count(module: nn.Module) -> int:
        return sum(p.numel() for p in module.parameters())

    with torch.device("meta"):
        assert count(Encoder(released, 2 * z)) == encoder
        assert count(Decoder(released, z)) == decoder


def test_a_latent_is_factor_times_smaller_and_comes_back_at_full_size():
    model = KLAutoencoder(SMALL)
    moments = model.encode(torch.randn(2, 3, 16, 24))
    assert moments.mean.shape == (2, 3, 4, 6)
    assert model.decode(moments.mean).shape == (2, 3, 16, 24)


def test_the_kl_divergence_of_the_standard_gaussian_is_zero_and_agrees_with_torch():
    zeros, ones = torch.zeros(1, 3, 2, 2), torch.ones(1, 3, 2, 2)
    assert Moments(zeros, ones).kl().item() == 0
    mean, std = torch.randn(4, 3, 2, 2), torch.rand(4, 3, 2, 2) + 0.1
    normal = torch.distributions.Normal
    expected = torch.distributions.kl_divergence(normal(mean, std), normal(0.0, 1.0)).flatten(1).sum(1)
    torch.testing.assert_close(Moments(mean, std).kl(), expected)


def test_the_identity_gives_back_what_it_was_given():
    image = torch.randn(1, 3, 5, 7)
    model = IdentityAutoencoder()
    moments = model.encode(image)
    assert torch.equal(model.decode(moments.sample(torch.randn_like(image))), image)


def test_the_reconstruction_loss_is_summed_over_a_picture_and_averaged_over_the_batch():
    image = torch.zeros(2, 3, 4, 4)
    reconstruction = torch.full_like(image, 0.5)
    assert reconstruction_loss(image, reconstruction, Loss(**LOSS), None).item() == pytest.approx(0.5 * 48)
    squared = Loss(**LOSS | {"l2_weight": 2.0})
    assert reconstruction_loss(image, reconstruction, squared, None).item() == pytest.approx((0.5 + 2 * 0.25) * 48)


def test_the_adaptive_weight_makes_both_gradients_of_one_size_at_the_last_layer():
    layer = nn.Parameter(torch.tensor([1.0, 2.0]))
    reconstruction, adversarial = (3 * layer).sum(), (0.01 * layer).sum()
    weight = adaptive_weight(reconstruction, adversarial, layer)
    assert weight.item() == pytest.approx(3 / 0.01, rel=0.01)


def test_the_hinge_loss_stops_at_the_margin():
    far = torch.full((1, 1, 2, 2), 2.0)
    assert hinge_loss(far, -far).item() == 0
    assert hinge_loss(-far, far).item() == pytest.approx(3)


def test_the_discriminator_judges_patches():
    assert PatchDiscriminator(8, 2)(torch.randn(1, 3, 32, 32)).shape[1:] == (1, 6, 6)


def test_sizes_that_cannot_be_halved_evenly_are_refused():
    with pytest.raises(ValueError, match="size 62 is not a multiple of factor 4"):
        fitting(62, 4, "data/prepared/mine")


def test_a_row_is_checked_as_its_kind():
    params = load()
    assert isinstance(section(params, Autoencoder, "autoencoders.kl-f4").root, KL)
    params["autoencoders"]["kl-f4"]["model"]["chanels"] = 3
    with pytest.raises(ValueError, match=r"params.yaml: autoencoders.kl-f4.model: unknown key 'chanels'"):
        section(params, Autoencoder, "autoencoders.kl-f4")


def test_a_perceptual_weight_without_a_trunk_is_refused():
    params = load()
    params["autoencoders"]["kl-f4"]["loss"]["perceptual_weight"] = 1.0
    with pytest.raises(ValueError, match="needs a trunk"):
        section(params, Autoencoder, "autoencoders.kl-f4")
