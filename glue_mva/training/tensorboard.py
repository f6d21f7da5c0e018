"""What a run writes for TensorBoard: curves, and its config as the hyperparameters of the HPARAMS page."""

import shutil
from pathlib import Path
from typing import Any

from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams
from transformers import TrainerControl, TrainerState, TrainingArguments
from transformers.integrations import TensorBoardCallback

from glue_mva.config.resolve import ResolvedConfig
from glue_mva.record import Headline
from glue_mva.training.trackers import hyperparameters

FOLDER = "tensorboard"
"""Folder of a run that gets the events."""


class Board(TensorBoardCallback):
    """transformers' callback, but that it writes this run's config: the Trainer's arguments know neither the optimizer
    nor the schedule that a run really has."""

    def __init__(self, folder: Path, config: ResolvedConfig, headline: Headline) -> None:
        super().__init__()
        self.folder = folder / FOLDER
        metric = f"eval/{headline.split}_{headline.metric}"
        self._experiment, self._start, self._end = hparams(hyperparameters(config), {metric: 0.0})

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if state.global_step == 0:  # anew, where an earlier attempt may have left events
            shutil.rmtree(self.folder, ignore_errors=True)
        self.tb_writer = SummaryWriter(str(self.folder), purge_step=state.global_step + 1)
        for summary in (self._experiment, self._start):
            self.tb_writer.file_writer.add_summary(summary)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.tb_writer.file_writer.add_summary(self._end)
        super().on_train_end(args, state, control, **kwargs)
