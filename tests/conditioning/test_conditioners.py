"""Each kind of condition: what it makes of a row, and that dropping gives the null condition whatever the row says."""

import pytest
import torch
import torch.nn.functional as F

from ldm import conditioning
from ldm.conditioning import Conditions
from ldm.config import check

INFO = {
    "factor": 4,
    "latent_shape": [3, 4, 4],
    "classes": ["cat", "dog"],
    "label_map_classes": ["ground", "cat", "dog"],
    "vocabulary_size": 20,
    "null_tokens": [2, 3, 0, 0],
    "layout": {"boxes": 2, "vocabulary_size": 40},
    "shapes": {
        "mean": [3, 4, 4],
        "tokens": [4],
        "layout": [8],
        "low_resolution": [3, 4, 4],
        "label_map": [16, 16],
        "mask": [16, 16],
        "masked": [3, 4, 4],
        "grey": [3, 4, 4],
        "clip_text": [5, 6],
        "clip_image": [1, 7],
    },
}
SMALL = {"width": 8, "layers": 1, "heads": 2, "head_width": 4, "dropout": 0.0}
TOKENS = {"label": {"width": 6}, "text": SMALL, "layout": SMALL, "clip_text": {}, "clip_image": {}}
CHANNELS: dict[str, dict] = {"low_resolution": {}, "label_map": {}, "mask": {}, "grey": {}}
TOLD = [*TOKENS, *CHANNELS]


def section(part: str, kind: str) -> dict:
    return {"kind": kind} | ({} if kind == "none" else {"drop": 0.1} | (TOKENS | CHANNELS)[kind])


def conditioner(tokens="none", channels="none", info=INFO):
    torch.manual_seed(0)
    values = {"tokens": section("tokens", tokens), "channels": section("channels", channels)}
    made = conditioning.build(check(values, Conditions, "condition"), info).eval()
    for name, parameter in made.named_parameters():
        if name.endswith("null"):
            torch.nn.init.normal_(parameter)
    return made


def rows(flip: bool = False) -> dict[str, torch.Tensor]:
    key = torch.Generator().manual_seed(1)
    label_map = torch.zeros(2, 16, 16, dtype=torch.uint8)
    label_map[0, :8], label_map[1, :, 8:] = 1, 2
    mask = torch.zeros(2, 16, 16, dtype=torch.uint8)
    mask[0, :8, :8], mask[1, 8:] = 1, 1
    values = {
        "label": torch.tensor([0, 1]),
        "tokens": torch.tensor([[2, 7, 3, 0], [2, 9, 8, 3]], dtype=torch.int32),
        "layout": torch.tensor([[0, 7, 1, 39, 39, 39, 0, 35], [9, 12, 0, 3, 5, 1, 0, 35]], dtype=torch.int32),
        "low_resolution": torch.stack([torch.zeros(3, 4, 4), torch.full((3, 4, 4), 255)]).byte(),
        "label_map": label_map,
        "mask": mask,
        "masked": torch.randn(2, 3, 4, 4, generator=key),
        "grey": torch.randn(2, 3, 4, 4, generator=key),
        "clip_text": torch.randn(2, 5, 6, generator=key),
        "clip_image": torch.randn(2, 1, 7, generator=key),
    }
    return {name: value.flip(0) if flip else value for name, value in values.items()}


def made(kind, given, dropped, size=(4, 4)):
    """What the part of this `kind` makes, dropped where `dropped`."""
    tokens = kind in TOKENS
    module = conditioner(kind) if tokens else conditioner(channels=kind)
    both = torch.zeros(2, 2, dtype=torch.bool)
    both[:, 0 if tokens else 1] = torch.tensor(dropped)
    condition = module(given, both, size)
    return condition.tokens if tokens else condition.channels


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


@pytest.mark.parametrize("kind", TOLD)
@pytest.mark.parametrize("size", [(4, 4), (8, 8), (4, 10)])
def test_widths_are_what_the_unet_is_told_at_every_size(kind, size):
    value = made(kind, rows(), [False, True], size)
    if kind in TOKENS:
        assert value.shape[-1] == conditioner(kind).token_width
        assert conditioner(kind).channels_width == 0
    else:
        assert value.shape == (2, conditioner(channels=kind).channels_width, *size)
        assert conditioner(channels=kind).token_width == 0


def test_both_parts_at_once_are_what_each_makes_alone():
    module = conditioner("label", "mask")
    dropped = torch.tensor([[True, False], [False, True]])
    condition = module(rows(), dropped, (4, 4))
    torch.testing.assert_close(condition.channels, made("mask", rows(), [False, True]))
    torch.testing.assert_close(condition.tokens[0], module.tokens.embedding.weight[[2]])
    torch.testing.assert_close(condition.tokens[1], module.tokens.embedding.weight[[1]])


def test_nothing_is_made_of_no_condition():
    condition = conditioner()(rows(), torch.zeros(2, 2, dtype=torch.bool), (4, 4))
    assert (condition.tokens, condition.channels) == (None, None)


@pytest.mark.parametrize("kind", ["none", *TOLD])
def test_exactly_the_columns_that_it_says_are_read(kind):
    module = conditioner(channels=kind) if kind in CHANNELS else conditioner(kind)
    needed = {name: rows()[name] for name in module.reads}
    module(needed, torch.zeros(2, 2, dtype=torch.bool), (4, 4))
    for name in needed:
        with pytest.raises(KeyError, match=name):
            module({n: v for n, v in needed.items() if n != name}, torch.zeros(2, 2, dtype=torch.bool), (4, 4))


def test_guidance_leads_away_from_what_was_trained_as_null():
    values = {"tokens": section("tokens", "label"), "channels": section("channels", "grey") | {"drop": 0.0}}
    module = conditioning.build(Conditions(**values), INFO)
    assert module.drops == (0.1, 0.0)
    device = torch.device("cpu")
    assert conditioning.null_dropped(module, 3, device).tolist() == [[True, False]] * 3
    assert not conditioning.nothing_dropped(3, device).any()
    chance = torch.tensor([[0.05, 0.0], [0.2, 0.0]])
    assert conditioning.draw_dropped(module, chance).tolist() == [[True, False], [False, False]]


def test_the_null_text_is_the_empty_caption():
    empty = rows() | {"tokens": torch.tensor([INFO["null_tokens"]] * 2, dtype=torch.int32)}
    torch.testing.assert_close(made("text", empty, [False, False]), made("text", rows(), [True, True]))


@pytest.mark.parametrize(
    ("kind", "absent"),
    [
        ("label", torch.tensor([-1, -1])),
        ("layout", torch.full((2, 8), 39, dtype=torch.int32)),
        ("label_map", torch.full((2, 16, 16), 255, dtype=torch.uint8)),
        ("clip_text", torch.zeros(2, 5, 6)),
        ("clip_image", torch.zeros(2, 1, 7)),
    ],
)
def test_a_row_of_which_nothing_is_known_is_unconditional(kind, absent):
    unknown = rows() | {kind: absent}
    torch.testing.assert_close(made(kind, unknown, [False, False]), made(kind, rows(), [True, True]))


def test_a_low_resolution_image_of_the_latents_size_is_used_as_it_is():
    assert made("low_resolution", rows(), [False, False]).unique().tolist() == [-1, 1]


def test_a_low_resolution_image_larger_than_the_latent_is_averaged_into_it():
    """Stripes of one pixel come to grey; without a filter as wide as the reduction one of their colours would stay."""
    stripes = torch.zeros(2, 3, 16, 16, dtype=torch.uint8)
    stripes[..., ::2] = 255
    condition = made("low_resolution", rows() | {"low_resolution": stripes}, [False, False])
    assert condition.abs().max() < 0.1


def test_a_label_map_is_the_released_order_of_halvings_and_mapping():
    """One channel a class, halved twice, then mapped."""
    module = conditioner(channels="label_map").channels
    one_hot = F.one_hot(rows()["label_map"].long(), 3).permute(0, 3, 1, 2).float()
    for _ in range(2):
        one_hot = F.interpolate(one_hot, scale_factor=0.5, mode="bilinear")
    torch.testing.assert_close(made("label_map", rows(), [False, False]), module.mapper(one_hot))


def test_the_hole_is_one_in_the_mask_and_the_latent_is_as_it_was_cached():
    condition = made("mask", rows(), [False, False])
    torch.testing.assert_close(condition[:, :3], rows()["masked"])
    assert condition[0, 3].tolist() == [[1, 1, -1, -1], [1, 1, -1, -1], [-1] * 4, [-1] * 4]
    null = made("mask", rows(), [True, True])
    assert (null[:, :3].unique().tolist(), null[:, 3].unique().tolist()) == ([0], [1])


@pytest.mark.parametrize("kind", TOLD)
def test_latents_that_lack_the_condition_are_refused(kind):
    info = INFO | {"classes": None, "null_tokens": [], "shapes": {"mean": [3, 4, 4]}}
    with pytest.raises(ValueError, match=f"{kind} needs") as caught:
        conditioner(**{"tokens" if kind in TOKENS else "channels": kind}, info=info)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("part", ["tokens", "channels"])
def test_an_unknown_kind_is_refused_with_those_there_are(part):
    values = {"tokens": section("tokens", "none"), "channels": section("channels", "none")} | {part: {"kind": "txt"}}
    known = {"tokens": TOKENS, "channels": CHANNELS}[part]
    with pytest.raises(ValueError, match=f"params.yaml: d.condition.{part}: .*none, .*{', '.join(list(known)[-2:])}"):
        check(values, Conditions, "d.condition")


def parameters(kind: str, info: dict, **section) -> int:
    values = {"tokens": {"kind": kind, "drop": 0.1, "heads": 8, "dropout": 0.0} | section, "channels": {"kind": "none"}}
    with torch.device("meta"):
        module = conditioning.build(Conditions(**values), INFO | info)
    return sum(p.numel() for p in module.parameters())


def test_the_released_transformers_have_exactly_as_many_parameters():
    text = {"vocabulary_size": 30522, "null_tokens": [0] * 77}
    layout = {"layout": {"boxes": 30, "vocabulary_size": 8192}, "shapes": {"layout": [92]}}
    assert parameters("text", text, width=640, layers=32, unused_logits=True) == 186_154_682
    assert parameters("text", text, width=1280, layers=32, unused_logits=True) == 581_994_042
    assert parameters("text", text, width=1280, layers=32) == 581_994_042 - 1280 * 30522 - 30522
    assert parameters("layout", layout, width=512, layers=16, unused_logits=True) == 58_858_496
