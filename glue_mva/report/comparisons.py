"""Two optimizers side by side, per task and over all tasks: the numbers. `verdicts` puts them into words."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from glue_mva.record import RecordError
from glue_mva.report import bootstrap, stats, suite, verdicts
from glue_mva.report.aggregate import Row, Study, fates, missing_reason
from glue_mva.report.load import load_predictions
from glue_mva.tasks import TASKS


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
    """Seeds per optimizer that would show a true difference of means of this size after Holm; infinite for none."""
    left_out: str = ""
    """Final runs of either row without a score, which no other number here counts."""
    diverged_a: int = 0
    """How many of those diverged."""
    diverged_b: int = 0
    chosen_among_a: int = 1
    """Points of which these very scores chose one; 1 where other scores chose, or nothing was to choose."""
    chosen_among_b: int = 1
    own_starts: bool = False
    """Whether each row starts from a fine-tuned model of its own (`init_from`), whose luck no interval holds."""
    missing: str = ""
    """Why there is no comparison."""
    verdict: str = ""
    """In one sentence."""


@dataclass
class Pair:
    """Two rows on all tasks that both have; but for `tasks`, a line of `verdicts.csv`."""

    a: Row
    b: Row
    tasks: list[Comparison]
    difference: suite.Difference | None = None
    """Of means, averaged over tasks; `None` where no task was compared."""
    improvement: suite.Estimate = suite.UNKNOWN
    """Probability that a seed of `a` scores higher than one of `b`, averaged over tasks."""
    examples_low: float = math.nan
    """95 % bootstrap interval of the average difference over seeds and dev examples; NaN where predictions lack."""
    examples_high: float = math.nan
    p: float = math.nan
    """Two-sided permutation test of the average difference."""
    p_holm: float = math.nan
    """Adjusted over the pairs of the report."""
    p_signs: float = math.nan
    """Sign test over tasks, of the differences of medians."""
    seeds_to_decide: float = math.nan
    as_equal: bool = False
    """Whether so many would sooner show the two to be practically equal than to differ."""
    verdict: verdicts.Verdict = "not compared"
    sentence: str = ""

    @property
    def compared(self) -> list[Comparison]:
        return [c for c in self.tasks if not c.missing]

    @property
    def paired(self) -> bool:
        """Whether both have the same seeds on every task."""
        return all(c.paired for c in self.compared)

    @property
    def name(self) -> str:
        return f"{self.a.label} minus {self.b.label}"


def compare(made: Study, pairs: Sequence[tuple[Row, Row]], margin: float = verdicts.MARGIN) -> list[Pair]:
    """Compare pairs of rows on every task of the study.

    Args:
        margin: an average difference within it, in points of score, is no difference in practice.
    """
    found = [_compare(made, a, b) for a, b in pairs]
    tests = sum(pair.difference is not None for pair in found)
    for pair, adjusted in zip(found, stats.holm([pair.p for pair in found]), strict=True):
        pair.p_holm = float(adjusted)
        if pair.difference is not None and not verdicts.doubt(pair, margin):
            fewest = stats.fewest_seeds(len(pair.compared), paired=pair.paired, tests=tests)
            pair.seeds_to_decide = suite.seeds_to_decide(pair.difference, margin, fewest, tests)
            if math.isfinite(pair.seeds_to_decide):
                shown, within = suite.powers(pair.difference, int(pair.seeds_to_decide), margin, fewest, tests)
                pair.as_equal = within > shown
        pair.verdict = verdicts.judge(pair, margin)
        pair.sentence = verdicts.sentence(pair, margin, tests)
    return found


def _compare(made: Study, a: Row, b: Row) -> Pair:
    result, draws = Pair(a, b, []), []
    missing = {task: _missing(made, task, a, b) for task in made.tasks}
    tests = sum(not reason for reason in missing.values())
    for task, reason in missing.items():
        comparison, drawn = _compare_task(made, task, a, b, reason, tests)
        result.tasks.append(comparison)
        draws.append(drawn)
    for comparison, adjusted in zip(result.tasks, stats.holm([c.p for c in result.tasks]), strict=True):
        comparison.p_holm = float(adjusted)
    for comparison in result.tasks:
        comparison.verdict = verdicts.of_task(comparison, a, b, tests)
    if result.compared:
        _over_tasks(made, result, [d for d, c in zip(draws, result.tasks, strict=True) if not c.missing])
    return result


def _over_tasks(made: Study, pair: Pair, draws: Sequence[bootstrap.Draws | None]) -> None:
    x, y = ([made.values(c.task, row.name) for c in pair.compared] for row in (pair.a, pair.b))
    paired = [c.paired for c in pair.compared]
    pair.difference = suite.difference(x, y, paired)
    pair.improvement = suite.estimate(suite.probability_of_improvement, x, y)
    pair.p = suite.permutation_p(x, y, paired)
    known = [d.means for d in draws if d is not None]
    if len(known) == len(x) and min(len(scores) for scores in (*x, *y)) > 1:
        pair.examples_low, pair.examples_high = stats.percentile_interval(np.mean(known, axis=0))
    signs = [math.copysign(1, c.difference_of_medians) for c in pair.compared if c.difference_of_medians]
    pair.p_signs = stats.sign_test_p(signs.count(1), signs.count(-1))


def _missing(made: Study, task: str, a: Row, b: Row) -> str:
    """Why two rows cannot be compared on a task; empty where they can."""
    reasons = [(row.label, missing_reason(made, task, row.name)) for row in (a, b)]
    return "; ".join(f"{label}: {reason}" for label, reason in reasons if reason)


def _compare_task(
    made: Study, task: str, a: Row, b: Row, missing: str, tests: int
) -> tuple[Comparison, bootstrap.Draws | None]:
    x, y = made.values(task, a.name), made.values(task, b.name)
    paired = len(x) > 0 and set(made.scores(task, a.name).index) == set(made.scores(task, b.name).index)
    result = Comparison(task, a.name, b.name, len(x), len(y), paired, missing=missing)
    if missing:
        return result, None
    of_a, of_b = made.final(task, a.name), made.final(task, b.name)
    lost = [(row.label, fates(runs)) for row, runs in ((a, of_a), (b, of_b))]
    result.diverged_a, result.diverged_b = (int((runs["status"] == "diverged").sum()) for runs in (of_a, of_b))
    result.chosen_among_a, result.chosen_among_b = (made.chosen_among.get((task, row.name), 1) for row in (a, b))
    starts_a, starts_b = (set(runs["start"].dropna()) for runs in (of_a, of_b))
    result.own_starts = bool(starts_a and starts_b) and starts_a.isdisjoint(starts_b)
    result.left_out = ", ".join(f"{runs} of {label}" for label, runs in lost if runs)
    result.median_a, result.median_b = float(np.median(x)), float(np.median(y))
    result.difference_of_medians = round(result.median_a - result.median_b, 8)  # equal scores stay equal
    result.difference_of_means = round(float(x.mean() - y.mean()), 8)
    result.means_low, result.means_high = stats.difference_interval(x, y, paired=paired)
    result.dev_rows = float(of_a["dev_rows"].max())
    if TASKS[task].headline == "accuracy":
        result.difference_in_examples = result.difference_of_medians / 100 * result.dev_rows
    result.p = stats.permutation_p(x, y, paired=paired)
    result.smallest_p = stats.smallest_p(len(x), len(y), paired=paired)
    deviation = (x - y).std(ddof=1) if paired and len(x) > 1 else stats.pooled_deviation(x, y)
    result.seeds_needed = stats.seeds_needed(result.difference_of_means, float(deviation), paired=paired, tests=tests)
    if (draws := _bootstrap(made, task, a, b, paired)) is not None:
        result.medians_low, result.medians_high = stats.percentile_interval(draws.medians)
        result.bootstrap_means_low, result.bootstrap_means_high = stats.percentile_interval(draws.means)
    return result, draws


def _bootstrap(made: Study, task: str, a: Row, b: Row, paired: bool) -> bootstrap.Draws | None:
    """`None`, and a note, where the predictions of a run cannot be used, or are of other rows than the others'."""
    metric = TASKS[task].headline
    outputs: list[list[NDArray]] = []
    labels: NDArray | None = None
    for row in (a, b):
        final = made.final(task, row.name).set_index("seed")
        outputs.append([])
        for seed in sorted(made.scores(task, row.name).index):
            run = final.loc[seed]
            try:
                found = load_predictions(run["folder"], run["split"])
                if labels is not None and not np.array_equal(labels, found[0]):
                    raise RecordError(f"{run['run_id']}: predictions of other rows than the runs before")
            except RecordError as error:
                note = f"{TASKS[task].title}: no interval over rows: {error}"
                made.notes += [note] if note not in made.notes else []
                return None
            labels = found[0]
            outputs[-1].append(found[1])
    if labels is None or metric not in bootstrap.METRICS:
        return None
    seed_of_task = list(TASKS).index(task)
    return bootstrap.difference_draws(metric, labels, *outputs, paired=paired, seed=seed_of_task)


def comparison_table(pairs: Sequence[Pair]) -> pd.DataFrame:
    """One line per pair and task, with the columns of `comparisons.csv` (docs/report.md)."""
    columns = [field.name for field in fields(Comparison)]
    return pd.DataFrame([asdict(c) for pair in pairs for c in pair.tasks], columns=columns)


def verdict_table(pairs: Sequence[Pair]) -> pd.DataFrame:
    """One line per pair, with the columns of `verdicts.csv` (docs/report.md)."""
    columns = ["a", "b", "tasks", "difference", "low", "high", "examples_low", "examples_high", "probability",
               "probability_low", "probability_high", "p", "p_holm", "p_signs", "seeds_to_decide", "verdict",
               "sentence"]  # fmt: skip
    lines = []
    for pair in pairs:
        value, interval = math.nan, (math.nan, math.nan)
        if pair.difference is not None:
            value, interval = pair.difference.value, pair.difference.interval
        lines.append((pair.a.name, pair.b.name, len(pair.compared), value, *interval, pair.examples_low,
                      pair.examples_high, *pair.improvement, pair.p, pair.p_holm, pair.p_signs, pair.seeds_to_decide,
                      pair.verdict, pair.sentence))  # fmt: skip
    return pd.DataFrame(lines, columns=columns)
