"""How fast a row gets as far as its baseline got: updates and seconds to the baseline's best median dev score."""

import math
from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from glue_mva.report.aggregate import Row, Study, missing_reason
from glue_mva.report.load import Curves
from glue_mva.report.pairs import baseline_of
from glue_mva.tasks import TASKS
from glue_mva.text import count, markdown_table, score, seconds

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Reach:
    """One row on one task; a line of `speed.csv`."""

    task: str
    row: str
    baseline: str
    target: float
    """Highest median dev score that the baseline reached at any evaluation."""
    updates: float
    """Of the first evaluation at which the row's median dev score is at least that; infinite where it never is."""
    seconds: float
    """Of training to that update, evaluation left out: mean over seeds. NaN where it is not known."""
    seeds_there: int
    """Seeds whose own dev score is at least the target at any evaluation."""
    seeds: int


def reaches(made: Study, baseline: Row | None = None) -> list[Reach]:
    """One per task and row with its baseline, and one of each baseline with itself. Tasks on which either has no value
    are left out."""
    with_baseline = [(row, baseline_of(row, made.rows, baseline) or row) for row in made.rows]
    bases = dict.fromkeys(base for _, base in with_baseline)
    found = []
    for task in made.tasks:
        for row, base in dict.fromkeys([*((base, base) for base in bases), *with_baseline]):
            if any(missing_reason(made, task, r.name) for r in (row, base)):
                continue
            target, curve = median_curve(made, task, base), median_curve(made, task, row)
            if target is None or curve is None:
                continue
            goal = float(target[1].max())
            there = curve[0][np.round(curve[1], 8) >= round(goal, 8)]
            updates = float(there[0]) if len(there) else math.inf
            own = [curve["dev_score"] for curve in _curves(made, task, row)]
            there_alone = sum(bool((np.round(scores, 8) >= round(goal, 8)).any()) for scores in own)
            seconds = _seconds(made, task, row, updates)
            found.append(Reach(task, row.name, base.name, goal, updates, seconds, there_alone, len(own)))
    return found


def _curves(made: Study, task: str, row: Row) -> list[Curves]:
    """Of every final seed that has a score."""
    final = made.final(task, row.name)
    return [made.runs.curves[run_id] for run_id in final[final["status"] == "ok"]["run_id"]]


def median_curve(made: Study, task: str, row: Row) -> tuple[Floats, Floats] | None:
    """Updates, and the median dev score over final seeds at each evaluation that all have; `None` without any."""
    scores = [dict(zip(run["dev_step"], run["dev_score"], strict=True)) for run in _curves(made, task, row)]
    steps = sorted(set.intersection(*(set(s) for s in scores))) if scores else []
    medians = np.array([np.median([s[step] for s in scores]) for step in steps])
    known = ~np.isnan(medians)
    return (np.array(steps)[known], medians[known]) if known.any() else None


def _seconds(made: Study, task: str, row: Row, updates: float) -> float:
    final = made.final(task, row.name)
    final = final[final["status"] == "ok"]
    per_update = (final["train_seconds"] / final["updates"]).mean()  # of the runs whose time is known
    return math.inf if math.isinf(updates) else updates * float(per_update)


def speed_table(found: Sequence[Reach]) -> pd.DataFrame:
    """One line per task and row, with the columns of `speed.csv` (docs/report.md)."""
    return pd.DataFrame([astuple(reach) for reach in found], columns=[field.name for field in fields(Reach)])


def speed_markdown(found: Sequence[Reach], made: Study) -> str:
    """A table per baseline: its own line first, then the rows that are compared with it."""
    labels = {row.name: row.label for row in made.rows}
    known = {(reach.task, reach.row, reach.baseline): reach for reach in found}
    pairs = {(reach.row, reach.baseline) for reach in found}
    parts = []
    for base in dict.fromkeys(reach.baseline for reach in found):
        followers = [row for row in made.rows if row.name != base and (row.name, base) in pairs]
        own = next(row for row in made.rows if row.name == base)
        if not followers:
            continue
        tasks = [t for t in made.tasks if any(r.task == t and r.baseline == base for r in found)]
        goals = {r.task: r.target for r in found if r.baseline == base}
        body = [[row.label, *(_reach(known.get((task, row.name, base))) for task in tasks)]
                for row in [own, *followers]]  # fmt: skip
        header = [f"To reach {labels[base]}'s best", *(f"{TASKS[t].title} {score(goals[t])}" for t in tasks)]
        parts.append(markdown_table(header, body))
    return "\n".join(parts)


def _reach(reach: Reach | None) -> str:
    if reach is None:
        return "-"
    updates = "never" if math.isinf(reach.updates) else count(reach.updates)
    time = f" ({seconds(reach.seconds)})" if math.isfinite(reach.seconds) else ""
    return f"{updates}{time}, {reach.seeds_there} of {reach.seeds} seeds"
