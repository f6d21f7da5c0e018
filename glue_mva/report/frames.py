"""The tables of numbers: one line per cell and point (`cells.csv`), one line per run (`runs.csv`)."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from glue_mva.report.aggregate import POINT, Study
from glue_mva.report.columns import in_columns
from glue_mva.report.stats import mean_interval, standard_error
from glue_mva.sweep.hparams import Hparams, further_from
from glue_mva.tasks import TASKS

_MEANS = ("best_epoch", "last_epoch", "majority_score", "dev_rows", "train_rows", "updates", "step_size",
          "seconds", "examples_per_second", "peak_memory_bytes", "optimizer_state_bytes")  # fmt: skip


def cell_table(made: Study) -> pd.DataFrame:
    """One line per task, row, stage and point, with the columns of `cells.csv` (docs/report.md)."""
    metrics = [c for c in made.members.columns if c.startswith(("best ", "last ")) and "/" in c]
    keys = ["task", "row", "stage", *POINT]
    groups = made.members.groupby(keys)
    ok = made.members[made.members["status"] == "ok"]
    means = groups[list(_MEANS)].mean().join(ok.groupby(keys)[metrics].mean().add_prefix("mean "))
    means_of = means.to_dict(orient="index")
    lines: list[dict[Any, Any]] = []
    for key, part in groups:
        task, row, stage, lr, decay, further = map(_plain, key)
        others = further_from(further)
        columns = {**dict.fromkeys(made.further), **in_columns(others)}
        usable = part[part["status"] == "ok"]
        scores = usable["score"].dropna().to_numpy()
        low, high = mean_interval(scores) if len(scores) else (math.nan, math.nan)
        counts = part["status"].value_counts()
        lines.append({
            "task": task, "row": row, "stage": stage, "optim": part["optim"].iloc[0], "lr": lr, "weight_decay": decay,
            **columns, "optim_args": part["optim_args"].iloc[0],
            "chosen": made.chosen.get((task, row)) == Hparams(lr, decay, tuple(others.items())),
            "runs": len(part), "ok": len(scores), "diverged": int(counts.get("diverged", 0)),
            "failed": int(counts.get("failed", 0)), "seeds": " ".join(map(str, sorted(part["seed"]))),
            "median": float(np.median(scores)) if len(scores) else math.nan,
            "mean": float(scores.mean()) if len(scores) else math.nan,
            "standard_error": standard_error(scores) if len(scores) else math.nan,
            "interval_low": low, "interval_high": high, "interval_method": "Student t of the mean, 95 %",
            "median_last_score": float(np.median(usable["last_score"])) if len(usable) else math.nan,
            **means_of[key],
        })  # fmt: skip
    frame = pd.DataFrame(lines).dropna(axis=1, how="all")
    return sort_like_table(frame, made)


def _plain(value: Any) -> Any:
    """A Python number for one of numpy's."""
    return value.item() if isinstance(value, np.generic) else value


def sort_like_table(frame: pd.DataFrame, made: Study) -> pd.DataFrame:
    """Lines in the order of the paper's columns and rows, then by stage and point."""
    tasks, rows = made.tasks, [r.name for r in made.rows]
    keys = frame.assign(task=[tasks.index(t) for t in frame["task"]], row=[rows.index(r) for r in frame["row"]])
    order = keys.sort_values(["task", "row", "stage", "lr", "weight_decay", *made.further]).index
    return frame.loc[order].reset_index(drop=True)


def run_table(made: Study) -> pd.DataFrame:
    """One line per run, with the columns of `runs.csv`; a run of several rows or stages names them all."""
    joined: dict[str, Any] = {"row": _join, "stage": _join, "further": "max"}
    places = made.members.groupby("run_id").agg(joined)
    table = made.runs.table.loc[places.index].reset_index(drop=True)
    table.insert(1, "row", places.loc[table["run_id"], "row"].to_numpy())
    table.insert(2, "stage", places.loc[table["run_id"], "stage"].to_numpy())
    others = [in_columns(further_from(text)) for text in places.loc[table["run_id"], "further"]]
    for name in made.further:
        table.insert(list(table.columns).index("optim_args"), name, [found.get(name) for found in others])
    by = ["task", "row", "lr", "weight_decay", *made.further, "stage", "seed"]
    order = table.assign(task=table["task"].map(list(TASKS).index)).sort_values(by).index
    shown = table.loc[order].dropna(axis=1, how="all").reset_index(drop=True)
    return shown.assign(folder=[Path(folder).name for folder in shown["folder"]])


def _join(values: Sequence[str]) -> str:
    return "+".join(sorted(set(values)))
