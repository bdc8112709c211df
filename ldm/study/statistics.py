"""Shares with intervals, agreement and a sign test that know that answers of one rater are alike."""

import numpy as np
from jaxtyping import Bool, Int
from scipy.stats import binomtest, norm

CONFIDENCE = 0.95

Chosen = Bool[np.ndarray, " n"]
Cluster = Int[np.ndarray, " n"]


def wilson(share: float, n: float) -> tuple[float, float]:
    """Wilson's score interval of a proportion `share` in [0, 1] seen in `n` answers (Wilson 1927)."""
    z = norm.ppf((1 + CONFIDENCE) / 2)
    centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return max(0.0, float(centre - half)), min(1.0, float(centre + half))


def interval(chosen: Chosen, rater: Cluster, pair: Cluster) -> tuple[float, float]:
    """Wilson's 95 % interval of the mean of `chosen`; with several raters, at the effective number of answers.

    n answers of several raters to the same pairs are worth fewer than n independent ones: n over the design effect, as
    in Franco, Little, Louis and Slud, "Comparative study of confidence intervals for proportions in complex sample
    surveys" (2019).
    """
    return wilson(float(chosen.mean()), len(chosen) / design_effect(chosen, rater, pair))


def design_effect(chosen: Chosen, rater: Cluster, pair: Cluster) -> float:
    """The variance of the mean with answers clustered, over the binomial one; at least 1.

    Clusters by rater and by pair each count for what they add (never less than nothing). With one rater, and where all
    answers agree, nothing can be said of their likeness: 1.
    """
    share = float(chosen.mean())
    if len(np.unique(rater)) == 1 or not 0 < share < 1:
        return 1.0
    return 1.0 + sum(max(0.0, _clustered(chosen - share, clusters) - 1) for clusters in (rater, pair))


def _clustered(residual: np.ndarray, cluster: np.ndarray) -> float:
    """Variance of the mean with these clusters over that without any."""
    sums = np.bincount(np.unique(cluster, return_inverse=True)[1], weights=residual)
    count = len(sums)
    if count < 2:
        return 1.0
    return float(count / (count - 1) * (sums**2).sum() / (residual**2).sum())


def agreement(chosen: Chosen, pair: Cluster) -> float | None:
    """Krippendorff's alpha of nominal answers over the pairs that several raters saw.

    1 where raters agree on every pair, 0 where they agree as often as by chance. None where no pair was seen twice, or
    where all answers are the same, so that chance would agree as well. Krippendorff, "Computing Krippendorff's
    alpha-reliability" (2011), case C without missing values counted.
    """
    number = np.unique(pair, return_inverse=True)[1]
    seen = np.bincount(number)
    kept = seen[number] > 1
    ones = np.bincount(number, weights=chosen)[seen > 1]
    of = seen[seen > 1]
    total, positive = int(of.sum()), float(chosen[kept].sum())
    if positive in (0, total):
        return None
    disagreement = (ones * (of - ones) / (of - 1)).sum()
    return float(1 - (total - 1) * disagreement / (positive * (total - positive)))


def sign_test(chosen: Chosen, rater: Cluster) -> tuple[int, int, float]:
    """Raters who mostly chose the one, raters who mostly chose the other, and the two-sided p of their difference.

    An exact binomial test on one sign a rater, ties left out: raters decide independently, whereas answers of one rater
    do not. It speaks of raters, for the pictures of the study.
    """
    number = np.unique(rater, return_inverse=True)[1]
    balance = np.bincount(number, weights=np.where(chosen, 1, -1))
    one, other = int((balance > 0).sum()), int((balance < 0).sum())
    p = float(binomtest(one, one + other).pvalue) if one + other else 1.0
    return one, other, p
