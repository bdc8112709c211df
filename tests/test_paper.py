"""Every model of presets/paper.yaml has exactly the parameters that the released modules, or the paper's tables, have.

Nothing is allocated: models are built on the meta device.
"""

from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from flows.override import TABLES
from ldm import conditioning
from ldm.autoencoder.config import Architecture, Identity
from ldm.autoencoder.model import build as build_autoencoder
from ldm.config import load, section
from ldm.unet.model import UNet

FILE = Path(__file__).resolve().parents[1] / "presets" / "paper.yaml"
PAPER = load(FILE)

# Encoder and decoder, without codebook and the two 1 x 1 convolutions beside it, of the released modules
FIRST_STAGES = """
kl-f4         22,351,238  32,960,771
kl-f8         34,163,592  49,490,179
kl-f16        28,265,760  41,343,875
kl-f32        42,614,656  61,244,803
vq-f4         22,337,411  32,960,771
vq-f4-noattn  21,285,763  31,909,123
vq-f8         27,397,764  40,253,955
vq-f8-n256    27,397,764  40,253,955
vq-f16        28,155,144  41,307,011
"""

# UNets of the released modules
UNETS = """
celeba256         274,056,163
ffhq256           274,056,163
lsun-beds256      274,056,163
lsun-churches256  294,966,916
cin256            394,984,196
cin256-v2         400,920,579
text2img256       403,623,939
txt2img-1p4b      872,300,484
layout2img        246,277,379
layout2img-coco   246,277,379
semantic256       215,229,315
semantic512       215,229,315
bsr-sr            113,622,563
inpainting-big    387,245,827
inpainting-big-512  387,245,827
"""

# The released text and layout transformers, with their output layers that nothing reads
TRANSFORMERS = """
text2img256   186,154,682
txt2img-1p4b  581,994,042
layout2img     58,858,496
"""

# Millions in tables 12 to 15, with what they count: the UNet, all that is trained jointly, or the first stage besides
ROUNDED = """
celeba256         274   unet
ffhq256           274   unet
lsun-beds256      274   unet
lsun-churches256  294   unet
imagenet-f1       396   unet
imagenet-f2       391   unet
imagenet-f8       395   unet
imagenet-f16      395   unet
imagenet-f32      395   unet
celeba-f1         270   unet
celeba-f2         265   unet
celeba-f4         274   unet
celeba-f8         258   unet
celeba-f32        258   unet
inpainting        215   unet
semantic256       215   unet
txt2img-1p4b      1454  joint
imagenet-sr       169   all
"""

# Where tables do not agree with what they describe (comments in the preset say how): what is built, and their millions
DIFFERENT = """
imagenet-f4         400,920,579  391  unet
cin256-v2           400,920,579  395  unet
celeba-f16          257,751,560  260  unet
layout2img          305,135,875  306  joint
layout2img-coco-f8  371,100,036  345  joint
"""


def table(text: str) -> list[Any]:
    rows = [line.split() for line in text.strip().splitlines()]
    return [pytest.param(*(_number(cell) for cell in row), id=row[0]) for row in rows]


def _number(cell: str) -> int | str:
    plain = cell.replace(",", "")
    return int(plain) if plain.isdecimal() else cell


def names(*texts: str) -> set[str]:
    return {line.split()[0] for text in texts for line in text.strip().splitlines()}


def count(*modules: nn.Module) -> int:
    return sum(p.numel() for module in modules for p in module.parameters())


def row(table: str, name: str) -> Any:
    return section(PAPER, TABLES[table], f"{table}.{name}", file=FILE.name)


@cache
def first_stage(name: str) -> nn.Module:
    with torch.device("meta"):
        return build_autoencoder(row("autoencoders", name).root)


def info(name: str) -> dict[str, Any]:
    """What latents.json says of a row of latents, as far as models are built from it."""
    latents = row("latents", name)
    autoencoder = row("autoencoders", latents.autoencoder).root
    dataset = row("datasets", latents.dataset)
    factor, z = (1, 3) if isinstance(autoencoder, Identity) else _latent(autoencoder.model)
    size = latents.crop or dataset.size
    latent = [z, size // factor, size // factor]
    low = latents.low_resolution and size // latents.low_resolution.factor
    shapes = {
        "tokens": latents.tokens and [latents.tokens.length],
        "layout": latents.layout and [3 * latents.layout.boxes + 2],
        "low_resolution": low and [3, low, low],
        "label_map": latents.label_map and [size, size],
        "mask": latents.mask and [size, size],
        "masked": latents.mask and latent,
    }
    return {
        "factor": factor,
        "latent_shape": latent,
        "shapes": {column: shape for column, shape in shapes.items() if shape},
        "classes": [str(i) for i in range(1000)] if dataset.source.kind == "class_folders" else None,
        "label_map_classes": [str(i) for i in range(182)] if latents.label_map else None,
        "vocabulary_size": latents.tokens and latents.tokens.vocabulary_size,
        "null_tokens": [0] * latents.tokens.length if latents.tokens else [],
        "layout": latents.layout and latents.layout.model_dump(),
    }


def _latent(model: Architecture) -> tuple[int, int]:
    return model.factor, model.latent_channels


@cache
def diffusion(name: str) -> tuple[UNet, conditioning.Conditioner]:
    config = row("diffusion", name)
    about = info(config.latents)
    with torch.device("meta"):
        conditioner = conditioning.build(config.condition, about)
        unet = UNet(
            config.unet,
            latent_channels=about["latent_shape"][0],
            condition_channels=conditioner.channels_width,
            token_width=conditioner.token_width,
        )
    return unet, conditioner


def parameters(name: str, what: str) -> int:
    """Of the UNet, of all that is trained jointly, or of that and the first stage's encoder and decoder."""
    unet, conditioner = diffusion(name)
    if what == "unet":
        return count(unet)
    if what == "joint":
        return count(unet, conditioner)
    stage = first_stage(row("diffusion", name).autoencoder)
    return count(unet, conditioner, stage.encoder, stage.decoder)


@pytest.mark.parametrize(("name", "encoder", "decoder"), table(FIRST_STAGES))
def test_first_stages_have_the_released_parameters(name, encoder, decoder):
    stage = first_stage(name)
    assert (count(stage.encoder), count(stage.decoder)) == (encoder, decoder)


@pytest.mark.parametrize(("name", "exact"), table(UNETS))
def test_unets_have_the_released_parameters(name, exact):
    unet, _ = diffusion(name)
    assert count(unet) == exact


@pytest.mark.parametrize(("name", "exact"), table(TRANSFORMERS))
def test_transformers_have_the_released_parameters(name, exact):
    _, conditioner = diffusion(name)
    assert count(conditioner) == exact


@pytest.mark.parametrize(("name", "millions", "what"), table(ROUNDED))
def test_counts_round_to_those_of_the_papers_tables(name, millions, what):
    """The tables round some down (294.97 is their 294), others to the nearest."""
    exact = parameters(name, what) / 1e6
    assert millions in (int(exact), round(exact))


@pytest.mark.parametrize(("name", "exact", "millions", "what"), table(DIFFERENT))
def test_where_a_table_differs_from_what_it_describes_the_description_is_built(name, exact, millions, what):
    assert parameters(name, what) == exact
    assert millions not in (int(exact / 1e6), round(exact / 1e6))


def test_a_shorter_layout_transformer_would_explain_the_smaller_count():
    """Table 15's 345 million for COCO's layouts, against table 17's 16 layers."""
    unet, conditioner = diffusion("layout2img-coco-f8")
    layers = conditioner.tokens.transformer.layers
    assert len(layers) == 16
    assert int((count(unet, conditioner) - count(*layers[8:])) / 1e6) == 345


def test_every_model_of_the_preset_can_be_built():
    for name in PAPER["diffusion"]:
        unet, _ = diffusion(name)
        size = info(row("diffusion", name).latents)["latent_shape"][-1]
        assert size % unet.config.factor == 0
    for name in PAPER["autoencoders"].keys() - {"pixels"}:
        assert count(first_stage(name)) > 0


def test_tables_8_and_12_to_15_are_all_there():
    table_8 = {"kl-f2", "kl-f16-z8", "kl-f32-z16", "vq-f2", "vq-f2-n64", "vq-f4-n256", "vq-f32"}
    assert names(FIRST_STAGES) | table_8 <= set(PAPER["autoencoders"])
    sweeps = {f"{data}-f{f}" for data in ("imagenet", "celeba") for f in (1, 2, 4, 8, 16, 32)}
    assert sweeps | names(UNETS, TRANSFORMERS, ROUNDED, DIFFERENT) <= set(PAPER["diffusion"])


def test_table_5_and_figure_7_are_all_there():
    """Super-resolution small, large and guided; samples of the sweeps at the figure's five numbers of steps."""
    samples = PAPER["samples"]
    assert {"imagenet-sr", "imagenet-sr-big", "imagenet-sr-guided"} <= samples.keys()
    for data in ("imagenet", "celeba"):
        for f in (1, 2, 4, 8, 16, 32):
            at = {steps: f"{data}-f{f}" + ("" if steps == 100 else f"-s{steps}") for steps in (10, 20, 50, 100, 200)}
            assert {steps: samples[name]["sampler"]["num_steps"] for steps, name in at.items()} == {n: n for n in at}
            assert {samples[name]["model"] for name in at.values()} == {f"{data}-f{f}"}
            assert {*at.values()} <= PAPER["evaluation"]["samples"].keys()
