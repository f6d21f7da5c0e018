"""What the final runs of a table do not share though a reader would take it for granted: precision, device, versions.

The records hold what `auto` became and what was found. None of it is refused, since all of it is the same computation
up to rounding; but a difference between two cells may be one of these, so the table says so.
"""

from collections.abc import Iterator

import pandas as pd

from glue_mva.optim.registry import RIVALS
from glue_mva.report.aggregate import Study
from glue_mva.tasks import TASKS
from glue_mva.text import clean

ACROSS_ROWS = ("precision", "padding", "device", "world_size", "glue_mva", "commit", "torch", "transformers", "python",
               *RIVALS)  # fmt: skip
"""What all runs of one task are expected to share."""
WITHIN_CELLS = ("optimizer", "kernel")
"""What differs between optimizers anyway."""
BETWEEN_STAGES = ("precision", "padding")
"""What changes scores by more than rounding over a whole training, and should be alike in the search and after it."""
NAMES = {"glue_mva": "glue-mva", "world_size": "number of processes", "optimizer": "optimizer class",
         "kernel": "optimizer kernel"}  # fmt: skip

MOST_LISTED = 4
"""Values that are listed with their cells; of more, the page lists those of all runs."""


def mixtures(made: Study) -> list[str]:
    """A line for each thing in which the final runs of a task differ, with the cells and their numbers of runs:
    `RTE: precision bf16 (Adam 4, MAdam 3), fp32 (MAdam 1)`, or from those of the search; tasks with the same line share
    it."""
    lines: dict[str, list[str]] = {}
    for task in made.tasks:
        for line in (*_of_task(made, task), *_between_stages(made, task)):
            lines.setdefault(line, []).append(TASKS[task].title)
    return [f"{', '.join(titles)}: {line}" for line, titles in lines.items()]


def _of_task(made: Study, task: str) -> Iterator[str]:
    final = made.members[(made.members["task"] == task) & (made.members["stage"] == "final")]
    final = final[final["status"] == "ok"]
    labels = {row.name: row.label for row in made.rows}
    for name in (*ACROSS_ROWS, *WITHIN_CELLS):
        values = _values(made, final, name)
        counts = values.groupby([values, final["row"]], sort=False).size()
        if name in WITHIN_CELLS:
            per_row = counts.groupby(level=1).size()
            counts = counts[counts.index.get_level_values(1).isin(per_row[per_row > 1].index)]
        found: dict[str, list[str]] = {}
        for row in labels:  # in the table's order
            for value, count in counts.xs(row, level=1).items() if row in counts.index.get_level_values(1) else ():
                found.setdefault(str(value), []).append(f"{labels[row]} {count}")
        if len(found) > MOST_LISTED:
            yield f"{NAMES.get(name, name)}: {len(found)} different ones"
        elif len(found) > 1:
            parts = (f"{clean(value)} ({', '.join(cells)})" for value, cells in sorted(found.items()))
            yield f"{NAMES.get(name, name)} {', '.join(parts)}"


def _between_stages(made: Study, task: str) -> Iterator[str]:
    runs = made.members[(made.members["task"] == task) & (made.members["status"] == "ok")]
    for name in BETWEEN_STAGES:
        search, final = (_values(made, runs[runs["stage"] == stage], name) for stage in ("search", "final"))
        if len(search) and len(final) and set(search) != set(final):
            listed = (f"{clean(str(value))} ({n})" for value, n in search.value_counts().sort_index().items())
            after = ", ".join(map(clean, sorted(set(final))))
            yield f"{name} of the search: {', '.join(listed)}, of the final runs: {after}"


def _values(made: Study, runs: pd.DataFrame, name: str) -> "pd.Series[str]":
    """One of these of every run that says it, as text."""
    if name in runs.columns:
        values = runs[name].replace("", pd.NA)
    else:
        found = [made.runs.environments.get(run_id, {}).get(name) for run_id in runs["run_id"]]
        values = pd.Series(found, index=runs.index, dtype="object")
    known = values.dropna()
    return known.map(lambda value: f"{value:g}" if isinstance(value, float) else str(value))
