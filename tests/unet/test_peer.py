"""The whole UNet beside an implementation by others, diffusers': the same weights predict the same."""

import pytest
import torch
from torch import Tensor, nn

import ldm.nn.vision  # noqa: F401  (makes torchvision importable, which diffusers needs)
from ldm.nn.blocks import Attention, Downsample, ResBlock, SelfAttention2d, SpatialTransformer, Upsample
from ldm.nn.condition import Condition
from ldm.unet.config import UNet as Config
from ldm.unet.model import UNet

pytest.importorskip("diffusers", reason="diffusers (the extra `test`) is not installed")
from diffusers import UNet2DConditionModel, UNet2DModel

CHANNELS = {"channels": 128, "channel_mult": [1, 2], "num_res_blocks": 1, "attention_factors": [2], "dropout": 0.0}


def copy(ours: nn.Module, theirs: nn.Module) -> None:
    """Weights of one layer; names differ, shapes only where one has a linear layer for a 1 x 1 convolution."""
    for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        mine.data.copy_(other.data.view_as(mine))


def copy_res(ours: ResBlock, theirs: nn.Module) -> None:
    pairs = [(ours.norm1, theirs.norm1), (ours.conv1, theirs.conv1), (ours.time, theirs.time_emb_proj)]
    pairs += [(ours.norm2, theirs.norm2), (ours.conv2, theirs.conv2)]
    if theirs.conv_shortcut is not None:
        pairs.append((ours.skip, theirs.conv_shortcut))
    for mine, other in pairs:
        copy(mine, other)


def head_major(parts: list[Tensor], heads: int) -> Tensor:
    """q, k and v one below the other, head by head."""
    return torch.cat([torch.cat([p.chunk(heads)[head] for p in parts]) for head in range(heads)])


def copy_self_attention(ours: SelfAttention2d, theirs: nn.Module) -> None:
    assert ours.heads == theirs.heads
    layers = [theirs.to_q, theirs.to_k, theirs.to_v]
    ours.qkv.weight.data.copy_(head_major([layer.weight.data for layer in layers], ours.heads)[..., None, None])
    ours.qkv.bias.data.copy_(head_major([layer.bias.data for layer in layers], ours.heads))
    copy(ours.norm, theirs.group_norm)
    copy(ours.out, theirs.to_out[0])


def copy_attention(ours: Attention, theirs: nn.Module) -> None:
    assert ours.heads == theirs.heads
    copy(ours.q, theirs.to_q)
    copy(ours.k, theirs.to_k)
    copy(ours.v, theirs.to_v)
    copy(ours.out, theirs.to_out[0])


def copy_transformer(ours: SpatialTransformer, theirs: nn.Module) -> None:
    copy(ours.norm, theirs.norm)
    copy(ours.into, theirs.proj_in)
    for mine, other in zip(ours.blocks, theirs.transformer_blocks, strict=True):
        copy_attention(mine.self_attention, other.attn1)
        copy_attention(mine.cross_attention, other.attn2)
        copy(mine.feed_forward.into, other.ff.net[0].proj)
        copy(mine.feed_forward.out, other.ff.net[2])
        for norm in ("norm1", "norm2", "norm3"):
            copy(getattr(mine, norm), getattr(other, norm))
    copy(ours.out, theirs.proj_out)


def copy_unet(ours: UNet, theirs: nn.Module) -> None:
    """Layers pair up in the order in which a picture meets them."""
    copy(ours.time[0], theirs.time_embedding.linear_1)
    copy(ours.time[2], theirs.time_embedding.linear_2)
    copy(ours.conv_in, theirs.conv_in)
    met: list[nn.Module] = []
    for part in [*theirs.down_blocks, theirs.mid_block, *theirs.up_blocks]:
        resnets, attentions = list(part.resnets), list(getattr(part, "attentions", []))
        if part is theirs.mid_block:
            met += [resnets[0], attentions[0], resnets[1]]
        else:
            for i, resnet in enumerate(resnets):
                met += [resnet, *attentions[i : i + 1]]
        met += [*(getattr(part, "downsamplers", None) or []), *(getattr(part, "upsamplers", None) or [])]
    mine = [layer for block in [*ours.down, ours.middle, *ours.up] for layer in block]
    for layer, other in zip(mine, met, strict=True):
        match layer:
            case ResBlock():
                copy_res(layer, other)
            case SelfAttention2d():
                copy_self_attention(layer, other)
            case SpatialTransformer():
                copy_transformer(layer, other)
            case Downsample() | Upsample():
                copy(layer.conv, other.conv)
            case _:
                raise AssertionError(layer)
    copy(ours.norm_out, theirs.conv_norm_out)
    copy(ours.conv_out, theirs.conv_out)


COMMON = {"in_channels": 3, "out_channels": 3, "block_out_channels": (128, 256), "layers_per_block": 1}


@pytest.mark.parametrize("scale_shift", [False, True], ids=["added", "scale-shift"])
@pytest.mark.parametrize("residual", [False, True], ids=["convolutions", "residual-updown"])
def test_an_unconditional_unet_predicts_what_its_peer_predicts(scale_shift, residual):
    torch.manual_seed(0)
    theirs = UNet2DModel(
        **COMMON,
        down_block_types=("ResnetDownsampleBlock2D" if residual else "DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "ResnetUpsampleBlock2D" if residual else "UpBlock2D"),
        attention_head_dim=64,
        resnet_time_scale_shift="scale_shift" if scale_shift else "default",
        downsample_type="resnet" if residual else "conv",
        upsample_type="resnet" if residual else "conv",
        downsample_padding=1,
        attn_norm_num_groups=32,
        freq_shift=0,
    ).eval()
    config = Config(
        **CHANNELS, head_channels=64, transformer_depth=1, scale_shift_norm=scale_shift, residual_updown=residual
    )
    ours = UNet(config, latent_channels=3).eval()
    copy_unet(ours, theirs)
    noisy, step = torch.randn(2, 3, 8, 8), torch.tensor([7, 812])
    with torch.no_grad():
        torch.testing.assert_close(ours(noisy, step), theirs(noisy, step).sample, rtol=1e-4, atol=1e-4)


def test_a_unet_with_tokens_predicts_what_its_peer_predicts():
    torch.manual_seed(0)
    theirs = UNet2DConditionModel(
        **COMMON,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        mid_block_type="UNetMidBlock2DCrossAttn",
        cross_attention_dim=24,
        attention_head_dim=4,  # in this model, the number of heads
        transformer_layers_per_block=2,
    ).eval()
    ours = UNet(Config(**CHANNELS, heads=4, transformer_depth=2), latent_channels=3, token_width=24).eval()
    copy_unet(ours, theirs)
    noisy, step, tokens = torch.randn(2, 3, 8, 8), torch.tensor([7, 812]), torch.randn(2, 5, 24)
    with torch.no_grad():
        mine = ours(noisy, step, Condition(tokens=tokens))
        torch.testing.assert_close(mine, theirs(noisy, step, tokens).sample, rtol=1e-4, atol=1e-4)
