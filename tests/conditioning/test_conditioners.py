"""Each conditioner: what it makes of a row, and that dropping gives the null condition whatever the row says."""

import pytest
import torch

from ldm import conditioning

INFO = {
    "classes": ["cat", "dog"],
    "vocabulary_size": 20,
    "null_tokens": [2, 3, 0, 0],
    "shapes": {"low_resolution": [3, 4, 4]},
}
SECTIONS = {
    "none": {},
    "label": {"width": 6},
    "text": {"width": 8, "layers": 1, "heads": 2, "head_width": 4, "dropout": 0.0},
    "low_resolution": {},
}


def conditioner(kind):
    torch.manual_seed(0)
    return conditioning.build(kind, conditioning.config_class(kind)(**SECTIONS[kind]), INFO).eval()


def rows(flip: bool = False):
    order = [1, 0] if flip else [0, 1]
    return {
        "label": torch.tensor([0, 1])[order],
        "tokens": torch.tensor([[2, 7, 3, 0], [2, 9, 8, 3]], dtype=torch.int32)[order],
        "low_resolution": torch.stack([torch.zeros(3, 4, 4), torch.full((3, 4, 4), 255)]).byte()[order],
    }


KINDS = list(SECTIONS)
TOLD = ["label", "text", "low_resolution"]


def made(kind, given, dropped, size=(4, 4)):
    condition = conditioner(kind)(given, torch.tensor(dropped), size)
    return condition.tokens if condition.tokens is not None else condition.channels


@pytest.mark.parametrize("kind", TOLD)
def test_dropped_rows_are_all_the_same_and_others_are_not(kind):
    with_ = made(kind, rows(), [False, False])
    without = made(kind, rows(), [True, True])
    assert torch.equal(without[0], without[1])
    assert not torch.equal(with_[0], with_[1])
    assert not torch.equal(with_[1], without[1])


@pytest.mark.parametrize("kind", TOLD)
def test_each_row_is_conditioned_by_itself(kind):
    torch.testing.assert_close(made(kind, rows(flip=True), [False, True]), made(kind, rows(), [True, False]).flip(0))


@pytest.mark.parametrize("kind", KINDS)
def test_widths_are_what_the_unet_was_told(kind):
    module = conditioner(kind)
    condition = module(rows(), torch.tensor([False, False]), (8, 8))
    assert (condition.tokens is None) == (module.token_width == 0)
    assert (condition.channels is None) == (module.channels == 0)
    if condition.tokens is not None:
        assert condition.tokens.shape[-1] == module.token_width
    if condition.channels is not None:
        assert condition.channels.shape == (2, module.channels, 8, 8)


def test_the_null_text_is_the_empty_caption():
    empty = rows() | {"tokens": torch.tensor([INFO["null_tokens"]] * 2, dtype=torch.int32)}
    torch.testing.assert_close(made("text", empty, [False, False]), made("text", rows(), [True, True]))


def test_a_row_without_label_is_unconditional():
    unlabelled = rows() | {"label": torch.tensor([-1, -1])}
    torch.testing.assert_close(made("label", unlabelled, [False, False]), made("label", rows(), [True, True]))


def test_a_low_resolution_image_of_the_latents_size_is_used_as_it_is():
    assert made("low_resolution", rows(), [False, False]).unique().tolist() == [-1, 1]


@pytest.mark.parametrize(
    ("kind", "lacks"), [("label", "classes"), ("text", "null_tokens"), ("low_resolution", "shapes")]
)
def test_latents_that_lack_the_condition_are_refused(kind, lacks):
    info = INFO | {lacks: {} if lacks == "shapes" else None}
    with pytest.raises(ValueError, match=f"condition: {kind} needs"):
        conditioning.build(kind, conditioning.config_class(kind)(**SECTIONS[kind]), info)
