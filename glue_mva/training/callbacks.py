"""Callbacks of a run: stop on divergence, checkpoint by the clock, keep the best weights."""

import contextlib
import json
import math
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from glue_mva.files import MODEL_FOLDER
from glue_mva.training.kept import drop_others, kept_folder
from glue_mva.training.results import best_evaluation, finite


class Stopwatch:
    """Seconds since it was made."""

    def __init__(self) -> None:
        self._start = time.perf_counter()

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self._start


class StopOnDivergence(TrainerCallback):
    """End training at the first logged loss that is not finite, without evaluating what is left."""

    diverged_at: int | None = None
    """Update at which it was seen."""

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        loss = (kwargs.get("logs") or {}).get("loss")
        if loss is not None and not math.isfinite(loss) and self.diverged_at is None:
            self.diverged_at = state.global_step
            control.should_training_stop = True
            control.should_save = False  # a run resumed from here would find it out later than this one

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if self.diverged_at is not None:
            control.should_evaluate = False


class TimedCheckpoint(TrainerCallback):
    """Save a checkpoint at the first logged update after every `minutes`.

    Only there, because the loss that the Trainer sums up between two logged updates is no part of a checkpoint: so the
    curves of a run that was cut off are those of one that was not. And not at the last update of an epoch or of the
    run, where the evaluation is still to come: a resumed run would make one update more, and never that evaluation.
    """

    def __init__(self, minutes: float) -> None:
        self.minutes = minutes
        self.watch = Stopwatch()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        is_last = control.should_training_stop or float(state.epoch or 0.0).is_integer()
        if control.should_log and not is_last and _agreed(self.watch.seconds >= 60 * self.minutes):
            control.should_save = True

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        self.watch = Stopwatch()


class KeepBest(TrainerCallback):
    """Keep the weights of the best evaluation so far by the headline metric, and of the one that was the best at the
    last checkpoint: a run that is resumed there, and not to the bit, may come to no better one.

    Args:
        metric: name under which the headline metric is logged.
        work: folder of the checkpoints and of the weights.
        save: writes the weights into a folder; called in every process.
    """

    def __init__(self, metric: str, work: Path, save: Callable[[Path], None]) -> None:
        self.metric, self.work, self.save = metric, work, save
        self.at_checkpoint: int | None = None

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.at_checkpoint = best_step(state.log_history, self.metric)

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        is_headline = self.metric in kwargs.get("metrics", {})
        if is_headline and best_step(state.log_history, self.metric) == state.global_step:
            self._drop_others(state)
            self.save(kept_folder(self.work, state.global_step))

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        self.at_checkpoint = best_step(state.log_history, self.metric)
        self._drop_others(state)

    def _drop_others(self, state: TrainerState) -> None:
        if state.is_world_process_zero:
            drop_others(self.work, self.at_checkpoint)


class StopEarly(TrainerCallback):
    """End training after `patience` evaluations in a row without a better headline metric.

    Looks at the history that the Trainer keeps and writes into checkpoints, so a resumed run stops where an
    uninterrupted one does. (transformers' EarlyStoppingCallback wants the best weights loaded at the end, and warns at
    every split that lacks the metric.)
    """

    def __init__(self, metric: str, patience: int) -> None:
        self.metric = metric
        self.patience = patience

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if self.metric in kwargs.get("metrics", {}) and since_best(state, self.metric) >= self.patience:
            control.should_training_stop = True


def since_best(state: TrainerState, metric: str) -> int:
    """Evaluations after the best one so far; 0 where the newest is the best."""
    values = [entry[metric] for entry in state.log_history if metric in entry]
    return len(values) - 1 - best_evaluation(values)


def best_step(history: list[dict[str, Any]], metric: str) -> int | None:
    """Updates at the best evaluation in the Trainer's history; `None` where none gave a number."""
    logged = [entry for entry in history if finite(entry.get(metric)) is not None]
    return int(logged[best_evaluation([entry[metric] for entry in logged])]["step"]) if logged else None


def last_checkpoint(folder: Path, world_size: int, kept: str | None = None) -> Path | None:
    """The newest checkpoint that a run can go on from: it is whole (the Trainer writes its state last, so a kill leaves
    one without it), and the weights of its best evaluation are there, where weights are kept.

    Args:
        kept: name under which the metric is logged by which weights are kept; `None` where none are.
    """
    found = sorted(folder.glob(f"{PREFIX_CHECKPOINT_DIR}-*"), key=step_of, reverse=True)
    rng = ["rng_state.pth"] if world_size == 1 else [f"rng_state_{rank}.pth" for rank in range(world_size)]
    for checkpoint in found:
        with contextlib.suppress(OSError, ValueError):
            state = json.loads((checkpoint / "trainer_state.json").read_bytes())
            best = best_step(state.get("log_history", []), kept) if kept is not None else None
            has_weights = best is None or kept_folder(folder, best).is_dir()
            if has_weights and all((checkpoint / name).is_file() for name in rng):
                return checkpoint
    return None


def drop_after(work: Path, checkpoint: Path | None) -> None:
    """Remove what an earlier attempt left in `work` and a run that goes on from `checkpoint` makes again: checkpoints
    and kept weights of later updates; everything, where it begins anew (`None`)."""
    if checkpoint is None:
        shutil.rmtree(work, ignore_errors=True)
        return
    for folder in [*work.glob(f"{PREFIX_CHECKPOINT_DIR}-*"), *work.glob(f"{MODEL_FOLDER}-*")]:
        if step_of(folder) > step_of(checkpoint):
            shutil.rmtree(folder, ignore_errors=True)


def checkpoint_folder(folder: Path, step: int) -> Path:
    """Where the Trainer writes the checkpoint of an update."""
    return folder / f"{PREFIX_CHECKPOINT_DIR}-{step}"


def step_of(folder: Path) -> int:
    """Updates made when `checkpoint-<step>` or `model-<step>` was written."""
    return int(folder.name.rpartition("-")[2])


def _agreed(decision: bool) -> bool:
    """The decision of process 0, in every process."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return decision
    box = [decision]
    torch.distributed.broadcast_object_list(box)
    return box[0]
