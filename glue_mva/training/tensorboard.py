"""What a run writes for TensorBoard: curves, and its config as the hyperparameters of the HPARAMS page."""

from pathlib import Path
from typing import Any

from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams
from transformers import TrainerControl, TrainerState, TrainingArguments
from transformers.integrations import TensorBoardCallback

from glue_mva.config.identity import EXECUTION_FIELDS
from glue_mva.config.resolve import ResolvedConfig
from glue_mva.record import Headline

FOLDER = "tensorboard"
"""Folder of a run that gets the events."""


class Board(TensorBoardCallback):
    """transformers' callback, but that it writes this run's config: the Trainer's arguments know neither the optimizer
    nor the schedule that a run really has."""

    def __init__(self, folder: Path, config: ResolvedConfig, headline: Headline) -> None:
        super().__init__(SummaryWriter(str(folder / FOLDER)))
        metric = f"eval/{headline.split}_{headline.metric}"
        self._experiment, self._start, self._end = hparams(hyperparameters(config), {metric: 0.0})

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        for summary in (self._experiment, self._start):
            self.tb_writer.file_writer.add_summary(summary)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.tb_writer.file_writer.add_summary(self._end)
        super().on_train_end(args, state, control, **kwargs)


def hyperparameters(config: ResolvedConfig) -> dict[str, bool | float | str]:
    """Every field of a config that its result depends on; arguments of the optimizer as `optim_args.NAME`, and what is
    neither a number nor a word as text."""
    values = config.model_dump(exclude={*EXECUTION_FIELDS, "own_task", "optim_args"})
    values |= {f"optim_args.{name}": value for name, value in config.optim_args.items()}
    return {
        name: value if isinstance(value, bool | int | float | str) else str(value) for name, value in values.items()
    }
