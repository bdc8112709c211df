"""Released layout and label-map encoders: what import builds gives the outputs of an independent writing of them."""

from pathlib import Path
from typing import Any

import pytest
import torch

from ldm.conditioning import nothing_dropped
from ldm.diffusion.model import DiffusionModel, load
from tests.interop import release, rows
from tests.interop.encoders import SpatialRescaler, TransformerEmbedder
from tests.interop.test_import import STAGE, UNET, checkpoint, conditional, imported, noisy, same, unconditional

LAYOUT = {
    "tokens": {"kind": "layout", "drop": 0.0, "width": 16, "layers": 3, "heads": 2, "head_width": 8, "dropout": 0.0},
    "channels": {"kind": "none"},
}
MAPS = {"tokens": {"kind": "none"}, "channels": {"kind": "label_map", "drop": 0.0}}
CPU = torch.device("cpu")


def encoder_state(encoder: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Random weights, which the independent writing takes as they stand: so it has the released names."""
    weights = release.drawn({name: tuple(tensor.shape) for name, tensor in encoder.state_dict().items()}, 6)
    encoder.load_state_dict(weights)
    return release.prefixed("cond_stage_model.", weights)


def read_back(tmp_path: Path) -> DiffusionModel:
    return load(tmp_path / "models" / "diffusion" / "small")[0]


@torch.no_grad()
def test_layouts(tmp_path: Path) -> None:
    encoder = TransformerEmbedder(vocabulary=40, length=8, width=16, layers=3, heads=2, head_width=8)
    assert set(encoder.state_dict()) == set(release.text(vocabulary=40, length=8, width=16, layers=3))
    weights = release.drawn(release.unet(**UNET, context=16), 3)
    state = checkpoint(weights, encoder=encoder_state(encoder))
    notes = imported(tmp_path, state, rows.diffusion(condition=LAYOUT, unet={"heads": 4}))
    assert any("to_logits" in note for note in notes)
    model = read_back(tmp_path)
    ids = torch.randint(0, 40, (2, 8), generator=torch.Generator().manual_seed(1), dtype=torch.int32)
    condition = model.condition({"layout": ids}, nothing_dropped(2, CPU))
    assert condition.tokens is not None
    same(condition.tokens, encoder(ids.long()))
    x, step = noisy()
    same(model.unet(x, step, condition), conditional(weights, 16, 4)(x, step, encoder(ids.long()))[0])


@torch.no_grad()
@pytest.mark.parametrize("stages", [1, 2, 3])
def test_label_maps(tmp_path: Path, stages: int) -> None:
    """The release maps last, ours first; where a map has no class (here 9), no channel is on."""
    encoder = SpatialRescaler(stages, classes=9, channels=3)
    weights = release.drawn(release.unet(**UNET | {"into": 6}), 3)
    mult: dict[str, Any] = {"mult": [1] * (stages + 1)}
    state = checkpoint(weights, stage=STAGE | mult, encoder=encoder_state(encoder))
    imported(
        tmp_path,
        state,
        rows.diffusion(condition=MAPS),
        params={"autoencoders": {"vq": rows.autoencoder("vq", channel_mult=mult["mult"])}},
    )
    model = read_back(tmp_path)
    maps = torch.randint(0, 10, (2, 16, 16), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    condition = model.condition({"label_map": maps}, nothing_dropped(2, CPU))
    one_hot = torch.stack([(maps == i).float() for i in range(9)], dim=1)
    assert condition.channels is not None
    same(condition.channels, encoder(one_hot))
    x, step = torch.randn(2, 3, *condition.channels.shape[2:], generator=torch.Generator().manual_seed(9)), noisy()[1]
    theirs = unconditional(weights, 1.0)(torch.cat([x, encoder(one_hot)], dim=1), step)[0]
    same(model.unet(x, step, condition), theirs)
