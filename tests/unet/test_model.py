"""The UNet: what each option does to it, and what it must not depend on."""

import pytest
import torch
from torch import nn

from ldm.nn.blocks import ResBlock, SelfAttention2d, SpatialTransformer
from ldm.nn.condition import Condition
from ldm.unet.config import UNet as Config
from ldm.unet.model import UNet

SMALL = {"channels": 8, "channel_mult": [1, 2], "num_res_blocks": 1, "attention_factors": [2], "transformer_depth": 1}


def config(**changes) -> Config:
    heads = {} if "head_channels" in changes else {"heads": 2}
    return Config(**SMALL | heads | {"dropout": 0.0} | changes)


def trained(changes: dict | None = None, **widths) -> UNet:
    """A UNet whose weights are none of those it starts with, which make it predict zero."""
    torch.manual_seed(0)
    unet = UNet(config(**changes or {}), latent_channels=3, **widths)
    for parameter in unet.parameters():
        nn.init.normal_(parameter, std=0.1)
    return unet.eval()


def test_an_untrained_unet_predicts_zero():
    unet = UNet(config(), latent_channels=3)
    out = unet(torch.randn(2, 3, 8, 8), torch.tensor([0, 999]))
    assert torch.equal(out, torch.zeros(2, 3, 8, 8))


def test_the_prediction_depends_on_step_tokens_and_channels():
    unet = trained(condition_channels=1, token_width=5)
    noisy, step = torch.randn(1, 3, 8, 8), torch.tensor([10])
    tokens, channels = torch.randn(1, 4, 5), torch.randn(1, 1, 8, 8)
    base = unet(noisy, step, Condition(tokens=tokens, channels=channels))
    assert not torch.allclose(base, unet(noisy, step + 500, Condition(tokens=tokens, channels=channels)))
    assert not torch.allclose(base, unet(noisy, step, Condition(tokens=-tokens, channels=channels)))
    assert not torch.allclose(base, unet(noisy, step, Condition(tokens=tokens, channels=-channels)))


def test_the_order_of_tokens_does_not_matter_to_the_unet():
    unet = trained(token_width=5)
    noisy, tokens = torch.randn(1, 3, 8, 8), torch.randn(1, 4, 5)
    one = unet(noisy, torch.tensor([10]), Condition(tokens=tokens))
    other = unet(noisy, torch.tensor([10]), Condition(tokens=tokens.flip(1)))
    torch.testing.assert_close(one, other)


@pytest.mark.parametrize("option", [{}, {"scale_shift_norm": True}, {"residual_updown": True}])
def test_pictures_of_a_batch_do_not_see_each_other(option):
    unet = trained(option)
    noisy, step = torch.randn(3, 3, 8, 8), torch.tensor([1, 20, 300])
    torch.testing.assert_close(unet(noisy, step)[1:2], unet(noisy[1:2], step[1:2]))


@pytest.mark.parametrize("residual", [False, True])
def test_sizes_beyond_that_of_training_work(residual):
    unet = trained({"residual_updown": residual})
    assert unet(torch.randn(1, 3, 16, 24), torch.tensor([5])).shape == (1, 3, 16, 24)


@pytest.mark.parametrize("factors", [[], [1], [2, 4], [1, 8]])
@pytest.mark.parametrize("token_width", [0, 5])
def test_attention_sees_maps_of_exactly_the_factors_named(factors, token_width):
    """And the middle's, whose factor is the last level's: once. Two blocks a level down and three up attend."""
    unet = UNet(
        config(channel_mult=[1, 1, 1, 1], num_res_blocks=2, attention_factors=factors),
        latent_channels=3,
        token_width=token_width,
    )
    kind, seen = SpatialTransformer if token_width else SelfAttention2d, []
    for layer in unet.modules():
        if isinstance(layer, kind):
            layer.register_forward_hook(lambda _, inputs, out: seen.append(16 // inputs[0].shape[-1]))
    tokens = torch.randn(1, 2, token_width) if token_width else None
    unet(torch.randn(1, 3, 16, 16), torch.tensor([1]), Condition(tokens=tokens))
    assert sorted(seen) == sorted(5 * factors + [8])


def test_heads_are_a_number_or_a_width():
    heads = [config(channels=32, channel_mult=[1, 2, 3], heads=4).heads_of(w) for w in (32, 64, 96)]
    assert heads == [4, 4, 4]
    heads = [config(channels=32, channel_mult=[1, 2, 3], head_channels=32).heads_of(w) for w in (32, 64, 96)]
    assert heads == [1, 2, 3]
    unet = UNet(config(channels=32, channel_mult=[1, 2], attention_factors=[1, 2], head_channels=32), latent_channels=3)
    assert {(m.out.in_channels, m.heads) for m in unet.modules() if isinstance(m, SelfAttention2d)} == {
        (32, 1),
        (64, 2),
    }


def test_dropout_is_in_residual_blocks_alone():
    unet = UNet(config(dropout=0.3), latent_channels=3, token_width=5)
    inside = {id(d) for block in unet.modules() if isinstance(block, ResBlock) for d in block.modules()}
    acting = [d for d in unet.modules() if isinstance(d, nn.Dropout) and d.p]
    assert acting
    assert all(id(d) in inside for d in acting)


@pytest.mark.parametrize("token_width", [0, 5])
def test_checkpointing_changes_no_byte_of_a_step_with_dropout(token_width):
    widths = {"condition_channels": 1, "token_width": token_width}
    options = {"dropout": 0.3, "scale_shift_norm": True, "residual_updown": True}
    noisy, step, channels = torch.randn(2, 3, 8, 8), torch.tensor([3, 700]), torch.randn(2, 1, 8, 8)
    results = []
    for checkpointing in (False, True):
        unet = trained(options | {"checkpointing": checkpointing}, **widths).train()
        tokens = torch.linspace(-1, 1, 2 * 4 * 5).view(2, 4, 5).requires_grad_() if token_width else None
        torch.manual_seed(1)
        out = unet(noisy, step, Condition(tokens=tokens, channels=channels))
        inputs = [*unet.parameters(), *([tokens] if tokens is not None else [])]
        results.append([out, *torch.autograd.grad(out.square().sum(), inputs), torch.rand(3)])
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


def test_checkpointing_keeps_less_for_the_backward_pass():
    def kept(checkpointing: bool) -> int:
        sizes: dict[int, int] = {}
        unet = trained({"channel_mult": [1, 1, 1], "checkpointing": checkpointing})

        def keep(tensor: torch.Tensor) -> torch.Tensor:
            sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            unet(torch.randn(1, 3, 32, 32), torch.tensor([5]))
        return sum(sizes.values())

    assert kept(True) < 0.5 * kept(False)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"heads": 3}, "width 16 with attention, not a multiple of heads 3"),
        ({"head_channels": 12}, "width 16 with attention, not a multiple of head_channels 12"),
        ({"heads": 2, "head_channels": 4}, "found both of heads and head_channels; give one, such as heads: 8"),
        ({"heads": None}, "found neither of heads and head_channels; give one, such as heads: 8"),
        ({"channel_mult": [1, 1.3]}, "width 10.4, not a whole number"),
        ({"attention_factors": [2, 4]}, r"attention_factors has \[4\], but the levels' factors are 1 to 2"),
    ],
)
def test_mistakes_are_refused_with_what_to_mend(changes, message):
    with pytest.raises(ValueError, match=message):
        config(**changes)


def test_heads_need_to_divide_only_widths_that_have_attention():
    assert config(channels=10, channel_mult=[1, 2], attention_factors=[], heads=4).widths == [10, 20]
