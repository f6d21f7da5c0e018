"""Predictions -> named metrics, with scikit-learn and scipy. Imports no torch."""

import warnings

import numpy as np
from scipy.stats import pearsonr, spearmanr
from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef

from glue_mva.tasks import Task


def compute(task: Task, predictions: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """The task's GLUE metrics, as fractions (not x 100).

    Args:
        predictions: (rows,) class numbers, or predicted targets of a regression.
        labels: (rows,) class numbers, or targets.

    Returns:
        metric -> value. A correlation with a constant is 0, as scikit-learn defines it for Matthews: the prediction
        says nothing. Not a number where a prediction is not finite.

    Raises:
        ValueError: the lengths differ.
    """
    predictions, labels = np.asarray(predictions), np.asarray(labels)
    if predictions.shape != labels.shape:
        raise ValueError(f"{predictions.shape} predictions for {labels.shape} labels")
    return {name: float(_METRICS[name](predictions, labels)) for name in task.metrics}


def to_predictions(task: Task, outputs: np.ndarray) -> np.ndarray:
    """(rows,) class numbers from logits (rows, classes), or the predicted targets of a regression as they are."""
    outputs = np.asarray(outputs)
    return outputs.reshape(len(outputs)) if task.is_regression else outputs.argmax(-1)


def majority(task: Task, train_labels: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Metrics of the constant prediction: the most frequent class of the training rows, or their mean target."""
    train_labels = np.asarray(train_labels)
    regression = task.is_regression
    constant = train_labels.mean() if regression else np.bincount(train_labels.astype(int)).argmax()
    return compute(task, np.full(len(labels), constant), np.asarray(labels))


def _correlation(function):
    def value(predictions: np.ndarray, labels: np.ndarray) -> float:
        if not np.isfinite(predictions).all():
            return float("nan")
        if np.ptp(predictions) == 0 or np.ptp(labels) == 0:
            return 0.0
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # scipy warns of nearly constant input; the value stands
            return function(predictions, labels).statistic

    return value


_METRICS = {
    "accuracy": lambda predictions, labels: accuracy_score(labels, predictions),
    "f1": lambda predictions, labels: f1_score(labels, predictions, zero_division=0),
    "f1_macro": lambda predictions, labels: f1_score(labels, predictions, average="macro", zero_division=0),
    "matthews_correlation": lambda predictions, labels: matthews_corrcoef(labels, predictions),
    "pearson": _correlation(pearsonr),
    "spearmanr": _correlation(spearmanr),
}
