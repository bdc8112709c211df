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
from ldm.diffusion.model import DiffusionModel
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

# Tables 12 to 15: side of the latent, |Z|, channels, multipliers, sides with attention, heads (w32: of 32 channels
# each), depth, dropout, batch, steps and rate. As released where that differs, which comments in the preset say:
# table 12 gives lsun-churches heads of 24 channels (8 of them at its first level), table 15 txt2img-1p4b the rate 1e-4
# and label maps f 8
PRINTED = """
celeba256           64  8192   224  1,2,3,4      32,16,8    w32  1  0   48    410000   9.6e-5
ffhq256             64  8192   224  1,2,3,4      32,16,8    w32  1  0   42    635000   8.4e-5
lsun-churches256    32  KL     192  1,2,2,4,4    32,16,8,4  8    1  0   96    500000   5e-5
lsun-beds256        64  8192   224  1,2,3,4      32,16,8    w32  1  0   48    1900000  9.6e-5
imagenet-f1         256 none   192  1,1,2,2,4,4  32,16,8    1    1  0   7     2000000  4.9e-5
imagenet-f2         128 2048   192  1,2,2,4,4    32,16,8    1    1  0   9     2000000  6.3e-5
imagenet-f4         64  8192   192  1,2,3,5      32,16,8    1    1  0   40    2000000  8e-5
imagenet-f8         32  16384  256  1,2,4        32,16,8    1    1  0   64    2000000  6.4e-5
imagenet-f16        16  16384  256  1,2,4        16,8,4     1    1  0   112   2000000  4.5e-5
imagenet-f32        8   16384  256  1,2,4        8,4,2      1    1  0   112   2000000  4.5e-5
celeba-f1           256 none   192  1,1,2,2,4,4  32,16,8    w32  1  0   9     500000   9e-5
celeba-f2           128 2048   192  1,2,2,4,4    32,16,8    w32  1  0   11    500000   1.1e-4
celeba-f4           64  8192   224  1,2,3,4      32,16,8    w32  1  0   48    500000   9.6e-5
celeba-f8           32  16384  256  1,2,4        32,16,8    w32  1  0   96    500000   9.6e-5
celeba-f16          16  16384  256  1,2,4        16,8,4     w32  1  0   128   500000   1.3e-4
celeba-f32          8   16384  256  1,2,4        8,4,2      w32  1  0   128   500000   1.3e-4
txt2img-1p4b        32  KL     320  1,2,4,4      32,16,8    8    1  0   680   390000   5e-5
layout2img          64  8192   128  1,2,3,4      32,16,8    w32  3  0   24    4400000  4.8e-5
layout2img-coco-f8  32  16384  192  1,2,4        32,16,8    w32  2  .1  48    170000   4.8e-5
cin256-v2           64  8192   192  1,2,3,5      32,16,8    1    1  0   1200  178000   1e-4
imagenet-sr         64  8192   160  1,2,2,4      8          w32  1  0   64    860000   6.4e-5
inpainting          64  8192   128  1,4,8        none       8    1  0   128   360000   1e-6
semantic256         64  8192   128  1,4,8        none       8    1  0   48    360000   4.8e-5
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
    statistics = {"channel_mean": [0.0] * 64, "channel_std": [1.0] * 64}
    with torch.device("meta"):
        model = DiffusionModel(config, info(config.latents) | statistics)
    return model.unet, model.conditioner


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


def test_a_model_and_its_classifier_are_as_large_as_table_3_says():
    """LDM-8-G's 506 million: what `cin256` trains, and the classifier that guides it."""
    assert int((parameters("cin256", "joint") + parameters("cin256-classifier", "unet")) / 1e6) == 506


@pytest.mark.parametrize("line", PRINTED.strip().splitlines(), ids=lambda line: line.split()[0])
def test_models_and_trainings_are_those_of_tables_12_to_15(line):
    name, side, codes, channels, mult, attention, heads, depth, dropout, batch, steps, rate = line.split()
    config = row("diffusion", name)
    unet, train = config.unet, config.train
    latent = info(config.latents)["latent_shape"][-1]
    stage = row("autoencoders", config.autoencoder).root
    codebook = {"kl": "KL", "identity": "none"}.get(stage.kind) or str(stage.model.codebook.size)
    assert (latent, codebook) == (int(side), codes)
    assert (unet.channels, ",".join(f"{factor:g}" for factor in unet.channel_mult)) == (int(channels), mult)
    assert ",".join(str(latent // factor) for factor in unet.attention_factors) == attention.replace("none", "")
    assert (f"w{unet.head_channels}" if unet.head_channels else str(unet.heads)) == heads
    assert (unet.transformer_depth, unet.dropout) == (int(depth), float(dropout))
    assert (train.batch, train.steps, train.lr) == (int(batch), int(steps), float(rate))


@pytest.mark.parametrize(
    ("name", "length", "layers", "width"), [("txt2img-1p4b", 77, 32, 1280), ("layout2img-coco-f8", 92, 16, 512)]
)
def test_transformers_are_those_of_table_17(name, length, layers, width):
    config = row("diffusion", name)
    tokens, shapes = config.condition.tokens, info(config.latents)["shapes"]
    assert (tokens.layers, tokens.width) == (layers, width)
    assert [length] in (shapes.get("tokens"), shapes.get("layout"))


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
