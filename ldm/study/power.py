"""How many raters a study needs, before it is exported."""

import math

from scipy.stats import norm

from ldm.study.statistics import CONFIDENCE
from ldm.study.trials import COMPARISONS

RATERS_ALIKE = 0.1
"""Correlation of two answers of one rater: about what raters have whose leanings differ by 0.7 on the logit scale."""
PICTURES_ALIKE = 0.05
"""Correlation of two answers to one pair."""
MOST = 1_000_000


def design_effect(raters: float, trials: int, raters_alike: float, pictures_alike: float) -> float:
    """Of `raters` who answer `trials` pairs each of a comparison; a third of them see the same pair."""
    shared = max(0.0, raters / len(COMPARISONS) - 1)
    return 1 + (trials - 1) * raters_alike + shared * pictures_alike


def power(share: float, raters: int, trials: int, effect: float) -> float:
    """The chance that the 95 % interval leaves out one half where the true share is `share`.

    The interval is Wilson's, so it does where the score test does; normal approximation at raters x trials / effect
    answers.
    """
    n = raters * trials / effect
    distance, spread = abs(share - 0.5), math.sqrt(share * (1 - share))
    z = norm.ppf((1 + CONFIDENCE) / 2)
    found = (distance * math.sqrt(n) - z / 2) / spread
    wrong_way = (-distance * math.sqrt(n) - z / 2) / spread
    return float(norm.cdf(found) + norm.cdf(wrong_way))


def raters_needed(
    share: float,
    trials: int,
    *,
    wanted: float = 0.8,
    effect: float | None = None,
    raters_alike: float = RATERS_ALIKE,
    pictures_alike: float = PICTURES_ALIKE,
) -> int:
    """The fewest raters with a chance of at least `wanted` to tell `share` from one half.

    `effect`: a design effect as `ldm study score` measured it in an earlier study, in place of the likenesses.
    ValueError where no number of raters is enough, for more raters do not make more pictures.
    """
    _check(share, trials, wanted, effect, raters_alike, pictures_alike)

    def enough(raters: int) -> bool:
        of = design_effect(raters, trials, raters_alike, pictures_alike) if effect is None else effect
        return power(share, raters, trials, of) >= wanted

    high = 1
    while not enough(high):
        high *= 2
        if high > MOST:
            raise ValueError(
                f"no number of raters tells {share:g} from one half with {trials} trials in {wanted:.0%} of studies, "
                "for they all see the same pictures; raise trials"
            )
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def _check(
    share: float, trials: int, wanted: float, effect: float | None, raters_alike: float, pictures_alike: float
) -> None:
    if not 0 < share < 1 or share == 0.5:
        raise ValueError(f"difference {share:g}: say the share of answers to be told from one half, such as 0.6")
    if trials < 1:
        raise ValueError(f"trials {trials}: at least 1")
    if not 0 < wanted < 1:
        raise ValueError(f"power {wanted:g}: between 0 and 1, such as 0.8")
    if effect is not None and effect < 1:
        raise ValueError(f"design effect {effect:g}: at least 1, which stands for independent answers")
    for name, value in (("raters alike", raters_alike), ("pictures alike", pictures_alike)):
        if not 0 <= value < 1:
            raise ValueError(f"{name} {value:g}: a correlation, from 0 to less than 1")
