"""`OwnTask`: a task that a user describes in a TOML file, with the data that belong to it. Imports no torch."""

import re
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from glue_mva.config.base import Config, read_toml
from glue_mva.errors import UsageError, nearest
from glue_mva.files import expanded
from glue_mva.tasks import GLUE, METRICS, Task, get_task

SUFFIX = ".toml"
"""How the name of a task's file ends: by it `task` is told to be a file."""

FORMATS = {".csv": "csv", ".tsv": "tsv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl", ".parquet": "parquet"}
"""Suffix of a data file -> how it is read."""

OF_CLASSES = ("accuracy", "f1", "f1_macro", "matthews_correlation")
OF_TARGETS = ("pearson", "spearmanr")
_SPLIT = re.compile(r"train|(validation|test)(_[a-z0-9]+)*")

Column = Annotated[str, Field(min_length=1)]


class HubDataset(Config):
    """Where on the Hub the rows of an own task are."""

    dataset: Annotated[str, Field(min_length=1)]
    """Name of the dataset, such as `imdb` or `nyu-mll/glue`."""
    config: str = ""
    """Its configuration, where it has several."""
    revision: str = ""
    """Commit, tag or branch; only a commit makes sure that the rows stay what they are."""
    splits: dict[str, str] = Field(default={"train": "train", "validation": "validation"})
    """Split here -> split there."""


class OwnTask(Config):
    """What the file of an own task says (docs/own-data.md)."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,39}$")]
    """Short name, in small letters, digits, `-` and `_`."""
    title: Annotated[str, Field(pattern=r"^(\w[\w .,+-]{0,39})?$")] = ""
    """Name in tables; by default the short one."""
    text: Annotated[list[Column], Field(min_length=1, max_length=2)]
    """One or two columns with the texts."""
    label: Column
    """Column with the class or the target."""
    labels: list[Column] = Field(default=[])
    """Names of the classes, in the order of their numbers."""
    range: Annotated[list[float], Field(max_length=2)] = Field(default=[])
    """Lowest and highest target of a regression, in place of `labels`."""
    metrics: list[str] = Field(default=[])
    """Metrics to compute; by default accuracy, or pearson and spearmanr."""
    headline: str = ""
    """The metric that gives the score and chooses the best epoch; by default the first."""
    like: str = ""
    """GLUE task whose values a recipe takes for this one: learning rate, weight decay, batch, warmup."""
    files: dict[str, str] = Field(default={})
    """Split (`train`, `validation`, `test`) -> file, relative to the folder of the task's file."""
    hub: HubDataset | None = None
    """In place of files: a dataset of the Hub."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if len(set(self.text)) < len(self.text) or self.label in self.text:
            raise ValueError("text and label: name different columns")
        if taken := [name for name in self.text if name in ("label", "idx")]:
            raise ValueError(f"text: a column of texts cannot be called {taken[0]!r} here; rename it")
        self._check_labels()
        self._check_metrics()
        if self.like and get_task(self.like).name not in GLUE:
            raise ValueError(f"like: {self.like!r} is no GLUE task")
        self._check_splits()
        return self

    def _check_labels(self) -> None:
        if bool(self.labels) == bool(self.range):
            raise ValueError('give labels = ["first", "second", ...] for classes, or range = [low, high] for a number')
        if self.labels and (len(self.labels) < 2 or len(set(self.labels)) < len(self.labels)):
            raise ValueError(f"labels: give two or more different names, got {self.labels}")
        if self.range and (len(self.range) < 2 or not self.range[0] < self.range[1] or self.range[1] <= 0):
            raise ValueError(f"range: give [low, high] with low < high and high > 0, got {self.range}")

    def _check_metrics(self) -> None:
        usable = OF_CLASSES if self.labels else OF_TARGETS
        for name in [*self.metrics, *([self.headline] if self.headline else [])]:
            if name not in METRICS:
                raise ValueError(f"metrics: unknown metric {name!r}{nearest(name, usable)}")
            if name not in usable:
                raise ValueError(f"metrics: {name} is not for {'classes' if self.labels else 'a regression'}; "
                                 f"known: {', '.join(usable)}")  # fmt: skip
            if name == "f1" and len(self.labels) > 2:
                raise ValueError(f"metrics: f1 is for two classes (the second is the positive one), here are "
                                 f"{len(self.labels)}; take f1_macro")  # fmt: skip

    def _check_splits(self) -> None:
        if bool(self.files) == (self.hub is not None):
            raise ValueError("give the table [files] or the table [hub], one of the two")
        table = "files" if self.hub is None else "hub.splits"
        for split in self.splits:
            if not _SPLIT.fullmatch(split):
                raise ValueError(f"{table}: unknown split {split!r}; known: train, validation, test, and further ones "
                                 "as validation_NAME and test_NAME")  # fmt: skip
        if missing := [split for split in ("train", "validation") if split not in self.splits]:
            raise ValueError(f"{table}: no {missing[0]} rows are named")
        for file in self.files.values():
            if Path(file).suffix.lower() not in FORMATS:
                raise ValueError(f"files: {file!r} is of no known kind; known: {', '.join(FORMATS)}")

    @property
    def splits(self) -> dict[str, str]:
        """Split -> file, or split on the Hub."""
        return self.files if self.hub is None else self.hub.splits

    def task(self) -> Task:
        """The same as the rest of the program knows tasks."""
        metrics = self.metrics or list(OF_CLASSES[:1] if self.labels else OF_TARGETS)
        headline = self.headline or metrics[0]
        title = self.title or self.name
        low, high = self.range or (0.0, 0.0)
        return Task(
            name=self.name,
            title=title,
            folder="",
            text=tuple(self.text),
            tsv_text=tuple(self.text),
            tsv_label=self.label,
            labels=tuple(self.labels),
            rows=dict.fromkeys(sorted(self.splits, key=_place), 0),
            metrics=tuple(dict.fromkeys([headline, *metrics])),
            heading=f"{title} ({METRICS[headline]})",
            label_range=(float(low), float(high)),
            is_own=True,
            like=get_task(self.like).name if self.like else "",
        )

    def paths(self, folder: str) -> dict[str, Path]:
        """Split -> data file, for the folder that they are relative to."""
        root = Path(expanded(folder))
        return {split: root / expanded(file) for split, file in self.files.items()}


def _place(split: str) -> tuple[bool, bool, str]:
    """Training rows first, then those that are evaluated, the plain `validation` before its like."""
    return split != "train", split.startswith("test"), split


def is_task_file(task: Any) -> bool:
    """Whether a config's `task` is the file of an own one."""
    return isinstance(task, Path) or (isinstance(task, str) and task.lower().endswith(SUFFIX))


def read_own_task(file: str | Path) -> dict[str, Any]:
    """The fields of `RunConfig` that the file of an own task stands for: `task`, `own_task` and `data`.

    Raises:
        UsageError: no such file, not TOML, or not a task: all problems in one line, which begins with the file.
    """
    try:
        path = Path(expanded(str(file)))
    except ValueError as error:
        raise UsageError(str(error)) from None
    try:
        own = OwnTask(**read_toml(path))
    except UsageError as error:
        said = str(error)
        raise UsageError(said if said.startswith(str(path)) else f"{path}: {said}") from None
    data = "hub" if own.hub is not None else str(path.parent)
    return {"task": own.name, "own_task": own.model_dump(exclude_unset=True), "data": data}
