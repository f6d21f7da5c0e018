"""The run that stands for a task: the best final run by dev score, whose predictions or weights are handed out."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from glue_mva.errors import UsageError, nearest
from glue_mva.report.aggregate import Study


@dataclass(frozen=True)
class Winner:
    """The final run of a task with the best dev score."""

    task: str
    row: str
    """Label of the table's row."""
    run_id: str
    folder: Path
    seed: int
    score: float
    """Dev score x 100, on which the run was chosen."""
    among: int
    """Final runs that it was chosen from."""
    partial: bool
    """Whether it was trained or scored on a part of the official rows."""


def winner(study: Study, task: str, row: str | None = None) -> Winner | None:
    """The final run of a task with the best dev score; of equals, the first in the order of the table.

    Args:
        row: name or label of the only row of the table to look at.

    Raises:
        UsageError: no such row.
    """
    rows = [r for r in study.rows if row is None or row in (r.name, r.label)]
    if not rows:
        raise UsageError(f"no row {row!r} in these runs{nearest(str(row), [r.name for r in study.rows])}")
    final = [study.final(task, r.name).assign(label=r.label) for r in rows]
    usable = pd.concat([part[(part["status"] == "ok") & part["score"].notna()] for part in final])
    if usable.empty:
        return None
    best: Any = usable.iloc[int(usable["score"].to_numpy().argmax())]
    return Winner(task, best["label"], best["run_id"], Path(best["folder"]), int(best["seed"]), float(best["score"]),
                  len(usable), bool(best["partial"]))  # fmt: skip
