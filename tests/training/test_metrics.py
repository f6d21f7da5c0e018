"""Metrics against values worked out by hand, and predictions that say nothing."""

import math

import numpy as np
import pytest

from glue_mva.tasks import TASKS
from glue_mva.training import metrics
from glue_mva.training.glue_metric import GlueMetric
from glue_mva.training.results import best_evaluation


def test_accuracy_and_f1_by_hand():
    # 5 rows: true positives 2, false positives 1, false negatives 1, true negatives 1
    value = GlueMetric("mrpc").compute(predictions=[1, 1, 1, 0, 0], references=[1, 1, 0, 1, 0])
    assert value == pytest.approx({"accuracy": 3 / 5, "f1": 2 * 2 / (2 * 2 + 1 + 1)})


def test_nothing_is_written_to_the_library_s_cache(monkeypatch, tmp_path):
    monkeypatch.setattr("evaluate.config.HF_METRICS_CACHE", str(tmp_path / "cache"))
    assert GlueMetric("rte").compute(predictions=[1, 0], references=[1, 1]) == {"accuracy": 0.5}
    assert not any(tmp_path.iterdir())


def test_matthews_by_hand():
    # TP 2, TN 1, FP 1, FN 1: (2*1 - 1*1) / sqrt(3 * 3 * 2 * 2) = 1/6
    value = metrics.compute(TASKS["cola"], np.array([1, 1, 1, 0, 0]), np.array([1, 1, 0, 1, 0]))
    assert value == pytest.approx({"matthews_correlation": 1 / 6})


def test_correlations_by_hand():
    # x = 1..4, y = 1, 3, 2, 5: cov 5.5/4, var 5/4 and 8.75/4
    value = metrics.compute(TASKS["stsb"], np.array([1.0, 2, 3, 4]), np.array([1.0, 3, 2, 5]))
    assert value == pytest.approx({"pearson": 5.5 / math.sqrt(5 * 8.75), "spearmanr": 0.8})


@pytest.mark.parametrize("task", ["cola", "stsb"])
def test_a_constant_prediction_correlates_with_nothing(task):
    labels = np.array([0.0, 1.0, 1.0, 0.0])
    assert set(metrics.compute(TASKS[task], np.ones(4), labels).values()) == {0.0}


def test_constant_predictions_of_mrpc():
    assert metrics.compute(TASKS["mrpc"], np.zeros(4, int), np.array([1, 1, 0, 1])) == {"accuracy": 0.25, "f1": 0.0}


def test_outputs_that_are_not_finite_are_not_a_score():
    logits = np.array([[0.0, 1.0], [np.nan, 0.0]])
    assert math.isnan(GlueMetric("rte").from_outputs(logits, np.array([1, 0]))["accuracy"])
    assert GlueMetric("rte").from_outputs(logits[:1], np.array([1]))["accuracy"] == 1.0


def test_majority_is_of_the_training_rows():
    assert metrics.majority(TASKS["rte"], np.array([1, 1, 0]), np.array([0, 0, 0, 1])) == {"accuracy": 0.25}
    assert metrics.majority(TASKS["stsb"], np.array([1.0, 3.0]), np.array([0.0, 5.0]))["pearson"] == 0.0


def test_lengths_must_agree():
    with pytest.raises(ValueError, match=r"\(3,\).*\(2,\)"):
        metrics.compute(TASKS["rte"], np.zeros(3), np.zeros(2))


def test_the_earliest_of_equal_epochs_is_best_and_none_never():
    assert best_evaluation([None, 0.5, 0.7, 0.7, math.nan]) == 2
