"""Names of columns of hyperparameters that an entry searches by name, beside the columns that tables have anyway."""

from collections.abc import Mapping
from typing import Any

from glue_mva.sweep.hparams import Hparams, scalar

_OF_RUNS = """
    run_id row stage task optim lr weight_decay seed optim_args holdout_fraction recipe status score last_score
    best_epoch last_epoch best_step majority_score split dev_rows train_rows official_train_rows official_dev_rows
    partial data data_digest model model_digest parameters start weights updates step_size seconds train_seconds
    eval_seconds examples_per_second tokens_per_second peak_memory_bytes optimizer_state_bytes world_size threads
    device precision padding optimizer kernel optimizer_source warnings failed_checks error created folder
"""
_OF_CELLS = """
    chosen runs ok diverged failed seeds median mean standard_error interval_low interval_high interval_method
    median_last_score
"""
TAKEN = frozenset({*_OF_RUNS.split(), *_OF_CELLS.split(), "further"})
"""Columns of `runs.csv`, `cells.csv` and `Study.members`; those of metrics have names that no argument can have."""


def column(name: str) -> str:
    """Column of a searched hyperparameter: its name, or `optim_args.<name>` where a column of that name is there."""
    return f"optim_args.{name}" if name in TAKEN else name


def in_columns(others: Mapping[str, Any]) -> dict[str, Any]:
    """Column -> value of such hyperparameters (name -> value), with lists as text, so that a table can be grouped by
    them."""
    return {column(name): scalar(value) for name, value in others.items()}


def in_table(point: Hparams) -> dict[str, Any]:
    """The same of a whole point, learning rate and weight decay included."""
    return {"lr": point.lr, "weight_decay": point.weight_decay, **in_columns(dict(point.others))}
