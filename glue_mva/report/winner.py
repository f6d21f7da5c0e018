"""The run that stands for a task: the best final run by dev score, whose predictions or weights are handed out."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from glue_mva.errors import UsageError
from glue_mva.report.aggregate import Study
from glue_mva.report.pairs import find_row, unknown_row


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
        row: the only row of the table to look at, by its name or as the table shows it.

    Raises:
        UsageError: no such row.
    """
    rows = study.rows
    if row is not None:
        if (found := find_row(row, rows)) is None:
            raise UsageError(f"--row {row}: {unknown_row(row, rows)}")
        rows = [found]
    final = [study.final(task, r.name).assign(label=r.label) for r in rows]
    usable = pd.concat([part[(part["status"] == "ok") & part["score"].notna()] for part in final])
    if usable.empty:
        return None
    best: Any = usable.iloc[int(usable["score"].to_numpy().argmax())]
    return Winner(task, best["label"], best["run_id"], Path(best["folder"]), int(best["seed"]), float(best["score"]),
                  len(usable), bool(best["partial"]))  # fmt: skip
