"""The files of a GLUE submission: names, rows and values, and how predictions become their lines. Pure functions.

Format: https://gluebenchmark.com/faq; one flat zip, in each file the header `index<TAB>prediction` and one line per row
of the official test set, in its order.
"""

import re
from dataclasses import dataclass

import numpy as np

from glue_mva.tasks import GLUE, TASKS, Task, test_sets

HEADER = "index\tprediction"
_SUFFIX = {"test_matched": "-m", "test_mismatched": "-mm"}
_IN_WORDS = ("mnli", "ax", "qnli", "rte")
"""Tasks whose classes the server wants as words; those of the others are numbers."""
_DECIMALS = 3
_NUMBER = re.compile(r"[0-9]+(\.[0-9]+)?")

MAJORITY_CLASS = {"sst2": "positive", "mrpc": "equivalent", "rte": "entailment", "cola": "acceptable",
                  "wnli": "not_entailment"}  # fmt: skip
"""Task -> its most frequent class, counted in the official training files: 37,569 of 67,349 (SST-2), 2,474 of 3,668
(MRPC), 1,249 of 2,490 (RTE), 6,023 of 8,551 (CoLA), 323 of 635 (WNLI). Tasks whose complete training set was not at
hand are left out."""


@dataclass(frozen=True)
class TestFile:
    """One file of a submission."""

    name: str
    """Name in the zip, such as `MNLI-mm.tsv`."""
    task: Task
    rows: int
    """Official number of rows."""
    trained_as: str
    """Task of the runs that predict it: the same, but MNLI for AX."""
    stored_as: str
    """Its name among their predictions."""

    @property
    def values(self) -> tuple[str, ...]:
        """What may stand in the file, in the order of the classes; empty for a regression."""
        if self.task.name in _IN_WORDS:
            return self.task.labels
        return tuple(str(index) for index in range(len(self.task.labels)))


FILES: dict[str, TestFile] = {
    (name := f"{task.title}{_SUFFIX.get(split, '')}.tsv"): TestFile(name, task, task.rows[split], trained, stored)
    for trained in GLUE
    for stored, (task, split) in test_sets(TASKS[trained]).items()
}
"""The eleven files, by name."""


def to_values(file: TestFile, outputs: np.ndarray) -> list[str]:
    """One value per row of a test set.

    Args:
        outputs: logits (rows, classes), or predicted targets (rows,) of a regression, which are clipped to the task's
            range.

    Raises:
        ValueError: another shape, or outputs that are not finite.
    """
    outputs = np.asarray(outputs)
    shape = (len(outputs), len(file.values)) if file.values else (len(outputs),)
    if outputs.shape != shape:
        raise ValueError(f"outputs of shape {outputs.shape} where {shape} belongs")
    if not np.isfinite(outputs).all():
        raise ValueError("outputs that are not finite")
    if file.values:
        return [file.values[index] for index in outputs.argmax(-1)]
    clipped = np.clip(outputs.astype(float), *file.task.label_range) + 0.0  # no minus zero
    return [f"{value:.{_DECIMALS}f}" for value in clipped]


def majority_values(file: TestFile, rows: int) -> list[str]:
    """The most frequent class of the file's task (one of `MAJORITY_CLASS`) in every row."""
    return [file.values[file.task.labels.index(MAJORITY_CLASS[file.task.name])]] * rows


def to_text(values: list[str]) -> str:
    """The content of a file."""
    return "\n".join([HEADER, *(f"{index}\t{value}" for index, value in enumerate(values)), ""])


def problem_of(file: TestFile, content: bytes, rows: int) -> str | None:
    """What is wrong with the content of a file, with the first line that shows it; `None` where nothing is."""
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        return f"not UTF-8 at byte {error.start}"
    if not text:
        return "empty"
    if "\r" in text:
        return "carriage returns: write lines that end in a line feed only"
    lines = text.removesuffix("\n").split("\n")
    if lines[0] != HEADER:
        return f"line 1: {_shown(lines[0])} where the header {HEADER!r} belongs"
    for index, line in enumerate(lines[1:]):
        if (problem := _problem_of_line(file, line, index)) is not None:
            return f"line {index + 2}: {problem}"
    if len(lines) - 1 != rows:
        return f"{len(lines) - 1:,} rows where {rows:,} belong"
    return None


def _problem_of_line(file: TestFile, line: str, index: int) -> str | None:
    fields = line.split("\t")
    if len(fields) != 2:
        return f"{len(fields)} columns where 2 belong"
    if '"' in line:
        return "quotation marks: values are not quoted"
    if fields[0] != str(index):
        return f"index {_shown(fields[0])} where {index} belongs"
    value = fields[1]
    if file.values:
        return None if value in file.values else f"{_shown(value)} is none of {', '.join(file.values)}"
    low, high = file.task.label_range
    if _NUMBER.fullmatch(value) and low <= float(value) <= high:
        return None
    return f"{_shown(value)} is no number in {low:g}..{high:g}"


def _shown(text: str) -> str:
    return repr(text if len(text) <= 40 else f"{text[:37]}...")
