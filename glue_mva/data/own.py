"""Rows of a task of the user's own, from its files or the Hub, checked row by row."""

import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from datasets import ClassLabel, Dataset

from glue_mva.config.base import is_number
from glue_mva.config.own_task import FORMATS, OwnTask
from glue_mva.data.tables import READERS
from glue_mva.errors import UsageError, first_line

log = logging.getLogger(__name__)

NO_LABEL = -1
"""Stands for the label of a test row that has none, as in GLUE's own."""


def load_files(own: OwnTask, folder: str, wanted: Sequence[str]) -> dict[str, Dataset]:
    """The wanted splits of a task with files, with its text columns, `label` (class number, or target) and `idx`.

    Raises:
        UsageError: no such file, a malformed one, no such column, a row without a text, or a label that is not the
            task's; names file and line.
    """
    paths = own.paths(folder)
    return {split: Dataset.from_dict(read_split(own, split, paths[split])) for split in wanted}


def read_split(own: OwnTask, split: str, path: Path) -> dict[str, list[Any]]:
    """Columns of one file, as `load_files` has them."""
    kind = FORMATS[path.suffix.lower()]
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror or error}; task {own.name} has its {split} rows there") from None
    read, counted = (_read_parquet, "row") if kind == "parquet" else (READERS[kind], "line")
    rows, lines = read(str(path), content)
    if not rows:
        raise UsageError(f"{path}: no rows")
    present = list(dict.fromkeys(name for row in rows for name in row)) if kind == "jsonl" else list(rows[0])
    places = [f"{path}, {counted} {number}" for number in lines]
    return _checked(own, split, str(path), rows, present, places)


def from_hub(own: OwnTask, split: str, rows: Dataset) -> Dataset:
    """The rows of a dataset of the Hub, as `load_files` has those of files."""
    assert own.hub is not None
    source = f"{own.hub.dataset}, split {own.hub.splits[split]}"
    feature = rows.features.get(own.label)
    if split.startswith("test") and feature is not None and set(rows[own.label]) <= {NO_LABEL, None}:
        rows = rows.remove_columns(own.label)
    found = rows.to_list()
    if isinstance(feature, ClassLabel) and set(feature.names) == set(own.labels):  # in whatever order
        for row in found:
            number = row.get(own.label, NO_LABEL)
            is_class = isinstance(number, int) and 0 <= number < len(feature.names)
            row[own.label] = feature.names[number] if is_class else number
    elif isinstance(feature, ClassLabel) and own.labels and not all(name.isdecimal() for name in feature.names):
        log.warning("%s: its classes are %s; they are taken in this order for %s",
                    source, ", ".join(feature.names), ", ".join(own.labels))  # fmt: skip
    places = [f"{source}, row {number}" for number in range(len(found))]
    return Dataset.from_dict(_checked(own, split, source, found, rows.column_names, places))


def _read_parquet(source: str, content: bytes) -> tuple[list[dict[str, Any]], list[int]]:
    import pyarrow
    from pyarrow import parquet

    try:
        rows = parquet.read_table(pyarrow.BufferReader(content)).to_pylist()
    except (OSError, pyarrow.ArrowException) as error:  # OSError: of a damaged page
        raise UsageError(f"{source}: not a Parquet file: {first_line(error)}") from None
    return rows, list(range(1, len(rows) + 1))


def _checked(
    own: OwnTask, split: str, source: str, rows: list[dict[str, Any]], present: list[str], places: list[str]
) -> dict[str, list[Any]]:
    if missing := [name for name in own.text if name not in present]:
        raise UsageError(f"{source}: no text column {missing[0]!r}; found {', '.join(present)}")
    labelled = own.label in present
    if not labelled and not split.startswith("test"):
        raise UsageError(f"{source}: no label column {own.label!r}; found {', '.join(present)}")
    columns: dict[str, list[Any]] = {name: [] for name in (*own.text, "label")}
    for row, place in zip(rows, places, strict=True):
        for name in own.text:
            if not isinstance(value := row.get(name), str) or not value.strip():
                raise UsageError(f"{place}: no text in {name!r}" + ("" if value is None else f" but {value!r:.60}"))
            columns[name].append(value)
        columns["label"].append(parse_label(own, row.get(own.label), place) if labelled else NO_LABEL)
    columns["idx"] = list(range(len(rows)))
    return columns


def parse_label(own: OwnTask, value: Any, place: str) -> int | float:
    """A label's class number, or the target of a regression. Classes are given by name, or by number from 0 where no
    name is itself a number.

    Raises:
        UsageError: no label of this task; begins with `place`.
    """
    if own.range:
        low, high = own.range
        try:
            target = float(value)
        except (TypeError, ValueError):
            target = math.nan
        if not low <= target <= high:
            raise UsageError(f"{place}: {own.label} {value!r:.60} is not a number in {low:g}..{high:g}")
        return target
    word = str(value).lower() if isinstance(value, bool) else str(value)
    if word not in own.labels and isinstance(value, float) and value.is_integer():
        word = str(int(value))
    if word in own.labels:
        return own.labels.index(word)
    numbered = not any(map(is_number, own.labels))
    if numbered and word.isdecimal() and word.isascii() and int(word) < len(own.labels):
        return int(word)
    raise UsageError(f"{place}: {own.label} {value!r:.60} is none of {', '.join(own.labels)}")
