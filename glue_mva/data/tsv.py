"""Read the official GLUE TSV files. They are never quoted, and a malformed row stops with file and line number."""

import logging
import math
from pathlib import Path
from typing import Any

from glue_mva.data.lines import fields_of, header_of, lines_of
from glue_mva.errors import UsageError
from glue_mva.tasks import Task

FILES = {
    "train": "train.tsv", "validation": "dev.tsv", "test": "test.tsv",
    "validation_matched": "dev_matched.tsv", "validation_mismatched": "dev_mismatched.tsv",
    "test_matched": "test_matched.tsv", "test_mismatched": "test_mismatched.tsv",
}  # fmt: skip
"""Hub's split name -> official file name."""

_INDEX = ("index", "id")
"""First column of the official test files: the number of the row, by which predictions are submitted."""
_COLA_COLUMNS = ["source", "label", "judgement", "sentence"]
_WORDS = {"0": 0, "1": 1}
_BROKEN = ("qqp",)
"""Tasks whose official files, but for the test set, have lines that break off; the Hub leaves them out too."""

log = logging.getLogger(__name__)


def file_of(task: Task, split: str) -> str:
    """Official file name of a split."""
    return "diagnostic.tsv" if task.name == "ax" else FILES[split]


def read_split(task: Task, path: Path) -> dict[str, list[Any]]:
    """Columns of one file under the Hub's names: the task's text columns, `label` (int, float, or -1 where the file has
    none) and `idx` (row number).

    Raises:
        UsageError: unreadable, not UTF-8, a column missing or there twice, a row with a wrong number of columns,
            a label outside the task, a test row out of order, or no rows; names file, line and what is wrong.
    """
    try:
        lines = lines_of(str(path), path.read_bytes())
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from None
    headerless = task.name == "cola" and path.name != FILES["test"]
    header = _COLA_COLUMNS if headerless else header_of(str(path), lines[0])
    wanted = ("sentence",) if task.name == "cola" else task.tsv_text
    position = {name: header.index(name) for name in (*wanted, task.tsv_label) if name in header}
    if missing := [name for name in wanted if name not in position]:
        raise UsageError(f"{path}: no column {missing[0]!r} in the header; found {', '.join(header)}")
    labelled = task.tsv_label in position
    if not labelled and not path.name.startswith(("test", "diagnostic")):
        raise UsageError(f"{path}: no label column {task.tsv_label!r} in the header; found {', '.join(header)}")

    numbered = not labelled and header[0] in _INDEX
    columns: dict[str, list[Any]] = {name: [] for name in (*task.text, "label")}
    skipped = 0 if headerless else 1
    broken: list[int] | None = [] if task.name in _BROKEN and labelled else None
    for number, fields in fields_of(str(path), lines[skipped:], len(header), 1 + skipped, broken):
        row = len(columns["label"])
        if numbered and fields[0] != str(row):
            raise UsageError(f"{path}, line {number}: {header[0]} {fields[0]!r} where {row} belongs; test rows stay in "
                             "the official order")  # fmt: skip
        for name, official in zip(task.text, wanted, strict=True):
            columns[name].append(fields[position[official]])
        label = fields[position[task.tsv_label]] if labelled else None
        columns["label"].append(-1 if label is None else parse_label(task, label, f"{path}, line {number}"))
    if not columns["label"]:
        raise UsageError(f"{path}: no rows")
    if broken:
        log.warning("%s: %d lines that break off are left out, as on the Hub (the first is line %d)", path, len(broken),
                    broken[0])  # fmt: skip
    columns["idx"] = list(range(len(columns["label"])))
    return columns


def parse_label(task: Task, text: str, place: str) -> int | float:
    """A label's integer in the Hub's order, or the target of a regression.

    Raises:
        UsageError: the label does not belong to the task; begins with `place`.
    """
    if task.is_regression:
        low, high = task.label_range
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not low <= value <= high:
            raise UsageError(f"{place}: score {text!r} is not a number in {low:g}..{high:g}")
        return value
    if text in task.labels:
        return task.labels.index(text)
    if len(task.labels) == 2 and text in _WORDS:
        return _WORDS[text]
    raise UsageError(f"{place}: label {text!r} is none of {', '.join(task.labels)}")
