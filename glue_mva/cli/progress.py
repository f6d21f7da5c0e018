"""What `glue-mva run` shows while it trains, and the table at the end."""

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.logging import RichHandler
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from glue_mva import paper, text
from glue_mva.config.resolve import ResolvedConfig
from glue_mva.record import RECORD_FILE, RunRecord
from glue_mva.tasks import Task


class RunProgress(TrainerCallback):
    """A progress bar of updates with the training loss, and one line per evaluation."""

    def __init__(self, console: Console, task: Task) -> None:
        self.console = console
        self.task = task
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        self.bar = Progress(*columns, TimeRemainingColumn(), console=console)
        self.row: Any = None

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.bar.start()
        self.row = self.bar.add_task("training", total=state.max_steps, completed=state.global_step)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        self.bar.update(self.row, completed=state.global_step)

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if "loss" in kwargs["logs"]:
            self.bar.update(self.row, description=f"training, loss {kwargs['logs']['loss']:.3f}")

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        metrics = {k: v for k, v in kwargs["metrics"].items() if k.endswith(self.task.metrics)}
        values = ", ".join(f"{k.removeprefix('eval_').replace('_', ' ')} {v:.4f}" for k, v in metrics.items())
        self.bar.console.print(f"epoch {state.epoch or 0:g}: {values}", highlight=False)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.bar.stop()


def show_result(console: Console, record: RunRecord, config: ResolvedConfig) -> None:
    """The last table of `glue-mva run`."""
    task, execution, data = record.config.task_spec, record.execution, record.data
    if execution is None or data is None or record.headline is None:
        return
    majority = record.majority.get(record.headline.split, {}).get(record.headline.metric)
    table = Table("task", "optimizer", "score", "last epoch", "majority", "time")
    table.add_row(
        task.title,
        record.config.optim_spec.label,
        text.score(record.score),
        text.score(record.last_score),
        text.score(None if majority is None else 100 * majority),
        text.seconds(execution.total_seconds),
    )
    console.print(table)
    path = Path(config.output) / record.run_id / RECORD_FILE
    console.print(f"record: {path}", highlight=False, soft_wrap=True)
    for warning in record.warnings:
        console.print(f"warning: {warning}", highlight=False)
    console.print(f"score: {task.headline} x 100 at the best epoch{_paper_score(record)}", highlight=False)
    if execution.examples_per_second is not None:
        console.print(
            f"{execution.examples_per_second:g} examples/s, {execution.precision}, padding {execution.padding}, "
            f"{execution.device}; {sum(data.rows.values()):,} rows"
            + (" (partial data: not the score of the full task)" if data.partial else ""),
            highlight=False,
        )


def _paper_score(record: RunRecord) -> str:
    """The paper's median for the same cell, where the run is as the paper's in all but learning rate and decay."""
    config, data = record.config, record.data
    median = paper.TABLE3.get(config.optim, {}).get(config.task)
    if median is None or data is None or record.model is None or record.headline is None:
        return ""
    rows = not data.partial and record.headline.split != "holdout"
    optimizer = not config.routes and not config.optim_spec.differing(config.optim_args)
    model = config.model == paper.MODEL and record.model.start is None
    if not (rows and optimizer and model and config.recipe == "paper"):
        return ""
    from glue_mva.report.settings import departures  # needs pandas

    if departures(config.model_dump()):
        return ""
    return f"; the paper's median over 4 seeds: {median[0]:.2f} (standard error {median[1]:.2f})"


@contextlib.contextmanager
def training_progress(console: Console, task: Task) -> Iterator[list[TrainerCallback]]:
    """The callbacks of a run that is watched; the package's warnings are lines above the bar. However it ends, the bar
    is taken down, and the terminal has its cursor back."""
    logger, progress = logging.getLogger("glue_mva"), RunProgress(console, task)
    handler = RichHandler(console=console, show_time=False, show_path=False)
    logger.addHandler(handler)
    try:
        yield [progress]
    finally:
        progress.bar.stop()
        logger.removeHandler(handler)
