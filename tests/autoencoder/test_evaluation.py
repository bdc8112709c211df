"""What is measured of a VQ first stage, at twice the size of its training: as of a KL one, and its codebook's use."""

import json

from ldm.autoencoder.model import load
from ldm.autoencoder.train import train
from ldm.evaluation.autoencoder import evaluate_autoencoder
from ldm.evaluation.config import AutoencoderEvaluation, Reference
from ldm.evaluation.reference import reference
from tests.autoencoder.conftest import RUN


def test_a_codebook_has_figures_and_warnings_of_its_own(row, pictures, tmp_path):
    none, coder, real = tmp_path / "none", tmp_path / "vq", tmp_path / "reference"
    none.mkdir()
    list(train(row("vq", train={"crop": 8}), RUN, pictures, none, none, coder, tmp_path / "state"))
    split = {"dataset": "x", "split": "validation", "features": "none", "batch": 5}
    list(reference(Reference(**split), RUN, pictures, none, real))
    config = AutoencoderEvaluation(**split, autoencoder="x", reference="x", perceptual="none", count=12)
    list(evaluate_autoencoder(config, RUN, pictures, coder, real, none, none, tmp_path / "m.json"))
    measured = json.loads((tmp_path / "m.json").read_text())
    figures, size = measured["figures"], len(load(coder).codebook.codes)
    assert 1 / size <= figures["codebook_used"] <= 1
    assert 1 <= figures["perplexity"] <= size * figures["codebook_used"] * 1.0001
    assert {f"latent_{what}_{c}" for what in ("mean", "std", "noise", "kurtosis") for c in range(3)} <= figures.keys()
    assert figures["latent_noise_0"] == 0
    assert isinstance(measured["about"]["latent_warnings"], list)
    assert (measured["about"]["size"], measured["about"]["training"]) == (16, {"dataset": "soft", "size": 8})
