"""The layers against the formulas they stand for."""

import math

import torch
import torch.nn.functional as F

from ldm.nn.blocks import Attention, Downsample, ResBlock, SelfAttention2d, group_norm, sinusoid


def test_attention_is_softmax_of_scaled_products():
    torch.manual_seed(0)
    layer = Attention(6, heads=1, head_width=4, context_width=3).eval()
    x, context = torch.randn(2, 5, 6), torch.randn(2, 7, 3)
    weights = (layer.q(x) @ layer.k(context).mT / math.sqrt(4)).softmax(-1)
    torch.testing.assert_close(layer(x, context), layer.out(weights @ layer.v(context)))


def test_released_attention_keeps_the_channels_of_a_head_together():
    """qkv is head-major: with two heads, the first six of the twelve channels are q, k and v of the first head."""
    torch.manual_seed(0)
    layer = SelfAttention2d(4, heads=2)
    x = torch.randn(1, 4, 2, 3)
    qkv = layer.qkv(layer.norm(x)).flatten(2)
    heads = []
    for head in qkv.split(6, dim=1):
        q, k, v = head.split(2, dim=1)
        heads.append(v @ (q.mT @ k / math.sqrt(2)).softmax(-1).mT)
    expected = x + layer.out(torch.cat(heads, 1).reshape(1, 4, 2, 3))
    torch.testing.assert_close(layer(x), expected)


def test_a_zeroed_branch_starts_as_the_identity():
    block = ResBlock(4, 4, zero=True)
    x = torch.randn(1, 4, 3, 3)
    assert torch.equal(block(x), x)


def test_first_stages_pad_right_and_bottom_only():
    layer = Downsample(2, padding=(0, 1, 0, 1))
    x = torch.randn(1, 2, 4, 4)
    padded = torch.zeros(1, 2, 5, 5)
    padded[..., :4, :4] = x
    torch.testing.assert_close(layer(x), F.conv2d(padded, layer.conv.weight, layer.conv.bias, stride=2))


def test_the_embedding_of_step_zero_is_ones_then_zeros():
    assert sinusoid(torch.tensor([0]), 8).tolist() == [[1, 1, 1, 1, 0, 0, 0, 0]]


def test_frequencies_fall_from_one_to_a_ten_thousandth():
    angle = sinusoid(torch.tensor([1]), 1000)[0, 500:].asin()
    assert math.isclose(angle[0], 1, rel_tol=1e-6)
    assert math.isclose(angle[-1], 10_000 ** (-499 / 500), rel_tol=1e-3)


def test_groups_are_the_papers_32_and_never_of_less_than_four_channels():
    assert [group_norm(c).num_groups for c in (4, 8, 16, 48, 64, 96, 128, 160, 224)] == [1, 2, 4, 8, 16, 16, 32, 32, 32]
