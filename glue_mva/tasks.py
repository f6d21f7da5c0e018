"""The GLUE tasks: a table of columns, labels, splits, metrics and official sizes; and the tasks of users beside them.
Imports nothing of weight."""

import re
from dataclasses import dataclass

from glue_mva.errors import UsageError, nearest


@dataclass(frozen=True)
class Task:
    """One GLUE task, as the official release and the Hub dataset `nyu-mll/glue` lay it out, or one of a user."""

    name: str
    """Canonical name; also the Hub configuration."""
    title: str
    """Name as papers print it."""
    folder: str
    """Folder of the official TSV layout."""
    text: tuple[str, ...]
    """Text columns on the Hub, one or two; the names used everywhere inside the package."""
    tsv_text: tuple[str, ...]
    """The same columns in the official TSV header."""
    tsv_label: str
    """Label column in the official TSV header."""
    labels: tuple[str, ...]
    """Class names in the order of the Hub's integers; empty for a regression."""
    rows: dict[str, int]
    """Official number of rows per split (Hub split names); 0 for each of a user's own, which are not known."""
    metrics: tuple[str, ...]
    """Metrics of the task; the first is the headline metric, whose value x 100 is the score."""
    heading: str
    """Column heading in the paper's Table 3 (paper-style for tasks that are not in it)."""
    label_range: tuple[float, float] = (0.0, 0.0)
    """Range of the targets of a regression."""
    is_own: bool = False
    """Whether a user described it (`config.own_task`)."""
    like: str = ""
    """GLUE task whose values a recipe takes for an own one; empty where it names none."""

    @property
    def is_regression(self) -> bool:
        return not self.labels

    @property
    def num_labels(self) -> int:
        return max(1, len(self.labels))

    @property
    def headline(self) -> str:
        return self.metrics[0]

    @property
    def eval_splits(self) -> tuple[str, ...]:
        """Labelled splits that are evaluated, the headline one first."""
        return tuple(s for s in self.rows if s.startswith("validation"))

    @property
    def test_splits(self) -> tuple[str, ...]:
        return tuple(s for s in self.rows if s.startswith("test"))

    @property
    def looked_at(self) -> tuple[str, ...]:
        """The splits of which an evaluation is made: the test sets of a task without any other."""
        return self.eval_splits or self.test_splits

    def known_rows(self, data: str, split: str) -> int | None:
        """Rows of a split where they are known without a look at the data: the official number on the Hub, that of the
        excerpt in the demo; `None` in a folder, and for a user's own task."""
        if is_folder(data) or self.is_own:
            return None
        return DEMO_ROWS.get(split, 0) if data == "demo" else self.rows.get(split, 0)


_NLI = ("entailment", "not_entailment")
_NLI3 = ("entailment", "neutral", "contradiction")
_PAIR = ("sentence1", "sentence2")

TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        Task("mnli", "MNLI", "MNLI", ("premise", "hypothesis"), _PAIR, "gold_label", _NLI3,
             {"train": 392702, "validation_matched": 9815, "validation_mismatched": 9832,
              "test_matched": 9796, "test_mismatched": 9847}, ("accuracy",), "MNLI (Acc)"),
        Task("qnli", "QNLI", "QNLI", ("question", "sentence"), ("question", "sentence"), "label", _NLI,
             {"train": 104743, "validation": 5463, "test": 5463}, ("accuracy",), "QNLI (Acc)"),
        Task("qqp", "QQP", "QQP", ("question1", "question2"), ("question1", "question2"), "is_duplicate",
             ("not_duplicate", "duplicate"), {"train": 363846, "validation": 40430, "test": 390965},
             ("accuracy", "f1"), "QQP (Acc)"),
        Task("rte", "RTE", "RTE", _PAIR, _PAIR, "label", _NLI,
             {"train": 2490, "validation": 277, "test": 3000}, ("accuracy",), "RTE (Acc)"),
        Task("sst2", "SST-2", "SST-2", ("sentence",), ("sentence",), "label", ("negative", "positive"),
             {"train": 67349, "validation": 872, "test": 1821}, ("accuracy",), "SST-2 (Acc)"),
        Task("mrpc", "MRPC", "MRPC", _PAIR, ("#1 String", "#2 String"), "Quality",
             ("not_equivalent", "equivalent"), {"train": 3668, "validation": 408, "test": 1725},
             ("accuracy", "f1"), "MRPC (Acc)"),
        Task("cola", "CoLA", "CoLA", ("sentence",), ("sentence",), "label", ("unacceptable", "acceptable"),
             {"train": 8551, "validation": 1043, "test": 1063}, ("matthews_correlation",), "CoLA (Mcc)"),
        Task("stsb", "STS-B", "STS-B", _PAIR, _PAIR, "score", (),
             {"train": 5749, "validation": 1500, "test": 1379}, ("pearson", "spearmanr"), "STS-B (Pearson)",
             label_range=(0.0, 5.0)),
        Task("wnli", "WNLI", "WNLI", _PAIR, _PAIR, "label", ("not_entailment", "entailment"),
             {"train": 635, "validation": 71, "test": 146}, ("accuracy",), "WNLI (Acc)"),
        Task("ax", "AX", "AX", ("premise", "hypothesis"), _PAIR, "label", _NLI3,
             {"test": 1104}, ("matthews_correlation",), "AX (Mcc)"),
    )
}  # fmt: skip
"""name -> task, in the paper's order of columns, then the two tasks that its Table 3 leaves out; then the users' own,
once a config or a record has told of them (`register`)."""

GLUE = tuple(TASKS)
"""Names of the ten GLUE tasks."""

METRICS = {"accuracy": "Acc", "f1": "F1", "f1_macro": "macro F1", "matthews_correlation": "Mcc", "pearson": "Pearson",
           "spearmanr": "Spearman"}  # fmt: skip
"""Every known metric -> its name in a heading."""

DEMO_TASK = "qnli"
DEMO_ROWS = {"train": 2000, "validation": 800}
"""Rows of the built-in excerpt."""


def get_task(name: str) -> Task:
    """The task that a user's spelling means: `STS-B`, `sst_2`, `CoLA`.

    Raises:
        UsageError: no such task; names the nearest.
    """
    if name in TASKS:
        return TASKS[name]
    key = folded(name)
    if (found := next((task for task in TASKS.values() if folded(task.name) == key), None)) is None:
        raise UsageError(f"unknown task {name!r}{nearest(key, TASKS)}")
    return found


def register(task: Task) -> None:
    """Make an own task known to this process by its name.

    Raises:
        UsageError: the name is GLUE's, or that of another own task.
    """
    known = next((other for other in TASKS.values() if folded(other.name) == folded(task.name)), task)
    if known != task:
        whose = "in this process already, with another definition" if known.is_own else f"GLUE's {known.title}"
        raise UsageError(f"name {task.name!r} is {whose}: give your task another name")
    TASKS[task.name] = task


def folded(name: str) -> str:
    """A name of a task or class without case and punctuation, in which spellings of it differ."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def test_sets(task: Task) -> dict[str, tuple[Task, str]]:
    """The test sets that a run of a task predicts: name among its predictions -> (task, split) whose rows they are. AX
    has no training rows of its own: MNLI's runs predict it."""
    own = {split: (task, split) for split in task.test_splits if task.eval_splits}
    return {**own, "ax": (TASKS["ax"], "test")} if task.name == "mnli" else own


def is_folder(data: str) -> bool:
    """Whether a config's `data` names a folder on this machine: everything but the two words does."""
    return data not in ("hub", "demo")
