"""Statistics of the report: arrays in, numbers out. `docs/report.md` gives the formula and source of each."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats as sps

LEVEL = 0.95
"""Coverage of every interval."""
ALPHA = 0.05
"""Two-sided significance level of every test."""
POWER = 0.8
"""Chance to show the difference that `seeds_needed` asks for."""
RESAMPLES = 5_000
"""Resamples of every bootstrap."""
MOST_SEEDS = 200_000
"""Where a number of seeds would be larger, it is infinite."""
EXACT_LIMIT = 200_000
"""Permutation tests with at most this many arrangements go through all of them."""


def standard_error(scores: ArrayLike) -> float:
    """Standard deviation (n - 1) over sqrt n of scores (n,); NaN for fewer than two."""
    values = np.asarray(scores, dtype=float)
    return float(values.std(ddof=1) / math.sqrt(len(values))) if len(values) > 1 else math.nan


def mean_interval(scores: ArrayLike) -> tuple[float, float]:
    """Student's t interval of the mean of scores (n,), n - 1 degrees of freedom; NaN for fewer than two, and where
    all are equal: their spread is then not known, not 0."""
    values = np.round(np.asarray(scores, dtype=float), 8)
    error = standard_error(values)
    if not error > 0:
        return math.nan, math.nan
    low, high = sps.t.interval(LEVEL, len(values) - 1, loc=values.mean(), scale=error)
    return float(low), float(high)


def percentile_interval(draws: ArrayLike) -> tuple[float, float]:
    """Percentile interval of resampled values (resamples,)."""
    low, high = np.quantile(np.asarray(draws, dtype=float), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def difference_interval(a: ArrayLike, b: ArrayLike, *, paired: bool) -> tuple[float, float]:
    """t interval of mean(a) - mean(b): of the differences where paired, else Welch's; NaN for fewer than two each,
    and where no score differs from another."""
    x, y = np.round(np.asarray(a, dtype=float), 8), np.round(np.asarray(b, dtype=float), 8)
    if paired:
        return mean_interval(x - y)
    if min(len(x), len(y)) < 2 or (x.std() == 0 and y.std() == 0):
        return math.nan, math.nan
    interval = sps.ttest_ind(x, y, equal_var=False).confidence_interval(LEVEL)
    return float(interval.low), float(interval.high)


def arrangements(n_a: int, n_b: int, *, paired: bool) -> int:
    """How many arrangements the permutation test has: sign flips of pairs, or splits of all runs in two groups."""
    return 2**n_a if paired else math.comb(n_a + n_b, n_a)


def smallest_p(n_a: int, n_b: int, *, paired: bool, tasks: int = 1) -> float:
    """The smallest two-sided p that the exact permutation test can give with this many runs on each of some tasks."""
    return min(1.0, 2 / arrangements(n_a, n_b, paired=paired) ** tasks)


def fewest_seeds(tasks: int, *, paired: bool, tests: int = 1) -> int:
    """Seeds per optimizer and task with which the permutation test over so many tasks can show a difference at all, as
    one of so many tests."""
    return next(n for n in range(2, 100) if smallest_p(n, n, paired=paired, tasks=tasks) * tests <= ALPHA)


def _mean_difference(a: NDArray[np.float64], b: NDArray[np.float64], axis: int = -1) -> NDArray[np.float64]:
    return np.mean(a, axis=axis) - np.mean(b, axis=axis)


def permutation_p(a: ArrayLike, b: ArrayLike, *, paired: bool) -> float:
    """Two-sided p of the permutation test of equal means (scores (n_a,) and (n_b,)); NaN for fewer than two each.

    Exact up to `EXACT_LIMIT` arrangements; beyond that 99,999 random ones, drawn with a fixed seed.
    """
    x, y = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    if min(len(x), len(y)) < 2:
        return math.nan
    exact = arrangements(len(x), len(y), paired=paired) <= EXACT_LIMIT
    # Scores are multiples of 100 / rows: rounding keeps equal sums equal.
    result = sps.permutation_test(
        (np.round(x, 8), np.round(y, 8)),
        _mean_difference,
        permutation_type="samples" if paired else "independent",
        vectorized=True,
        n_resamples=np.inf if exact else 99_999,
        rng=np.random.default_rng(0),
    )
    return float(result.pvalue)


def holm(p_values: ArrayLike) -> NDArray[np.float64]:
    """Holm's adjusted p-values, in the order given; NaN entries are no tests and stay NaN."""
    from statsmodels.stats.multitest import multipletests

    values = np.asarray(p_values, dtype=float)
    adjusted = np.full(values.shape, np.nan)
    known = ~np.isnan(values)
    if known.any():
        adjusted[known] = multipletests(values[known], alpha=ALPHA, method="holm")[1]
    return adjusted


def sign_test_p(higher: int, lower: int) -> float:
    """Two-sided sign test over tasks, ties left out; NaN without any."""
    return float(sps.binomtest(higher, higher + lower).pvalue) if higher + lower else math.nan


def seeds_needed(difference: float, deviation: float, *, paired: bool, tests: int = 1) -> float:
    """Seeds per optimizer with which a t test shows a difference of means with power `POWER`.

    Args:
        difference: true difference of means to be shown.
        deviation: standard deviation of one score, or of the differences where paired.
        tests: how many are made; each is at level `ALPHA` / tests, the strictest that Holm's adjustment asks for.

    Returns:
        At least as many as the permutation test needs to reach that level at all; infinite for no difference and beyond
        `MOST_SEEDS`, NaN for an unknown deviation.
    """
    from statsmodels.stats.power import TTestIndPower, TTestPower

    if math.isnan(difference) or math.isnan(deviation):
        return math.nan
    if difference == 0:
        return math.inf
    floor, level = fewest_seeds(1, paired=paired, tests=tests), ALPHA / tests
    effect = abs(difference) / deviation if deviation > 0 else math.inf

    def power(n: int) -> float:
        if paired:
            return float(TTestPower().power(effect, n, level))
        return float(TTestIndPower().power(effect, n, level))

    if effect > 10:  # beyond what statsmodels computes
        return floor
    if effect < 0.01:  # more than 100,000 seeds: the normal approximation is exact enough
        quantiles = sps.norm.ppf(1 - level / 2) + sps.norm.ppf(POWER)
        n = math.ceil((1 if paired else 2) * (quantiles / effect) ** 2)
        return n if n <= MOST_SEEDS else math.inf
    return smallest_n(power, floor, POWER)


def smallest_n(power: Callable[[int], float], floor: int, wanted: float) -> float:
    """The smallest n from `floor` on with power(n) >= wanted, where power rises with n; infinite past `MOST_SEEDS`."""
    if power(floor) >= wanted:
        return floor
    low, high = floor, 2 * floor
    while power(high) < wanted:
        low, high = high, 2 * high
        if low > MOST_SEEDS:
            return math.inf
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if power(middle) >= wanted else (middle, high)
    return high


def pooled_deviation(a: ArrayLike, b: ArrayLike) -> float:
    """Standard deviation of one score, pooled over two groups (n - 1 each); NaN for fewer than two each."""
    x, y = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    if min(len(x), len(y)) < 2:
        return math.nan
    squares = (len(x) - 1) * x.var(ddof=1) + (len(y) - 1) * y.var(ddof=1)
    return math.sqrt(squares / (len(x) + len(y) - 2))


def expected_best(scores: ArrayLike) -> NDArray[np.float64]:
    """Expected best of k = 1..n scores drawn with replacement from the n given (Dodge et al. 2019, section 3.1).

    E[max of k] = sum_i v_(i) * ((i/n)^k - ((i-1)/n)^k), v sorted upwards.
    """
    values = np.sort(np.asarray(scores, dtype=float))
    n = len(values)
    ranks = np.arange(n + 1) / n
    budgets = np.arange(1, n + 1)[:, None]
    return (ranks[None, 1:] ** budgets - ranks[None, :-1] ** budgets) @ values


@dataclass(frozen=True)
class Flattery:
    """How far the best of several cells is expected to stand above its own true score, score x 100."""

    low: float
    """Taking the observed scores of the cells for their true ones: too low, since those are already spread by noise."""
    high: float
    """Taking all cells for equally good: the most it can be."""


def flattery(cell_scores: ArrayLike, noise: float, draws: int = 5_000) -> Flattery:
    """Expected (score of the best cell as observed) - (its true score), from noise in the scores alone.

    Args:
        cell_scores: (cells,) the scores that were compared.
        noise: standard deviation of one such score at equal hyperparameters.

    Returns:
        The range between two assumptions on the true scores; 0 for a single cell, NaN for unknown noise.
    """
    scores = np.asarray(cell_scores, dtype=float)
    if len(scores) < 2:
        return Flattery(0.0, 0.0)
    if math.isnan(noise):
        return Flattery(math.nan, math.nan)
    error = np.random.default_rng(0).normal(0.0, noise, size=(draws, len(scores)))
    winner = np.argmax(scores + error, axis=1)
    return Flattery(low=float(error[np.arange(draws), winner].mean()), high=float(error.max(axis=1).mean()))
