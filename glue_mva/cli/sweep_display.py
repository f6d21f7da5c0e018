"""What `glue-mva sweep`, `plan` and `status` show."""

import contextlib
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from glue_mva import text

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from glue_mva.sweep.launch import Progress
    from glue_mva.sweep.plan import Line, Plan

PLAIN_WIDTH = 140
"""Characters per line where the output is no terminal."""


def make_console() -> "Console":
    """As wide as the terminal, or wide enough for logs."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else PLAIN_WIDTH, markup=False)


class _PlainView:
    """One line per event; for logs."""

    def __init__(self) -> None:
        self._count = ""

    def note(self, message: str, *, important: bool = False) -> None:
        print(f"{time.strftime('%H:%M:%S')} {self._count}{message}", flush=True)

    def update(self, progress: "Progress") -> None:
        total = sum(row.total for row in _rows(progress))
        self._count = f"[{len(progress.outcomes)}/{total}] "

    def stop(self) -> None: ...


class _LiveView:
    """A table that is drawn anew; important events scroll above it."""

    def __init__(self, console: "Console") -> None:
        from rich.live import Live

        self._live = Live(console=console, refresh_per_second=2, transient=False)
        self._live.start()

    def note(self, message: str, *, important: bool = False) -> None:
        if important:
            self._live.console.print(message, highlight=False)

    def update(self, progress: "Progress") -> None:
        self._live.update(progress_table(progress))

    def stop(self) -> None:
        self._live.stop()


@contextlib.contextmanager
def observing(console: "Console") -> Iterator["_PlainView | _LiveView"]:
    """An observer of a sweep: a table that is drawn anew on a terminal, lines elsewhere."""
    view = _LiveView(console) if console.is_terminal else _PlainView()
    try:
        yield view
    finally:
        view.stop()


def _rows(progress: "Progress") -> list[Any]:
    from glue_mva.sweep.view import rows

    return rows(progress)


def progress_table(progress: "Progress") -> "Table":
    """Rows of the view as a table that fits 80 columns."""
    from rich import box
    from rich.table import Table

    table = Table(
        "task", "optimizer", "done", "running", "failed", "best", "lr, wd", "upd/s", "left",
        box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0),
        caption="best: median of the final runs; in brackets: of the best point searched so far",
    )  # fmt: skip
    for column in table.columns:
        column.no_wrap = True
    for column in table.columns[2:]:
        column.justify = "right"
    for row in _rows(progress):
        best, point = "-", ""
        if row.best is not None and row.hparams is not None:
            best = f"{row.best:.2f}" if row.is_final else f"({row.best:.2f})"
            point = ", ".join([f"{row.hparams.lr:g}, {row.hparams.weight_decay:g}", *row.hparams.others_in_words])
        failed = f"{row.failed or '-'}" + (f" +{row.diverged} div." if row.diverged else "")
        table.add_row(
            row.task, row.name, f"{row.done}/{row.total}", str(row.running or "-"), failed, best, point,
            f"{row.updates_per_second:.2f}" if row.updates_per_second else "-",
            text.seconds(row.seconds_left) if row.seconds_left else "-",
        )  # fmt: skip
    return table


def summary(progress: "Progress") -> str:
    """One line: how many runs are done, diverged, failed."""
    rows = _rows(progress)
    done, total = sum(row.done for row in rows), sum(row.total for row in rows)
    parts = [f"{done} of {total} runs done"]
    if diverged := sum(row.diverged for row in rows):
        parts.append(f"{diverged} diverged")
    if progress.failed:
        parts.append(f"{len(progress.failed)} failed")
    waiting = [row for row in rows if row.failed and row.waits_for_choice]
    if waiting:
        names = ", ".join(f"{row.task} {row.name}" for row in waiting)
        parts.append(f"the choice of hyperparameters waits for failed runs in {names}")
    parts += [f"{task} {row} cannot start: {why}" for (task, row), why in progress.stuck.items()]
    return "; ".join(parts)


def show_plan(made: "Plan") -> None:
    """Print the table of a plan and its sums."""
    from rich.table import Table

    table = Table("task", "stage", "runs", "done", "updates each", "examples", "tokens", "hours")
    for column in table.columns[2:]:
        column.justify = "right"
    for (task, stage), same in _grouped(made.lines).items():
        table.add_row(
            task, stage, str(sum(x.runs for x in same)), str(sum(x.done for x in same)),
            f"{same[0].unit.updates:,}", f"{sum(x.runs * x.unit.examples for x in same):,}",
            text.count(sum(x.runs * x.unit.tokens for x in same)),
            f"{sum(x.runs * x.seconds for x in same) / 3600:,.2f}",
        )  # fmt: skip
    make_console().print(table)
    updates = sum(line.runs * line.unit.updates for line in made.lines)
    tokens = sum(line.runs * line.unit.tokens for line in made.lines)
    examples = sum(line.runs * line.unit.examples for line in made.lines)
    print(f"{made.runs:,} runs, {made.done:,} done; {updates:,} updates, {examples:,} examples, "
          f"{text.count(tokens)} tokens (estimated from mean lengths)")  # fmt: skip
    left, whole = text.seconds(made.seconds_left), text.seconds(made.seconds)
    print(f"run time left: {left} of {whole}, summed over runs ({made.speed.basis})")
    if (machines := made.machines) is not None:
        share = f", {machines.runs_per_gpu} runs on each" if machines.runs_per_gpu > 1 else ""
        print(f"wall time left: about {text.seconds(made.wall_seconds)} on {machines.gpus} "
              f"GPU{'' if machines.gpus == 1 else 's'}{share}")  # fmt: skip
    if made.partial:
        print(f"partial data: {', '.join(made.partial)}; scores will not be those of the full tasks")
    for line in made.starts:
        print(line)
    if made.beyond:
        print(f"not counted: search runs at further learning rates where the best one is the lowest or the highest "
              f"(extend_lr), {made.beyond:,} at most")  # fmt: skip
    kept = f" and {text.size(made.weights_bytes)} of weights that are kept" if made.weights_bytes else ""
    print(f"disk: {text.size(made.disk_bytes)} of records{kept}; a run longer than checkpoint_minutes also holds up to "
          f"{text.size(2 * made.checkpoint_bytes)} of checkpoints while it runs")  # fmt: skip
    if made.longest is not None:
        print(f"longest run: {made.longest.task} {made.longest.row}, {text.seconds(made.longest.seconds)}")
    for change, runs, seconds in made.savings:
        print(f"{change} would save {runs:,} runs, {text.seconds(seconds)}")


def _grouped(lines: "list[Line]") -> "dict[tuple[str, str], list[Line]]":
    """(task, stage) -> its lines, one per optimizer; the runs of all of them are equally long."""
    groups: dict[tuple[str, str], list[Line]] = {}
    for line in lines:
        groups.setdefault((line.task, line.stage), []).append(line)
    return groups
