"""The learning-rate schedule of a run: how many updates, how many of them warm up. Imports no torch."""

import math
from dataclasses import dataclass

from glue_mva import paper
from glue_mva.config.recipes import paper_column
from glue_mva.config.resolve import ResolvedConfig


@dataclass(frozen=True)
class Schedule:
    """Linear warmup, then what `lr_scheduler` says; all counts are optimizer updates."""

    total_steps: int
    """Update at which a decay to 0 gets there."""
    warmup_steps: int
    max_steps: int
    """Updates that are made. The paper's recipe stops after 10 epochs, on RTE before the decay is over."""
    steps_per_epoch: int


def schedule(config: ResolvedConfig, train_rows: int) -> Schedule:
    """The schedule of a run on this many training rows.

    Recipe paper: its number of updates scales with rows, epochs and 1/batch, and training ends after the epochs even
    where the decay would go on (fairseq's `--max-epoch` beside `--total-num-update`). `max_steps` goes over both.
    """
    steps_per_epoch = max(1, math.ceil(train_rows / config.train_batch_size))
    column = paper_column(config.task_spec)
    epoch_steps = math.ceil(config.num_train_epochs * steps_per_epoch)
    if config.max_steps:
        total = stop = config.max_steps
    elif config.recipe == "paper" and column is not None and config.num_train_epochs > 0:
        full = paper.UPDATES[column.name] * paper.TRAIN_BATCH_SIZE[column.name] / column.rows["train"]  # 10 epochs
        share = train_rows / config.train_batch_size * config.num_train_epochs / paper.NUM_TRAIN_EPOCHS
        total = max(1, round(full * share))
        stop = min(total, epoch_steps)
    else:
        total = stop = epoch_steps
    return Schedule(total, round(config.warmup_ratio * total), stop, steps_per_epoch)
