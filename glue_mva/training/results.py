"""What the Trainer logged and wrote -> the parts of a record."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from glue_mva.checks import Verdict
from glue_mva.data.load import TaskData
from glue_mva.record import CheckResult, Evaluation, Metrics, RouteTaken
from glue_mva.tasks import Task
from glue_mva.training import metrics
from glue_mva.training.environment import kernel_of
from glue_mva.training.groups import Part

IS_CONSTANT = "constant"
"""Logged with the metrics of an evaluation: 1 where every example got the same answer, else 0."""
CURVES = ("step", "epoch", "loss", "learning_rate", "step_size", "beta_mean", "beta_at_min", "beta_at_max")


def curves(history: list[dict[str, Any]]) -> dict[str, list[float | None]]:
    """The Trainer's log entries of training -> lists of equal length; a name that was never logged is left out, a value
    that is not finite is `None`."""
    points = [entry for entry in history if "loss" in entry]
    return {name: [finite(p.get(name)) for p in points] for name in CURVES if any(name in p for p in points)}


def evaluations(history: list[dict[str, Any]], splits: Sequence[str], names: Sequence[str]) -> list[Evaluation]:
    """The Trainer's log entries of evaluations -> one per evaluated update, all splits together.

    Args:
        splits: evaluated splits, as the Trainer names them.
        names: metrics of the task; those that an evaluation lacks (a test set without labels) are left out.
    """
    values: dict[int, dict[str, dict[str, float | None]]] = {}
    epochs: dict[int, float] = {}
    for logged in history:
        for split in splits:
            keys = {name: logged_name(split, name) for name in (*names, "loss")}
            if keys["loss"] in logged:
                step = logged["step"]
                epochs[step] = float(logged.get("epoch") or 0.0)
                found = {name: finite(logged[key]) for name, key in keys.items() if key in logged}
                values.setdefault(step, {})[split] = found
    return [Evaluation(epoch=epochs[step], step=step, metrics=values[step]) for step in sorted(values)]


def logged_name(split: str, metric: str) -> str:
    """Name under which the Trainer logs a metric of one of several evaluated splits."""
    return f"eval_{split}_{metric}"


def finite(value: float | None) -> float | None:
    """A number, or `None` where there is none."""
    return None if value is None or not np.isfinite(value) else float(value)


def best_evaluation(values: Sequence[float | None]) -> int:
    """Index of the highest value, the earliest of equals; one that is no number never wins."""
    known = [finite(value) for value in values]
    return int(np.argmax([-np.inf if value is None else value for value in known]))


def majority(data: TaskData) -> Metrics:
    """Metrics of the constant prediction, by split; empty where there are no training rows."""
    if data.train is None:
        return {}
    labels = np.asarray(data.train["label"])
    return {
        name: metrics.majority(data.task, labels, np.asarray(split["label"])) for name, split in data.evaluation.items()
    }


def is_constant(outputs: np.ndarray, task: Task) -> bool:
    """Whether every example got the same answer: one class, or targets within a thousandth of their range.

    Args:
        outputs: logits (rows, classes), or predicted targets (rows,) on the original scale.
    """
    if len(outputs) < 2:
        return False
    if task.is_regression:
        return bool(np.ptp(outputs) <= 1e-3 * (task.label_range[1] - task.label_range[0]))
    return bool(np.ptp(outputs.argmax(axis=1)) == 0)


def ends_constant(history: list[dict[str, Any]], split: str) -> bool:
    """Whether the last evaluation of a split gave every example the same answer, by the Trainer's log, which every
    process has and a checkpoint keeps."""
    logged = [entry[name] for entry in history if (name := logged_name(split, IS_CONSTANT)) in entry]
    return bool(logged and logged[-1])


def routes_taken(parts: Sequence[Part]) -> list[RouteTaken]:
    """What each route of a run took, as a record keeps it; the first part is no route."""
    return [
        RouteTaken(match=part.match, optimizer=type(part.optimizer).__name__, kernel=kernel_of(part.optimizer),
                   parameters=sum(p.numel() for _, p in part.named), weight_decay=part.decayed_by)
        for part in parts[1:]
    ]  # fmt: skip


def check_result(verdict: Verdict) -> CheckResult:
    """A verdict as a record keeps it."""
    return CheckResult(ok=verdict.ok, difference=finite(verdict.difference), detail=verdict.detail)


def load_predictions(folder: Path, step: int, split: str) -> tuple[np.ndarray, np.ndarray]:
    """(outputs, labels) that `GlueTrainer` wrote when it evaluated a split after `step` updates."""
    with np.load(folder / f"{step}-{split}.npz") as stored:
        return stored["predictions"], stored["labels"]
