"""What holds a sample to something its model was never told: guides, known regions, patches."""

import pytest
import torch

from ldm.data.pictures import resize, to_float, to_uint8
from ldm.diffusion import config as c
from ldm.diffusion.schedule import Schedule
from ldm.files import sha256
from ldm.nn.condition import Condition
from ldm.nn.vision import FeatureDistance, trunk
from ldm.nn.weights import Weights
from ldm.sampling import guides
from ldm.sampling.config import PictureGuide
from ldm.sampling.image_guidance import grey, image_guided, l2, masked, reduced
from ldm.sampling.inpainting import known_kept, latent_hole, pasted
from ldm.sampling.patches import patched
from ldm.sampling.samplers import ddim
from ldm.sampling.steps import time_steps

SCHEDULE = Schedule.from_config(
    c.Linear(kind="linear", steps=100, beta_start=0.0015, beta_end=0.195, zero_terminal_snr=True)
)


def last(path):
    for latent in path:
        sample = latent
    return sample


def shrink(noisy, step):
    """A denoiser with a slope that can be read off."""
    return 0.25 * noisy


def same(latent):
    return latent


def test_a_guide_adds_scale_sigma_gradient_to_the_noise_estimate():
    noisy, guide, step = torch.randn(2, 3, 4, 4), torch.randn(2, 3, 4, 4), torch.tensor([10, 70])
    alpha, sigma = SCHEDULE.at(step)
    latent = image_guided(shrink, SCHEDULE, same, lambda picture: l2(picture, guide), 2.0)(noisy, step)
    gradient = 0.25 * (0.25 * noisy - guide)
    estimate, plain = ((noisy - alpha * x) / sigma for x in (latent, shrink(noisy, step)))
    torch.testing.assert_close(estimate, plain + 2.0 * sigma * gradient, rtol=1e-4, atol=1e-4)
    assert not latent.requires_grad


def test_where_nothing_but_noise_is_left_a_guide_says_nothing():
    noisy, step = torch.randn(1, 3, 4, 4), torch.tensor([99])
    latent = image_guided(shrink, SCHEDULE, same, lambda picture: l2(picture, picture * 0), 5.0)(noisy, step)
    assert torch.equal(latent, shrink(noisy, step))


@pytest.mark.parametrize("transform", ["low_resolution", "identity", "grey", "masked"])
def test_a_guided_sample_comes_nearer_to_its_guide(transform):
    picture = torch.rand(2, 3, 16, 16) * 1.6 - 0.8
    hole = torch.zeros(2, 1, 16, 16, dtype=torch.bool)
    hole[:, :, 4:12, 4:12] = True
    seen = {
        "low_resolution": lambda x: reduced(x, (4, 4)),
        "identity": same,
        "grey": grey,
        "masked": lambda x: masked(x, hole),
    }[transform]

    def gaussian(noisy, step):  # the exact denoiser of independent pixels of unit variance
        return SCHEDULE.at(step)[0] * noisy

    def distance(image):
        return l2(seen(image), seen(picture))

    def sample(denoise):
        return last(ddim(denoise, start, SCHEDULE, time_steps(100, 50), 0.0, lambda i: start))

    start, scale = torch.randn(2, 3, 16, 16), 16.0 if transform == "low_resolution" else 1.0  # means of 16 pixels
    plain, guided = sample(gaussian), sample(image_guided(gaussian, SCHEDULE, same, distance, scale))
    assert (distance(guided) < 0.6 * distance(plain)).all()
    if transform == "masked":
        torch.testing.assert_close(guided[hole.expand_as(guided)], plain[hole.expand_as(plain)])


@pytest.fixture(scope="module")
def squeezenet(shared_data):
    (path,) = (shared_data / "weights").glob("squeezenet*")
    return FeatureDistance(trunk(Weights("squeezenet", path, sha256(path), "local")))


def test_the_firmer_a_perceptual_guide_the_nearer_the_sample(squeezenet):
    """Of SqueezeNet's features, up to where the guide drowns the denoiser (docs/sampling.md)."""
    pixels = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    picture = torch.tanh(torch.nn.functional.interpolate(pixels, size=(48, 48), mode="bicubic"))

    def gaussian(noisy, step):
        return SCHEDULE.at(step)[0] * noisy

    def distance(image):
        return squeezenet(image, picture)

    start = torch.randn(1, 3, 48, 48, generator=torch.Generator().manual_seed(1))
    found = []
    for scale in (0.0, 3.0, 30.0, 300.0):
        denoise = image_guided(gaussian, SCHEDULE, same, distance, scale)
        sample = last(ddim(denoise, start, SCHEDULE, time_steps(100, 12), 0.0, lambda i: start))
        found.append(distance(sample).item())
    assert found == sorted(found, reverse=True)
    assert found[-1] < 0.8 * found[0]


def test_pictures_that_a_perceptual_distance_cannot_see_are_refused(squeezenet):
    guide = PictureGuide(kind="low_resolution", distance="perceptual", scale=30.0)
    rows = {"low_resolution": torch.zeros(2, 3, 8, 8, dtype=torch.uint8)}
    with pytest.raises(ValueError, match="pictures of 8 x 8 are too small for distance: perceptual; say distance: l2"):
        guides.distance(guide, rows, None, None, guides.Networks(perceptual=squeezenet), ())


def test_reducing_is_pillows_bicubic_but_for_its_rounding():
    pixels = torch.randint(0, 256, (3, 32, 24), dtype=torch.uint8)
    ours = to_uint8(reduced(to_float(pixels)[None], (8, 6)))[0]
    assert (ours.int() - resize(pixels, 8, 6).int()).abs().max() <= 1


def test_what_is_known_is_the_latent_itself_and_is_noised_as_training_noises_it():
    known, start = torch.randn(2, 3, 8, 8), torch.randn(2, 3, 8, 8)
    hole = torch.zeros(2, 1, 8, 8, dtype=torch.bool)
    hole[:, :, 2:6, 2:6] = True
    everywhere = hole.expand_as(known)
    met = []

    def watched(noisy, step):
        met.append((noisy, int(step[0])))
        return shrink(noisy, step)

    sample = last(ddim(known_kept(watched, known, hole), start, SCHEDULE, time_steps(100, 20), 0.0, lambda i: start))
    assert torch.equal(sample[~everywhere], known[~everywhere])
    assert not torch.equal(sample[everywhere], known[everywhere])
    for noisy, step in met:
        expected = SCHEDULE.alpha[step] * known + SCHEDULE.sigma[step] * start
        torch.testing.assert_close(noisy[~everywhere], expected[~everywhere], rtol=1e-4, atol=1e-4)


def test_every_place_that_sees_the_hole_is_in_it_and_no_known_pixel_changes():
    mask = torch.zeros(1, 16, 16, dtype=torch.uint8)
    mask[0, 7:9, 3] = 1
    assert latent_hole(mask, 4)[0, 0].nonzero().tolist() == [[1, 0], [2, 0]]
    sample, picture = (torch.randint(0, 256, (1, 3, 16, 16), dtype=torch.uint8) for _ in range(2))
    out, hole = pasted(sample, picture, mask), mask[:, None].expand(1, 3, 16, 16) > 0
    assert torch.equal(out[~hole], picture[~hole])
    assert torch.equal(out[hole], sample[hole])


def local(condition):
    """A denoiser that sees one place away, with the condition's channels and tokens in it."""

    def denoise(noisy, step):
        x = noisy if condition.channels is None else noisy + condition.channels
        blurred = torch.nn.functional.avg_pool2d(x, 3, stride=1, padding=1)
        return blurred + condition.tokens.mean()

    return denoise


def condition(height, width):
    return Condition(tokens=torch.randn(2, 4, 5), channels=torch.randn(2, 3, height, width))


@pytest.mark.parametrize("size", [24, 40])
def test_one_patch_is_the_whole(size):
    noisy, told, step = torch.randn(2, 3, 24, 16), condition(24, 16), torch.tensor([3, 3])
    torch.testing.assert_close(patched(local, size, 8)(told)(noisy, step), local(told)(noisy, step))


@pytest.mark.parametrize(("height", "width", "size", "overlap"), [(24, 40, 16, 8), (37, 21, 16, 4), (50, 16, 16, 2)])
def test_patches_of_a_local_denoiser_are_the_whole_outside_what_they_share(height, width, size, overlap):
    noisy, told, step = torch.randn(2, 3, height, width), condition(height, width), torch.tensor([3, 3])
    shared = torch.zeros(height, width)
    numbered = torch.arange(height * width).float().view(1, 1, height, width)

    def counting(part):
        shared.view(-1)[part.channels.long().flatten()] += 1
        return lambda noisy, step: noisy

    patched(counting, size, overlap)(Condition(channels=numbered))(noisy, step)
    assert shared.min() == 1
    alone = torch.nn.functional.max_pool2d(shared[None], 3, stride=1, padding=1)[0] == 1
    assert alone.any()
    whole, parts = local(told)(noisy, step), patched(local, size, overlap)(told)(noisy, step)
    torch.testing.assert_close(parts[:, :, alone], whole[:, :, alone])


def test_a_sample_in_patches_of_a_local_denoiser_is_the_whole_out_of_reach_of_what_they_share():
    """Each step looks one place further, so after three what is three places from every overlap is untouched."""
    height, width, size, overlap, steps = 40, 24, 16, 4, 3
    told, start = condition(height, width), torch.randn(2, 3, height, width)
    numbered, shared = torch.arange(height * width).float().view(1, 1, height, width), torch.zeros(height, width)

    def counting(part):
        shared.view(-1)[part.channels.long().flatten()] += 1
        return lambda noisy, step: noisy

    patched(counting, size, overlap)(Condition(channels=numbered))(start, torch.tensor([3, 3]))
    reached = torch.nn.functional.max_pool2d(shared[None], 2 * steps + 1, stride=1, padding=steps)[0]
    alone, beside = reached == 1, shared > 1
    assert alone.any()

    def drawn(denoise):
        return last(ddim(denoise, start, SCHEDULE, time_steps(100, steps), 0.0, lambda i: start))

    whole, parts = drawn(local(told)), drawn(patched(local, size, overlap)(told))
    torch.testing.assert_close(parts[:, :, alone], whole[:, :, alone])
    assert not torch.allclose(parts[:, :, beside], whole[:, :, beside], atol=1e-3)


def test_blended_patches_of_a_denoiser_without_reach_are_the_whole_everywhere():
    noisy, told, step = torch.randn(2, 3, 37, 21), condition(37, 21), torch.tensor([3, 3])

    def pointwise(told):
        return lambda noisy, step: torch.tanh(noisy) + told.channels

    torch.testing.assert_close(patched(pointwise, 16, 4)(told)(noisy, step), pointwise(told)(noisy, step))
