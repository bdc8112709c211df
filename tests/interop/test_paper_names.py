"""At full size, without weights: every model of presets/paper.yaml has exactly the released names and shapes."""

import re
from pathlib import Path

import pytest
import torch

from ldm.autoencoder.model import build
from ldm.config import load
from ldm.diffusion.config import Diffusion
from ldm.diffusion.model import DiffusionModel
from ldm.interop import diffusers_config, released
from ldm.interop.described import described
from ldm.interop.importing import trained_stage
from ldm.interop.links import Link, write
from tests.interop import release

FILE = Path(__file__).resolve().parents[2] / "presets" / "paper.yaml"
PAPER = load(FILE)
CLASSES = [f"class {i}" for i in range(1000)]
MAPS = [f"class {i}" for i in range(182)]

HEADS_DIFFER = {"lsun-churches256", "inpainting-big", "inpainting-big-512"}
"""What of the paper diffusers cannot express: heads of one number at widths that differ, without tokens."""

NUMBERED = r"(input_blocks|output_blocks)\.\d+\.\d|middle_block\.\d"
LAYER = (
    r"(in_layers\.[02]|emb_layers\.1|out_layers\.[03]|skip_connection|op|conv|norm|qkv|proj_in|proj_out"
    r"|transformer_blocks\.\d+\.(attn[12]\.(to_q|to_k|to_v|to_out\.0)|ff\.net\.(0\.proj|2)|norm[123]))"
)
PATTERN = re.compile(rf"(time_embed\.[02]|input_blocks\.0\.0|out\.[02]|({NUMBERED})\.{LAYER})\.(weight|bias)")
FIRST_STAGE = re.compile(
    r"((encoder|decoder)\.(conv_in|norm_out|conv_out|mid\.(block_[12]\.(norm1|conv1|norm2|conv2)|attn_1\.(norm|q|k|v|proj_out))"
    r"|(down|up)\.\d\.(block\.\d\.(norm1|conv1|norm2|conv2|nin_shortcut)|attn\.\d\.(norm|q|k|v|proj_out)"
    r"|(downsample|upsample)\.conv))|quant_conv|post_quant_conv)\.(weight|bias)|quantize\.embedding\.weight"
)


def shapes(links: list[Link], state: dict[str, torch.Tensor]) -> release.Shapes:
    return {name: tuple(tensor.shape) for name, tensor in write(links, state).items()}


@pytest.mark.parametrize("name", [name for name, row in PAPER["diffusion"].items() if row["objective"] != "label"])
def test_diffusion_models(name: str) -> None:
    info = described(PAPER, name, file=str(FILE), classes=CLASSES, label_map_classes=MAPS)
    config = Diffusion.model_validate(PAPER["diffusion"][name])
    with torch.device("meta"):
        model = DiffusionModel(config, info)
    named = shapes(list(released.unet(model.unet)), model.unet.state_dict())
    unet, width = config.unet, model.conditioner.token_width
    assert named == release.unet(
        channels=unet.channels,
        mult=[round(factor) for factor in unet.channel_mult],
        blocks=unet.num_res_blocks,
        attention=unet.attention_factors,
        into=info["latent_shape"][0] + model.conditioner.channels_width,
        out=info["latent_shape"][0],
        context=width or None,
        depth=unet.transformer_depth,
        scale_shift=unet.scale_shift_norm,
        updown=unet.residual_updown,
    )
    assert all(PATTERN.fullmatch(key) for key in named)
    size = {"into": 3, "out": 3, "size": 8, "token_width": width}
    if name in HEADS_DIFFER:
        with pytest.raises(ValueError, match="cannot express heads: 8"):
            diffusers_config.unet(unet, model.unet, **size)
    else:
        diffusers_config.unet(unet, model.unet, **size)
    tokens, channels = config.condition.tokens.kind, config.condition.channels.kind
    condition = shapes(list(released.conditioner(model.conditioner, tokens, channels)), model.conditioner.state_dict())
    match tokens, channels:
        case (("text" | "layout"), _):
            length, size = (77, 30522) if tokens == "text" else (92, 8192)
            layers = config.condition.tokens.layers
            assert condition == release.text(vocabulary=size, length=length, width=width, layers=layers)
        case "label", _:
            assert condition == {"embedding.weight": (1001, width)}
        case _, "label_map":
            assert condition == {"channel_mapper.weight": (3, 182, 1, 1)}
        case _:
            assert condition == {}


@pytest.mark.parametrize("name", [name for name, row in PAPER["autoencoders"].items() if row["kind"] != "identity"])
def test_first_stages(name: str) -> None:
    config = trained_stage(PAPER, name, str(FILE))
    with torch.device("meta"):
        model = build(config)
    named = shapes(list(released.first_stage(model, config.model)), model.state_dict())
    architecture = config.model
    assert named == release.first_stage(
        channels=architecture.channels,
        mult=architecture.channel_mult,
        blocks=architecture.num_res_blocks,
        attention=architecture.attention_factors,
        z=architecture.latent_channels,
        codes=PAPER["autoencoders"][name]["model"].get("codebook", {}).get("size"),
        mid=architecture.mid_attention,
    )
    assert all(FIRST_STAGE.fullmatch(key) for key in named)
