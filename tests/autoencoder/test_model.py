"""First stages: the paper's sizes, the Gaussian between encoder and decoder, the loss."""

import pytest
import torch
from torch import nn

from ldm.autoencoder.config import KL, Architecture, Autoencoder, Loss, QuantisedArchitecture
from ldm.autoencoder.loss import (
    Likelihood,
    adaptive_weight,
    hinge_loss,
    per_element,
    per_picture,
    reconstruction_error,
    vanilla_loss,
)
from ldm.autoencoder.model import (
    IdentityAutoencoder,
    KLAutoencoder,
    Moments,
    PatchDiscriminator,
    VQAutoencoder,
    fitting,
)
from ldm.config import load, section

SMALL = Architecture(
    channels=8, channel_mult=[1, 2, 2], num_res_blocks=1, attention_factors=[], mid_attention=True, latent_channels=3
)
LOSS = {
    "perceptual_weight": 0.0,
    "l2_weight": 0.0,
    "adversarial_weight": 0.5,
    "adversarial_start": 0,
    "discriminator_channels": 8,
    "discriminator_layers": 2,
}

# The released configurations: name, latent channels, multipliers, attention at factors, in the middle, encoder and
# decoder parameters. Neither counts the 1x1 convolutions around the latent, nor the codebook.
RELEASED = [
    ("kl-f4", 3, [1, 2, 4], [], True, 22_351_238, 32_960_771),
    ("kl-f8", 4, [1, 2, 4, 4], [], True, 34_163_592, 49_490_179),
    ("kl-f16", 16, [1, 1, 2, 2, 4], [16], True, 28_265_760, 41_343_875),
    ("kl-f32", 64, [1, 1, 2, 2, 4, 4], [16, 32], True, 42_614_656, 61_244_803),
    ("vq-f4", 3, [1, 2, 4], [], True, 22_337_411, 32_960_771),
    ("vq-f4-noattn", 3, [1, 2, 4], [], False, 21_285_763, 31_909_123),
    ("vq-f8", 4, [1, 2, 2, 4], [8], True, 27_397_764, 40_253_955),
    ("vq-f16", 8, [1, 1, 2, 2, 4], [16], True, 28_155_144, 41_307_011),
]


def released(z: int, mult: list[int], attention: list[int], middle: bool) -> dict:
    return {
        "channels": 128,
        "channel_mult": mult,
        "num_res_blocks": 2,
        "attention_factors": attention,
        "mid_attention": middle,
        "latent_channels": z,
    }


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize(("name", "z", "mult", "attention", "middle", "encoder", "decoder"), RELEASED)
def test_as_many_parameters_as_the_released_first_stage(name, z, mult, attention, middle, encoder, decoder):
    sizes = released(z, mult, attention, middle)
    with torch.device("meta"):
        if name.startswith("kl"):
            model: nn.Module = KLAutoencoder(Architecture(**sizes))
            around = (2 * z + 1) * 2 * z + (z + 1) * z
        else:
            model = VQAutoencoder(QuantisedArchitecture(**sizes, codebook={"size": 512}))
            around = 2 * (z + 1) * z + 512 * z
    assert count(model.encoder) == encoder
    assert count(model.decoder) == decoder
    assert count(model) == encoder + decoder + around


@pytest.mark.parametrize("levels", range(2, 7))
@pytest.mark.parametrize("attention", [True, False])
def test_every_factor_has_a_vq_first_stage_with_and_without_attention(levels, attention):
    factor = 2 ** (levels - 1)
    config = SMALL.model_dump() | {
        "channel_mult": [1] * levels,
        "attention_factors": [factor] if attention else [],
        "mid_attention": attention,
    }
    model = VQAutoencoder(QuantisedArchitecture(**config, codebook={"size": 8}))
    assert any("qkv" in name for name, _ in model.named_parameters()) == attention
    moments = model.encode(torch.randn(1, 3, 2 * factor, factor))
    assert model.factor == factor
    assert moments.mean.shape == (1, 3, 2, 1)
    assert not moments.std.any()
    assert model.decode(moments.mean).shape == (1, 3, 2 * factor, factor)


def test_decoding_a_vq_latent_rounds_it_first():
    model = VQAutoencoder(QuantisedArchitecture(**SMALL.model_dump(), codebook={"size": 8}))
    latent = torch.randn(1, 3, 4, 4) * 0.1
    rounded = model.codebook(latent)
    assert not torch.equal(rounded, latent)
    assert torch.equal(model.decode(latent), model.decode(rounded))
    assert torch.equal(model.decode(latent), model.paint(rounded))


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


def test_the_reconstruction_is_summed_over_a_picture_or_averaged_over_its_elements():
    image = torch.zeros(2, 3, 4, 4)
    reconstruction = torch.full_like(image, 0.5)
    error = reconstruction_error(image, reconstruction, Loss(**LOSS), None)
    assert per_picture(error).item() == pytest.approx(0.5 * 48)
    assert per_element(error).item() == pytest.approx(0.5)
    squared = reconstruction_error(image, reconstruction, Loss(**LOSS | {"l2_weight": 2.0}), None)
    assert per_picture(squared).item() == pytest.approx((0.5 + 2 * 0.25) * 48)


def test_the_perceptual_distance_stands_at_every_pixel():
    class Distance(nn.Module):
        def forward(self, image, other):
            return torch.tensor([1.0, 3.0])

    image = torch.zeros(2, 3, 4, 4)
    error = reconstruction_error(image, image, Loss(**LOSS | {"perceptual_weight": 0.5}), Distance())
    assert error.flatten(1).tolist() == [[0.5] * 48, [1.5] * 48]


def test_a_fixed_variance_changes_nothing_and_a_learned_one_goes_to_the_mean_error():
    error = torch.rand(2, 3, 4, 4) + 0.1
    assert torch.equal(Likelihood(learn=False)(error), error)
    likelihood = Likelihood(learn=True)
    likelihood.logvar.data.fill_(error.mean().log().item())
    (gradient,) = torch.autograd.grad(per_picture(likelihood(error)), likelihood.logvar)
    assert gradient.item() == pytest.approx(0, abs=1e-4)
    likelihood.logvar.data.fill_(0.7)
    expected = (error / torch.tensor(0.7).exp() + 0.7).sum() / 2
    torch.testing.assert_close(per_picture(likelihood(error)), expected)


def test_the_adaptive_weight_makes_both_gradients_of_one_size_at_the_last_layer():
    layer = nn.Parameter(torch.randn(3, 4))
    features, pull, push = torch.randn(2, 4, 5, 5), torch.randn(2, 3, 5, 5), 0.01 * torch.randn(2, 3, 5, 5)
    reconstruction = torch.einsum("oc,bchw->bohw", layer, features)
    weight = adaptive_weight(reconstruction, pull, push, layer)
    sizes = [torch.autograd.grad((reconstruction * g).sum(), layer, retain_graph=True)[0].norm() for g in (pull, push)]
    assert weight.item() == pytest.approx((sizes[0] / sizes[1]).item(), rel=0.01)


def test_the_hinge_loss_stops_at_the_margin():
    far = torch.full((1, 1, 2, 2), 2.0)
    assert hinge_loss(far, -far).item() == 0
    assert hinge_loss(-far, far).item() == pytest.approx(3)


def test_the_vanilla_loss_is_cross_entropy():
    real, fake = torch.randn(2, 1, 3, 3), torch.randn(2, 1, 3, 3)
    entropy = nn.functional.binary_cross_entropy_with_logits
    expected = (entropy(real, torch.ones_like(real)) + entropy(fake, torch.zeros_like(fake))) / 2
    torch.testing.assert_close(vanilla_loss(real, fake), expected)
    assert vanilla_loss(torch.zeros_like(real), torch.zeros_like(fake)).item() == pytest.approx(0.6931, abs=1e-4)


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
