"""Two optimizers side by side, per task and over all tasks, and what may be said about it."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from glue_mva.errors import UsageError, nearest
from glue_mva.report import bootstrap, stats
from glue_mva.report.aggregate import Row, Study, missing_reason
from glue_mva.report.load import load_predictions
from glue_mva.tasks import TASKS
from glue_mva.text import count, number, p_value, signed

DEFAULT_PAIRS = (("madam", "adam"), ("lamadam", "laprop"))
"""The paper's question: does MaxVA help Adam, and does it help LaProp."""


@dataclass
class Comparison:
    """`a` minus `b` on one task; a line of `comparisons.csv`. Scores are metric x 100."""

    task: str
    a: str
    b: str
    n_a: int
    n_b: int
    paired: bool
    """Whether both have the same seeds, which are then compared seed by seed."""
    median_a: float = math.nan
    median_b: float = math.nan
    difference_of_medians: float = math.nan
    medians_low: float = math.nan
    """95 % bootstrap interval over seeds and dev examples; NaN without predictions."""
    medians_high: float = math.nan
    difference_of_means: float = math.nan
    means_low: float = math.nan
    """95 % t interval over seeds."""
    means_high: float = math.nan
    bootstrap_means_low: float = math.nan
    """95 % bootstrap interval over seeds and dev examples; NaN without predictions."""
    bootstrap_means_high: float = math.nan
    dev_rows: float = math.nan
    difference_in_examples: float = math.nan
    """Difference of medians in dev examples; only where the score is accuracy."""
    p: float = math.nan
    """Two-sided permutation test over seeds."""
    p_holm: float = math.nan
    """Adjusted over the tasks of this pair."""
    smallest_p: float = math.nan
    """The smallest p that this many seeds can give, before adjustment."""
    seeds_needed: float = math.nan
    """Seeds per optimizer that would show a true difference of means of this size; infinite for none."""
    missing: str = ""
    """Why there is no comparison."""
    verdict: str = ""


@dataclass
class Pair:
    """All tasks of one pair of rows."""

    a: Row
    b: Row
    tasks: list[Comparison]
    overall: str = ""


def parse_pairs(texts: Sequence[str], made: Study) -> list[tuple[Row, Row]]:
    """`["madam:adam"]` -> rows, after the default pairs that the study has.

    Raises:
        UsageError: not of the form A:B, or a row that the study lacks.
    """
    rows = {row.name: row for row in made.rows}
    pairs = [pair for pair in DEFAULT_PAIRS if pair[0] in rows and pair[1] in rows]
    for text in texts:
        a, _, b = text.partition(":")
        for name in (a, b):
            if name not in rows:
                raise UsageError(f"--compare {text}: no row {name!r}{nearest(name, rows)}; write it as A:B")
        if a == b:
            raise UsageError(f"--compare {text}: the same row twice")
        pairs.append((a, b))
    return [(rows[a], rows[b]) for a, b in dict.fromkeys(pairs)]


def compare(made: Study, pair: tuple[Row, Row]) -> Pair:
    """Compare two rows on every task of the study."""
    result = Pair(*pair, tasks=[_compare_task(made, task, *pair) for task in made.tasks])
    for comparison, adjusted in zip(result.tasks, stats.holm([c.p for c in result.tasks]), strict=True):
        comparison.p_holm = float(adjusted)
    tested = sum(not c.missing for c in result.tasks)
    for comparison in result.tasks:
        comparison.verdict = verdict(comparison, *pair, tested)
    result.overall = overall(result)
    return result


def _compare_task(made: Study, task: str, a: Row, b: Row) -> Comparison:
    first, second = made.scores(task, a.name), made.scores(task, b.name)
    paired = len(first) > 0 and set(first.index) == set(second.index)
    result = Comparison(task, a.name, b.name, len(first), len(second), paired)
    reasons = [(row.label, missing_reason(made, task, row.name)) for row in (a, b)]
    result.missing = "; ".join(f"{label}: {reason}" for label, reason in reasons if reason)
    if result.missing:
        return result
    if paired:
        second = second.loc[first.index]
    x, y = first.to_numpy(), second.to_numpy()
    result.median_a, result.median_b = float(np.median(x)), float(np.median(y))
    result.difference_of_medians = result.median_a - result.median_b
    result.difference_of_means = float(x.mean() - y.mean())
    result.means_low, result.means_high = stats.difference_interval(x, y, paired=paired)
    result.dev_rows = float(made.final(task, a.name)["dev_rows"].max())
    if TASKS[task].headline == "accuracy":
        result.difference_in_examples = result.difference_of_medians / 100 * result.dev_rows
    result.p = stats.permutation_p(x, y, paired=paired)
    result.smallest_p = stats.smallest_p(len(x), len(y), paired=paired)
    deviation = (x - y).std(ddof=1) if paired and len(x) > 1 else stats.pooled_deviation(x, y)
    result.seeds_needed = stats.seeds_needed(result.difference_of_means, float(deviation), paired=paired)
    if (interval := _bootstrap(made, task, a, b, paired)) is not None:
        result.medians_low, result.medians_high = interval.median_low, interval.median_high
        result.bootstrap_means_low, result.bootstrap_means_high = interval.mean_low, interval.mean_high
    return result


def _bootstrap(made: Study, task: str, a: Row, b: Row, paired: bool) -> bootstrap.Interval | None:
    """`None` where a run has no stored predictions, or the runs were not evaluated on the same rows."""
    metric = TASKS[task].headline
    outputs: list[list[NDArray]] = []
    labels: NDArray | None = None
    for row in (a, b):
        final = made.final(task, row.name).set_index("seed")
        outputs.append([])
        for seed in sorted(made.scores(task, row.name).index):
            found = load_predictions(final.loc[seed, "folder"], final.loc[seed, "split"])
            if found is None or (labels is not None and not np.array_equal(labels, found[0])):
                return None
            labels = found[0]
            outputs[-1].append(found[1])
    if labels is None or metric not in bootstrap.METRICS:
        return None
    return bootstrap.difference_interval(metric, labels, *outputs, paired=paired)


def verdict(c: Comparison, a: Row, b: Row, tests: int) -> str:
    """One sentence per task that says no more than the numbers do."""
    title = TASKS[c.task].title
    if c.missing:
        return f"{title}: not compared ({c.missing})."
    if c.difference_of_medians == 0:
        what = f"{a.label} and {b.label} have the same median"
    else:
        side = "above" if c.difference_of_medians > 0 else "below"
        examples = ""
        if not math.isnan(c.difference_in_examples):
            examples = f", {number(abs(c.difference_in_examples), 1)} of {count(c.dev_rows)} dev examples"
        what = f"the median of {a.label} is {abs(c.difference_of_medians):.2f} {side} that of {b.label}{examples}"
    if c.difference_of_medians * c.difference_of_means < 0:
        what += f" (the means differ the other way, {signed(c.difference_of_means)})"
    if math.isnan(c.p):
        return f"{title}: {what}; with one seed there is nothing to test."
    seeds = f"{c.n_a} shared seeds" if c.paired else f"{c.n_a} and {c.n_b} seeds"
    adjusted = f", {p_value(c.p_holm)} after Holm over {tests} tasks" if tests > 1 else ""
    tested = f"p = {p_value(c.p)}{adjusted}"
    if c.p_holm <= stats.ALPHA:
        return f"{title}: {what}; over {seeds} a difference of means is shown ({tested}){_examples_clause(c)}."
    limit = ""
    if (least := min(1.0, c.smallest_p * tests)) > stats.ALPHA:
        limit = f", and this many seeds cannot show one at all: the smallest p they can reach is {p_value(least)}"
    return f"{title}: {what}; over {seeds} no difference of means is shown ({tested}){limit}{_seeds_clause(c)}."


def _examples_clause(c: Comparison) -> str:
    if math.isnan(c.bootstrap_means_low):
        return ""
    interval = f"{signed(c.bootstrap_means_low)} to {signed(c.bootstrap_means_high)}"
    if c.bootstrap_means_low <= 0 <= c.bootstrap_means_high:
        return f"; on other dev examples it could be none, or the other way (95 % interval {interval})"
    return f"; the interval over seeds and dev examples, {interval}, leaves out 0"


def _seeds_clause(c: Comparison) -> str:
    if math.isinf(c.seeds_needed) or math.isnan(c.seeds_needed):
        return ""
    if c.seeds_needed <= min(c.n_a, c.n_b):
        return ""
    return f"; about {count(c.seeds_needed)} seeds each would show a true difference of this size"


def overall(pair: Pair) -> str:
    """One sentence over all tasks."""
    done = [c for c in pair.tasks if not c.missing]
    a, b = pair.a.label, pair.b.label
    if not done:
        return f"{a} and {b} were compared on no task."
    higher = sum(c.difference_of_medians > 0 for c in done)
    lower = sum(c.difference_of_medians < 0 for c in done)
    equal = len(done) - higher - lower
    shown_up = sum(c.p_holm <= stats.ALPHA and c.difference_of_means > 0 for c in done)
    shown_down = sum(c.p_holm <= stats.ALPHA and c.difference_of_means < 0 for c in done)
    tasks = f"{len(done)} task{'s' if len(done) > 1 else ''}"
    text = f"{a} against {b} on {tasks}: the median is higher on {higher}, lower on {lower}, equal on {equal}"
    if higher + lower > 1:
        text += f" (sign test over tasks p = {p_value(stats.sign_test_p(higher, lower))})"
    text += f"; a difference of means is shown in favour of {a} on {shown_up}, of {b} on {shown_down}"
    if all(c.smallest_p * len(done) > stats.ALPHA for c in done):
        text += "; with this many seeds no task could have shown one" + (" after Holm" if len(done) > 1 else "")
    if missing := len(pair.tasks) - len(done):
        text += f"; {missing} of {len(pair.tasks)} tasks were not compared"
    return text + "."


def comparison_table(pairs: Sequence[Pair]) -> pd.DataFrame:
    """One line per pair and task, with the columns of `comparisons.csv` (docs/report.md)."""
    return pd.DataFrame([asdict(c) for pair in pairs for c in pair.tasks])
