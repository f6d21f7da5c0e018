"""What the Trainer logged and wrote -> the parts of a record."""

from pathlib import Path
from typing import Any

import numpy as np

from glue_mva.data.load import TaskData
from glue_mva.training import metrics

CURVES = ("step", "epoch", "loss", "learning_rate", "step_size", "beta_mean", "beta_at_min", "beta_at_max")
_TIMES = ("runtime", "samples_per_second", "steps_per_second", "model_preparation_time")


def curves(history: list[dict[str, Any]]) -> dict[str, list[float | None]]:
    """The Trainer's log entries of training -> lists of equal length; a name that was never logged is left out."""
    points = [entry for entry in history if "loss" in entry]
    return {name: [p.get(name) for p in points] for name in CURVES if any(name in p for p in points)}


def evaluations(history: list[dict[str, Any]], splits: tuple[str, ...]) -> list[dict[str, Any]]:
    """The Trainer's log entries of evaluations -> one entry per evaluated update, all splits together."""
    found: dict[int, dict[str, Any]] = {}
    for logged in history:
        for split in splits:
            prefix = f"eval_{split}_"
            if f"{prefix}runtime" not in logged:
                continue
            entry = found.setdefault(
                logged["step"], {"epoch": logged.get("epoch"), "step": logged["step"], "metrics": {}}
            )
            names = {k: k.removeprefix(prefix) for k in logged if k.startswith(prefix)}
            entry["metrics"] |= {f"{split}/{n}": logged[k] for k, n in names.items() if n not in _TIMES}
    return [found[step] for step in sorted(found)]


def best_evaluation(values: list[float]) -> int:
    """Index of the highest value, the earliest of equals; values that are not finite never win."""
    return int(np.argmax([v if np.isfinite(v) else -np.inf for v in values]))


def majority(data: TaskData) -> dict[str, float]:
    """`<split>/<metric>` -> value of the constant prediction; empty where there are no training rows."""
    if data.train is None:
        return {}
    labels = np.asarray(data.train["label"])
    values = {
        name: metrics.majority(data.task.name, labels, np.asarray(split["label"]))
        for name, split in data.evaluation.items()
    }
    return {f"{name}/{metric}": v for name, named in values.items() for metric, v in named.items()}


def load_predictions(folder: Path, step: int, split: str) -> tuple[np.ndarray, np.ndarray]:
    """(outputs, labels) that `GlueTrainer` wrote when it evaluated a split after `step` updates."""
    with np.load(folder / f"{step}-{split}.npz") as stored:
        return stored["predictions"], stored["labels"]
