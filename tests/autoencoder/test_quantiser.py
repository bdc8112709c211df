"""Laws of the codebook: nearest codes, straight-through gradients, the commitment's side, revived codes."""

import pytest
import torch
from torch.nn import functional as F

import ldm.nn.vision  # noqa: F401 - torchvision, which diffusers imports, beside a CPU torch
from ldm.autoencoder import quantiser
from ldm.autoencoder.quantiser import Codebook, Usage, use
from ldm.data.randomness import generator


@pytest.fixture
def codebook() -> Codebook:
    torch.manual_seed(0)
    made = Codebook(16, 3)
    torch.nn.init.normal_(made.codes)
    return made


def latent() -> torch.Tensor:
    return torch.randn(2, 3, 4, 5, generator=generator("latent")).requires_grad_()


@pytest.mark.parametrize("held", [1, 100, 1 << 24])
def test_the_nearest_code_is_the_one_that_brute_force_finds(held, codebook, monkeypatch):
    monkeypatch.setattr(quantiser, "DISTANCES", held)
    z = latent().detach()
    distance = (z[:, None] - codebook.codes[None, :, :, None, None]).square().sum(2)
    assert torch.equal(codebook.nearest(z), distance.argmin(1))
    assert torch.equal(codebook.nearest(codebook(z)), codebook.nearest(z))


@pytest.mark.parametrize("width", [1, 3, 8])
def test_what_is_fused_on_a_gpu_finds_the_same(width):
    places, codes = torch.randn(500, width), torch.randn(40, width)
    codes = torch.cat([codes, codes])  # of equally near ones the first
    assert torch.equal(quantiser._fused(places, codes), quantiser._nearest(places, codes))
    assert quantiser._fused(places, codes).max() < 40


def test_codes_that_a_rounded_product_confuses_are_told_apart():
    """Far from zero a sum of squares and products loses what tells two codes apart; a difference keeps it."""
    codebook = Codebook(2, 1)
    codebook.codes.data = torch.tensor([[4096.0], [4096.5]])
    z = torch.tensor([4096.0, 4096.125, 4096.375, 4096.5]).view(1, 1, 2, 2)
    assert codebook.nearest(z).flatten().tolist() == [0, 0, 1, 1]


def test_a_gradient_passes_as_through_the_identity(codebook):
    z = latent()
    direction = torch.randn(z.shape)
    quantised = codebook.quantise(z, beta=0.25)
    torch.testing.assert_close(quantised.latent, codebook(z))
    (quantised.latent * direction).sum().backward()
    assert torch.equal(z.grad, direction)
    assert codebook.codes.grad is None


def test_beta_weighs_the_commitment_and_not_the_codes(codebook):
    def gradients(beta: float) -> tuple[torch.Tensor, torch.Tensor]:
        z = latent()
        return torch.autograd.grad(codebook.quantise(z, beta).loss, [z, codebook.codes])

    (of_latent, of_codes), (of_latent2, of_codes2) = gradients(0.25), gradients(0.5)
    torch.testing.assert_close(of_latent2, 2 * of_latent)
    torch.testing.assert_close(of_codes2, of_codes)
    z = latent()
    expected = 0.25 * 2 * (z - codebook(z)) / z.numel()
    torch.testing.assert_close(of_latent, expected.detach())
    with torch.no_grad():
        torch.testing.assert_close(codebook.quantise(z, 0.25).loss, 1.25 * F.mse_loss(codebook(z), z))


def test_it_is_the_quantiser_that_diffusers_has_under_its_corrected_option(codebook):
    diffusers = pytest.importorskip("diffusers.models.autoencoders.vq_model")
    peer = diffusers.VectorQuantizer(16, 3, beta=0.25, legacy=False, sane_index_shape=True)
    peer.embedding.weight.data = codebook.codes.data.clone()
    z = latent()
    theirs, loss, (_, _, codes) = peer(z)
    ours = codebook.quantise(z, beta=0.25)
    assert torch.equal(ours.codes, codes)
    torch.testing.assert_close(ours.latent, theirs)
    (gradient,) = torch.autograd.grad(ours.loss, z)
    assert loss.item() == pytest.approx(ours.loss.item(), rel=1e-5)
    # theirs has beta on the commitment where legacy is false
    torch.testing.assert_close(torch.autograd.grad(loss, z)[0], gradient)


def test_use_counts_shares_and_perplexity():
    assert use(torch.tensor([0, 0, 0])) == (0.0, 0.0)
    assert use(torch.tensor([7, 7, 7, 0])) == (0.75, pytest.approx(3))
    assert use(torch.tensor([9, 0])) == (0.5, pytest.approx(1))


def found(codebook: Codebook, z: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """What usage is counted from."""
    quantised = codebook.quantise(z, 0.25)
    return quantised.codes, quantised.raw


def test_codes_that_nothing_is_near_come_back_to_life(codebook):
    codebook.codes.data[4:] = 100.0  # far from every latent
    average = Codebook(16, 3)
    usage = Usage([codebook, average], after=3)
    before = average.codes.detach().clone()
    for step in range(3):
        z = latent()
        usage.add(*found(codebook, z), generator("step", step))
        if step < 2:
            assert (codebook.codes[4:] == 100).all()
    places = z.detach().permute(0, 2, 3, 1).reshape(-1, 3)
    alive = codebook.codes.detach()
    assert all((places == code).all(1).any() for code in alive[4:])
    assert len(alive[4:].unique(dim=0)) == 12
    assert torch.equal(average.codes[4:], codebook.codes[4:])
    assert torch.equal(average.codes[:4], before[:4])
    assert usage.report()["codebook_used"] <= 0.25
    usage.add(*found(codebook, z), generator("step", 3))
    assert usage.report()["codebook_used"] >= 0.75


def test_with_more_dead_codes_than_places_each_place_is_given_once(codebook):
    codebook.codes.data[:] = 100.0  # all alike, so the first stands for every place
    usage, z = Usage([codebook], after=1), torch.randn(1, 3, 2, 2)
    usage.add(*found(codebook, z), generator("few"))
    places = {tuple(place) for place in z.permute(0, 2, 3, 1).reshape(-1, 3).tolist()}
    codes = [tuple(code) for code in codebook.codes.tolist()]
    assert set(codes[1:5]) == places
    assert {codes[0], *codes[5:]} == {(100.0, 100.0, 100.0)}
    usage.add(*found(codebook, z), generator("few", 1))
    again = [tuple(code) for code in codebook.codes.tolist()]
    assert again[1:5] == codes[1:5]
    assert {again[0], *again[5:8]} == places
    assert set(again[8:]) == {(100.0, 100.0, 100.0)}


def test_without_revival_no_code_is_moved(codebook):
    codebook.codes.data[4:] = 100.0
    usage = Usage([codebook], after=None)
    for step in range(5):
        usage.add(*found(codebook, latent()), generator("step", step))
    assert (codebook.codes[4:] == 100).all()
