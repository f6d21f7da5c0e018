"""What one run of a sweep consists of: updates, examples, tokens; counted where that can be done. Imports no torch."""

import json
from dataclasses import dataclass
from functools import lru_cache

from glue_mva.config.identity import task_root
from glue_mva.config.resolve import ResolvedConfig
from glue_mva.config.schedule import schedule
from glue_mva.data.tsv import file_of
from glue_mva.tasks import TASKS, Task, test_sets

MEAN_TOKENS = {"mnli": 39.9, "qnli": 50.7, "qqp": 31.4, "rte": 71.4, "sst2": 14.2, "mrpc": 54.2, "cola": 11.3,
               "stsb": 29.4, "wnli": 37.7, "ax": 39.9}  # fmt: skip
"""Tokens per example: mean over 1,500 training rows of each task with RoBERTa's tokenizer, special tokens included, cut
at 512 (AX: MNLI's)."""

CHARACTERS_PER_TOKEN = 4.6
"""Of the texts of an own task: what 1,500 training rows of GLUE's tasks have with RoBERTa's tokenizer (4.3 to 4.8)."""

EVALUATION_COST = 1 / 3
"""An evaluated token's share of a trained one's cost: a forward pass without the backward pass."""


@dataclass(frozen=True)
class Unit:
    """What one run costs."""

    updates: int
    examples: int
    """Training examples, counted once per epoch."""
    tokens: float
    """Training tokens without padding."""
    evaluated: float
    """Tokens evaluated, over all epochs, and those of the test sets."""
    eval_rows: int

    @property
    def work(self) -> float:
        """Cost in units of one trained token."""
        return self.tokens + EVALUATION_COST * self.evaluated


def unit_of(config: ResolvedConfig) -> Unit:
    """Updates, examples and tokens of one run."""
    rows = rows_used(config, "train")
    eval_rows = sum(rows_used(config, split) for split in config.task_spec.eval_splits)
    if config.holdout_fraction:
        eval_rows = round(rows * config.holdout_fraction)
        rows -= eval_rows
    steps = schedule(config, rows)
    epochs = steps.max_steps / steps.steps_per_epoch
    examples = round(epochs * rows)
    length = _length(config, config.task_spec)
    evaluations = max(1, -(-steps.max_steps // steps.steps_per_epoch))
    evaluated = evaluations * eval_rows * length
    for source, split in test_sets(config.task_spec).values() if config.predict_test else ():
        evaluated += rows_of(config, source, split) * _length(config, source)
    return Unit(steps.max_steps, examples, examples * length, evaluated, eval_rows)


def rows_used(config: ResolvedConfig, split: str) -> int:
    """Rows of a split that a run trains or is evaluated on."""
    rows = rows_of(config, config.task_spec, split)
    limit = config.max_train_samples if split == "train" else config.max_eval_samples
    return min(rows, limit) if limit else rows


def _length(config: ResolvedConfig, task: Task) -> float:
    """Tokens per example of a task, estimated."""
    mean = _own_size(config, "train")[1] if task.is_own else MEAN_TOKENS[task.name]
    return min(mean, config.max_length)


def rows_of(config: ResolvedConfig, task: Task, split: str) -> int:
    """All rows of a split, whatever a run uses of them."""
    return _own_size(config, split)[0] if task.is_own else _glue_rows(config.data, task.name, split)


def _own_size(config: ResolvedConfig, split: str) -> tuple[int, float]:
    """(rows, tokens per row) of a split of an own task, which is loaded for that: its files say neither."""
    key = (config.data, json.dumps(config.own_task, sort_keys=True), split)
    if key not in _OWN_SIZES:
        from glue_mva.data.load import load_splits  # loads the datasets library

        task = config.task_spec
        rows = load_splits(config, task, (split,))[split]
        characters = sum(len(text) for name in task.text for text in rows[name])
        special = 2 * len(task.text)
        _OWN_SIZES[key] = len(rows), characters / CHARACTERS_PER_TOKEN / len(rows) + special
    return _OWN_SIZES[key]


_OWN_SIZES: dict[tuple[str, str, str], tuple[int, float]] = {}


@lru_cache(maxsize=256)
def _glue_rows(data: str, name: str, split: str) -> int:
    """Rows of a split of a GLUE task: counted in a local folder, else the number that is known; the official one of a
    folder or file that is not there."""
    task = TASKS[name]
    if (known := task.known_rows(data, split)) is not None:
        return known
    root = task_root(data, task.folder)
    if root is None:
        return task.rows.get(split, 0)
    if (root / "dataset_dict.json").is_file():
        from glue_mva.data import saved  # loads the datasets library, which other plans do without

        return len(saved.read(task, root, (split,))[split])
    path = root / file_of(task, split)
    if not path.is_file():
        return task.rows.get(split, 0)
    with path.open("rb") as stream:
        lines, last = 0, b"\n"
        while block := stream.read(2**20):
            lines += block.count(b"\n")
            last = block
    header = 0 if name == "cola" and split != "test" else 1
    return lines + (not last.endswith(b"\n")) - header
