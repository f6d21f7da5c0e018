"""`glue-mva sweep`, `plan` and `status`."""

import contextlib
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from glue_mva.cli.exit_codes import EXIT_FAILED
from glue_mva.cli.options import Assignments, typed_command
from glue_mva.cli.sweep_display import make_console, observing, progress_table, show_plan, summary
from glue_mva.cli.sweep_options import changed, overrides, sweep_options
from glue_mva.errors import UsageError, nearest
from glue_mva.sweep.config import DEFAULT_SWEEP

if TYPE_CHECKING:
    from glue_mva.sweep.engine import Engine

EXIT_INTERRUPTED = 130
"""Stopped by Ctrl-C, SIGTERM or SIGHUP."""

File = Annotated[str, typer.Argument(help="Sweep file, the folder that a sweep filled, or the name of a file that "
                                     "comes with the package.")]  # fmt: skip
RunsPerGpu = Annotated[int, typer.Option(min=1, help="Runs that share one GPU.")]


@sweep_options
def plan(
    sweep_fields: dict[str, Any],
    run_fields: dict[str, Any],
    file: File = DEFAULT_SWEEP,
    assignments: Assignments = None,
    gpus: Annotated[int | None, typer.Option(min=1, help="Hours of wall time on so many GPUs.")] = None,
    runs_per_gpu: RunsPerGpu = 1,
    tokens_per_second: Annotated[
        float | None,
        typer.Option(min=1, help="Training speed of one run (with --runs-per-gpu, of each that shares the card); by "
                     "default as in the records in the sweep's folder, else assumed."),
    ] = None,
) -> None:  # fmt: skip
    """Say what a sweep will cost: runs, updates, tokens, hours, disk; and what is done already. Runs nothing."""
    from glue_mva.sweep.launch import lacking_in_words, read_progress
    from glue_mva.sweep.plan import Machines, make_plan

    if gpus is None and runs_per_gpu > 1:
        raise UsageError("--runs-per-gpu: give --gpus too")
    machines = Machines(gpus, runs_per_gpu) if gpus is not None else None

    sweep_config = changed(file, overrides(assignments, sweep_fields, run_fields))
    progress, problems = read_progress(sweep_config)
    for problem in problems.values():
        print(f"glue-mva: {problem}; the sweep will set it aside and run again", file=sys.stderr)
    if progress.lacking:
        print(f"glue-mva: {lacking_in_words(progress)}; the sweep will make them again", file=sys.stderr)
    show_plan(make_plan(sweep_config, progress.outcomes, machines, tokens_per_second))


@sweep_options
def status(
    sweep_fields: dict[str, Any],
    run_fields: dict[str, Any],
    file: File = DEFAULT_SWEEP,
    assignments: Assignments = None,
) -> None:
    """Show how far a sweep has come, from any terminal, whether it is at work or not. Exit code 1 where runs failed."""
    from glue_mva.sweep import store
    from glue_mva.sweep.launch import lacking_in_words, read_progress

    sweep_config = changed(file, overrides(assignments, sweep_fields, run_fields))
    progress, problems = read_progress(sweep_config)
    folder = Path(sweep_config.output)
    state = store.read_state(folder) if store.is_active(folder) else None
    known = {run.run_id: run for run in progress.known()}
    if state is not None:
        progress.running = {run_id: known[run_id] for run_id in state["running"] if run_id in known}
        progress.failed = {k: v for k, v in progress.failed.items() if k not in progress.running}
        progress.slots = state["slots"]
    console = make_console()
    console.print(progress_table(progress))
    if state is not None:
        print(f"at work: process {state['pid']} on {state['host']} since {state['since']}, {state['slots']} at once")
    else:
        print("no sweep is at work here")
    for line in sweep_config.starts:
        print(line)
    for run_id, problem in problems.items():
        print(f"{run_id}: {problem}")
    if progress.lacking:
        print(f"{lacking_in_words(progress)}: a launch makes them again")
    for run_id, error in progress.failed.items():
        print(f"{run_id}: failed: {error}")
    if others := store.recorded(folder) - known.keys():
        print(f"{len(others):,} other records lie here: of another sweep, or made with other data or weights than are "
              "found now")  # fmt: skip
    print(summary(progress))
    if progress.failed:
        raise typer.Exit(EXIT_FAILED)


@sweep_options
def sweep(
    sweep_fields: dict[str, Any],
    run_fields: dict[str, Any],
    file: File = DEFAULT_SWEEP,
    assignments: Assignments = None,
    engine: Annotated[str, typer.Option(help="ray, or inline: one after another in this process.")] = "ray",
    address: Annotated[str | None, typer.Option(help="A running Ray cluster, such as auto or HOST:6379.")] = None,
    runs_per_gpu: RunsPerGpu = 1,
    threads_per_run: Annotated[
        int | None, typer.Option(min=1, help="CPU threads per run; cores / threads runs go at once without GPUs.")
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for another sweep at work in the same folder.")] = False,
) -> None:
    """Run what is missing of a sweep. Kill it and run it again: finished runs are never repeated.

    Exit code 0: all done; 1: some runs failed, or no hyperparameters could be chosen; 2: refused, nothing started; 130:
    stopped by Ctrl-C, SIGTERM or SIGHUP.
    """
    from glue_mva.sweep.launch import launch

    sweep_config = changed(file, overrides(assignments, sweep_fields, run_fields))
    make_engine = _engine_maker(engine, address, runs_per_gpu, threads_per_run)
    console = make_console()
    with observing(console) as observer, _termination_as_interrupt() as is_interrupted:
        try:
            progress = launch(sweep_config, make_engine, observer, wait=wait, is_interrupted=is_interrupted)
        except KeyboardInterrupt:
            observer.stop()
            print(f"stopped; finished runs are kept, and long ones go on from their last checkpoint.\n"
                  f"To go on: {typed_command()}", file=sys.stderr)  # fmt: skip
            raise typer.Exit(EXIT_INTERRUPTED) from None
    print(summary(progress))
    if progress.storage_trouble:
        print(f"glue-mva: stopped, since nothing more can be written to {sweep_config.output!r}: "
              f"{progress.storage_trouble}", file=sys.stderr)  # fmt: skip
    if progress.failed or not progress.is_complete:
        print(f"To try the missing runs again: {typed_command()}", file=sys.stderr)
        raise typer.Exit(EXIT_FAILED)


def _engine_maker(name: str, address: str | None, runs_per_gpu: int, threads: int | None) -> Any:
    if name not in ("ray", "inline"):
        raise UsageError(f"unknown engine {name!r}{nearest(name, ('ray', 'inline'))}")
    given = {"--address": address is not None, "--runs-per-gpu": runs_per_gpu > 1, "--threads-per-run": bool(threads)}
    if name == "inline" and any(given.values()):
        raise UsageError(f"{' and '.join(option for option in given if given[option])}: only with --engine ray; inline "
                         "runs take this process's threads and device, one after another")  # fmt: skip

    def make() -> "Engine":
        from glue_mva.sweep.engine import InlineEngine, RayEngine, Resources
        from glue_mva.training.contexts import keep_freed_memory

        if name == "inline":
            keep_freed_memory()
            return InlineEngine()
        return RayEngine(Resources(runs_per_gpu, threads or 1), address)

    return make


@contextlib.contextmanager
def _termination_as_interrupt() -> Iterator[Callable[[], bool]]:
    """A polite kill (Slurm, a preempted machine) and a closed terminal stop as cleanly as Ctrl-C, once; `nohup` keeps
    its meaning. Gives a function that says whether any of them has come."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    before = {number: handler for number, handler in before.items() if handler != signal.SIG_IGN}
    seen: list[int] = []

    def interrupt(number: int, frame: Any) -> None:
        seen.append(number)
        for other in before.keys() - {signal.SIGINT}:
            signal.signal(other, signal.SIG_IGN)  # a second one must not cut the clearing up short
        raise KeyboardInterrupt

    for number in before:
        signal.signal(number, interrupt)
    try:
        yield lambda: bool(seen)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
