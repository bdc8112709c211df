"""When a discriminator wins, and when steps were enough: pure judgements of a history."""

import pytest

from ldm.autoencoder.watch import losing, news, verdict, worse


def row(step: int, reconstruction: float = 10.0, discriminator: float = 0.6, weight: float = 1.0) -> dict[str, float]:
    return {
        "step": step,
        "reconstruction": reconstruction,
        "discriminator": discriminator,
        "adaptive_weight": weight,
    }


FAIR = [row(step) for step in range(20, 220, 20)]


def test_a_fair_game_is_not_lost():
    assert losing(FAIR, joined=0) is None
    assert losing([row(s, discriminator=0.0) for s in range(20, 420, 20)], joined=0) is None


@pytest.mark.parametrize(
    ("later", "sign"),
    [({"reconstruction": 12.0}, "error rose by 20 %"), ({"weight": 1e4}, "adaptive weight is at its limit")],
)
def test_a_discriminator_without_anything_to_learn_wins_where_pictures_get_worse(later, sign):
    rows = FAIR + [row(step, discriminator=0.01, **later) for step in range(220, 320, 20)]
    assert sign in losing(rows, joined=0)
    assert losing(rows[:-1], joined=0) is None


def test_before_the_discriminator_joined_there_is_nothing_to_lose():
    rows = [row(step, 10.0 + step, discriminator=0.0, weight=0.0) for step in range(20, 420, 20)]
    assert losing(rows, joined=400) is None


def test_it_is_said_once():
    rows = FAIR + [row(step, discriminator=0.01, weight=1e4) for step in range(220, 620, 20)]
    said = [note for end in range(1, len(rows) + 1) for note in news(rows[:end], joined=0)]
    assert len(said) == 1
    assert said[0].startswith("step 300: the discriminator wins")


def test_an_error_far_above_its_best_is_said_once_whatever_raised_it():
    falling = [row(step, 30.0 - step / 20) for step in range(20, 420, 20)]
    assert worse(falling) is None
    risen = falling + [row(step, 11.0) for step in range(420, 520, 20)]
    assert worse(risen) is None
    spoilt = falling + [row(step, 16.0) for step in range(420, 620, 20)]
    said = [note for end in range(1, len(spoilt) + 1) for note in news(spoilt[:end], joined=10_000)]
    assert len(said) == 1
    assert "the reconstruction's error is" in said[0]


@pytest.mark.parametrize(
    ("psnr", "said"),
    [
        ([20, 22, 24, 26, 26.8], "validation PSNR rose by 0.80 dB in the last fifth of the steps: train longer"),
        ([20, 25, 26, 26.5, 26.52], "rose by 0.02 dB in the last fifth of the steps: more steps bring little"),
        ([20, 25, 26, 26.5, 26.2], "fell by 0.30 dB in the last fifth of the steps: fewer steps reconstruct better"),
    ],
)
def test_the_last_fifth_decides_whether_to_go_on(psnr, said):
    rows = [{"step": step, "val_psnr": value} for step, value in zip(range(20, 120, 20), psnr, strict=True)]
    assert said in verdict([*rows, {"step": 99, "loss": 1.0}], 100, "validation")


def test_one_measurement_decides_nothing():
    assert "lower train.picture_every" in verdict([{"step": 100, "val_psnr": 20.0}], 100, "validation")
