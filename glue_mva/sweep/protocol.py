"""Which runs a sweep consists of, and which hyperparameters win. Pure functions of the sweep and of its outcomes.

A sweep has two stages: runs that search, and final runs at the hyperparameters that won, known once the search of their
cell is finished (`final_runs`). Which runs search follows from the file alone (`expand`), but for learning rates beyond
an end of the grid (`extend_lr`), which follow from the scores so far. A matched row (`match_step_size`) has final runs
only, known once those of two other rows are finished. All runs of a task that starts from another (`init_from`) are
known once that one's final runs of the same row are finished.
"""

import math
import statistics
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from glue_mva.config.identity import Identity, identity
from glue_mva.config.recipes import RECIPES
from glue_mva.config.resolve import ResolvedConfig, resolve
from glue_mva.config.run import RunConfig
from glue_mva.optim.registry import get_optimizer
from glue_mva.record import FINISHED, RunRecord, Status
from glue_mva.sweep.config import FIRST_FINAL_SEED, FIRST_SEARCH_SEED, OptimizerEntry, SweepConfig, base_rows
from glue_mva.sweep.hparams import Hparams
from glue_mva.tasks import get_task

Stage = Literal["search", "final"]


@dataclass(frozen=True)
class Outcome:
    """What a sweep needs to know of a record; small, so that thousands fit in memory."""

    status: Status
    score: float | None
    """Headline metric x 100 at the best epoch; on the held-out rows for a run of a `heldout` search."""
    step_size: float | None = None
    """Mean over the curve of the average step size over all parameters."""
    updates: int | None = None
    seconds: float | None = None
    """Wall time of the whole run; unknown for one that was cut off and resumed."""
    error: str | None = None
    lacks: tuple[str, ...] = ()
    """What is wanted of it that it ended well without: fields of `RunConfig`."""
    weights: str = ""
    """What a run that starts from it has as `init_from`; by default its folder in the sweep's output."""

    @classmethod
    def of(cls, record: RunRecord) -> "Outcome":
        execution = record.execution
        return cls(
            record.status,
            record.score,
            mean_step_size(record),
            record.updates,
            execution.total_seconds if execution is not None and execution.times_the_whole_run else None,
            record.error,
        )

    @property
    def is_finished(self) -> bool:
        """Whether the result stands; a failed run is run again."""
        return self.status in FINISHED

    @property
    def value(self) -> float:
        """The score for comparisons: minus infinity where there is none, so that it never wins."""
        usable = self.status == "ok" and self.score is not None and math.isfinite(self.score)
        return self.score if usable and self.score is not None else -math.inf


def mean_step_size(record: RunRecord) -> float | None:
    """Mean over the curve of the average step size over all parameters."""
    sizes = [size for size in record.step_sizes if size is not None]
    return statistics.fmean(sizes) if sizes else None


def best_point(medians: Mapping[Hparams, float]) -> Hparams | None:
    """The point with the highest median score; of equals, the smallest in the order of `Hparams`. `None` where no point
    has a score."""
    best = min(medians, key=lambda point: (-medians[point], point), default=None)
    return best if best is not None and medians[best] > -math.inf else None


def rate_beyond(medians: Mapping[Hparams, float]) -> float | None:
    """The learning rate that is to be searched next, where the lowest or the highest so far is better than every other:
    further out by the factor between that one and its neighbour, to three significant digits.

    Args:
        medians: point -> score, of all points so far. A tie with a rate further in asks for nothing.
    """
    best: dict[float, float] = {}
    for point, median in medians.items():
        best[point.lr] = max(median, best.get(point.lr, -math.inf))
    rates = sorted(best)
    ends = ((rates[0], rates[1]), (rates[-1], rates[-2])) if len(rates) > 1 else ()
    for end, neighbour in ends:
        if best[end] > max(score for rate, score in best.items() if rate != end):
            exact = end * (end / neighbour)
            further = (rate for rate in (float(f"{exact:.2e}"), exact) if 0 < rate < math.inf and rate != end)
            return next((rate for rate in further if (rate > end) == (end > neighbour)), None)
    return None


Outcomes = Mapping[str, Outcome]
"""run_id -> outcome, of the runs that have one."""
NOTHING: Outcomes = MappingProxyType({})


@dataclass(frozen=True)
class SweepRun:
    """One run of a sweep and its place in it."""

    config: ResolvedConfig
    task: str
    row: str
    """Name of the optimizer entry."""
    stage: Stage
    hparams: Hparams

    @cached_property
    def identity(self) -> Identity:
        return identity(self.config)

    @property
    def run_id(self) -> str:
        return self.identity.run_id


@dataclass(frozen=True, eq=False)
class Cell:
    """One task x optimizer entry of the table."""

    sweep: SweepConfig
    task: str
    entry: OptimizerEntry
    _search: dict[tuple[Hparams, str], list[SweepRun]] = field(default_factory=dict, init=False, repr=False)
    _final: dict[tuple[Hparams, str], list[SweepRun]] = field(default_factory=dict, init=False, repr=False)

    @cached_property
    def grid(self) -> list[Hparams]:
        """The points that the file names; none for a matched row."""
        if self.entry.match_step_size is not None:
            return []
        if self.sweep.protocol == "fixed":
            paper = RECIPES["paper"].for_run(get_task(self.task), get_optimizer(self.entry.optim))
            return [Hparams(paper["lr"][0], paper["weight_decay"][0])]
        return self._points(self.entry.lr or self.sweep.lr)

    @cached_property
    def rates(self) -> set[float]:
        """The learning rates of the grid."""
        return {point.lr for point in self.grid}

    def _points(self, rates: Iterable[float]) -> list[Hparams]:
        """These learning rates with every value of all else."""
        decays = self.entry.weight_decay or self.sweep.weight_decay
        return [Hparams(lr, decay, others) for lr in rates for decay in decays for others in self.entry.further_points]

    @property
    def is_searched(self) -> bool:
        """Whether there are search runs: where there are several points, and under `grid` where there is one."""
        return len(self.grid) > 1 or (self.sweep.protocol == "grid" and bool(self.grid))

    def _so_far(self, outcomes: Outcomes, start: str) -> tuple[list[Hparams], dict[Hparams, float]]:
        """The points that are searched, which are the grid and what follows beyond its ends by the outcomes so far; and
        the median of each whose runs are finished."""
        if not self.is_searched:
            return [], {}
        points = self.grid
        medians = self._medians(points, outcomes, start) if outcomes else {}
        for _ in range(self.sweep.extend_lr):
            rate = rate_beyond(medians) if len(medians) == len(points) else None
            if rate is None:
                break
            added = self._points([rate])
            points, medians = [*points, *added], medians | self._medians(added, outcomes, start)
        return points, medians

    def _medians(self, points: Iterable[Hparams], outcomes: Outcomes, start: str) -> dict[Hparams, float]:
        """The median of those whose runs are all finished."""
        found = {}
        for point in points:
            runs = [outcomes.get(run.run_id) for run in self._searching(point, start)]
            done = [outcome.value for outcome in runs if outcome is not None and outcome.is_finished]
            if len(done) == len(runs):
                found[point] = statistics.median(done)
        return found

    def search_runs(self, outcomes: Outcomes = NOTHING, start: str = "") -> list[SweepRun]:
        """The runs that choose among the points; without outcomes those of the grid.

        Args:
            start: their `init_from`, where the file alone does not say it; what these runs cost does not depend on it.
        """
        return [run for point in self._so_far(outcomes, start)[0] for run in self._searching(point, start)]

    def _searching(self, point: Hparams, start: str) -> list[SweepRun]:
        if (point, start) not in self._search:
            holdout = self.sweep.protocol == "heldout"
            self._search[point, start] = self._runs("search", point, self._search_seeds, start, holdout=holdout)
        return self._search[point, start]

    def medians(self, outcomes: Outcomes, start: str = "") -> dict[Hparams, float]:
        """Median score of each point whose search runs are all finished (a failed run is not). A diverged run, or one
        whose score is not a number, counts as the worst score there is."""
        return self._so_far(outcomes, start)[1]

    def best(self, outcomes: Outcomes, start: str = "") -> Hparams | None:
        """The point of the final runs; `None` while the search is not finished, and where no point has a score."""
        if not self.is_searched:
            return self.grid[0] if self.grid else None
        points, medians = self._so_far(outcomes, start)
        return best_point(medians) if len(medians) == len(points) else None

    def final_runs(self, hparams: Hparams, start: str = "") -> list[SweepRun]:
        """The runs whose scores the table shows, at the hyperparameters that won."""
        if (hparams, start) not in self._final:
            self._final[hparams, start] = self._runs("final", hparams, self._final_seeds, start, holdout=False)
        return self._final[hparams, start]

    @property
    def source(self) -> tuple[str, str] | None:
        """The cell whose best final run these runs start from: of the same row, on another task."""
        task = self.sweep.sources.get(self.task)
        return None if task is None else (task, self.entry.name)

    @cached_property
    def matched_from(self) -> list[tuple[str, str]]:
        """The cells whose final runs a matched row waits for: the one that it matches, and the plain one of its own
        optimizer; none for other rows."""
        if self.entry.match_step_size is None:
            return []
        base = base_rows(self.entry, self.sweep.optimizers)[0].name
        return [(self.task, row) for row in dict.fromkeys((self.entry.match_step_size, base))]

    @property
    def _search_seeds(self) -> range:
        if self.sweep.protocol == "grid":
            return self._final_seeds
        return range(FIRST_SEARCH_SEED, FIRST_SEARCH_SEED + self.sweep.search_seeds)

    @property
    def _final_seeds(self) -> range:
        return range(FIRST_FINAL_SEED, FIRST_FINAL_SEED + self.sweep.final_seeds)

    @cached_property
    def any_config(self) -> ResolvedConfig:
        """A config of this cell with other hyperparameters and seed: for what is the same in all of its final runs."""
        keeps = {"save_model": True} if self.task in self.sweep.sources.values() else {}  # others start from the best
        given = {**self.sweep.fields_of(self.task), **keeps, "output": self.sweep.output, "resume": True}
        args = self.grid[0].applied(self.entry.optim, self.entry.optim_args) if self.grid else self.entry.optim_args
        return resolve(RunConfig(**given, optim=self.entry.optim, optim_args=args, routes=self.entry.routes))

    def _runs(self, stage: Stage, point: Hparams, seeds: range, start: str, *, holdout: bool) -> list[SweepRun]:
        """The values were checked by `SweepConfig` already, so the configs are copied unchecked."""
        values: dict[str, Any] = {"lr": point.lr, "weight_decay": point.weight_decay}
        values["sources"] = {**self.any_config.sources, **dict.fromkeys(values, "given")}
        values["optim_args"] = point.applied(self.entry.optim, self.any_config.optim_args)
        if stage == "search" and self.sweep.protocol != "grid":
            values |= {"predict_test": False, "save_model": False}  # only final runs are ever handed out
        if holdout:
            values |= {"holdout_fraction": self.sweep.holdout_fraction, "holdout_seed": self.sweep.holdout_seed}
        if start:
            values["init_from"] = start
        configs = [self.any_config.model_copy(update={**values, "seed": seed}) for seed in seeds]
        return [SweepRun(config, self.task, self.entry.name, stage, point) for config in configs]


Cells = dict[tuple[str, str], Cell]
"""(task, name of the optimizer entry) -> cell."""


def cells(sweep: SweepConfig) -> Cells:
    """The cells of a sweep's table, task by task."""
    return {(task, entry.name): Cell(sweep, task, entry) for task in sweep.tasks for entry in sweep.optimizers}


def expand(sweep: SweepConfig) -> list[SweepRun]:
    """The runs that follow from the file alone: every search run of the grids, and the final runs of cells without a
    search."""
    return known_runs(cells(sweep), {})


def known_runs(table: Cells, outcomes: Outcomes) -> list[SweepRun]:
    """Every run that follows from the sweep and the outcomes so far, once each, search runs first.

    A run that is both (protocol `grid`) is listed as a final run when its point has won.
    """
    searching = [run for key in table for run in search_runs(table, key, outcomes)]
    final = [run for key in table for run in final_runs(table, key, outcomes)]
    return list({_same(run): run for run in searching + final}.values())


def gather(table: Cells, look: Callable[[list[SweepRun]], Outcomes]) -> dict[str, Outcome]:
    """The outcomes of every run of a sweep, found by `look`, which is asked again as long as what it found tells of
    further runs: a finished search of further rates or of its final runs, these of a matched row's and of tasks that
    start from them."""
    outcomes: dict[str, Outcome] = {}
    seen: set[str] = set()
    while new := [run for run in known_runs(table, outcomes) if run.run_id not in seen]:
        seen |= {run.run_id for run in new}
        outcomes |= look(new)
    return outcomes


def _same(run: SweepRun) -> tuple[object, ...]:
    """Equal for equal runs of one sweep; cheaper than `run_id`, which thousands of runs need only once they start."""
    config = run.config
    return (run.task, config.optim, repr((config.optim_args, config.routes)), run.hparams, config.seed,
            config.holdout_fraction, config.init_from)  # fmt: skip


def start(table: Cells, key: tuple[str, str], outcomes: Outcomes) -> str | None:
    """What the runs of a cell start from, as `RunConfig.init_from`; `None` while it does not follow from the outcomes
    yet: until all final runs of the row on the source task are finished, and where none of them has a score. The best
    is the one with the highest dev score; of equals, the smaller seed."""
    source = table[key].source
    if source is None:
        return table[key].any_config.init_from
    found = _finished(table, source, outcomes)
    best = max(found, key=lambda run_id: found[run_id].value, default=None)
    if best is None or found[best].value == -math.inf:
        return None
    return found[best].weights or str(Path(table[key].sweep.output) / best)


def search_runs(table: Cells, key: tuple[str, str], outcomes: Outcomes) -> list[SweepRun]:
    """The runs that choose among the points of a cell; empty while they do not follow from the outcomes yet."""
    begin = start(table, key, outcomes)
    return table[key].search_runs(outcomes, begin) if begin is not None else []


def final_runs(table: Cells, key: tuple[str, str], outcomes: Outcomes) -> list[SweepRun]:
    """The final runs of a cell; empty while they do not follow from the outcomes yet."""
    hparams, begin = chosen(table, key, outcomes), start(table, key, outcomes)
    return table[key].final_runs(hparams, begin) if hparams is not None and begin is not None else []


def chosen(table: Cells, key: tuple[str, str], outcomes: Outcomes) -> Hparams | None:
    """The hyperparameters of a cell's final runs; `None` while they do not follow from the outcomes yet.

    A matched row: those of its base row, with lr times (average step size of the row to match / of the base row), both
    over their final runs, to two significant digits. The step size is proportional to lr as long as the gradients stay
    what they were, so one correction is close; the report shows the step sizes that came out.
    """
    cell = table[key]
    if cell.entry.match_step_size is None:
        begin = start(table, key, outcomes)
        return cell.best(outcomes, begin) if begin is not None else None
    target, base = cell.matched_from[0], cell.matched_from[-1]
    hparams = chosen(table, base, outcomes)
    step, base_step = (_step_size(table, k, outcomes) for k in (target, base))
    if hparams is None or not step or not base_step:
        return None
    return replace(hparams, lr=float(f"{hparams.lr * step / base_step:.1e}"))


def _step_size(table: Cells, key: tuple[str, str], outcomes: Outcomes) -> float | None:
    """Mean step size over a cell's final runs; `None` until all are finished and where none has one."""
    found = _finished(table, key, outcomes).values()
    sizes = [o.step_size for o in found if o.status == "ok" and o.step_size is not None]
    return statistics.fmean(sizes) if sizes else None


def _finished(table: Cells, key: tuple[str, str], outcomes: Outcomes) -> dict[str, Outcome]:
    """run_id -> outcome of a cell's final runs, by seed; empty until all of them are finished."""
    found = {run.run_id: outcomes.get(run.run_id) for run in final_runs(table, key, outcomes)}
    done = {run_id: outcome for run_id, outcome in found.items() if outcome is not None and outcome.is_finished}
    return done if len(done) == len(found) else {}
