"""95 % intervals of success rates, means and ratios over repeats."""

from collections.abc import Callable

import numpy as np
from scipy import stats

LEVEL = 0.95
RESAMPLES = 5000


def rate_interval(success: np.ndarray) -> tuple[float, float]:
    """Clopper-Pearson interval of a success rate; `success` is (R,) of booleans."""
    interval = stats.binomtest(int(success.sum()), success.size).proportion_ci(LEVEL, method="exact")
    return float(interval.low), float(interval.high)


def mean_interval(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Mean, standard error (n - 1) and t interval over the last axis."""
    repeats = values.shape[-1]
    mean, error = values.mean(-1), values.std(-1, ddof=1) / np.sqrt(repeats)
    reach = stats.t.ppf((1 + LEVEL) / 2, repeats - 1) * error
    return mean, error, mean - reach, mean + reach


def ratio_interval(
    above: np.ndarray, below: np.ndarray, statistic: Callable[..., np.ndarray] = np.mean
) -> tuple[float, float, float]:
    """Ratio of a statistic of two paired samples (R,), and its percentile bootstrap interval over repeats."""

    def ratio(a: np.ndarray, b: np.ndarray, axis: int = -1) -> np.ndarray:
        return statistic(a, axis=axis) / statistic(b, axis=axis)

    interval = stats.bootstrap(
        (above, below), ratio, paired=True, vectorized=True, n_resamples=RESAMPLES, confidence_level=LEVEL,
        method="percentile", batch=500, rng=np.random.default_rng(0),
    ).confidence_interval  # fmt: skip
    return float(ratio(above, below)), float(interval.low), float(interval.high)
