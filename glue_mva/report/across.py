"""Every row over all tasks together: averages with intervals, and ranks."""

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd

from glue_mva.report import suite
from glue_mva.report.aggregate import Row, Study, missing_reason
from glue_mva.report.stats import ALPHA
from glue_mva.report.suite import Estimate
from glue_mva.text import markdown, markdown_table, number, p_equals, score


@dataclass(frozen=True)
class Summary:
    """One row over all tasks."""

    row: Row
    mean: Estimate
    """Of the tasks' means; t interval over seeds."""
    iqm: Estimate
    """Interquartile mean of all scores; bootstrap interval over seeds."""
    mean_rank: float


@dataclass(frozen=True)
class Across:
    """What the rows that have a value on every task come to; the others cannot be averaged over the same tasks."""

    tasks: int
    summaries: list[Summary]
    friedman_p: float
    """That all rows rank alike; NaN for fewer than 5 tasks or 3 rows."""


def across(made: Study) -> Across:
    """Averages and ranks of the rows that have a value on every task; of none where there is one task."""
    rows = [row for row in made.rows if not any(missing_reason(made, task, row.name) for task in made.tasks)]
    if len(made.tasks) < 2 or not rows:
        return Across(len(made.tasks), [], math.nan)
    scores = {row.name: [made.values(task, row.name) for task in made.tasks] for row in rows}
    medians = np.array([[np.median(scores[row.name][k]) for row in rows] for k in range(len(made.tasks))])
    summaries = []
    for row, rank in zip(rows, suite.mean_ranks(medians), strict=True):
        mean, iqm = suite.mean(scores[row.name]), suite.estimate(suite.interquartile_mean, scores[row.name])
        summaries.append(Summary(row, Estimate(mean.value, *mean.interval), iqm, float(rank)))
    return Across(len(made.tasks), summaries, suite.friedman_p(medians))


def across_table(found: Across) -> pd.DataFrame:
    """One line per row, with the columns of `across.csv` (docs/report.md)."""
    lines = [(s.row.name, found.tasks, *s.mean, *s.iqm, s.mean_rank, found.friedman_p) for s in found.summaries]
    columns = ["row", "tasks", "mean", "mean_low", "mean_high", "iqm", "iqm_low", "iqm_high", "mean_rank",
               "friedman_p"]  # fmt: skip
    return pd.DataFrame(lines, columns=columns)


def across_markdown(found: Across, made: Study) -> str:
    """Table of averages and ranks, and Friedman's test in a sentence."""
    if not found.summaries:
        return ""
    body = [
        [s.row.label, score(s.mean.value), estimate_interval(s.mean), number(s.mean_rank, 2)] for s in found.summaries
    ]
    text = markdown_table(["Method", "Mean", "95 %", "Mean rank"], body)
    left_out = [row.label for row in made.rows if all(row != s.row for s in found.summaries)]
    if not math.isnan(found.friedman_p):
        chance = "differ by more than chance" if found.friedman_p <= ALPHA else "could differ so by chance"
        text += f"\nFriedman's test over {found.tasks} tasks: {p_equals(found.friedman_p)}; ranks {chance}.\n"
    if left_out:
        text += f"\nNot on all tasks, so not here: {markdown(', '.join(left_out))}.\n"
    return text


def estimate_interval(found: Estimate) -> str:
    """`56.36 to 59.44`, or a dash."""
    return "-" if math.isnan(found.low) else f"{score(found.low)} to {score(found.high)}"
