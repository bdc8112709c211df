"""Packed convolutions are the plain ones, to the last digits, and have their gradient."""

import pytest
import torch
from torch import nn

from ldm.nn.condition import Condition
from ldm.nn.packed import PackedConv2d, packed
from ldm.unet.config import UNet as Section
from ldm.unet.model import UNet
from tests.sampling.small import stirred


@pytest.mark.parametrize("options", [{"padding": 1}, {"padding": 1, "stride": 2}, {"stride": 2}, {}, {"bias": False}])
@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize("channels", [3, 8, 40])
def test_it_is_the_convolution_at_any_size_in_any_layout(options, kernel, channels):
    torch.manual_seed(0)
    plain = nn.Conv2d(channels, 12, kernel, **options).requires_grad_(False)
    layer = PackedConv2d(plain)
    for shape in ((2, channels, 8, 8), (1, channels, 11, 6), (5, channels, 4, 4)):
        x = torch.randn(shape)
        for laid in (x, x.contiguous(memory_format=torch.channels_last), x.transpose(2, 3)):
            torch.testing.assert_close(layer(laid), plain(laid), rtol=1e-4, atol=1e-5)


def test_a_gradient_is_the_plain_ones():
    torch.manual_seed(0)
    plain = nn.Conv2d(4, 8, 3, padding=1).requires_grad_(False)
    x = torch.randn(2, 4, 6, 6, requires_grad=True)
    ours, theirs = (torch.autograd.grad(layer(x).square().sum(), x)[0] for layer in (PackedConv2d(plain), plain))
    assert torch.equal(ours, theirs)


@pytest.mark.parametrize("options", [{}, {"residual_updown": True, "scale_shift_norm": True}])
def test_a_packed_unet_predicts_what_it_predicted_and_the_same_each_time(options):
    section = Section(
        channels=16, channel_mult=[1, 2], num_res_blocks=1, attention_factors=[2], heads=2, transformer_depth=1,
        dropout=0.0, **options,
    )  # fmt: skip
    torch.manual_seed(0)
    unet = stirred(UNet(section, latent_channels=3, condition_channels=2, token_width=8), 1)
    noisy, step = torch.randn(2, 3, 8, 8), torch.tensor([3, 70])
    condition = Condition(tokens=torch.randn(2, 5, 8), channels=torch.randn(2, 2, 8, 8))
    with torch.no_grad():
        before = unet(noisy, step, condition)
        first, again = (packed(unet)(noisy, step, condition) for _ in range(2))
    torch.testing.assert_close(first, before, rtol=1e-4, atol=1e-5)
    assert torch.equal(first, again)
    assert not any(type(layer) is nn.Conv2d for layer in unet.modules())
