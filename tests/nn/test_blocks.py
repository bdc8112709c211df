"""The layers against the formulas they stand for."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from ldm.nn.blocks import (
    Attention,
    Downsample,
    NormSiLU,
    ResBlock,
    SelfAttention2d,
    group_norm,
    sinusoid,
    with_groups,
)


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


def test_a_scale_and_shift_of_zero_leave_the_norm_as_it_is():
    torch.manual_seed(0)
    block = ResBlock(8, 12, time_width=5, scale_shift=True)
    nn.init.zeros_(block.time.weight)
    nn.init.zeros_(block.time.bias)
    plain = ResBlock(8, 12)
    plain.load_state_dict({k: v for k, v in block.state_dict().items() if not k.startswith("time.")})
    x, time = torch.randn(2, 8, 6, 6), torch.randn(2, 5)
    assert torch.equal(block(x, time), plain(x))


def test_scale_is_the_first_half_of_the_embedding_and_shift_the_second():
    torch.manual_seed(0)
    block = ResBlock(8, 8, time_width=5, scale_shift=True)
    x, time = torch.randn(2, 8, 6, 6), torch.randn(2, 5)
    both = block.time(F.silu(time))[:, :, None, None]
    h = block.norm2(block.conv1(F.silu(block.norm1(x)))) * (1 + both[:, :8]) + both[:, 8:]
    torch.testing.assert_close(block(x, time), x + block.conv2(F.silu(h)))


@pytest.mark.parametrize(
    ("resize", "shape"),
    [(nn.AvgPool2d(2), (2, 12, 3, 2)), (nn.Upsample(scale_factor=2.0, mode="nearest"), (2, 12, 12, 8))],
)
def test_a_residual_block_resizes_both_its_branches_before_it_convolves(resize, shape):
    torch.manual_seed(0)
    block = ResBlock(8, 12, resize=resize)
    x = torch.randn(2, 8, 6, 4)
    h = F.silu(block.norm2(block.conv1(resize(F.silu(block.norm1(x))))))
    torch.testing.assert_close(block(x), block.skip(resize(x)) + block.conv2(h))
    assert block(x).shape == shape


def test_resizing_blocks_that_start_as_zero_pool_and_repeat():
    x = torch.randn(1, 4, 4, 4)
    half = ResBlock(4, 4, resize=nn.AvgPool2d(2), zero=True)
    double = ResBlock(4, 4, resize=nn.Upsample(scale_factor=2.0, mode="nearest"), zero=True)
    torch.testing.assert_close(half(x), x.unfold(2, 2, 2).unfold(3, 2, 2).mean((-1, -2)))
    assert torch.equal(double(x), x.repeat_interleave(2, 2).repeat_interleave(2, 3))


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


def test_a_model_may_have_the_same_groups_at_every_width():
    model = nn.ModuleList([group_norm(16), NormSiLU(64), nn.Linear(16, 64)])
    with_groups(model, None)
    assert [model[0].num_groups, model[1].num_groups] == [4, 16]
    with_groups(model, 8)
    assert [model[0].num_groups, model[1].num_groups] == [8, 8]
    with pytest.raises(ValueError, match="norm_groups 32 does not divide a layer of 16 channels"):
        with_groups(model, 32)


def test_groups_are_the_papers_32_and_never_of_less_than_four_channels():
    assert [group_norm(c).num_groups for c in (4, 8, 16, 48, 64, 96, 128, 160, 224)] == [1, 2, 4, 8, 16, 16, 32, 32, 32]
