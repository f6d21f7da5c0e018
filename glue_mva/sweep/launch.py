"""Run what is missing of a sweep: read what is there, start the longest missing run, look at what has ended, repeat."""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from glue_mva.config.resolve import ResolvedConfig
from glue_mva.errors import UsageError
from glue_mva.files import check_writable
from glue_mva.record import of_other_source, set_aside
from glue_mva.sweep import store
from glue_mva.sweep.config import SWEEP_FILE, SweepConfig
from glue_mva.sweep.engine import Engine
from glue_mva.sweep.kept import keep_sweep
from glue_mva.sweep.plan import Speed, estimate_speed, seconds_of
from glue_mva.sweep.protocol import (
    Cell,
    Cells,
    Outcome,
    Outcomes,
    SweepRun,
    cells,
    chosen,
    final_runs,
    gather,
    known_runs,
    search_runs,
    start,
)
from glue_mva.sweep.worker import Finished

PARTS_AFTER_OUT_OF_MEMORY = 4
"""A run that ran out of memory is repeated with its batches worked through in so many parts (or the next number that
divides the batch)."""

LOOK_SECONDS = 1.0
"""How long to wait for a run to end before looking at the view, and at whether machines have come or gone."""


class Observer(Protocol):
    """Is told what happens; the command line prints it."""

    def note(self, message: str, *, important: bool = False) -> None: ...

    def update(self, progress: "Progress") -> None: ...


@dataclass
class Progress:
    """Where a sweep stands."""

    table: Cells
    outcomes: dict[str, Outcome]
    """Of finished runs."""
    speed: Speed
    running: dict[str, SweepRun] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    """run_id -> why, of runs that failed and will not be tried again by this launch."""
    lacking: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """run_id -> what is wanted of a run that ended well without it (test predictions, weights): it is made again."""
    slots: int = 1
    finished_here: int = 0
    """Runs that ended in this launch."""
    storage_trouble: str | None = None
    """Why nothing more can be written, if that is so."""

    def known(self) -> list[SweepRun]:
        return known_runs(self.table, self.outcomes)

    @property
    def without_start(self) -> list[Cell]:
        """Cells whose runs wait for those that they start from."""
        return [cell for key, cell in self.table.items() if start(self.table, key, self.outcomes) is None]

    @property
    def stuck(self) -> dict[tuple[str, str], str]:
        """(task, row) -> why, of cells that can never start: every final run that they wait for is finished, and none
        has what they need of it."""
        found = {}
        for cell in self.without_start:
            if cell.source is not None and self._are_finished([cell.source]):
                found[cell.task, cell.entry.name] = "no final run that it would start from has a score"
        for key, cell in self.table.items():
            awaited = cell.matched_from
            if awaited and chosen(self.table, key, self.outcomes) is None and self._are_finished(awaited):
                found[key] = f"no final run of {' or of '.join(row for _, row in awaited)} has a step size"
        return found

    def _are_finished(self, keys: Iterable[tuple[str, str]]) -> bool:
        """Whether cells have final runs, and all of them are finished."""
        runs = [final_runs(self.table, key, self.outcomes) for key in keys]
        return all(runs) and all(run.run_id in self.outcomes for part in runs for run in part)

    def take_found(self, found: Outcomes) -> dict[str, Outcome]:
        """Sort the outcomes of the records that were found; returns those that stand."""
        self.lacking |= {run_id: outcome.lacks for run_id, outcome in found.items() if outcome.lacks}
        done = {run_id: outcome for run_id, outcome in found.items() if outcome.is_finished}
        self.failed |= {run_id: outcome.error or "" for run_id, outcome in found.items() if run_id not in done}
        return {run_id: outcome for run_id, outcome in done.items() if run_id not in self.lacking}

    @property
    def is_complete(self) -> bool:
        """Whether every cell has its final runs."""
        return all(
            (final := final_runs(self.table, key, self.outcomes)) and all(run.run_id in self.outcomes for run in final)
            for key in self.table
        )


def read_progress(sweep: SweepConfig) -> tuple[Progress, dict[str, str]]:
    """Where a sweep stands by its records alone, and run_id -> problem for the records that cannot be used."""
    progress, problems = Progress(cells(sweep), {}, Speed(1.0)), {}

    def look(runs: list[SweepRun]) -> dict[str, Outcome]:
        found, bad = store.read_outcomes(Path(sweep.output), {run.run_id: run.config for run in runs})
        problems.update(bad)
        return progress.take_found(found)

    progress.outcomes = gather(progress.table, look)
    return progress, problems


def launch(
    sweep: SweepConfig,
    make_engine: Callable[[], Engine],
    observer: Observer,
    *,
    wait: bool = False,
    is_interrupted: Callable[[], bool] = lambda: False,
) -> Progress:
    """Make every run of a sweep that has no finished record; leaves the sweep itself beside them.

    Args:
        make_engine: called only where something is left to run.
        wait: wait for another sweep that is at work in the same folder.
        is_interrupted: asked between runs, because a KeyboardInterrupt that is raised while Python calls back from C
            (a weak reference, a destructor) is printed and lost.

    Raises:
        UsageError: bad input, an unwritable folder, or another sweep at work there; nothing was started.
        KeyboardInterrupt: after what was under way was stopped; the next launch goes on from there.
    """
    output = Path(sweep.output)
    check_writable(output, "--output")
    with store.only_sweep(output, wait=wait):
        progress, problems = read_progress(sweep)
        for run_id, problem in problems.items():
            moved = set_aside(output / run_id)
            observer.note(f"{problem}; set aside as {moved.name}, the run is made again", important=True)
        progress.failed.clear()  # tried again
        for run_id in progress.outcomes:
            store.remove_work(output, run_id)
        pending = {run.run_id: _made_whole(run, progress) for run in progress.known()
                   if run.run_id not in progress.outcomes}  # fmt: skip
        if progress.lacking:
            observer.note(f"{lacking_in_words(progress)}: made again", important=True)
        older = of_other_source(output, (run.identity for run in pending.values()))
        for row, number in Counter(pending[run_id].row for run_id in older).items():
            observer.note(f"{row}: {number} runs were made by another version of it, and are run anew", important=True)
        if pending:
            progress.speed = estimate_speed(sweep)
            engine = make_engine()
            try:
                _prepare(progress, pending, engine, observer)
                _keep(sweep, observer)
                _Launch(sweep, progress, pending, engine, observer).work(is_interrupted)
            finally:
                engine.close()
        else:
            _keep(sweep, observer)
    return progress


def _keep(sweep: SweepConfig, observer: Observer) -> None:
    if replaced := keep_sweep(sweep):
        observer.note(f"{Path(sweep.output) / SWEEP_FILE} is of this sweep from now on, and of no other: {replaced}",
                      important=True)  # fmt: skip


def _made_whole(run: SweepRun, progress: Progress) -> SweepRun:
    """The run, made again where it was finished without what is wanted of it."""
    return replace(run, config=run.config.replace(force=True)) if run.run_id in progress.lacking else run


def _prepare(progress: Progress, pending: dict[str, SweepRun], engine: Engine, observer: Observer) -> None:
    """Tokenize each task once, build the optimizer of each row once for the model, and refuse what cannot work, before
    the first run starts."""
    observer.note("preparing the data and checking the model")
    used = [progress.table[run.task, run.row].any_config for run in pending.values()]
    used += [run.config for run in pending.values()]
    for cell in progress.without_start:
        used += [cell.any_config, *(run.config for run in cell.search_runs()[:1])]
    configs: dict[tuple[Any, ...], ResolvedConfig] = {}
    for config in used:
        configs.setdefault(("data", config.task, config.holdout_fraction, config.predict_test), config)
        configs.setdefault(("optimizer", config.optim, repr((config.optim_args, config.routes))), config)
        configs.setdefault(("start", config.init_from), config)
    different = list({id(config): config for config in configs.values()}.values())
    if problems := list(dict.fromkeys(engine.prepare(different))):
        raise UsageError("; ".join(problems))


@dataclass
class _Launch:
    """The loop of one launch."""

    sweep: SweepConfig
    progress: Progress
    pending: dict[str, SweepRun]
    engine: Engine
    observer: Observer
    repeated: set[str] = field(default_factory=set)
    """Runs that ran out of memory once."""
    since: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    _seconds: dict[tuple[str, str, str], float] = field(default_factory=dict)

    def work(self, is_interrupted: Callable[[], bool]) -> None:
        progress = self.progress
        while (self.pending and progress.storage_trouble is None) or progress.running:
            if is_interrupted():
                raise KeyboardInterrupt
            progress.slots = self.engine.slots()
            while self.pending and len(progress.running) < progress.slots and progress.storage_trouble is None:
                run = self.pending.pop(max(self.pending, key=self._urgency))
                progress.running[run.run_id] = run
                self.engine.submit(run.config, run.run_id)
            self._tell()
            for finished in self.engine.wait(LOOK_SECONDS):
                self._take(finished)
        self._tell()

    def _urgency(self, run_id: str) -> tuple[bool, float]:
        """What other tasks start from comes first, then the longest run."""
        run = self.pending[run_id]
        return run.task in self.sweep.sources.values(), self.seconds(run)

    def seconds(self, run: SweepRun) -> float:
        """Estimated wall time of a run; the same for all runs of a cell and stage."""
        key = (run.task, run.row, run.stage)
        if key not in self._seconds:
            self._seconds[key] = seconds_of(self.progress.table[run.task, run.row], run.config, self.progress.speed)
        return self._seconds[key]

    def _tell(self) -> None:
        names = {run_id: f"{run.task} {run.row}" for run_id, run in self.progress.running.items()}
        store.write_state(Path(self.sweep.output), self.since, names, self.progress.slots)
        self.observer.update(self.progress)

    def _take(self, finished: Finished) -> None:
        progress, run_id, outcome = self.progress, finished.run_id, finished.outcome
        if finished.trouble == "memory" and run_id not in self.repeated:
            self.repeated.add(run_id)
            run = progress.running[run_id]
            parts = more_parts(run.config)
            self.observer.note(f"{describe(run)}: out of memory; once more in {parts} parts per batch", important=True)
            self.engine.submit(run.config.replace(gradient_accumulation_steps=parts), run_id)
            return
        run = progress.running.pop(run_id)
        progress.finished_here += 1
        if outcome.is_finished:
            progress.outcomes[run_id] = outcome
            self._add_known(run.task)
            self.observer.update(progress)
            self.observer.note(f"{describe(run)}: {in_words(outcome)}")
            return
        progress.failed[run_id] = outcome.error or "unknown error"
        if finished.trouble == "storage":
            progress.storage_trouble = outcome.error
        log = Path(self.sweep.output) / run_id / store.LOG_FILE
        self.observer.note(f"{describe(run)}: failed: {outcome.error} (see {log})", important=True)

    def _add_known(self, task: str) -> None:
        """Queue the runs that follow now: final runs of the task, and those of tasks that start from it."""
        progress, output = self.progress, Path(self.sweep.output)
        while new := self._new_runs(task):
            found, _ = store.read_outcomes(output, {run_id: run.config for run_id, run in new.items()})
            progress.outcomes |= progress.take_found(found)
            for run_id in new.keys() - progress.outcomes.keys():
                progress.failed.pop(run_id, None)  # tried again
                self.pending[run_id] = _made_whole(new[run_id], progress)

    def _new_runs(self, task: str) -> dict[str, SweepRun]:
        progress = self.progress
        places = (progress.outcomes, progress.running, progress.failed, self.pending)
        found: dict[str, SweepRun] = {}
        for key in progress.table:
            if task in self.sweep.way_to(key[0]):
                runs = [make(progress.table, key, progress.outcomes) for make in (search_runs, final_runs)]
                found |= {run.run_id: run for run in [*runs[0], *runs[1]]
                          if not any(run.run_id in place for place in places)}  # fmt: skip
        return found


def more_parts(config: ResolvedConfig) -> int:
    """Accumulation steps with which a batch needs at most a quarter of the memory, or as little as it can."""
    batch = config.train_batch_size
    wanted = PARTS_AFTER_OUT_OF_MEMORY * config.gradient_accumulation_steps
    return next((parts for parts in range(wanted, batch + 1) if batch % parts == 0), batch)


def lacking_in_words(progress: Progress) -> str:
    """How many runs are made again, and for the sake of what, for people."""
    count, names = len(progress.lacking), sorted({name for lacks in progress.lacking.values() for name in lacks})
    return f"{count} finished {'run was' if count == 1 else 'runs were'} made without {' and '.join(names)}"


def in_words(outcome: Outcome) -> str:
    """The result of a finished run, for people."""
    if outcome.status != "ok" or outcome.score is None:
        return outcome.status
    return f"{outcome.score:.2f}" + (f" in {outcome.seconds:.0f} s" if outcome.seconds else "")


def describe(run: SweepRun) -> str:
    """A run in words, for people."""
    return f"{run.task} {run.row} {run.hparams.in_words} seed {run.config.seed}"
