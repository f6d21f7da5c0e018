"""The bootstrap against scikit-learn, against explicit resampling, and against textbook variances."""

import numpy as np
import pytest
import sklearn.metrics

from glue_mva.report import bootstrap, stats
from glue_mva.tasks import TASKS
from glue_mva.training import metrics
from tests.report.factory import make_predictions

TASK = {"accuracy": TASKS["rte"], "matthews_correlation": TASKS["cola"], "pearson": TASKS["stsb"]}


@pytest.mark.parametrize("metric", bootstrap.METRICS)
def test_metrics_from_sums_equal_scikit_learn_and_scipy(metric: str) -> None:
    labels, outputs = make_predictions(TASK[metric].name, 0.6, 150, np.random.default_rng(3))
    spec = bootstrap.METRICS[metric]
    value = spec.value(spec.terms(labels, outputs).sum(axis=0), len(labels))
    expected = metrics.compute(TASK[metric], metrics.to_predictions(TASK[metric], outputs), labels)[metric]
    assert value == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("metric", bootstrap.METRICS)
def test_a_constant_prediction_scores_as_in_the_package(metric: str) -> None:
    labels, _ = make_predictions(TASK[metric].name, 0.6, 60, np.random.default_rng(3))
    outputs = np.zeros(60) if metric == "pearson" else np.tile([1.0, 0.0], (60, 1))
    spec = bootstrap.METRICS[metric]
    value = spec.value(spec.terms(labels, outputs).sum(axis=0), len(labels))
    expected = metrics.compute(TASK[metric], metrics.to_predictions(TASK[metric], outputs), labels)[metric]
    assert value == pytest.approx(expected)


def by_hand(metric: str, predictions: np.ndarray, labels: np.ndarray) -> float:
    """Matthews' correlation is Pearson's, of two classes."""
    return np.mean(predictions == labels) if metric == "accuracy" else np.corrcoef(predictions, labels)[0, 1]


@pytest.mark.parametrize("metric", bootstrap.METRICS)
def test_resampling_by_counts_equals_resampling_examples_one_by_one(metric: str) -> None:
    task, rows = TASK[metric], 60
    rng = np.random.default_rng(5)
    runs = [make_predictions(task.name, quality, rows, rng) for quality in (0.7, 0.5)]
    labels = runs[0][0]
    outputs = [o for _, o in runs]
    fast = bootstrap.resample_scores(metric, labels, outputs, 20_000, np.random.default_rng(0))
    predictions = [metrics.to_predictions(task, o) for o in outputs]
    slow = []
    for _ in range(1500):
        drawn = rng.integers(rows, size=rows)
        slow.append([100 * by_hand(metric, x[drawn], labels[drawn]) for x in predictions])
    slow = np.array(slow)
    assert fast.mean(axis=0) == pytest.approx(slow.mean(axis=0), abs=1.2)
    assert fast.std(axis=0) == pytest.approx(slow.std(axis=0), rel=0.1)
    difference_fast, difference_slow = np.diff(fast)[:, 0], np.diff(slow)[:, 0]  # the same examples for both runs
    assert difference_fast.std() == pytest.approx(difference_slow.std(), rel=0.1)


def test_accuracy_varies_as_a_binomial_share() -> None:
    labels = np.zeros(400, dtype=int)
    outputs = np.tile([1.0, 0.0], (400, 1))
    outputs[:100] = [0.0, 1.0]  # 75 % right
    scores = bootstrap.resample_scores("accuracy", labels, [outputs], 50_000, np.random.default_rng(0))
    assert scores.std() == pytest.approx(100 * np.sqrt(0.75 * 0.25 / 400), rel=0.02)


def test_equal_runs_differ_by_nothing() -> None:
    labels, outputs = make_predictions("cola", 0.6, 100, np.random.default_rng(1))
    _, other = make_predictions("cola", 0.6, 100, np.random.default_rng(2))
    metric = "matthews_correlation"
    paired = bootstrap.difference_draws(metric, labels, [outputs, other], [outputs, other], paired=True)
    assert not paired.medians.any() and not paired.means.any()
    unpaired = bootstrap.difference_draws(metric, labels, [outputs, other], [outputs, other], paired=False)
    low, high = stats.percentile_interval(unpaired.means)
    assert low < 0 < high


def test_chunks_do_not_change_what_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    labels, outputs = make_predictions("stsb", 0.6, 50, np.random.default_rng(1))
    whole = bootstrap.resample_scores("pearson", labels, [outputs], 300, np.random.default_rng(0))
    monkeypatch.setattr(bootstrap, "_WEIGHTS_PER_CHUNK", 50 * 7)
    pieces = bootstrap.resample_scores("pearson", labels, [outputs], 300, np.random.default_rng(0))
    assert pieces == pytest.approx(whole, rel=1e-12)


def test_matthews_of_three_classes_is_scikit_learns() -> None:
    rng = np.random.default_rng(2)
    labels, outputs = rng.integers(3, size=90), rng.normal(size=(90, 3))
    outputs[np.arange(60), labels[:60]] += 2
    spec = bootstrap.METRICS["matthews_correlation"]
    value = spec.value(spec.terms(labels, outputs).sum(axis=0), len(labels))
    assert value == pytest.approx(sklearn.metrics.matthews_corrcoef(labels, outputs.argmax(axis=1)), abs=1e-12)
