"""Recipes: where the values come from that a run does not name. Imports no torch."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from glue_mva import paper
from glue_mva.optim.registry import OPTIMIZERS, get_optimizer
from glue_mva.tasks import get_task

NEAREST_TASK = {"wnli": "rte", "ax": "mnli"}
"""Tasks that the paper leaves out -> the task whose values stand in for theirs."""


def paper_column(task: str) -> str | None:
    """The task of the paper whose values a task takes: itself, or the one that stands in for it; `None` for an own task
    that names none."""
    name = get_task(task).like if get_task(task).is_own else task
    return NEAREST_TASK.get(name, name) or None


@dataclass(frozen=True)
class Recipe:
    """A full set of values for the fields of `RunConfig` that may be left at `None`."""

    title: str
    values: Mapping[str, Any]
    """Field -> value; the same for every task."""

    def for_run(self, task: str, optim: str) -> dict[str, tuple[Any, str]]:
        """Field -> (value, where it comes from) for one task and optimizer."""
        spec, values = get_optimizer(optim), self.for_task(task, optim)
        for key, value in spec.defaults.items():
            if callable(value):
                if key not in values:  # an own task without a GLUE task to take it from
                    continue
                values[key] = (value(values[key][0]), f"{spec.origin}, from Adam's {values[key][0]:g}")
            else:
                values[key] = (value, spec.origin)
        return values

    def for_task(self, task: str, optim: str) -> dict[str, tuple[Any, str]]:
        """The same before the optimizer's own defaults: Adam's for an optimizer that the recipe does not know."""
        return {key: (value, self.title) for key, value in self.values.items()}


@dataclass(frozen=True)
class PaperRecipe(Recipe):
    """The paper's recipe, whose batch, warmup, learning rate and weight decay differ from task to task."""

    def for_task(self, task: str, optim: str) -> dict[str, tuple[Any, str]]:
        column = paper_column(task)
        if column is None:
            return super().for_task(task, optim)
        note = f" ({get_task(task).title} is not in it: {get_task(column).title}'s)" if column != task else ""
        row = optim if optim in paper.BEST_HPARAMS else "adam"
        row_note = "" if row == optim else f" ({optim} is not in it: Adam's)"
        lr, weight_decay = paper.BEST_HPARAMS[row][column]
        per_task = {
            "lr": (lr, f"the paper's best for {OPTIMIZERS[row].label} on {get_task(column).title}{row_note}"),
            "weight_decay": (weight_decay, f"the paper's best, with that lr{row_note}"),
            "train_batch_size": (paper.TRAIN_BATCH_SIZE[column], self.title + note),
            "warmup_ratio": (paper.WARMUP_UPDATES[column] / paper.UPDATES[column], self.title + note),
        }
        return super().for_task(task, optim) | per_task


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
}  # fmt: skip

FIELDS = tuple(RECIPES["hf"].values)
"""The fields that every recipe fills, the paper's only for tasks of GLUE and those that name one of it."""
