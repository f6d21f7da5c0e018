"""Which hyperparameters were chosen, from how many, and how much that choice flatters its own score."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from glue_mva.report import stats
from glue_mva.report.aggregate import POINT, Row, Study, values_of
from glue_mva.report.columns import column, in_columns, in_table
from glue_mva.sweep.hparams import Hparams, further_from, shown
from glue_mva.sweep.protocol import Cell, cells
from glue_mva.tasks import TASKS
from glue_mva.text import markdown_table, rate, score, signed


@dataclass
class Selection:
    """The search of one cell of the table. Scores are metric x 100."""

    task: str
    row: Row
    points: pd.DataFrame
    """One line per point: its `hparams`, `median` (a diverged run counts as the worst score there is; NaN where that is
    the median), `runs`, `diverged`."""
    runs: pd.DataFrame
    """The search runs: their `hparams`, `seed`, `score` (NaN without one)."""
    chosen: Hparams | None
    hparams: list[str] = field(default_factory=lambda: ["lr", "weight_decay"])
    """Columns of what tells the points apart: lr, weight decay, and whatever else the row searches."""
    edges: list[str] = field(default_factory=list)
    """Where the chosen point lies on the edge of what was searched: `lr is the highest`."""
    added: list[float] = field(default_factory=list)
    """Learning rates that were searched beyond those of the sweep's file (`extend_lr`)."""
    search_score: float = math.nan
    """Median of the chosen point's search runs."""
    final_median: float = math.nan
    comparable: bool = False
    """Whether the two medians are of other seeds on the same rows, so that their difference is what the choice
    flattered."""
    flattery: stats.Flattery = field(default_factory=lambda: stats.Flattery(math.nan, math.nan))
    best_of: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    """Expected best score of 1, 2, ... search runs at the rates of the sweep's file (Dodge et al. 2019)."""


def selections(made: Study) -> list[Selection]:
    """One per task and row that searched among at least two points."""
    grid = cells(made.sweep) if made.sweep is not None and made.sweep.extend_lr else {}
    found = (_selection(made, task, row, grid) for task in made.tasks for row in made.rows)
    return [s for s in found if len(s.points) > 1]


def _selection(made: Study, task: str, row: Row, grid: Mapping[tuple[str, str], Cell]) -> Selection:
    """`grid`: the sweep's cells, where the search may have gone on beyond their learning rates."""
    runs = made.of(task, row.name, "search")
    scored = runs.assign(value=values_of)
    further = [in_columns(further_from(text)) for text in scored["further"]]
    names = ["lr", "weight_decay", *(further[0] if further else ())]
    scored = scored.assign(**{name: [point[name] for point in further] for name in names[2:]})
    groups = scored.groupby(names)
    points = groups.agg(median=("value", "median"), runs=("value", "size"),
                        diverged=("status", lambda s: int((s == "diverged").sum()))).reset_index()  # fmt: skip
    points["median"] = points["median"].replace(-math.inf, math.nan)
    result = Selection(task, row, points, scored[[*names, "seed", "score"]], made.chosen.get((task, row.name)), names)
    if len(points) < 2:
        return result
    if grid:
        result.added = sorted(set(points["lr"]) - grid[task, row.name].rates)
    result.best_of = stats.expected_best(_tried(scored[~scored["lr"].isin(result.added)]))
    if result.chosen is None:
        return result
    result.edges = edges(points, result.chosen)
    at = points[[tuple(point) == tuple(in_table(result.chosen).values()) for point in points[names].to_numpy(object)]]
    result.search_score = float(at["median"].iloc[0]) if len(at) else math.nan
    final = made.final(task, row.name)
    result.final_median = float(made.scores(task, row.name).median())
    fresh = not final.empty and set(final["run_id"]).isdisjoint(runs["run_id"])
    result.comparable = fresh and set(final["holdout_fraction"]) == set(runs["holdout_fraction"])
    noise = median_noise(seed_deviation(pd.concat([scored, final]).drop_duplicates("run_id")),
                         int(points["runs"].median()))  # fmt: skip
    result.flattery = stats.flattery(points["median"].dropna().to_numpy(), noise)
    return result


def _tried(runs: pd.DataFrame) -> NDArray[np.float64]:
    """Scores of all search runs; a run without one did no better than the constant prediction."""
    failed = runs["status"] == "diverged"
    values = runs["score"].where(~failed, runs["majority_score"])
    return values.dropna().to_numpy()


def edges(points: pd.DataFrame, chosen: Hparams) -> list[str]:
    """Searched hyperparameters whose chosen value is the lowest or highest of several."""
    found = []
    for name, value in in_table(chosen).items():
        values = points[name].unique()
        if len(values) > 1 and not isinstance(value, bool | str) and value in (values.min(), values.max()):
            end = "lowest" if value == values.min() else "highest"
            found.append(f"{'weight decay' if name == 'weight_decay' else name} is the {end}")
    return found


def seed_deviation(runs: pd.DataFrame) -> float:
    """Standard deviation of one score over seeds at equal hyperparameters, pooled over points with several seeds. Left
    out are points where a run is no better than a constant prediction: where only some learn, scores vary as they do at
    no point that is chosen."""
    squares, freedom = 0.0, 0
    for _, part in runs[runs["status"] == "ok"].groupby([*POINT, "holdout_fraction"]):
        values = part["score"].dropna()
        if len(values) > 1 and values.min() > part["majority_score"].max():
            squares += float(((values - values.mean()) ** 2).sum())
            freedom += len(values) - 1
    return math.sqrt(squares / freedom) if freedom else math.nan


def median_noise(deviation: float, n: int) -> float:
    """Standard deviation of the median of n normal scores of this standard deviation (by simulation from n = 3)."""
    if n <= 2:
        return deviation / math.sqrt(max(n, 1))
    draws = np.random.default_rng(0).normal(size=(20_000, n))
    return deviation * float(np.median(draws, axis=1).std())


def selection_markdown(found: list[Selection]) -> str:
    """A table of all searches and the warnings they call for."""
    if not found:
        return "No cell was searched: every cell has one point.\n"
    body = []
    others = list(dict.fromkeys(name for s in found for name in s.hparams[2:]))
    for s in found:
        further = {column(name): value for name, value in s.chosen.others} if s.chosen else {}
        lr, decay = (rate(s.chosen.lr), rate(s.chosen.weight_decay)) if s.chosen else ("-", "-")
        drop = signed(s.search_score - s.final_median) if s.comparable else "-"
        body.append([TASKS[s.task].title, s.row.label, str(len(s.points)), lr, decay,
                     *(shown(further.get(name)) for name in others), score(s.search_score),
                     score(s.final_median), drop, _range(s.flattery), _budget(s)])  # fmt: skip
    header = ["Task", "Method", "Points", "lr", "Weight decay", *others, "Search score", "Final median",
              "Search - final", "Expected flattery", "Best of 1, half, all runs"]  # fmt: skip
    text = markdown_table(header, body, "ll" + "r" * (8 + len(others)))
    warnings = [f"- {TASKS[s.task].title}, {s.row.label}: the chosen {' and '.join(s.edges)} that was searched; "
                "a better point may lie outside\n" for s in found if s.edges]  # fmt: skip
    added = [f"- {TASKS[s.task].title}, {s.row.label}: {', '.join(map(rate, s.added))}\n" for s in found if s.added]
    if added:
        text += ("\nLearning rates that were added beyond an end of the grid, and are left out of the expected best of "
                 f"so many runs:\n\n{''.join(added)}")  # fmt: skip
    return text + (f"\nAt the edge of the grid:\n\n{''.join(warnings)}" if warnings else "")


def _range(flattery: stats.Flattery) -> str:
    if math.isnan(flattery.high):
        return "-"
    return f"{flattery.low:.2f} to {flattery.high:.2f}"


def _budget(s: Selection) -> str:
    n = len(s.best_of)
    if n == 0:
        return "-"
    return ", ".join(f"{s.best_of[k - 1]:.2f}" for k in sorted({1, max(1, n // 2), n}))


def best_of_table(found: Sequence[Selection]) -> pd.DataFrame:
    """What the figure of the expected best score draws: `task`, `row`, `runs_tried`, `expected_best`."""
    lines = [{"task": s.task, "row": s.row.name, "runs_tried": k, "expected_best": value}
             for s in found for k, value in enumerate(s.best_of, start=1)]  # fmt: skip
    return pd.DataFrame(lines, columns=["task", "row", "runs_tried", "expected_best"])
