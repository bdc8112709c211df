"""Small models with random weights and latents with every condition, in memory and as folders."""

import pytest
import torch

from ldm.autoencoder.config import Autoencoder
from ldm.autoencoder.model import KLAutoencoder
from ldm.config import check
from ldm.data.latents import write_latents
from ldm.diffusion.config import Diffusion
from ldm.diffusion.model import DiffusionModel
from ldm.files import identity, write_json, write_manifest
from tests.sampling.small import AUTOENCODER, NONE, ROWS, TEXT, columns, diffusion_section, information, save, stirred


@pytest.fixture(scope="session")
def first_stage():
    torch.manual_seed(0)
    return stirred(KLAutoencoder(check(AUTOENCODER, Autoencoder, "").root.model), 0)


@pytest.fixture(scope="session")
def rows(first_stage):
    return columns(first_stage)


@pytest.fixture(scope="session")
def built(rows):
    """A model of a condition, by its section."""

    def build(tokens=NONE, channels=NONE, info=None, **changes):
        config = check(diffusion_section(tokens, channels, **changes), Diffusion, "")
        torch.manual_seed(0)
        shapes = {name: values.shape[1:] for name, values in rows.items()}
        return stirred(DiffusionModel(config, info or information(shapes)), 1)

    return build


@pytest.fixture(scope="session")
def folders(first_stage, rows, built, tmp_path_factory):
    """An autoencoder, latents and models under three conditions, as their stages leave them."""
    root = tmp_path_factory.mktemp("sampling")
    coder, latents = root / "autoencoder", root / "latents"
    save(first_stage, coder / "model.safetensors")
    write_json(coder / "config.json", AUTOENCODER)
    write_manifest(coder)
    shapes = {name: values.shape[1:] for name, values in rows.items()}
    latents.mkdir()
    with write_latents(latents, "test", shapes) as append:
        ids = [f"{i:02d}" for i in range(ROWS)]
        append(ids, [0] * ROWS, [-1] * ROWS, rows, [f"caption {i}" for i in ids])
    info = information(shapes, identity(coder))
    write_json(latents / "latents.json", info)
    write_manifest(latents)
    kinds = {
        "text": (TEXT, NONE),
        "plain": (NONE, NONE),
        "low_resolution": (NONE, {"kind": "low_resolution", "drop": 0.0}),
        "mask": (NONE, {"kind": "mask", "drop": 0.0}),
        "label_map": (NONE, {"kind": "label_map", "drop": 0.0}),
    }
    for name, (tokens, channels) in kinds.items():
        save(built(tokens, channels, info), root / name / "ema.safetensors")
        about = {"diffusion": diffusion_section(tokens, channels), "latents": info}
        write_json(root / name / "config.json", about)
        write_manifest(root / name)
    return root
