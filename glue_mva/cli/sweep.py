"""`glue-mva sweep`, `plan` and `status`."""

import contextlib
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from glue_mva.cli.exit_codes import EXIT_FAILED
from glue_mva.config import parse_assignments
from glue_mva.errors import UsageError, nearest
from glue_mva.sweep.config import DEFAULT_SWEEP, SweepConfig, load_sweep

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from glue_mva.sweep.engine import Engine
    from glue_mva.sweep.launch import Progress
    from glue_mva.sweep.plan import Line, Plan

EXIT_INTERRUPTED = 130
"""Stopped by Ctrl-C or a termination signal, as shells count it."""

PLAIN_WIDTH = 140
"""Characters per line where the output is no terminal."""

File = Annotated[str, typer.Argument(help="Sweep file, or the name of one that comes with the package.")]
Tasks = Annotated[str | None, typer.Option(help="Only these tasks, separated by commas.")]
Optimizers = Annotated[
    str | None, typer.Option(help="Only these rows of the file, or any other optimizers, separated by commas.")
]
ProtocolOption = Annotated[str | None, typer.Option(help="paper, heldout, grid or fixed.")]
SearchSeeds = Annotated[int | None, typer.Option(help="Seeds per point of the grid.")]
FinalSeeds = Annotated[int | None, typer.Option(help="Seeds of the point that won.")]
Model = Annotated[str | None, typer.Option(help="Hub name or folder.")]
Data = Annotated[str | None, typer.Option(help="hub, demo, or a folder.")]
TrainSamples = Annotated[int | None, typer.Option(help="Train on this many rows.")]
EvalSamples = Annotated[int | None, typer.Option(help="Evaluate on this many rows.")]
Epochs = Annotated[float | None, typer.Option(help="Passes over the training rows.")]
Output = Annotated[str | None, typer.Option(help="Folder of records.")]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Any key of the sweep file, or run.FIELD; may be repeated."),
]


def plan(
    file: File = DEFAULT_SWEEP,
    tasks: Tasks = None,
    optimizers: Optimizers = None,
    protocol: ProtocolOption = None,
    search_seeds: SearchSeeds = None,
    final_seeds: FinalSeeds = None,
    model: Model = None,
    data: Data = None,
    max_train_samples: TrainSamples = None,
    max_eval_samples: EvalSamples = None,
    num_train_epochs: Epochs = None,
    output: Output = None,
    assignments: Set = None,
) -> None:
    """Say what a sweep will cost: runs, updates, tokens, hours, disk; and what is done already. Runs nothing."""
    from glue_mva.sweep.launch import read_progress
    from glue_mva.sweep.plan import make_plan

    options = locals()
    sweep_config = _load(file, options)
    progress, problems = read_progress(sweep_config)
    for problem in problems.values():
        print(f"glue-mva: {problem}; the sweep will set it aside and run again", file=sys.stderr)
    _show_plan(sweep_config, make_plan(sweep_config, progress.outcomes))


def status(
    file: File = DEFAULT_SWEEP,
    tasks: Tasks = None,
    optimizers: Optimizers = None,
    protocol: ProtocolOption = None,
    search_seeds: SearchSeeds = None,
    final_seeds: FinalSeeds = None,
    model: Model = None,
    data: Data = None,
    max_train_samples: TrainSamples = None,
    max_eval_samples: EvalSamples = None,
    num_train_epochs: Epochs = None,
    output: Output = None,
    assignments: Set = None,
) -> None:
    """Show how far a sweep has come, from any terminal, whether it is at work or not. Exit code 1 where runs failed."""
    from glue_mva.sweep import store
    from glue_mva.sweep.launch import read_progress

    options = locals()
    sweep_config = _load(file, options)
    progress, problems = read_progress(sweep_config)
    folder = Path(sweep_config.output)
    state = store.read_state(folder) if store.is_active(folder) else None
    if state is not None:
        known = {run.run_id: run for run in progress.known()}
        progress.running = {run_id: known[run_id] for run_id in state["running"] if run_id in known}
        progress.failed = {k: v for k, v in progress.failed.items() if k not in progress.running}
        progress.slots = state["slots"]
    console = _console()
    console.print(_table(progress))
    if state is not None:
        print(f"at work: process {state['pid']} on {state['host']} since {state['since']}, {state['slots']} at once")
    else:
        print("no sweep is at work here")
    for run_id, problem in problems.items():
        print(f"{run_id}: {problem}")
    for run_id, error in progress.failed.items():
        print(f"{run_id}: failed: {error}")
    print(_summary(progress))
    if progress.failed:
        raise typer.Exit(EXIT_FAILED)


def sweep(
    file: File = DEFAULT_SWEEP,
    tasks: Tasks = None,
    optimizers: Optimizers = None,
    protocol: ProtocolOption = None,
    search_seeds: SearchSeeds = None,
    final_seeds: FinalSeeds = None,
    model: Model = None,
    data: Data = None,
    max_train_samples: TrainSamples = None,
    max_eval_samples: EvalSamples = None,
    num_train_epochs: Epochs = None,
    output: Output = None,
    assignments: Set = None,
    engine: Annotated[str, typer.Option(help="ray, or inline: one after another in this process.")] = "ray",
    address: Annotated[str | None, typer.Option(help="A running Ray cluster, such as auto or HOST:6379.")] = None,
    runs_per_gpu: Annotated[int, typer.Option(min=1, help="Runs that share one GPU.")] = 1,
    threads_per_run: Annotated[
        int | None, typer.Option(min=1, help="CPU threads per run; cores / threads runs go at once without GPUs.")
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for another sweep at work in the same folder.")] = False,
) -> None:
    """Run what is missing of a sweep. Kill it and run it again: finished runs are never repeated.

    Exit code 0: all done; 1: some runs failed, or no hyperparameters could be chosen; 2: refused, nothing started.
    """
    options = locals()
    from glue_mva.sweep.launch import launch

    sweep_config = _load(file, options)
    make_engine = _engine_maker(engine, address, runs_per_gpu, threads_per_run)
    console = _console()
    with _view(console) as observer, _termination_as_interrupt():
        try:
            progress = launch(sweep_config, make_engine, observer, wait=wait)
        except KeyboardInterrupt:
            observer.stop()
            print(f"stopped; finished runs are kept, and long ones go on from their last checkpoint.\n"
                  f"To go on: {_command()}", file=sys.stderr)  # fmt: skip
            raise typer.Exit(EXIT_INTERRUPTED) from None
    print(_summary(progress))
    if progress.storage_trouble:
        print(f"glue-mva: stopped, since nothing more can be written to {sweep_config.output!r}: "
              f"{progress.storage_trouble}", file=sys.stderr)  # fmt: skip
    if progress.failed or not progress.is_complete:
        print(f"To try the missing runs again: {_command()}", file=sys.stderr)
        raise typer.Exit(EXIT_FAILED)


def _load(file: str, options: dict[str, Any]) -> SweepConfig:
    """The sweep file with the command line's values over it."""
    overrides = parse_assignments(options["assignments"] or [])
    run_fields = ("model", "data", "max_train_samples", "max_eval_samples", "num_train_epochs")
    run = {key: options[key] for key in run_fields if options[key] is not None}
    if run:
        overrides["run"] = {**overrides.get("run", {}), **run}
    for key in ("protocol", "search_seeds", "final_seeds", "output"):
        if options[key] is not None:
            overrides[key] = options[key]
    if options["tasks"] is not None:
        overrides["tasks"] = _words(options["tasks"])
    if unknown := [key for key in overrides if key not in SweepConfig.model_fields]:
        hint = nearest(unknown[0], [*SweepConfig.model_fields, "run.FIELD"])
        raise UsageError(f"--set: unknown key {unknown[0]!r}{hint}")
    loaded = load_sweep(file, overrides)
    if options["optimizers"] is None:
        return loaded
    rows = {entry.name: entry.model_dump() for entry in loaded.optimizers}
    return loaded.replace(optimizers=[rows.get(name, name) for name in _words(options["optimizers"])])


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _engine_maker(name: str, address: str | None, runs_per_gpu: int, threads: int | None) -> Any:
    if name not in ("ray", "inline"):
        raise UsageError(f"unknown engine {name!r}{nearest(name, ('ray', 'inline'))}")
    if name == "inline" and address is not None:
        raise UsageError("--address needs --engine ray")

    def make() -> "Engine":
        from glue_mva.sweep.engine import InlineEngine, RayEngine, Resources

        return InlineEngine() if name == "inline" else RayEngine(Resources(runs_per_gpu, threads), address)

    return make


@contextlib.contextmanager
def _termination_as_interrupt() -> Iterator[None]:
    """A polite kill (Slurm, a preempted machine) stops as cleanly as Ctrl-C."""

    def interrupt(number: int, frame: Any) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _command() -> str:
    import shlex

    return shlex.join(["glue-mva", *sys.argv[1:]])


def _console() -> "Console":
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else PLAIN_WIDTH)


class _PlainView:
    """One line per event; for logs."""

    def note(self, message: str, *, important: bool = False) -> None:
        print(f"{time.strftime('%H:%M:%S')} {self._count}{message}", flush=True)

    def __init__(self) -> None:
        self._count = ""

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
        self._live.update(_table(progress))

    def stop(self) -> None:
        self._live.stop()


@contextlib.contextmanager
def _view(console: "Console") -> Iterator["_PlainView | _LiveView"]:
    view = _LiveView(console) if console.is_terminal else _PlainView()
    try:
        yield view
    finally:
        view.stop()


def _rows(progress: "Progress") -> list[Any]:
    from glue_mva.sweep.view import rows

    return rows(progress)


def _table(progress: "Progress") -> "Table":
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
            point = f"{row.hparams.lr:g}, {row.hparams.weight_decay:g}"
        failed = f"{row.failed or '-'}" + (f" +{row.diverged} div." if row.diverged else "")
        table.add_row(
            row.task, row.name, f"{row.done}/{row.total}", str(row.running or "-"), failed, best, point,
            f"{row.updates_per_second:.2f}" if row.updates_per_second else "-",
            duration(row.seconds_left) if row.seconds_left else "-",
        )  # fmt: skip
    return table


def _summary(progress: "Progress") -> str:
    rows = _rows(progress)
    done, total = sum(row.done for row in rows), sum(row.total for row in rows)
    parts = [f"{done} of {total} runs done"]
    if diverged := sum(row.diverged for row in rows):
        parts.append(f"{diverged} diverged")
    if progress.failed:
        parts.append(f"{len(progress.failed)} failed")
    waiting = [row for row in rows if row.failed and not row.is_final]
    if waiting:
        names = ", ".join(f"{row.task} {row.name}" for row in waiting)
        parts.append(f"the choice of hyperparameters waits for failed runs in {names}")
    return "; ".join(parts)


def _show_plan(sweep: SweepConfig, made: "Plan") -> None:
    from rich.table import Table

    table = Table("task", "stage", "runs", "done", "updates each", "examples", "tokens", "hours")
    for column in table.columns[2:]:
        column.justify = "right"
    for (task, stage), same in _grouped(made.lines).items():
        table.add_row(
            task, stage, str(sum(x.runs for x in same)), str(sum(x.done for x in same)),
            f"{same[0].unit.updates:,}", f"{sum(x.runs * x.unit.examples for x in same):,}",
            _short(sum(x.runs * x.unit.tokens for x in same)), f"{sum(x.runs * x.seconds for x in same) / 3600:,.2f}",
        )  # fmt: skip
    _console().print(table)
    updates = sum(line.runs * line.unit.updates for line in made.lines)
    tokens = sum(line.runs * line.unit.tokens for line in made.lines)
    examples = sum(line.runs * line.unit.examples for line in made.lines)
    print(f"{made.runs:,} runs, {made.done:,} done; {updates:,} updates, {examples:,} examples, "
          f"{_short(tokens)} tokens (estimated from mean lengths)")  # fmt: skip
    left, whole = duration(made.seconds_left), duration(made.seconds)
    print(f"run time left: {left} of {whole}, summed over runs ({made.speed.basis})")
    disk = f"{_bytes(made.disk_bytes)} of records"
    print(f"disk: {disk}; a run longer than checkpoint_minutes also holds up to {_bytes(2 * made.checkpoint_bytes)} of "
          "checkpoints while it runs")  # fmt: skip
    if made.longest is not None:
        print(f"longest run: {made.longest.task} {made.longest.row}, {duration(made.longest.seconds)}")
    for change, runs, seconds in made.savings:
        print(f"{change} would save {runs:,} runs, {duration(seconds)}")


def _grouped(lines: "list[Line]") -> "dict[tuple[str, str], list[Line]]":
    """(task, stage) -> its lines, one per optimizer; the runs of all of them are equally long."""
    groups: dict[tuple[str, str], list[Line]] = {}
    for line in lines:
        groups.setdefault((line.task, line.stage), []).append(line)
    return groups


def duration(seconds: float) -> str:
    """`45 s`, `12 min`, `3 h 20 min`, `2 d 4 h`."""
    minutes, hours = round(seconds / 60), round(seconds / 3600)
    if seconds < 60:
        return f"{seconds:.0f} s"
    if minutes < 60:
        return f"{minutes} min"
    if minutes < 48 * 60:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{hours // 24:,} d {hours % 24} h"


def _short(number: float) -> str:
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= size:
            return f"{number / size:.1f}{unit}"
    return f"{number:.0f}"


def _bytes(number: float) -> str:
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if number >= size:
            return f"{number / size:.1f} {unit}"
    return f"{number:.0f} bytes"
