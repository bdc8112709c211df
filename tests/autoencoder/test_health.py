"""Health of latents: agrees with the moments of all of them at once, and says what is wrong."""

import pytest
import torch

from ldm.autoencoder.health import Health
from ldm.autoencoder.model import Moments
from ldm.autoencoder.quantiser import Codebook


def moments(*stds: float, noise: float = 0.0, count: int = 20) -> Moments:
    torch.manual_seed(0)
    mean = torch.randn(count, len(stds), 8, 8) * torch.tensor(stds).view(1, -1, 1, 1)
    return Moments(mean, torch.full_like(mean, noise))


def report(given: Moments, codebook: Codebook | None = None) -> dict:
    health = Health(given.mean.shape[1], codebook)
    health.add(given)
    return health.report()


def test_figures_are_those_of_all_samples_whatever_the_batches():
    given = moments(1.0, 3.0, noise=0.5)
    values = given.mean.double().transpose(0, 1).flatten(1)
    whole = report(given)
    assert whole["mean"] == pytest.approx(values.mean(1).tolist(), abs=1e-8)
    assert whole["std"] == pytest.approx((values.var(1, correction=0) + 0.25).sqrt().tolist(), abs=1e-8)
    assert whole["noise"] == [0.5, 0.5]
    central = values - values.mean(1, keepdim=True)
    expected = (central**4).mean(1) / (central**2).mean(1) ** 2
    assert whole["kurtosis"] == pytest.approx(expected.tolist(), abs=1e-8)
    parts = Health(2)
    for mean, std in zip(given.mean.split(3), given.std.split(3), strict=True):
        parts.add(Moments(mean, std))
    assert parts.report() == whole


def test_healthy_latents_give_no_warning():
    assert report(moments(1.0, 2.0, 0.5, noise=0.1))["warnings"] == []


@pytest.mark.parametrize(
    ("given", "warning"),
    [
        (moments(1.0, 1e-5), "channel 1 is dead: its std is 1e-05, another's 1; it carries nothing"),
        (moments(1.0, 0.05), "channel stds differ by a factor of 20"),
        (moments(1.0, noise=1.5), "channel 0 is mostly noise: the posterior's std is 1.5"),
        (Moments(moments(1.0).mean ** 5, torch.zeros(20, 1, 8, 8)), "channel 0 has heavy tails: kurtosis"),
        (moments(0.0), "channel 0 is dead"),
    ],
)
def test_what_is_wrong_with_a_channel_is_said(given, warning):
    (line,) = report(given)["warnings"]
    assert line.startswith(warning)


def test_a_codebook_that_is_hardly_used_is_said():
    codebook = Codebook(200, 1)
    codebook.codes.data = torch.linspace(-4, 4, 200)[:, None]
    used = report(moments(1.0), codebook)
    assert used["warnings"] == []
    assert 0.5 < used["codebook_used"] < 1
    assert used["perplexity"] > 50
    codebook.codes.data += 100
    lonely = report(moments(1.0), codebook)
    assert (lonely["codebook_used"], lonely["perplexity"]) == (1 / 200, 1)
    assert lonely["warnings"] == ["1 of 200 codes are used: set model.codebook.revive, or choose a smaller codebook"]
