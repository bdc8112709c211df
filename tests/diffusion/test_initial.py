"""Starting from another model: what is taken over, what starts anew, what is refused, and what is said of it."""

import pytest
import torch

from ldm.diffusion.initial import start_from
from ldm.diffusion.model import DiffusionModel
from ldm.files import write_json
from tests.diffusion.small import INFO, LABEL, ROW, TEXT, made, row, write_random_latents, write_small_model

LONGER = {"null_tokens": [2, 3, *[0] * 7], "shapes": INFO["shapes"] | {"tokens": [9]}}


@pytest.fixture
def start(tmp_path):
    """`start(theirs, ours, info)`: a model of the row `ours` on latents that differ by `info`, begun from `theirs`."""

    def begin(theirs, ours=None, info=None, words=("a", "b")) -> tuple[DiffusionModel, DiffusionModel, list[str]]:
        for name, named in (("tokenizer", words), ("initial/tokenizer", ("a", "b"))):
            vocabulary = {word: i for i, word in enumerate(named)}
            write_json(tmp_path / name / "tokenizer.json", {"model": {"vocab": vocabulary}})
        write_random_latents(tmp_path / "latents")
        initial = write_small_model(tmp_path / "initial", tmp_path / "latents", **theirs)
        ours, info = theirs if ours is None else ours, INFO | (info or {})
        model = made(info, **ours)
        return initial, model, start_from(model, row(**ours), info, tmp_path, tmp_path / "initial")

    return begin


def same(a: DiffusionModel, b: DiffusionModel) -> list[str]:
    other = b.state_dict()
    return [name for name, value in a.state_dict().items() if torch.equal(value, other[name])]


@pytest.mark.parametrize("condition", [LABEL, TEXT])
def test_the_averaged_weights_and_the_scale_are_taken_over(condition, start):
    initial, model, notes = start({"condition": condition, "scale": "channel"}, {"condition": condition, "scale": 2.0})
    assert same(initial, model) == list(initial.state_dict())
    assert len(notes) == 1
    assert "the latent scale is that of" in notes[0]


def test_latents_of_another_size_are_no_other_architecture(start):
    initial, model, notes = start({}, info={"latent_shape": [3, 16, 24]})
    assert same(initial, model) == list(initial.state_dict())
    assert model.shape == (3, 16, 24)
    assert len(notes) == 1


@pytest.mark.parametrize(("condition", "info", "fresh"), [
    (LABEL, {"classes": ["a", "b", "c"]}, ["tokens.embedding.weight"]),
    (TEXT, {"vocabulary_size": 25}, ["embedding"]),
    (TEXT, LONGER, ["position"]),
])  # fmt: skip
def test_what_follows_from_other_data_starts_anew_and_is_listed(condition, info, fresh, start):
    initial, model, notes = start({"condition": condition}, info=info)
    new = sorted(set(initial.state_dict()) - set(same_shaped(initial, model)))
    assert len(new) == len(fresh)
    assert all(part in name for part, name in zip(fresh, new, strict=True))
    assert any(note.endswith(f"start anew: {', '.join(new)}") for note in notes)
    assert same_shaped(initial, model) == same_values(initial, model)


def same_shaped(a, b):
    return [name for name, value in a.state_dict().items() if value.shape == b.state_dict()[name].shape]


def same_values(a, b):
    return [name for name in same_shaped(a, b) if torch.equal(a.state_dict()[name], b.state_dict()[name])]


def test_what_a_person_should_know_is_said(start):
    _, _, notes = start(
        {"condition": LABEL},
        {"condition": LABEL, "objective": "x0", "schedule": ROW["schedule"] | {"zero_terminal_snr": True}},
        {"autoencoder": "another", "classes": ["b", "a"]},
    )
    said = " | ".join(notes)
    for part in ("another autoencoder", "another objective", "another schedule", "other classes"):
        assert part in said


def test_words_that_are_numbered_otherwise_are_said(start):
    _, _, notes = start({"condition": TEXT}, words=("b", "a"))
    assert "other words in its vocabulary" in notes[-1]


@pytest.mark.parametrize(("ours", "difference"), [
    ({"unet": {"channels": 16}}, r"unet.time.0.weight is \[32, 8\] there and \[64, 16\] here"),
    ({"unet": {"num_res_blocks": 2}}, r"unet.down.1.0.norm1.weight is absent there and \[8\] here"),
    ({"unet": {"heads": 4}}, r"unet.heads of width 16 is 2 there and 4 here"),
    ({"condition": LABEL}, r"conditioner.tokens.embedding.weight is absent there and \[3, 8\] here"),
])  # fmt: skip
def test_another_architecture_is_refused_with_the_first_difference(ours, difference, start):
    with pytest.raises(ValueError, match=rf"init_from: .* is of another architecture: {difference}; make"):
        start({}, ours)


def test_another_width_of_the_condition_is_not_taken_for_other_data(start):
    wider = {"tokens": LABEL["tokens"] | {"width": 16}, "channels": {"kind": "none"}}
    with pytest.raises(ValueError, match=r"conditioner.tokens.embedding.weight is \[3, 8\] there and \[3, 16\] here"):
        start({"condition": LABEL}, {"condition": wider})


def test_none_at_all_is_refused(tmp_path):
    with pytest.raises(ValueError, match="incomplete or missing"):
        start_from(made(), row(), INFO, tmp_path, tmp_path / "missing")
