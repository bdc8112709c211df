"""Classifier guidance is exact where classifier and denoiser are."""

import pytest
import torch

from ldm.diffusion import config as c
from ldm.diffusion.schedule import Schedule
from ldm.sampling.classifier_guidance import classifier_guided

SCHEDULE = Schedule.from_config(c.Linear(kind="linear", steps=100, beta_start=0.0015, beta_end=0.195))
MEANS, STD = torch.tensor([-1.0, 0.5, 2.0]), 0.4


def of_each_class(noisy, step):
    """Of Gaussians with these means: the expected latent under each, and the logarithm of each one's probability."""
    alpha, sigma = (x[..., None] for x in SCHEDULE.at(step))
    variance, off = alpha.square() * STD**2 + sigma.square(), noisy[..., None] - alpha * MEANS
    expected = MEANS + alpha * STD**2 / variance * off
    return expected, (-off.square() / (2 * variance)).sum((1, 2, 3)).log_softmax(1)


def of_all(noisy, step):
    expected, logarithms = of_each_class(noisy, step)
    return (logarithms.exp()[:, None, None, None] * expected).sum(-1)


@pytest.mark.parametrize("step", [0, 10, 50, 99])
def test_scale_one_makes_the_denoiser_of_all_classes_that_of_one(step):
    """Bayes' rule, with the exact denoiser and the exact classifier of a mixture of Gaussians."""
    noisy = torch.randn(64, 1, 1, 2, generator=torch.Generator().manual_seed(step)) * 1.5
    at, label = torch.full((64,), step), torch.arange(64) % 3

    def likelihood(noisy, step):
        return of_each_class(noisy, step)[1].gather(1, label[:, None])[:, 0]

    found = classifier_guided(of_all, SCHEDULE, likelihood, 1.0)(noisy, at)
    wanted = of_each_class(noisy, at)[0].gather(-1, label[:, None, None, None, None].expand(64, 1, 1, 2, 1))[..., 0]
    torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-3)


def test_where_nothing_of_a_latent_is_left_nothing_is_added():
    schedule = Schedule(torch.tensor([1.0, 0.0]), torch.tensor([0.1, 1.0]))
    guided = classifier_guided(lambda noisy, step: noisy, schedule, lambda noisy, step: noisy.sum((1, 2, 3)), 3.0)
    noisy = torch.ones(2, 1, 2, 2)
    near, end = guided(noisy, torch.tensor([0, 1]))
    torch.testing.assert_close(near, torch.full((1, 2, 2), 1.03))
    assert torch.equal(end, noisy[1])
