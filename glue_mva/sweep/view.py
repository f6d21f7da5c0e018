"""What is shown of a sweep under way: one row per cell. Pure; the command line draws it."""

import math
import statistics
from collections import Counter
from dataclasses import dataclass

from glue_mva.sweep.hparams import Hparams
from glue_mva.sweep.launch import Progress
from glue_mva.sweep.protocol import best_point, chosen, final_runs, search_runs, start
from glue_mva.sweep.unit import unit_of


@dataclass(frozen=True)
class CellProgress:
    """One cell of the table, as far as it has come."""

    task: str
    name: str
    """Of the optimizer entry."""
    done: int
    total: int
    running: int
    failed: int
    diverged: int
    best: float | None
    """Median score of the final runs so far; before them, of the best point of the search so far."""
    hparams: Hparams | None
    """The point that `best` belongs to."""
    is_final: bool
    """Whether `best` is over final runs."""
    waits_for_choice: bool
    """Whether the final runs do not follow yet."""
    updates_per_second: float | None
    """Median over finished runs, evaluation and loading included."""
    seconds_left: float | None
    """If this cell had all slots to itself; `None` while no run of its task has ended."""


def rows(progress: Progress) -> list[CellProgress]:
    """One row per cell, in the order of the sweep."""
    running = Counter((run.task, run.row) for run in progress.running.values())
    return [_row(progress, key, running[key]) for key in progress.table]


def _row(progress: Progress, key: tuple[str, str], running: int) -> CellProgress:
    cell, outcomes = progress.table[key], progress.outcomes
    final = final_runs(progress.table, key, outcomes)
    searching = search_runs(progress.table, key, outcomes)
    runs = {run.run_id: run for run in [*searching, *final]}
    finished = [outcomes[run_id] for run_id in runs if run_id in outcomes]
    total = len(runs) if final else max(len(searching), len(cell.search_runs()))
    has_none_of_its_own = cell.sweep.protocol == "grid" and cell.entry.match_step_size is None
    total += 0 if final or has_none_of_its_own else cell.sweep.final_seeds
    scores = [outcomes[r.run_id].value for r in final if r.run_id in outcomes]
    best, hparams = _best_so_far(progress, key)
    if scores:
        best, hparams = statistics.median(scores), chosen(progress.table, key, outcomes)
    per_update = [o.seconds / o.updates for o in finished if o.seconds and o.updates]
    per_update = per_update or _per_update_of_task(progress, key[0])
    left = None
    if per_update:
        updates = unit_of(cell.any_config).updates
        left = (total - len(finished)) * updates * statistics.median(per_update) / progress.slots
    return CellProgress(
        *key,
        done=len(finished),
        total=total,
        running=running,
        failed=sum(run_id in progress.failed for run_id in runs),
        diverged=sum(outcome.status == "diverged" for outcome in finished),
        best=best if best is not None and math.isfinite(best) else None,
        hparams=hparams,
        is_final=bool(scores),
        waits_for_choice=not final,
        updates_per_second=1 / statistics.median(per_update) if per_update else None,
        seconds_left=left,
    )


def _best_so_far(progress: Progress, key: tuple[str, str]) -> tuple[float | None, Hparams | None]:
    begin = start(progress.table, key, progress.outcomes)
    medians = progress.table[key].medians(progress.outcomes, begin) if begin is not None else {}
    best = best_point(medians)
    return (None, None) if best is None else (medians[best], best)


def _per_update_of_task(progress: Progress, task: str) -> list[float]:
    table, outcomes = progress.table, progress.outcomes
    of_task = [key for key in table if key[0] == task]
    ids = {run.run_id for make in (search_runs, final_runs) for key in of_task for run in make(table, key, outcomes)}
    finished = [outcome for run_id, outcome in outcomes.items() if run_id in ids]
    return [o.seconds / o.updates for o in finished if o.seconds and o.updates]
