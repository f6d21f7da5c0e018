"""Datasets that somebody else made (`save_to_disk`, the Hub): do they fit the task, and with which types?"""

import logging
from pathlib import Path
from typing import Any

import datasets
import numpy as np
from datasets import ClassLabel, Dataset, DatasetDict, Features, Value

from glue_mva.data.tsv import parse_label
from glue_mva.errors import UsageError, first_line
from glue_mva.tasks import Task

log = logging.getLogger(__name__)


def read(task: Task, root: Path, wanted: tuple[str, ...]) -> dict[str, Dataset]:
    """Splits of a `DatasetDict` on disk. A warning says so where nothing shows that the rows are this task's.

    Raises:
        UsageError: it cannot be read, lacks a split, or its labels bear the names of another task.
    """
    try:
        found = datasets.load_from_disk(str(root))
    except Exception as error:  # whatever the datasets library raises on what is damaged
        raise UsageError(f"{root}: cannot be read as a dataset saved to disk: {first_line(error)}") from None
    if not isinstance(found, DatasetDict):
        raise UsageError(f"{root}: holds no splits; save a DatasetDict with {', '.join(wanted)}")
    if missing := [name for name in wanted if name not in found]:
        raise UsageError(f"{root}: no split {missing[0]!r} for {task.name}; found {', '.join(found)}")
    splits = {name: found[name] for name in wanted}
    named = [split.features.get("label") for split in splits.values()]
    if not any(isinstance(feature, ClassLabel) for feature in named) and not task.is_regression:
        rows = {name: len(split) for name, split in splits.items()}
        if rows != {name: task.rows[name] for name in wanted}:
            log.warning("%s: its labels have no names, so nothing shows that its rows are %s's", root, task.title)
    return splits


def checked(task: Task, name: str, split: Dataset, source: str) -> Dataset:
    """The rows of a split with the task's columns (its texts, `label`, and `idx` where there is one) and types: class
    numbers are integers, targets real numbers; -1 where a test set has no labels.

    Raises:
        UsageError: a column or every row is missing, or a value does not belong to the task; names source and split.
    """
    place = f"{source}, split {name}"
    if missing := [column for column in (*task.text, "label") if column not in split.column_names]:
        raise UsageError(f"{place}: no column {missing[0]!r}; found {', '.join(split.column_names)}")
    if len(split) == 0:
        raise UsageError(f"{place}: no rows")
    kept = [column for column in ("idx", *task.text, "label") if column in split.column_names]
    split = split.select_columns(kept)
    if name.startswith("test") and "idx" in kept and list(split["idx"]) != list(range(len(split))):
        raise UsageError(f"{place}: its rows are not in the official order (idx 0, 1, 2, ...), in which the GLUE "
                         "server takes predictions")  # fmt: skip
    for column in task.text:
        _check_texts(split, column, place)
    labels = _labels(task, split, place)
    low, high = task.label_range if task.is_regression else (0, task.num_labels - 1)
    fits = (labels >= low) & (labels <= high)
    without_labels = name.startswith("test") and bool((labels == -1).all())
    if not without_labels and not bool(fits.all()):
        raise UsageError(f"{place}: label {labels[~fits][0]:g} is outside {low:g}..{high:g}")
    wanted = Value("float64" if task.is_regression else "int64")
    if split.features["label"].dtype == wanted.dtype:
        return split
    features = Features({**split.features, "label": wanted})
    columns = split.with_format("arrow")[:].to_pydict() | {"label": labels.tolist()}
    return Dataset.from_dict({name: columns[name] for name in kept}, features=features)


def _check_texts(split: Dataset, column: str, place: str) -> None:
    feature = split.features[column]
    if not (isinstance(feature, Value) and feature.dtype in ("string", "large_string")):
        raise UsageError(f"{place}: column {column!r} holds no texts but {_type_of(feature)}")
    if split.data.column(column).null_count:
        raise UsageError(f"{place}, row {list(split[column]).index(None)}: no text in {column!r}")


def _labels(task: Task, split: Dataset, place: str) -> np.ndarray:
    """(rows,) labels as numbers of the task's kind."""
    feature = split.features["label"]
    if isinstance(feature, ClassLabel) and task.labels and tuple(feature.names) != task.labels:
        names = ", ".join(map(str, feature.names))
        raise UsageError(f"{place}: its labels are {names}, those of {task.name} are {', '.join(task.labels)}")
    values: list[Any] = list(split["label"])
    if None in values:
        raise UsageError(f"{place}, row {values.index(None)}: no label")
    if isinstance(values[0], str):
        numbers = [parse_label(task, value, f"{place}, row {row}") for row, value in enumerate(values)]
        return np.asarray(numbers, dtype=float if task.is_regression else np.int64)
    if isinstance(values[0], bool) or not isinstance(values[0], int | float):
        raise UsageError(f"{place}: labels are numbers or names of classes, not {_type_of(feature)}")
    labels = np.asarray(values, dtype=float)
    if task.is_regression:
        return labels
    if not bool((labels == np.floor(labels)).all()):
        raise UsageError(f"{place}: label {labels[labels != np.floor(labels)][0]:g} is no class number")
    return labels.astype(np.int64)


def _type_of(feature: Any) -> str:
    return feature.dtype if isinstance(feature, Value) else type(feature).__name__.lower()
