"""Paired bootstrap over seeds and dev examples, from stored predictions.

Each headline metric is a function of sums over examples (of `correct`, of the cells of a confusion matrix, of moments),
so that a resample is a vector of weights and all resamples are one matrix product.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from glue_mva.report.stats import RESAMPLES

Floats = NDArray[np.float64]
_WEIGHTS_PER_CHUNK = 4_000_000
"""Weights held at once: 32 MB."""


def predicted_classes(outputs: NDArray[np.floating]) -> NDArray[np.int64]:
    """Logits (rows, classes) -> classes (rows,)."""
    return np.argmax(outputs, axis=-1)


def _accuracy_terms(labels: NDArray, outputs: NDArray) -> Floats:
    return (predicted_classes(outputs) == labels)[:, None].astype(float)


def _accuracy(sums: Floats, rows: int) -> Floats:
    return sums[..., 0] / rows


def _matthews_terms(labels: NDArray, outputs: NDArray) -> Floats:
    classes = np.arange(outputs.shape[-1])
    predicted, actual = predicted_classes(outputs)[:, None] == classes, labels[:, None] == classes
    both = (predicted & actual).any(axis=1, keepdims=True)
    return np.concatenate([both, predicted, actual], axis=1).astype(float)


def _matthews(sums: Floats, rows: int) -> Floats:
    """Of any number of classes (Gorodkin 2004), as scikit-learn has it."""
    both, (predicted, actual) = sums[..., 0], np.split(sums[..., 1:], 2, axis=-1)
    spread = (rows**2 - (predicted**2).sum(axis=-1)) * (rows**2 - (actual**2).sum(axis=-1))
    safe = np.where(spread > 0, spread, 1.0)
    return np.where(spread > 0, (rows * both - (predicted * actual).sum(axis=-1)) / np.sqrt(safe), 0.0)


def _pearson_terms(labels: NDArray, outputs: NDArray) -> Floats:
    x = np.asarray(outputs, dtype=float).reshape(len(labels))
    y = np.asarray(labels, dtype=float)
    x, y = x - x.mean(), y - y.mean()  # the moments lose no digits
    return np.stack([x, y, x * x, y * y, x * y], axis=1)


def _pearson(sums: Floats, rows: int) -> Floats:
    x, y, xx, yy, xy = np.moveaxis(sums / rows, -1, 0)
    spread = (xx - x * x) * (yy - y * y)
    safe = np.where(spread > 0, spread, 1.0)
    return np.where(spread > 0, (xy - x * y) / np.sqrt(safe), 0.0)


@dataclass(frozen=True)
class _Metric:
    terms: Callable[[NDArray, NDArray], Floats]
    """Labels (rows,) and outputs -> terms (rows, k) whose sums the metric is made of."""
    value: Callable[[Floats, int], Floats]
    """Sums (..., k) and rows -> metric (...)."""


METRICS = {
    "accuracy": _Metric(_accuracy_terms, _accuracy),
    "matthews_correlation": _Metric(_matthews_terms, _matthews),
    "pearson": _Metric(_pearson_terms, _pearson),
}
"""Headline metric -> how to resample it."""


class Draws(NamedTuple):
    """Resampled differences a - b, (resamples,) each, score x 100."""

    medians: Floats
    means: Floats


def resample_scores(
    metric: str, labels: NDArray, outputs: list[NDArray], resamples: int, rng: np.random.Generator
) -> Floats:
    """Scores x 100 of each run on resampled examples, the same examples for all runs.

    Args:
        labels: (rows,).
        outputs: one array per run, (rows, classes) logits or (rows,) targets.

    Returns:
        (resamples, runs).
    """
    spec, rows = METRICS[metric], len(labels)
    terms = np.stack([spec.terms(labels, o) for o in outputs], axis=1)  # (rows, runs, k)
    flat = terms.reshape(rows, -1)
    # Examples on which all runs do the same are interchangeable: draw how many of each kind.
    kinds, counts = np.unique(flat, axis=0, return_counts=True)
    chunk = max(1, _WEIGHTS_PER_CHUNK // len(kinds))
    scores = np.empty((resamples, len(outputs)))
    for start in range(0, resamples, chunk):
        size = min(chunk, resamples - start)
        weights = rng.multinomial(rows, counts / rows, size=size)
        sums = (weights @ kinds).reshape(size, *terms.shape[1:])
        scores[start : start + size] = 100 * spec.value(sums, rows)
    return scores


def difference_draws(
    metric: str,
    labels: NDArray,
    a: list[NDArray],
    b: list[NDArray],
    *,
    paired: bool,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Draws:
    """The difference of medians and of means with examples and seeds drawn anew, with replacement.

    Args:
        labels: (rows,) of the dev set.
        a, b: outputs per run; in the order of their seeds where paired.
        paired: draw the same seeds for both.
        seed: of the random numbers; another one for each task, so that tasks vary independently.
    """
    rng = np.random.default_rng(seed)
    scores = resample_scores(metric, labels, [*a, *b], resamples, rng)
    drawn_a = rng.integers(len(a), size=(resamples, len(a)))
    drawn_b = drawn_a if paired else rng.integers(len(b), size=(resamples, len(b)))
    x = np.take_along_axis(scores[:, : len(a)], drawn_a, axis=1)
    y = np.take_along_axis(scores[:, len(a) :], drawn_b, axis=1)
    return Draws(np.median(x, axis=1) - np.median(y, axis=1), x.mean(axis=1) - y.mean(axis=1))
