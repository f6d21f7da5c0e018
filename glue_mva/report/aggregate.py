"""Runs -> members: which run belongs to which row and stage of the table."""

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from glue_mva import paper
from glue_mva.errors import UsageError
from glue_mva.optim.registry import OPTIMIZERS, get_optimizer
from glue_mva.record import FINISHED
from glue_mva.report.columns import column
from glue_mva.report.load import Runs, arguments_of, check_comparable
from glue_mva.report.settings import only_of_sweep
from glue_mva.sweep.config import FIRST_SEARCH_SEED, LAST_SEARCH_SEED, OptimizerEntry, SweepConfig
from glue_mva.sweep.hparams import Hparams, further_from, row_name
from glue_mva.sweep.protocol import Outcome, SweepRun, best_point, cells, final_runs, gather, search_runs
from glue_mva.tasks import TASKS

POINT = ["lr", "weight_decay", "further"]
"""Columns of the members that tell the points of a row apart."""

MATCHED_SIGN = "η\N{PRIME}"
"""What the paper's Figure 5 calls a learning rate that was set to match a step size."""


@dataclass(frozen=True)
class Row:
    """One row of Table 3: an optimizer with its constants."""

    name: str
    """Unique; the entry's name in the sweep."""
    optim: str
    matched: str | None = None
    """The row whose average step size this one was given."""
    own_label: str = ""
    """Name in tables and figures where the usual one would not do."""

    @property
    def label(self) -> str:
        """Name in tables and figures."""
        if self.own_label:
            return self.own_label
        label = get_optimizer(self.optim).label
        for start in (self.optim, self.optim.rpartition(":")[2]):
            if self.name.lower().startswith(start.lower()):
                return label + self.name[len(start) :].replace("eta'", MATCHED_SIGN)
        return self.name

    @property
    def order(self) -> tuple[bool, int, str]:
        """Sorts in the paper's order, then whatever else there is."""
        known = list(OPTIMIZERS)
        rank = known.index(self.optim) if self.optim in known else len(known)
        return self.name not in known, rank, self.name


def ordered(rows: Iterable[Row]) -> list[Row]:
    """Rows in the order of the table. Classes of one name in several modules are told apart by their paths."""
    found = sorted(rows, key=lambda row: row.order)
    labels = [row.label for row in found]
    return [replace(row, own_label=row.name) if labels.count(row.label) > 1 else row for row in found]


@dataclass
class Study:
    """Everything that the report's parts read."""

    runs: Runs
    tasks: list[str]
    """Columns, in the paper's order."""
    rows: list[Row]
    members: pd.DataFrame
    """One line per (row, stage, run): columns of the runs' table, and `row`, `stage` (search or final), `further`
    (`Hparams.further`)."""
    chosen: dict[tuple[str, str], Hparams]
    """(task, row) -> the point whose final runs the table shows; missing while the search is not finished."""
    final_seeds: int
    """Seeds that a cell of the table must have."""
    sweep: SweepConfig | None = None
    planned: dict[tuple[str, str, str], int] = field(default_factory=dict)
    """(task, row, stage) -> runs that the sweep asks for, as far as it is known by now."""
    chosen_among: dict[tuple[str, str], int] = field(default_factory=dict)
    """(task, row) -> points of which the very scores that are shown chose one; missing where other scores chose."""
    notes: list[str] = field(default_factory=list)

    @property
    def every_note(self) -> list[str]:
        """The notes on reading the records, then those on grouping and comparing them."""
        return [*self.runs.notes, *self.notes]

    def of(self, task: str, row: str, stage: str) -> pd.DataFrame:
        """The runs of one cell of the table and stage, ordered by seed."""
        return self._parts.get((task, row, stage), self.members.iloc[:0])

    @cached_property
    def further(self) -> list[str]:
        """Columns of what some row searches beside lr and weight decay."""
        names = [column(name) for text in self.members["further"].unique() for name in further_from(text)]
        return list(dict.fromkeys(names))

    @cached_property
    def _parts(self) -> dict[Any, pd.DataFrame]:
        return dict(iter(self.members.sort_values([*POINT, "seed"]).groupby(["task", "row", "stage"])))

    def final(self, task: str, row: str) -> pd.DataFrame:
        """The final runs of one cell of the table, diverged and failed ones included."""
        return self.of(task, row, "final")

    def values(self, task: str, row: str) -> NDArray[np.float64]:
        """The same scores, (seeds,), in the order of their seeds."""
        return np.asarray(self.scores(task, row).sort_index(), dtype=np.float64)

    @property
    def chosen_on_final(self) -> bool:
        """Whether hyperparameters were chosen by the very scores that are shown."""
        return any(points > 1 for points in self.chosen_among.values())

    def scores(self, task: str, row: str) -> "pd.Series[float]":
        """Scores of the usable final runs of one cell, index seed; never more than one per seed."""
        final = self.final(task, row)
        return final[final["status"] == "ok"].set_index("seed")["score"].dropna()


def values_of(runs: pd.DataFrame) -> "pd.Series[float]":
    """What counts where points are compared: the score, and minus infinity for a finished run without one
    (`sweep.protocol.Outcome.value`); NaN for a failed run."""
    return runs["score"].where(runs["score"].notna() | ~runs["status"].isin(FINISHED), -math.inf)


def study(runs: Runs, sweep: SweepConfig | None, seeds: int | None = None, *, as_found: bool = False) -> Study:
    """Say for every run which row and stage it belongs to, and which point each cell of the table stands for.

    Args:
        seeds: final seeds that a cell must have; by default the sweep's, or without a sweep the largest number that
            any point has, but at most the paper's 4.
        as_found: take the runs of a sweep although they were made with other settings than its file names.

    Raises:
        UsageError: no run belongs to the sweep, all contradict its settings, or some cannot stand in one table.
    """
    made = _from_sweep(runs, sweep, seeds, as_found=as_found) if sweep is not None else _from_runs(runs, seeds)
    names = made.members.drop_duplicates("run_id").set_index("run_id")["row"]
    check_comparable(made.runs.keep(np.isin(made.runs.table.index, names.index)), names)
    made.members = _one_run_per_seed(made)  # only now: runs that cannot be compared are no duplicates
    return made


def _members(runs: Runs, placed: Iterable[tuple[str, str, str, str]]) -> pd.DataFrame:
    """(row, stage, further hyperparameters, run_id) -> the runs' columns with these in front."""
    frame = pd.DataFrame(list(dict.fromkeys(placed)), columns=["row", "stage", "further", "run_id"])
    return frame.merge(runs.table.reset_index(drop=True), on="run_id", how="left")


def _one_run_per_seed(made: Study) -> pd.DataFrame:
    """Two records of one seed at one point (as from two paths of one model) count once: the latest finished one."""
    m = made.members
    ranked = m.assign(finished=m["status"].isin(FINISHED)).sort_values(["finished", "created"])
    kept = ranked.drop_duplicates(["task", "row", "stage", *POINT, "seed"], keep="last")
    dropped = ranked[~ranked.index.isin(kept.index)]
    for (task, row), part in dropped.groupby(["task", "row"]):
        twice = ", ".join(str(seed) for seed in sorted(part["seed"].unique()))
        made.notes.append(
            f"{TASKS[str(task)].title}, {row}: seeds that lie here twice ({twice}) count once, the latest"
        )
    return m.loc[sorted(kept.index)].reset_index(drop=True)


# --- without a sweep file -------------------------------------------------------------------------------------------


def row_of(optim: str, optim_args: str) -> str:
    """Name of the row that a run belongs to: its optimizer, and whatever differs from the paper's constants."""
    differing = get_optimizer(optim).differing(json.loads(optim_args))
    for route in differing.get("routes", []):
        if own := get_optimizer(route["optim"]).differing(route.pop("optim_args")):
            route["optim_args"] = own
    return row_name(optim, differing)


def _from_runs(runs: Runs, seeds: int | None) -> Study:
    table = runs.table
    names = [row_of(o, a) for o, a in zip(table["optim"], table["optim_args"], strict=True)]
    named = table.assign(row=names).rename_axis(None)
    of_search = table["seed"].between(FIRST_SEARCH_SEED, LAST_SEARCH_SEED).to_numpy()
    searching = (named["holdout_fraction"] > 0) | (of_search & (not of_search.all()))
    keys = ["task", "row", "lr", "weight_decay"]
    finished = named[named["status"].isin(FINISHED) & ~searching].sort_values("created")
    finished = finished.drop_duplicates([*keys, "seed"], keep="last").assign(value=values_of)
    points = finished.groupby(keys).agg(median=("value", "median"), count=("value", "size"), scored=("score", "count"))
    points = points.reset_index()
    wanted = seeds or min(paper.FINAL_SEEDS, max([1, *map(int, points["scored"])]))
    chosen: dict[tuple[str, str], Hparams] = {}
    chosen_among: dict[tuple[str, str], int] = {}
    for (task, row), part in points.groupby(["task", "row"]):
        chosen_among[str(task), str(row)] = len(part)
        full = part[part["count"] >= wanted] if (part["count"] >= wanted).any() else part
        medians = {Hparams(*point): median for *point, median in full[["lr", "weight_decay", "median"]].to_numpy(float)}
        if (best := best_point(medians)) is not None:
            chosen[str(task), str(row)] = best
    searched = searching | ~searching.groupby([named["task"], named["row"]]).transform("any")
    placed = [(run["row"], "search", "", run["run_id"]) for _, run in named[searched].iterrows()]
    for _, run in named[~searching].iterrows():
        key = (run["task"], run["row"])
        point = Hparams(run["lr"], run["weight_decay"])
        if chosen.get(key, point) == point:  # a cell without any score shows what became of its runs
            placed.append((run["row"], "final", "", run["run_id"]))
    rows = ordered({Row(n, o) for n, o in zip(names, table["optim"], strict=True)})
    notes = [
        "no sweep file was given or found: the final seeds of a cell are all its runs at the point with the best "
        f"median among the points with at least {wanted} seed{'s' if wanted > 1 else ''} (or with any, where none "
        "has), a diverged run counting as the worst score there is"
    ]
    if any(number > 1 for number in chosen_among.values()):
        notes.append(
            "several points of a cell were scored by the same runs that chose one: such a score flatters itself"
        )
    if of_search.all():
        notes.append(f"all seeds are those of a search ({FIRST_SEARCH_SEED}, ...); what is shown are search scores")
    elif of_search.any():
        notes.append(f"seeds of a search ({FIRST_SEARCH_SEED}, ...) are not among the final ones")
    tasks = [t for t in TASKS if t in set(table["task"])]
    return Study(runs, tasks, rows, _members(runs, placed), chosen, wanted,
                 chosen_among=chosen_among, notes=notes)  # fmt: skip


# --- with a sweep file ----------------------------------------------------------------------------------------------


def _key(task: str, optim: str, args: dict[str, Any], lr: float, decay: float, seed: int, *holdout: float) -> tuple:
    arguments = json.dumps(args, sort_keys=True, default=list)
    return task, optim, arguments, float(f"{lr:.6g}"), float(f"{decay:.6g}"), seed, *holdout


def _run_key(run: SweepRun) -> tuple:
    config, constants = run.config, get_optimizer(run.config.optim).constants
    args = {**constants, **arguments_of(config.optim_args, config.routes)}
    holdout = config.holdout_fraction, config.holdout_seed
    return _key(run.task, config.optim, args, config.lr, config.weight_decay, config.seed, *holdout)


def _from_sweep(runs: Runs, sweep: SweepConfig, seeds: int | None, *, as_found: bool) -> Study:
    runs = only_of_sweep(runs, sweep, as_found=as_found)
    t = runs.table
    found: dict[tuple, dict[str, str]] = {}  # settings -> start -> the record's run_id
    numbers = ("lr", "weight_decay", "seed", "holdout_fraction")
    for run in t.sort_values("created").to_dict("records"):
        split = runs.configs[run["run_id"]]["holdout_seed"]
        key = _key(run["task"], run["optim"], json.loads(run["optim_args"]), *(run[name] for name in numbers), split)
        unknown = "failed" if run["status"] == "failed" else ""  # failed before its model was loaded
        begin = run["start"] if isinstance(run["start"], str) and run["start"] else unknown
        found.setdefault(key, {})[begin] = run["run_id"]
    # Records are found by their settings, not by run_id, which depends on folders that may not be on this machine.
    table = cells(sweep)
    matching: dict[str, str] = {}  # the sweep's run_id -> the record's

    def look(runs: Iterable[SweepRun]) -> dict[str, Outcome]:
        places: dict[str, Any] = {
            run.run_id: _of_start(found.get(_run_key(run), {}), run.config.init_from) for run in runs
        }
        matches = {mine: run_id for mine, run_id in places.items() if run_id is not None}
        matching.update(matches)
        return {mine: _outcome(t.loc[run_id]) for mine, run_id in matches.items()}

    outcomes = gather(table, look)
    if not matching:
        raise UsageError(f"none of {len(t)} records belongs to the sweep (task, optimizer, lr, weight decay and seed)")
    placed, counts, chosen, chosen_among = [], {}, {}, {}
    for key in table:
        final, searching = final_runs(table, key, outcomes), search_runs(table, key, outcomes)
        if final:
            chosen[key] = final[0].hparams
        if sweep.protocol == "grid":
            chosen_among[key] = len({run.hparams for run in searching})
        for stage, members in (("search", searching), ("final", final)):
            counts[*key, stage] = len(members)
            placed += [(key[1], stage, r.hparams.further, matching[r.run_id]) for r in members if r.run_id in matching]
    rows = ordered(_row_of_entry(e) for e in sweep.optimizers)
    made = Study(runs, [k for k in TASKS if k in sweep.tasks], rows, _members(runs, placed), chosen,
                 seeds or sweep.final_seeds, sweep, counts, chosen_among)  # fmt: skip
    if others := len(t) - made.members["run_id"].nunique():
        made.notes.append(f"{others} runs in the folder are no part of this sweep and were left out")
    return made


def _of_start(found: dict[str, str], wanted: str) -> str | None:
    """The record with the start that a run is to have. Of a model that the file names by its place, only the records
    know the digest: there it is the latest that started from any. What failed stands for any start."""
    if wanted == "" or wanted in found or wanted.startswith("sha256:"):
        return found.get(wanted, found.get("failed"))
    known = [run_id for begin, run_id in found.items() if begin not in ("", "failed")]
    return known[-1] if known else found.get("failed")


def _row_of_entry(entry: OptimizerEntry) -> Row:
    return Row(entry.name, entry.optim, entry.match_step_size)


def _outcome(row: "pd.Series[Any]") -> Outcome:
    score = None if math.isnan(row["score"]) else float(row["score"])
    step_size = None if math.isnan(row["step_size"]) else float(row["step_size"])
    weights = row["weights"] if isinstance(row["weights"], str) else "unknown"
    return Outcome(row["status"], score, step_size, weights=weights)


def missing_reason(made: Study, task: str, row: str) -> str | None:
    """Why a cell of the table has no value, in a few words; `None` where it has one."""
    final = made.final(task, row)
    usable = len(made.scores(task, row))
    if usable >= made.final_seeds:
        return None
    searched = made.of(task, row, "search")
    matched = next((r.matched for r in made.rows if r.name == row), None)
    if final.empty and matched and (task, row) not in made.chosen:
        return f"waits for the final seeds of its optimizer's plain row and of {matched}"
    if final.empty and searched.empty:
        source = made.sweep.sources.get(task) if made.sweep is not None else None
        if source is not None and missing_reason(made, source, row) is not None:
            return f"waits for the {TASKS[source].title} run that it starts from"
        return "not run"
    if final.empty and (task, row) not in made.chosen:
        planned = made.planned.get((task, row, "search"), len(searched))
        done = int(searched["status"].isin(FINISHED).sum())
        if done < planned:
            return f"search not finished ({done} of {planned} runs)"
        if searched["score"].notna().any():
            return "final seeds not run"
        return f"no run of the search has a score ({fates(searched)})"
    if final.empty:
        return "final seeds not run"
    lost = fates(final)
    if usable == 0 and (final["status"] == "diverged").all():
        return "diverged (all " + str(len(final)) + " runs)" if len(final) > 1 else "diverged"
    return f"{usable} of {made.final_seeds} seeds" + (f" ({lost})" if lost else "")


def fates(part: pd.DataFrame) -> str:
    """`1 diverged, 2 failed`: what became of the runs without a score; empty without any."""
    counts = part["status"].value_counts()
    return ", ".join(f"{counts[s]} {s}" for s in ("diverged", "failed") if s in counts)
