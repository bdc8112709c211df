"""From the latents that are cached to what the UNet is told: every kind, on drawn scenes; and docs/conditions.md."""

import re
from pathlib import Path

import pytest
import torch
from ruamel.yaml import YAML

from ldm import conditioning
from ldm.autoencoder.cache import cache_latents
from ldm.autoencoder.config import Latents as Section
from ldm.conditioning import Conditions
from ldm.config import Run, check
from ldm.data.latents import Latents
from ldm.files import write_json, write_manifest
from ldm.sources.config import Dataset
from ldm.sources.prepare import prepare
from ldm.sources.raw import opened
from tests.clips import write_clip

ROOT = Path(__file__).resolve().parents[2]
SMALL = {"width": 8, "layers": 1, "heads": 2, "head_width": 4, "dropout": 0.0}
TOKENS = {"label": {"width": 8}, "text": SMALL, "layout": SMALL, "clip_text": {}, "clip_image": {}}
CHANNELS = ["low_resolution", "label_map", "mask", "grey"]


@pytest.fixture(scope="module")
def latents(tmp_path_factory) -> Latents:
    """Drawn scenes with everything that can be cached of them, in pixel space."""
    made = tmp_path_factory.mktemp("made")
    images, coder, clip = made / "images", made / "pixels", write_clip(made / "clip")
    source = {"kind": "drawn", "count": 12, "objects": 1, "seed": 1, "held_out": []}
    dataset = {"raw": "none", "source": source, "size": 16, "validation": 0.0, "test": 0.2, "on_bad_image": "stop"}
    coder.mkdir()
    write_json(coder / "config.json", {"kind": "identity", "dataset": "d", "init_from": "none", "perceptual": "none"})
    write_manifest(coder)
    asked = {
        "dataset": "d",
        "autoencoder": "a",
        "vocabulary": "none",
        "clip": "clip",
        "tokens": {"length": 12, "vocabulary_size": 256},
        "layout": {"boxes": 3, "vocabulary_size": 64},
        "low_resolution": {"factor": 2, "degradation": "bsr_light"},
        "label_map": True,
        "mask": {"style": "thick"},
        "grey": True,
        "draws": 1,
        "flip": False,
        "batch": 4,
        "seed": 1,
    }
    threads = torch.get_num_threads()
    run = Run(mode="exact", device="cpu", threads=1, instructions="avx2")
    [*_] = prepare(opened(check(dataset, Dataset, "datasets.d"), Path("none")), images, made / "state")
    config = check(asked, Section, "latents.d")
    [*_] = cache_latents(config, run, images, coder, Path("none"), clip, made / "latents", made / "state")
    torch.set_num_threads(threads)
    return Latents(made / "latents", "train")


@pytest.mark.parametrize("channels", ["none", *CHANNELS])
@pytest.mark.parametrize("tokens", ["none", *TOKENS])
def test_every_pair_of_kinds_is_made_of_what_was_cached(latents, tokens, channels):
    values = {
        "tokens": {"kind": tokens} | ({"drop": 0.1} | TOKENS[tokens] if tokens != "none" else {}),
        "channels": {"kind": channels} | ({"drop": 0.1} if channels != "none" else {}),
    }
    torch.manual_seed(0)
    conditioner = conditioning.build(check(values, Conditions, "condition"), latents.info)
    rows = latents.read(torch.arange(4))
    told = conditioner(rows, conditioning.nothing_dropped(4, torch.device("cpu")), (16, 16))
    null = conditioner(rows, conditioning.null_dropped(conditioner, 4, torch.device("cpu")), (16, 16))
    for value, empty, width in (
        (told.tokens, null.tokens, conditioner.token_width),
        (told.channels, null.channels, conditioner.channels_width),
    ):
        assert (value is None) == (width == 0)
        if value is not None:
            assert torch.isfinite(value).all()
            assert value.shape == empty.shape
            assert value.flatten(1).unique(dim=0).shape[0] > 1, "pictures differ"
            assert empty.flatten(1).unique(dim=0).shape[0] == 1, "null conditions do not"


BLOCKS = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs/conditions.md").read_text(), re.DOTALL)


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.split("\n")[-6].strip())
def test_rows_in_the_documentation_can_be_copied(block):
    values = YAML(typ="safe", pure=True).load(block)
    for name, row in values.get("latents", {}).items():
        check(row, Section, f"latents.{name}")
    for name, row in values["diffusion"].items():
        check(row["condition"], Conditions, f"diffusion.{name}.condition")


def test_the_documentation_has_every_kind():
    conditions = [row["condition"] for block in BLOCKS for row in YAML(typ="safe").load(block)["diffusion"].values()]
    assert {c["tokens"]["kind"] for c in conditions} == {"none", *TOKENS}
    assert {c["channels"]["kind"] for c in conditions} == {"none", *CHANNELS}
