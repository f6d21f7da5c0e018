"""Recipes: where the values come from that a run does not name. Imports no torch."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from glue_mva import paper
from glue_mva.optim.registry import OPTIMIZERS, OptimizerSpec
from glue_mva.tasks import TASKS, Task

NEAREST_TASK = {"wnli": "rte", "ax": "mnli"}
"""Tasks that the papers leave out -> the task whose values stand in for theirs. The choice is this project's."""


def paper_column(task: Task) -> Task | None:
    """The task of a paper whose values a task takes: itself, or the one that stands in for it; `None` for an own task
    that names none."""
    name = task.like if task.is_own else task.name
    return TASKS[NEAREST_TASK.get(name, name)] if name else None


@dataclass(frozen=True)
class Recipe:
    """A full set of values for the fields of `RunConfig` that may be left at `None`."""

    title: str
    values: Mapping[str, Any]
    """Field -> value; the same for every task."""

    def for_run(self, task: Task, optim: OptimizerSpec) -> dict[str, tuple[Any, str]]:
        """Field -> (value, where it comes from) for one task and optimizer."""
        values = self.for_task(task, optim.name)
        for key, value in optim.defaults.items():
            if callable(value):
                if key not in values:  # an own task without a GLUE task to take it from
                    continue
                values[key] = (value(values[key][0]), f"{optim.origin}, from Adam's {values[key][0]:g}")
            else:
                values[key] = (value, optim.origin)
        return values

    def for_task(self, task: Task, optim: str) -> dict[str, tuple[Any, str]]:
        """The same before the optimizer's own defaults: Adam's for an optimizer that the recipe does not know."""
        return {key: (value, self.title) for key, value in self.values.items()}


@dataclass(frozen=True)
class PaperRecipe(Recipe):
    """The paper's recipe, whose batch, warmup, learning rate and weight decay differ from task to task."""

    def for_task(self, task: Task, optim: str) -> dict[str, tuple[Any, str]]:
        column = paper_column(task)
        if column is None:
            return super().for_task(task, optim)
        note = f" ({task.title} is not in it: {column.title}'s)" if column != task else ""
        row = optim if optim in paper.BEST_HPARAMS else "adam"
        row_note = "" if row == optim else f" ({optim} is not in it: Adam's)"
        lr, weight_decay = paper.BEST_HPARAMS[row][column.name]
        per_task = {
            "lr": (lr, f"the paper's best for {OPTIMIZERS[row].label} on {column.title}{row_note}"),
            "weight_decay": (weight_decay, f"the paper's best, with that lr{row_note}"),
            "train_batch_size": (paper.TRAIN_BATCH_SIZE[column.name], self.title + note),
            "warmup_ratio": (paper.WARMUP_UPDATES[column.name] / paper.UPDATES[column.name], self.title + note),
        }
        return super().for_task(task, optim) | per_task


@dataclass(frozen=True)
class TunedRecipe(Recipe):
    """A recipe for one family of models, made for AdamW, whose values were tuned task by task."""

    tuned: Mapping[str, Mapping[str, Any]]
    """GLUE task -> field -> value."""

    def for_task(self, task: Task, optim: str) -> dict[str, tuple[Any, str]]:
        column = paper_column(task)
        if column is None:
            return super().for_task(task, optim)
        note = f" ({task.title} is not in it: {column.title}'s)" if column != task else ""
        of_adam = "" if optim == "adam" else f"; AdamW's, not searched for {optim}"
        return super().for_task(task, optim) | {
            key: (value, self.title + note + (of_adam if key in ("lr", "weight_decay") else ""))
            for key, value in self.tuned[column.name].items()
        }


def _modernbert(lr: float, decay: float, epochs: int) -> dict[str, Any]:
    """One line of the base model's half of table 6. `decay` is taken as that of composer's DecoupledAdamW, with which
    the paper's repository fine-tunes: what a weight loses at the peak learning rate, lr * weight_decay here."""
    return {"lr": lr, "weight_decay": round(decay / lr, 6), "num_train_epochs": float(epochs)}


MODERNBERT = {
    "cola": _modernbert(8e-5, 1e-6, 5),
    "mnli": _modernbert(5e-5, 5e-6, 1),
    "mrpc": _modernbert(5e-5, 5e-6, 10),
    "qnli": _modernbert(8e-5, 5e-6, 2),
    "qqp": _modernbert(5e-5, 5e-6, 10),
    "rte": _modernbert(5e-5, 1e-5, 3),
    "sst2": _modernbert(8e-5, 1e-5, 2),
    "stsb": _modernbert(8e-5, 5e-6, 10),
}
"""Warner et al. 2024 (arXiv 2412.13663), table 6, base: the best of a search on each dev set. RTE, MRPC and STS-B were
started from the MNLI model there."""


def _deberta(task: str, lr: float, epochs: int, warmup: int, batch: int, dropout: float, length: int) -> dict[str, Any]:
    """The options of one script; `warmup` is in updates."""
    updates = epochs * math.ceil(TASKS[task].rows["train"] / batch)
    return {"lr": lr, "num_train_epochs": float(epochs), "warmup_ratio": warmup / updates, "train_batch_size": batch,
            "classifier_dropout": dropout, "max_length": length}  # fmt: skip


DEBERTA = {
    task: _deberta(task, *options)
    for task, options in {
        "cola": (5.5e-6, 10, 50, 32, 0.1, 64),
        "mnli": (7e-6, 2, 500, 64, 0.3, 256),
        "mrpc": (6e-6, 6, 50, 32, 0.2, 128),
        "qnli": (7e-6, 6, 200, 64, 0.2, 512),
        "qqp": (1e-5, 6, 1000, 64, 0.2, 320),
        "rte": (1e-5, 6, 50, 32, 0.3, 320),
        "sst2": (6e-6, 8, 500, 32, 0.1, 128),
        "stsb": (7e-6, 4, 50, 32, 0.1, 128),
    }.items()
}
"""microsoft/DeBERTa, `experiments/glue/<task>.sh`, the branch `deberta-v3-large`: the only model of version 3 for which
they have every task."""

RECIPES: dict[str, Recipe] = {
    "paper": PaperRecipe(
        "recipe paper (section 5.3; fairseq's RoBERTa recipe for GLUE)",
        {"num_train_epochs": float(paper.NUM_TRAIN_EPOCHS), "lr_scheduler": "linear", "max_grad_norm": 0.0,
         "max_length": 512,
         "hidden_dropout": 0.1, "attention_dropout": 0.1, "classifier_dropout": 0.0, "decay_all_parameters": True,
         "scale_targets": True},
    ),
    "hf": Recipe(
        "recipe hf (defaults of Hugging Face's run_glue example)",
        {"num_train_epochs": 3.0, "lr_scheduler": "linear", "max_grad_norm": 1.0, "max_length": 128,
         "hidden_dropout": "checkpoint",
         "attention_dropout": "checkpoint", "classifier_dropout": "checkpoint", "decay_all_parameters": False,
         "scale_targets": False, "lr": 5e-5, "weight_decay": 0.0, "train_batch_size": 8, "warmup_ratio": 0.0},
    ),
    # The paper gives the batch; length, schedule, clipping (none) and the decay of all parameters are those of its
    # repository (src/evals/glue_jobs.py, yamls/finetuning).
    "modernbert": TunedRecipe(
        "recipe modernbert (Warner et al. 2024, base model: table 6, and the authors' repository)",
        {"lr_scheduler": "linear", "warmup_ratio": 0.06, "train_batch_size": 64, "max_grad_norm": 0.0,
         "max_length": 256, "hidden_dropout": "checkpoint", "attention_dropout": "checkpoint",
         "classifier_dropout": "checkpoint", "decay_all_parameters": True, "scale_targets": False},
        MODERNBERT,
    ),
    # What the scripts do not name is the default of DeBERTa/optims/args.py.
    "deberta": TunedRecipe(
        "recipe deberta (microsoft/DeBERTa, deberta-v3-large: experiments/glue, and its defaults)",
        {"lr_scheduler": "linear", "weight_decay": 0.01, "max_grad_norm": 1.0, "hidden_dropout": "checkpoint",
         "attention_dropout": "checkpoint", "decay_all_parameters": False, "scale_targets": False},
        DEBERTA,
    ),
}  # fmt: skip

FIELDS = tuple(RECIPES["hf"].values)
"""The fields that every recipe fills, all but `hf` only for tasks of GLUE and those that name one of it."""
