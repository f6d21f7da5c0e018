"""Statistics over several tasks: arrays in, numbers out. `docs/report.md` gives the formula and source of each.

A suite is one array of scores per task, seeds last: (..., seeds). Tasks are taken as they are, seeds as drawn at
random: an interval says what other seeds could do on these tasks, not what other tasks could do.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats as sps

from glue_mva.report import stats
from glue_mva.report.stats import ALPHA, EXACT_LIMIT, LEVEL, POWER, RESAMPLES

Floats = NDArray[np.float64]
Suite = Sequence[Floats]

ARRANGEMENTS = 9_999
FEWEST_TASKS, FEWEST_ROWS = 5, 3
"""Friedman's test with fewer says nothing."""


def mean_of_medians(suite: Suite) -> Floats:
    """Mean over tasks of the median over seeds: the average of a line of Table 3."""
    return np.mean([np.median(scores, axis=-1) for scores in suite], axis=0)


def interquartile_mean(suite: Suite) -> Floats:
    """Mean of the middle half of all scores of all tasks (Agarwal et al. 2021, section 4.3)."""
    return sps.trim_mean(np.concatenate(suite, axis=-1), 0.25, axis=-1)


def probability_of_improvement(x: Suite, y: Suite) -> Floats:
    """Mean over tasks of P(X > Y) + P(X = Y) / 2 for one seed of each (Agarwal et al. 2021, section 4.3)."""
    shares = []
    for a, b in zip(x, y, strict=True):
        first, second = np.round(a, 8)[..., :, None], np.round(b, 8)[..., None, :]  # equal scores stay equal
        shares.append(((first > second) + (first == second) / 2).mean(axis=(-2, -1)))
    return np.mean(shares, axis=0)


def bootstrap(statistic: Callable[..., Floats], *suites: Suite, resamples: int = RESAMPLES, seed: int = 0) -> Floats:
    """The statistic of resampled suites, (resamples,): seeds are drawn with replacement within each task, and for each
    suite on its own (the stratified bootstrap of Agarwal et al. 2021, section 4.2)."""
    rng = np.random.default_rng(seed)
    drawn = [[scores[rng.integers(len(scores), size=(resamples, len(scores)))] for scores in suite] for suite in suites]
    return statistic(*drawn)


class Estimate(NamedTuple):
    """A value and its 95 % interval."""

    value: float
    low: float
    high: float


UNKNOWN = Estimate(math.nan, math.nan, math.nan)


def estimate(statistic: Callable[..., Floats], *suites: Suite) -> Estimate:
    """A statistic with its bootstrap interval; NaN bounds where a task has one seed only."""
    value = float(statistic(*suites))
    if min(len(scores) for suite in suites for scores in suite) < 2:
        return Estimate(value, math.nan, math.nan)
    return Estimate(value, *stats.percentile_interval(bootstrap(statistic, *suites)))


def bootstrap_error(statistic: Callable[..., Floats], *suites: Suite) -> float:
    """Standard error of a statistic: its standard deviation over resamples; NaN where a task has one seed only."""
    if min(len(scores) for suite in suites for scores in suite) < 2:
        return math.nan
    return float(bootstrap(statistic, *suites).std(ddof=1))


@dataclass(frozen=True)
class Difference:
    """Mean over tasks of mean(a) - mean(b), with its t interval over seeds; NaN where a task has one seed only, and
    where the difference is the same on every seed of a task: its spread is then not known, not 0."""

    value: float
    error: float
    """Standard error; 0 where it is not known."""
    freedom: float
    """Degrees of freedom (Welch and Satterthwaite)."""
    seeds: int
    """Fewest seeds that a task has."""

    @property
    def interval(self) -> tuple[float, float]:
        if not self.error > 0:
            return math.nan, math.nan
        half = self.error * float(sps.t.ppf((1 + LEVEL) / 2, self.freedom))
        return self.value - half, self.value + half

    def with_seeds(self, n: int) -> "Difference":
        """The same difference and spread, seen with n seeds on every task."""
        return Difference(self.value, self.error * math.sqrt(self.seeds / n),
                          self.freedom * (n - 1) / (self.seeds - 1), n)  # fmt: skip


def difference(a: Suite, b: Suite, paired: Sequence[bool]) -> Difference:
    """Compare two suites of the same tasks.

    Args:
        paired: per task, whether both have the same seeds, in the same order.
    """
    gaps: list[float] = []
    parts: list[tuple[float, float]] = []  # (variance, degrees of freedom) of independent terms of the sum of gaps
    known = True
    for x, y, same in zip(a, b, paired, strict=True):
        gaps.append(round(x.mean() - y.mean(), 8))
        terms = [x - y] if same else [x, y]
        known &= any(map(_varies, terms)) or not _varies([*x, *y])  # the latter where every run predicts the same class
        parts += map(_spread, terms)
    variances, freedoms = np.array(parts).T
    total = variances.sum() * (1.0 if known else 0.0)  # NaN stays NaN: with one seed there is nothing to know
    used = variances > 0
    freedom = total**2 / (variances[used] ** 2 / freedoms[used]).sum() if total > 0 else math.nan
    seeds = min(len(scores) for scores in (*a, *b))
    return Difference(float(np.mean(gaps)), math.sqrt(total) / len(gaps), float(freedom), seeds)


def mean(suite: Suite) -> Difference:
    """Mean over tasks of the mean over seeds, as a difference from 0 on every seed."""
    return difference(suite, [np.zeros_like(scores) for scores in suite], [True] * len(suite))


def _varies(values: ArrayLike) -> bool:
    return bool(np.ptp(np.round(np.asarray(values, dtype=float), 8)) > 0)


def _spread(values: Floats) -> tuple[float, float]:
    """Variance of the mean, and its degrees of freedom."""
    n = len(values)
    return (np.round(values, 8).var(ddof=1) / n, n - 1) if n > 1 else (math.nan, math.nan)


def permutation_p(a: Suite, b: Suite, paired: Sequence[bool]) -> float:
    """Two-sided p of the permutation test that no task has a difference of means, by the mean difference over tasks:
    signs of pairs are flipped, or seeds divided anew, within each task. NaN where a task has one seed only.

    One task: as `stats.permutation_p`. Several: exact up to `EXACT_LIMIT` arrangements of all tasks together; beyond
    that 9,999 random ones, drawn with a fixed seed.
    """
    if len(a) == 1:
        return stats.permutation_p(a[0], b[0], paired=paired[0])
    if min(len(scores) for scores in (*a, *b)) < 2:
        return math.nan
    tasks = list(zip(a, b, paired, strict=True))
    seen = sum(x.mean() - y.mean() for x, y, _ in tasks)
    if math.prod(stats.arrangements(len(x), len(y), paired=same) for x, y, same in tasks) <= EXACT_LIMIT:
        sums = np.zeros(1)
        for x, y, same in tasks:
            sums = np.add.outer(sums, _all_differences(x, y, same)).ravel()
        return float((np.abs(sums) >= abs(seen) - 1e-9).mean())
    rng = np.random.default_rng(0)
    drawn = np.zeros(ARRANGEMENTS)
    for x, y, same in tasks:
        if same:
            drawn += rng.choice([-1.0, 1.0], size=(ARRANGEMENTS, len(x))) @ (x - y) / len(x)
        else:
            mixed = rng.permuted(np.tile(np.concatenate([x, y]), (ARRANGEMENTS, 1)), axis=1)
            drawn += mixed[:, : len(x)].mean(axis=1) - mixed[:, len(x) :].mean(axis=1)
    return float((1 + (np.abs(drawn) >= abs(seen) - 1e-9).sum()) / (1 + ARRANGEMENTS))


def _all_differences(x: Floats, y: Floats, paired: bool) -> Floats:
    """Difference of means of every arrangement of one task, (arrangements,)."""
    if paired:
        return np.array(list(itertools.product([-1.0, 1.0], repeat=len(x)))) @ (x - y) / len(x)
    pool = np.concatenate([x, y])
    first = pool[list(itertools.combinations(range(len(pool)), len(x)))].sum(axis=1)
    return first / len(x) - (pool.sum() - first) / len(y)


def seeds_to_decide(found: Difference, margin: float, fewest: int = 2, tests: int = 1) -> float:
    """Seeds per optimizer and task with which the pair would probably (power 80 %) be told apart, or be seen to lie
    within the margin, if the true difference and spread are those that were found. Infinite beyond 200,000; NaN where
    the spread is not known.

    Args:
        fewest: `stats.fewest_seeds`, below which nothing is told apart.
        tests: how many pairs are tested; a difference is shown at level `ALPHA` / tests, the strictest of Holm's.
    """
    if not found.error > 0:
        return math.nan
    return stats.smallest_n(lambda n: max(powers(found, n, margin, fewest, tests)), 2, POWER)


def powers(found: Difference, n: int, margin: float, fewest: int = 2, tests: int = 1) -> tuple[float, float]:
    """Chances that n seeds show a difference, and that they show it to lie within the margin; as `seeds_to_decide`."""
    seen = found.with_seeds(n)
    limit, strict = (float(sps.t.ppf(1 - ALPHA / k / 2, seen.freedom)) for k in (1, tests))
    shift = seen.value / seen.error
    shown = sps.nct.sf(strict, seen.freedom, abs(shift)) if n >= fewest else 0.0
    room = margin / seen.error - limit
    within = sps.t.cdf(room - shift, seen.freedom) - sps.t.cdf(-room - shift, seen.freedom)
    return float(shown), float(within)


def mean_ranks(medians: ArrayLike) -> Floats:
    """(tasks, rows) -> mean rank of each row over tasks, 1 for the highest score; equals share their ranks."""
    return sps.rankdata(-np.round(np.asarray(medians, dtype=float), 8), axis=1).mean(axis=0)


def friedman_p(medians: ArrayLike) -> float:
    """p of Friedman's test that all rows (tasks, rows) rank alike (Demsar 2006); NaN below 5 tasks or 3 rows."""
    values = np.round(np.asarray(medians, dtype=float), 8)
    tasks, rows = values.shape
    if tasks < FEWEST_TASKS or rows < FEWEST_ROWS:
        return math.nan
    if (values == values[:, :1]).all():
        return 1.0
    return float(sps.friedmanchisquare(*values.T).pvalue)
