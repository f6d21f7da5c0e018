"""Records for tests: as `glue-mva run` writes them, with scores, curves and predictions made up."""

import math
from pathlib import Path
from typing import Any

import numpy as np

from glue_mva.config.identity import run_id
from glue_mva.config.resolve import ResolvedConfig, resolve
from glue_mva.config.run import RunConfig
from glue_mva.config.schedule import Schedule
from glue_mva.record import (
    DataInfo,
    Evaluation,
    Execution,
    Headline,
    ModelInfo,
    RunRecord,
    Status,
    read_record,
    write_predictions,
    write_record,
)
from glue_mva.tasks import get_task
from glue_mva.training import metrics

UPDATES = 40


def make_record(
    task: str = "rte",
    optim: str = "adam",
    *,
    score: float | None = 75.0,
    status: Status = "ok",
    created: str = "2026-01-01T00:00:00Z",
    model_name: str = "FacebookAI/roberta-base",
    curves: bool = True,
    partial: bool = False,
    points: int = 20,
    **config: Any,
) -> RunRecord:
    """A valid record with this score at its best epoch; `config` are fields of `RunConfig`."""
    given = RunConfig(task=task, optim=optim, **config)
    resolved = resolve(given)
    spec = get_task(task)
    split = "holdout" if resolved.holdout_fraction else spec.eval_splits[0]
    value = None if score is None else score / 100
    epochs = [] if value is None else [
        Evaluation(epoch=float(k), step=k * UPDATES // 4, metrics={split: {spec.headline: value - drop}})
        for k, drop in ((1, 0.2), (2, 0.05), (3, 0.0), (4, 0.01))
    ]  # fmt: skip
    digest = f"{task}{resolved.max_train_samples or ''}{resolved.holdout_fraction or ''}"
    rows = {"train": spec.rows["train"], split: spec.rows[spec.eval_splits[0]]}
    return RunRecord(
        run_id=run_id(resolved),
        status=status,
        config=resolved,
        headline=Headline(split=split, metric=spec.headline),
        score=score,
        best_epoch=None if score is None else 2,
        last_score=None if score is None else score - 1,
        epochs=epochs,
        majority={split: {spec.headline: 0.0 if spec.headline != "accuracy" else 0.5}},
        curves=make_curves(resolved, points) if curves else {},
        schedule=Schedule(UPDATES, 4, UPDATES, UPDATES // 4),
        data=DataInfo(source="hub", rows=rows, source_rows=rows, official_rows=spec.rows, partial=partial,
                      holdout=resolved.holdout_fraction > 0, digest=digest),
        model=ModelInfo(name=model_name, architecture="roberta", model_type="roberta", parameters=124_647_170,
                        digest=model_name),
        execution=make_execution(resolved.seed),
        environment={"glue_mva": "0.1.0", "torch": "2.13.0", "python": "3.11.0", "commit": "0123456789ab"},
        error="loss is not finite at update 7" if status == "diverged" else None,
        created=created,
    )  # fmt: skip


def make_execution(seed: int, **changes: Any) -> Execution:
    """How a run was carried out."""
    values: dict[str, Any] = {
        "device": "cpu", "device_type": "cpu", "precision": "fp32", "padding": "none", "optimizer": "AdamW",
        "kernel": "foreach", "trained_parameters": 100_000_000,
        "optimizer_state_bytes": 124_647_170 * 8, "train_seconds": 30.0, "eval_seconds": 5.0,
        "examples_per_second": 100.0, "tokens_per_second": 5000.0, "prepare_seconds": 6.0,
        "total_seconds": 41.0 + seed % 7, "world_size": 1, "threads": 1, "gradient_accumulation_steps": 1,
        "max_length": 512, "resumed_from_step": None, "peak_memory_bytes": 2**30,
    }  # fmt: skip
    return Execution(**values | changes)


def make_curves(config: ResolvedConfig, points: int) -> dict[str, list[float | None]]:
    """Plausible curves of a run: a falling loss, and a step size that follows the schedule."""
    rng = np.random.default_rng(config.seed)
    step = np.linspace(1, UPDATES, points).round()
    share = np.minimum(step / 4, (UPDATES - step) / (UPDATES - 4) + 1e-3)
    adaptive = config.optim in ("madam", "lamadam")
    loss = 0.2 + 0.6 * np.exp(-step * config.lr / 4e-4 / (2 if adaptive else 1)) + rng.normal(0, 0.01, points)
    values = {"step": step, "epoch": step / 10, "loss": loss, "learning_rate": share * config.lr,
              "step_size": share * config.lr * (0.12 if adaptive else 0.2)}  # fmt: skip
    if adaptive:
        values |= {"beta_mean": 0.7 + 0.1 * share, "beta_at_min": 0.2 + 0 * share, "beta_at_max": 0.3 - 0.1 * share}
    return {key: [float(f"{v:.6g}") for v in value] for key, value in values.items()}


def write_run(runs: Path, record: RunRecord) -> Path:
    """Write a record where a sweep would; returns the run's folder."""
    folder = runs / record.run_id
    write_record(record, folder)
    return folder


def write_predicted_run(runs: Path, task: str, optim: str, quality: float, *, rows: int = 200, **config: Any) -> Path:
    """A run with predictions on `rows` examples, and the score that they give.

    Args:
        quality: share of examples that are predicted at random less of 1; the signal of a regression.
    """
    spec = get_task(task)
    seed = config.get("seed", 42)
    labels, outputs = make_predictions(task, quality, rows, np.random.default_rng([seed, len(optim), len(task)]))
    value = metrics.compute(spec, metrics.to_predictions(spec, outputs), labels)
    record = make_record(task, optim, score=100 * value[spec.headline], **config)
    assert record.data is not None and record.headline is not None
    split = record.headline.split
    epochs = [*record.epochs]
    epochs[2] = epochs[2].model_copy(update={"metrics": {split: value}})
    data = record.data.model_copy(update={"rows": {**record.data.rows, split: rows}, "partial": True})
    record = record.model_copy(update={"epochs": epochs, "data": data})
    folder = write_run(runs, record)
    write_predictions({f"{split}/labels": labels, f"{split}/best": outputs, f"{split}/last": outputs}, folder)
    return folder


def make_predictions(task: str, quality: float, rows: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Labels (the same for every generator) and outputs of a classifier that is right on a share `quality`."""
    spec = get_task(task)
    fixed = np.random.default_rng(len(task))
    if spec.is_regression:
        labels = fixed.uniform(0, 5, rows)
        return labels, quality * labels + (1 - quality) * rng.uniform(0, 5, rows)
    labels = fixed.integers(spec.num_labels, size=rows)
    predicted = np.where(rng.random(rows) < quality, labels, rng.integers(spec.num_labels, size=rows))
    return labels, np.eye(spec.num_labels, dtype=np.float32)[predicted]


def four_scores(median: float, standard_error: float) -> list[float]:
    """Four scores with this median and this standard error: m - a, m, m, m + a has the standard error a / sqrt 6."""
    a = standard_error * math.sqrt(6)
    return [median - a, median, median, median + a]


def read_back(runs: Path, run_id: str) -> RunRecord:
    """The record of a run that was written."""
    return read_record(runs / run_id)
