"""What may be said about two optimizers: sentences that say no more than the numbers of `comparisons` do."""

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Literal

from glue_mva.report import MARGIN as MARGIN
from glue_mva.report import stats
from glue_mva.report.aggregate import Row
from glue_mva.tasks import TASKS
from glue_mva.text import count, interval, number, p_equals, p_value, seeds_text, signed

if TYPE_CHECKING:
    from glue_mva.report.comparisons import Comparison, Pair
    from glue_mva.report.suite import Difference


Verdict = Literal["better", "worse", "practically equal", "not decided", "not compared"]


def judge(pair: "Pair", margin: float) -> Verdict:
    """The verdict on `a` against `b` over all tasks: practically equal where the whole interval lies within the margin;
    better or worse where the test shows a difference after Holm and the interval leaves out 0; else, and where there is
    a `doubt`, not decided."""
    if pair.difference is None:
        return "not compared"
    if not pair.difference.error > 0 or doubt(pair, margin):  # one seed, or a spread that is not known
        return "not decided"
    low, high = pair.difference.interval
    if _is_within(pair.difference, margin):
        return "practically equal"
    if pair.p_holm <= stats.ALPHA and not low <= 0 <= high:
        return "better" if low > 0 else "worse"
    return "not decided"


def _is_within(difference: "Difference", margin: float) -> bool:
    low, high = difference.interval
    return -margin <= low and high <= margin


def doubt(pair: "Pair", margin: float) -> str:
    """What no number of seeds would mend; empty without.

    Scores leave out runs that diverged: a row that diverged is not better, nor the equal of another, by the rest. And
    scores that chose their own point flatter it: a row is not better, nor the equal of another, by those that chose
    among more points than the other had.
    """
    if pair.difference is None:
        return ""
    leads = {pair.a.label: pair.difference.value > 0, pair.b.label: pair.difference.value < 0}
    diverged = (sum(c.diverged_a for c in pair.compared), sum(c.diverged_b for c in pair.compared))
    for (label, leading), runs in zip(leads.items(), diverged, strict=True):
        if runs and (leading or _is_within(pair.difference, margin)):
            return f"{label} diverged in {count(runs)} run{'s' if runs > 1 else ''}"
    more = (any(c.chosen_among_a > c.chosen_among_b for c in pair.compared),
            any(c.chosen_among_b > c.chosen_among_a for c in pair.compared))  # fmt: skip
    for (label, leading), unfair in zip(leads.items(), more, strict=True):
        if unfair and leading:
            return f"the scores of {label} chose its point, among more than the other row had"
    return ""


_LEADS = {
    "better": "{a} is better than {b}",
    "worse": "{a} is worse than {b}",
    "practically equal": "{a} and {b} are practically equal",
    "not decided": "{a} against {b} is not decided",
    "not compared": "{a} and {b} were compared on no task",
}


def decided_first(pairs: Iterable["Pair"]) -> "list[Pair]":
    """Pairs in the order in which their verdicts are listed above, else as they were."""
    return sorted(pairs, key=lambda pair: list(_LEADS).index(pair.verdict))


def lead(pair: "Pair") -> str:
    """The verdict in words."""
    return _LEADS[pair.verdict].format(a=pair.a.label, b=pair.b.label)


def sentence(pair: "Pair", margin: float, tests: int) -> str:
    """The verdict with its reasons.

    Args:
        tests: pairs that were compared.
    """
    done = pair.compared
    missing = len(pair.tasks) - len(done)
    if pair.difference is None:
        return f"{lead(pair)}."
    over = f"on average over {len(done)} tasks" if len(done) > 1 else f"on {TASKS[done[0].task].title}"
    text = f"{lead(pair)}: {signed(pair.difference.value)} points {over}"
    adjusted = f" after Holm over {tests} pairs" if tests > 1 else ""
    if math.isnan(pair.difference.error):
        fewest = stats.fewest_seeds(len(done), paired=pair.paired, tests=tests)
        text += f", and with one seed there is nothing to test; {fewest} seeds each are the fewest that could show it"
    elif pair.difference.error == 0:
        text += f", and its spread is not known, since on a task all seeds differ by the same ({p_equals(pair.p_holm)}"
        text += f"{adjusted})"
    else:
        low, high = pair.difference.interval
        text += f" (95 % interval {interval(low, high)}; {p_equals(pair.p_holm)}{adjusted})"
        text += _reason(pair, margin, tests, low, high)
    if lost := [f"{TASKS[c.task].title}, {c.left_out}" for c in done if c.left_out]:
        text += f"; not counted: {'; '.join(lost)}"
    text += "".join(f"; {clause}" for clause in (_choice(pair), _starts(pair)) if clause)
    if missing:
        text += f"; {missing} of {len(pair.tasks)} tasks were not compared"
    return text + "."


def _choice(pair: "Pair") -> str:
    """That the scores that are compared also chose the points, and among how many."""
    most = [max(points) for points in zip(*((c.chosen_among_a, c.chosen_among_b) for c in pair.compared), strict=True)]
    if max(most) == 1:
        return ""
    counts = " and ".join(f"{count(n)} of {row.label}" for n, row in zip(most, (pair.a, pair.b), strict=True))
    return f"the same scores chose the points, among {counts}, and flatter what they chose"


def _starts(pair: "Pair") -> str:
    """That all seeds of a row share one start."""
    tasks = [TASKS[c.task].title for c in pair.compared if c.own_starts]
    if not tasks:
        return ""
    return f"on {', '.join(tasks)} all seeds of a row start from one model, whose luck is in no interval and no p"


def _reason(pair: "Pair", margin: float, tests: int, low: float, high: float) -> str:
    apart = [TASKS[c.task].title for c in pair.compared if c.p_holm <= stats.ALPHA] if len(pair.compared) > 1 else []
    single = f"; a difference is shown on {', '.join(apart)} alone" if apart else ""
    if pair.verdict == "practically equal":
        shown = " though it leaves out 0" if not low <= 0 <= high else ""
        text = f"; the whole interval lies within {margin:g} points{',' if shown else ''}{shown}{single}"
        if pair.examples_low < -margin or pair.examples_high > margin:
            text += f"; on other dev examples it could be larger ({interval(pair.examples_low, pair.examples_high)})"
        return text
    if pair.verdict in ("better", "worse"):
        if math.isnan(pair.examples_low):
            return ""
        also = interval(pair.examples_low, pair.examples_high)
        if pair.examples_low <= 0 <= pair.examples_high:
            return f"; on other dev examples it could be none, or the other way ({also})"
        # The bootstrap of few seeds is too narrow: where it says less than the t interval, it is no further evidence.
        wider = pair.examples_high - pair.examples_low > high - low
        return f"; the interval over seeds and dev examples leaves out 0 too ({also})" if wider else ""
    if against := doubt(pair, margin):
        return f"; no number of seeds would decide it, since {against}{single}"
    smallest_p = 2 * math.prod(c.smallest_p / 2 for c in pair.compared)
    limit = f"; this many seeds cannot show a difference: {text}" if (text := _limit(smallest_p, tests)) else ""
    if math.isinf(pair.seeds_to_decide) or math.isnan(pair.seeds_to_decide):
        return f"; no number of seeds in reach would decide it{limit}{single}"
    have = min(min(c.n_a, c.n_b) for c in pair.compared)
    what = "practical equality" if pair.as_equal else "a difference"
    enough = seeds_text(max(pair.seeds_to_decide, have + 1))
    return f"{limit}; about {enough} seeds each would probably show {what}{single}"


def of_task(c: "Comparison", a: Row, b: Row, tests: int) -> str:
    """One sentence on one task.

    Args:
        tests: tasks that were tested.
    """
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
    seeds += f" ({c.left_out} not counted)" if c.left_out else ""
    adjusted = f", {p_value(c.p_holm)} after Holm over {tests} tasks" if tests > 1 else ""
    tested = f"{p_equals(c.p)}{adjusted}"
    if c.p_holm <= stats.ALPHA:
        return f"{title}: {what}; over {seeds} a difference of means is shown ({tested}){_examples_clause(c)}."
    limit = f", and this many seeds cannot show one at all: {text}" if (text := _limit(c.smallest_p, tests)) else ""
    return f"{title}: {what}; over {seeds} no difference of means is shown ({tested}){limit}{_seeds_clause(c)}."


def _limit(smallest_p: float, tests: int) -> str:
    """What keeps the permutation test of so few seeds from showing any difference; empty where it can show one."""
    if (least := min(1.0, smallest_p * tests)) <= stats.ALPHA:
        return ""
    after = f", {p_value(least)} after Holm" if tests > 1 else ""
    return f"the smallest p they can reach is {p_value(smallest_p)}{after}"


def _examples_clause(c: "Comparison") -> str:
    if math.isnan(c.bootstrap_means_low):
        return ""
    interval = f"{signed(c.bootstrap_means_low)} to {signed(c.bootstrap_means_high)}"
    if c.bootstrap_means_low <= 0 <= c.bootstrap_means_high:
        return f"; on other dev examples it could be none, or the other way (95 % interval {interval})"
    return f"; the interval over seeds and dev examples, {interval}, leaves out 0"


def _seeds_clause(c: "Comparison") -> str:
    if math.isinf(c.seeds_needed) or math.isnan(c.seeds_needed):
        return ""
    if c.seeds_needed <= min(c.n_a, c.n_b):
        return ""
    return f"; about {seeds_text(c.seeds_needed)} seeds each would show a true difference of this size"
