"""`python -m flows.benchmark` measures what is made, and writes where the report looks."""

import json
import shutil

import pytest

from tests.flows.copies import copied

RATES = "benchmarks/results/rates.json"


@pytest.fixture
def project(rebuilt, tmp_path):
    return copied(rebuilt, tmp_path / "project")


def test_rates_of_samples_and_training_are_added_to_one_file(project):
    project.stage("benchmark", "--samples", "text-f4", "sr-f4")
    project.stage("benchmark", "--training", "sr-f4", "--autoencoders", "kl-f4")
    rates = json.loads((project.folder / RATES).read_text())
    assert set(rates) == {"samples", "training", "autoencoders"}
    named = {table: {rate["name"]: rate for rate in rates[table].values()} for table in rates}
    guided, plain = named["samples"]["text-f4"], named["samples"]["sr-f4"]
    assert guided["device"]
    assert guided["torch"]
    assert (guided["num_steps"], guided["batch"]) == (4, 8)
    assert guided["evaluations_per_second"] == pytest.approx(8 * guided["images_per_second"], rel=0.01)  # two a step
    assert plain["evaluations_per_second"] == pytest.approx(4 * plain["images_per_second"], rel=0.01)
    training = named["training"]["sr-f4"]
    for trained in (training, named["autoencoders"]["kl-f4"]):
        assert trained["images_per_second"] > 0
        assert trained["hours"] > 0
    assert "dvc.lock" not in project.run("git", "status", "--porcelain").stdout


def test_what_cannot_be_measured_is_said_in_one_line(project):
    unknown = project.stage("benchmark", "--samples", "text-f5", ok=False)
    assert unknown.returncode == 1
    assert unknown.stderr.startswith("params.yaml: samples has no 'text-f5'; names: text-f4")
    identity = project.stage("benchmark", "--autoencoders", "pixels", ok=False)
    assert identity.stderr == "params.yaml: autoencoders.pixels: an identity is not trained, so it has no rate\n"
    shutil.rmtree(project.folder / "models/diffusion/sr-f1")
    missing = project.stage("benchmark", "--samples", "sr-f1", ok=False)
    assert missing.returncode == 1
    assert missing.stderr.startswith("models/diffusion/sr-f1: not made yet")
    assert len(missing.stderr.splitlines()) == 1
