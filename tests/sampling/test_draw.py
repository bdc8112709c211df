"""draw(), which the sample stage and the command line build on: every way of drawing on a small model."""

import shutil
from collections import deque
from pathlib import Path

import pytest
import torch

from ldm.autoencoder.config import VQ, Autoencoder
from ldm.autoencoder.model import VQAutoencoder
from ldm.config import check
from ldm.data.pictures import to_float, to_uint8
from ldm.files import sha256, write_json
from ldm.sampling.classifier_guidance import label_likelihood
from ldm.sampling.config import Drawing
from ldm.sampling.draw import draw
from ldm.sampling.guides import Networks, networks, paint
from tests.clips import write_clip
from tests.sampling.small import AUTOENCODER, SIDE, TEXT, diffusion_section, information, pictures, stirred

DDIM = {"kind": "ddim", "num_steps": 4, "eta": 0.0}
LOW = {"kind": "low_resolution", "drop": 0.0}
MASK = {"kind": "mask", "drop": 0.0}


def how(**changes):
    return check({"sampler": DDIM, "guidance": 1.0, "seed": 5} | changes, Drawing, "samples.x")


@pytest.fixture
def drawn(first_stage, rows, built):
    """The last step of drawing two pictures."""

    def draw_two(parts=None, numbers=(0, 1), given=None, paste=False, networks=None, prompts=(), **changes):
        model = built(**parts or {})
        chosen = {name: values[:2] for name, values in (rows if given is None else given).items()}
        steps = draw(
            model, first_stage, chosen, numbers, how(**changes), paste=paste, networks=networks or Networks(),
            prompts=prompts,
        )  # fmt: skip
        (last,) = deque(steps, maxlen=1)
        assert last.done == last.total
        return last

    return draw_two


@pytest.mark.parametrize("sampler", ["ddpm", "ddim", "plms", "dpm_solver"])
def test_each_sampler_yields_as_many_steps_as_it_says(first_stage, built, sampler):
    named = {"kind": sampler} if sampler == "ddpm" else {"kind": sampler, "num_steps": 7}
    named |= {"eta": 1.0} if sampler == "ddim" else {}
    model = built(schedule={"kind": "linear", "steps": 10, "beta_start": 0.01, "beta_end": 0.5})
    steps = list(draw(model, first_stage, {}, [3], how(sampler=named)))
    assert [step.done for step in steps] == list(range(1, len(steps) + 1))
    assert {step.total for step in steps} == {len(steps)} == {10 if sampler == "ddpm" else 7}
    assert steps[0].pictures().shape == (1, 3, SIDE, SIDE)


def test_released_spacing_ends_at_the_noise_of_the_first_step(drawn):
    even, released = (drawn(sampler=DDIM | {"spacing": spacing}).latent for spacing in ("even", "released"))
    assert not torch.equal(even, released)


def test_a_number_has_the_same_noise_wherever_it_stands(drawn):
    both, swapped, other = drawn(), drawn(numbers=(1, 0)), drawn(seed=6)
    torch.testing.assert_close(both.latent, swapped.latent.flip(0))
    assert not torch.allclose(both.latent, other.latent)


def test_guidance_one_is_none(drawn):
    parts = {"tokens": TEXT}
    one, more = drawn(parts, guidance=1.0).latent, drawn(parts, guidance=3.0).latent
    assert not torch.allclose(one, more)
    torch.testing.assert_close(drawn(parts, guidance=1.0001).latent, one, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("channels", ["low_resolution", "label_map", "mask", "grey"])
def test_beyond_the_training_size_under_every_channel(drawn, channels):
    parts = {"tokens": TEXT, "channels": {"kind": channels, "drop": 0.0}}
    last = drawn(parts, size=[2 * SIDE, SIDE + 16], guidance=2.0)
    assert last.pictures().shape == (2, 3, 2 * SIDE, SIDE + 16)
    assert last.latent.isfinite().all()


def test_one_patch_is_the_whole_and_several_are_not_far(drawn):
    parts = {"tokens": TEXT, "channels": LOW}
    whole = drawn(parts, size=[48, 48], guidance=2.0).latent
    one = drawn(parts, size=[48, 48], guidance=2.0, patches={"size": 64, "overlap": 16}).latent
    torch.testing.assert_close(one, whole, rtol=1e-4, atol=1e-4)
    many = drawn(parts, size=[48, 48], guidance=2.0, patches={"size": 32, "overlap": 16}).latent
    assert not torch.equal(many, whole)
    assert torch.corrcoef(torch.stack([many.flatten(), whole.flatten()]))[0, 1] > 0.9


def test_tiles_decode_what_the_whole_does_where_one_holds_it(drawn):
    whole, one = drawn(tile=None).pictures(), drawn(tile=SIDE).pictures()
    assert torch.equal(whole, one)
    assert drawn(tile=16).pictures().shape == whole.shape


def test_a_little_noise_leaves_the_picture_and_much_does_not(drawn, built, rows):
    model = built()
    own = model.scale(rows["mean"][:2])
    far = [
        (drawn(start={"strength": s}, sampler=DDIM | {"num_steps": 1}).latent - own).square().mean()
        for s in (0.01, 0.2, 1.0)
    ]
    assert far[0] < 0.1 * far[1] < far[2]


def test_what_is_known_survives_in_the_latent_and_pasted_in_the_picture(drawn, rows, first_stage, built):
    hole = rows["mask"][:2, None] > 0
    last = drawn(keep_known=True)
    kept = torch.nn.functional.max_pool2d(hole.float(), 4) == 0
    own = built().scale(rows["mean"][:2])
    assert torch.equal(last.latent[kept.expand_as(own)], own[kept.expand_as(own)])
    given = rows | {"picture": pictures(len(rows["mean"]))}
    for parts, changes in (({}, {"keep_known": True}), ({"channels": MASK}, {})):
        out, picture = drawn(parts, given=given, paste=True, **changes).pictures(), given["picture"][:2]
        known = ~hole.expand_as(picture)
        assert torch.equal(out[known], picture[known])
        assert not torch.equal(out[~known], picture[~known])


@pytest.mark.parametrize("kind", ["low_resolution", "identity", "grey", "masked"])
@pytest.mark.parametrize("distance", ["l2", "perceptual"])
def test_every_picture_guide_changes_the_sample_and_keeps_it_finite(drawn, kind, distance):
    networks = Networks(perceptual=lambda a, b: (a - b).abs().flatten(1).sum(1))
    held = drawn(guide={"kind": kind, "distance": distance, "scale": 0.05}, networks=networks)
    assert held.latent.isfinite().all()
    assert not torch.equal(held.latent, drawn().latent)


def test_clip_finds_a_sample_guided_by_it_more_like_its_prompt(drawn, tmp_path):
    guide = {"kind": "clip", "scale": 300.0}
    weights = write_clip(tmp_path / "clip")
    found = networks(how(guide=guide), weights, Path("none"), torch.device("cpu"))
    prompts = ["red", "a b"]
    likeness = [
        found.clip(to_float(last.pictures()), prompts)
        for last in (drawn(), drawn(guide=guide, networks=found, prompts=prompts))
    ]
    assert (likeness[1] > likeness[0]).all()


def test_squeezenet_finds_a_guided_sample_nearer_to_its_guide(drawn, rows, first_stage, shared_data, tmp_path):
    name = "squeezenet1_0_imagenet_caffe_bgr_fp16.pt"
    shutil.copy(shared_data / "weights" / name, tmp_path / name)
    about = {"kind": "squeezenet", "file": name, "sha256": sha256(tmp_path / name), "source": "shared"}
    write_json(tmp_path / "weights.json", about)
    guide = {"kind": "identity", "distance": "perceptual", "scale": 1.0}
    found = networks(how(guide=guide), tmp_path, Path("none"), torch.device("cpu"))
    own = first_stage.decode(rows["mean"][:2])
    far = [found.perceptual(to_float(last.pictures()), own) for last in (drawn(), drawn(guide=guide, networks=found))]
    assert (far[1] < far[0]).all()


def test_a_classifier_finds_the_wanted_class_likelier_in_a_sample_guided_by_it(drawn, built, rows):
    info = information({name: values.shape[1:] for name, values in rows.items()}) | {"classes": ["a", "b", "c"]}
    classifier = built(info=info, objective="label", train=diffusion_section()["train"] | {"loss": "cross_entropy"})
    given, label = rows | {"label": torch.tensor([2, 0, -1, 1, 1, 1])}, torch.tensor([2, 0])
    guide, using = {"kind": "classifier", "scale": 5.0}, Networks(classifier=classifier)
    free, held = (drawn(given=given, **how).latent for how in ({}, {"guide": guide, "networks": using}))
    step = torch.zeros(2, dtype=torch.int64)
    wanted = [label_likelihood(classifier, label)(latent, step) for latent in (free, held)]
    assert (wanted[1] > wanted[0]).all()
    assert torch.equal(label_likelihood(classifier, torch.tensor([-1, -1]))(free, step), torch.zeros(2))


def test_a_small_sample_holds_the_larger_one(drawn):
    """The small one is the sample that there is at the training size, and the larger one's reduction comes nearer."""
    small = drawn()
    total = drawn(size=[64, 64], guide={"kind": "small", "scale": 0.3}).total
    assert total == 2 * small.total

    def far(last):
        reduced = torch.nn.functional.avg_pool2d(last.pictures().float(), 2)
        return (reduced - small.pictures().float()).square().mean()

    free = far(drawn(size=[64, 64]))
    assert far(drawn(size=[64, 64], guide={"kind": "small", "scale": 0.3})) < free


def test_rows_without_what_is_asked_for_are_one_line(drawn, rows):
    bare = {name: values for name, values in rows.items() if name not in ("mask", "mean", "low_resolution")}
    for changes, message in (
        ({"keep_known": True}, "needs"),
        ({"start": {"strength": 0.5}}, "start needs the pictures themselves"),
        ({"guide": {"kind": "low_resolution", "scale": 1.0}}, "guide needs latents with the column low_resolution"),
    ):
        with pytest.raises(ValueError, match=message) as error:
            drawn(given=bare, **changes)
        assert "\n" not in str(error.value)


def test_through_a_codebook_the_gradient_passes_straight():
    section = AUTOENCODER | {"kind": "vq"}
    section["model"] = AUTOENCODER["model"] | {"codebook": {"size": 16, "beta": 0.25, "revive": None}}
    section["loss"] = {key: value for key, value in AUTOENCODER["loss"].items() if key != "kl_weight"}
    config = check(section, Autoencoder, "").root
    assert isinstance(config, VQ)
    vq = stirred(VQAutoencoder(config.model), 0)
    raw = torch.randn(1, 3, 4, 4, requires_grad=True)
    picture = paint(vq, raw)
    torch.testing.assert_close(picture, vq.decode(raw))
    (gradient,) = torch.autograd.grad(picture.sum(), raw)
    assert gradient.abs().sum() > 0
    assert to_uint8(picture.detach()).shape == (1, 3, 16, 16)
