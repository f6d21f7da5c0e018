"""`report.md`: everything on one page."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from glue_mva.report.across import across_markdown, estimate_interval
from glue_mva.report.comparisons import Pair
from glue_mva.report.results import Results
from glue_mva.report.selection import selection_markdown
from glue_mva.report.speed import speed_markdown
from glue_mva.report.tables import table3_markdown
from glue_mva.report.verdicts import decided_first, lead
from glue_mva.sweep.hparams import shown
from glue_mva.tasks import TASKS
from glue_mva.text import (
    clean,
    count,
    inline_markdown,
    interval,
    markdown,
    markdown_table,
    number,
    p_value,
    rate,
    score,
    seconds,
    seeds_text,
    signed,
    size,
)


@dataclass
class Page:
    """What the page is made of."""

    found: Results
    commands: Sequence[str]
    """Command lines, in order."""
    versions: Mapping[str, str]
    """Of the programs that made this page."""
    figures: dict[str, str] = field(default_factory=dict)
    """Stem of a file in `figures/` -> what it shows."""

    @property
    def title(self) -> str:
        """Says what is compared; not where the records lay."""
        rows, tasks = self.found.made.rows, self.found.made.tasks
        glue = "" if any(TASKS[task].is_own for task in tasks) else "GLUE "
        what = ", ".join(row.label for row in rows) if len(rows) <= 4 else f"{len(rows)} optimizers"
        return f"{what} on " + (f"{len(tasks)} {glue}tasks" if len(tasks) > 1 else TASKS[tasks[0]].title)


_VERDICTS = """\
Difference: of mean scores, averaged over tasks, in points. Intervals: t interval over seeds; bootstrap over seeds and
dev examples, which understates the spread of few seeds, as that of P(higher) does. All take the chosen hyperparameters
as given: the luck of the search is in none. p: permutation test over seeds, then adjusted by Holm over pairs. Better or
worse: the adjusted p is at most .05 and the interval over seeds leaves out 0. Practically equal: that whole interval,
which is not adjusted, lies within {margin:g} points. Seeds to decide: per optimizer and task, with 80 % power, if
difference and spread are as found; from few seeds that is an order of magnitude. P(higher): that one seed of the first
scores higher than one of the second, averaged over tasks. Tasks are taken as they are; others could differ. All
numbers: [verdicts.csv](verdicts.csv).
"""

_ACROSS = """\
Mean: of the tasks' means, with its t interval over seeds. Ranks are of medians, 1 the highest. All numbers:
[across.csv](across.csv), the interquartile mean among them.
"""

_COMPARISONS = """\
Differences are score x 100. The first interval is a bootstrap over seeds and dev examples, the second a t interval over
seeds; with few seeds the second is the one to trust. p: permutation test over seeds, then adjusted by Holm over the
tasks of the pair, not over pairs. Seeds needed: per optimizer, for a t test at 5 % / tasks to show a true difference of
means of this size with 80 % power; a verdict over all tasks is tested at 5 % / pairs, so that it can need others. All
numbers: [comparisons.csv](comparisons.csv).
"""

_SPEED = """\
Updates until the median dev score over seeds is first as high as the baseline's best, looked at once per evaluation;
seconds of training to there, evaluation left out (mean over seeds); and how many seeds ever get there on their own.
That best is a result of chance too: a row that is as good misses it about every second time. Seconds say something
where all runs had equal machines to themselves. All numbers: [speed.csv](speed.csv).
"""

_SELECTION = """\
Search score: median of the chosen point's search runs, a diverged one counting as the worst. Expected flattery: how far
the best of these points stands above its own true score by the luck of its search seeds, between two assumptions (the
points' true scores are as observed; they are all equal); all points are taken to vary alike over seeds. Luck with the
dev examples is not in it.
"""

_COST = """\
Means over the final seeds; best and last score are medians, at the best and at the last evaluation. Constant: score of
predicting the most frequent class (STS-B: the mean). All numbers: [cells.csv](cells.csv), [runs.csv](runs.csv).
"""

_CURVES = """\
Mean over the final seeds; the band goes from the lowest to the highest seed. All numbers: [curves.csv](curves.csv).
"""


def page_markdown(page: Page) -> str:
    """The page as GitHub-flavoured markdown; figures are linked as `figures/<name>.png`."""
    found = page.found
    averages, reached = across_markdown(found.averages, found.made), speed_markdown(found.reaches, found.made)
    sections = {
        "Verdict": [_verdicts(page), verdicts_markdown(found.pairs) if found.pairs else "",
                    _VERDICTS.format(margin=found.margin) if found.pairs else "", _figure(page, "forest")],
        "Table 3": [table3_markdown(found.table), "Also as [table3.csv](table3.csv) and [table3.tex](table3.tex).\n",
                    _notes(page), _figure(page, "scores")],
        "All tasks together": [averages, _ACROSS] if averages else [],
        "Task by task": [_COMPARISONS, comparisons_markdown(found.pairs)] if found.pairs else [],
        "Speed": [reached, _SPEED] if reached else [],
        "Selection": [selection_markdown(found.searches), _SELECTION if found.searches else "",
                      *(_figure(page, name) for name in ("search", "heatmap", "expected-best"))],
        "Curves": [_CURVES, *curves] if any(curves := [_figure(page, f"curves-{t}") for t in found.made.tasks]) else [],
        "Cost": [_cost(page), _COST],
        "How this was made": [_provenance(page)],
    }  # fmt: skip
    parts = [f"# {markdown(page.title)}\n"]
    for title, content in sections.items():
        if content:
            parts += [f"## {title}\n", *(part for part in content if part)]
    return "\n".join(parts)


def _figure(page: Page, name: str) -> str:
    if name not in page.figures:
        return ""
    text = markdown(page.figures[name])
    return f"![{text}](figures/{name}.png)\n\n*{text}* [SVG](figures/{name}.svg)\n"


def _verdicts(page: Page) -> str:
    lines = []
    for pair in decided_first(page.found.pairs):
        rest = pair.sentence.removeprefix(lead(pair))
        lines.append(f"- **{inline_markdown(lead(pair))}**{inline_markdown(rest)}\n")
    if not lines:
        lines.append("One row: nothing to compare.\n")
    return "".join(lines)


def verdicts_markdown(pairs: Sequence[Pair]) -> str:
    """One line per pair: the average difference, how sure it is, and what would settle it."""
    body = []
    for pair in pairs:
        value, low, high = math.nan, math.nan, math.nan
        if pair.difference is not None:
            value, (low, high) = pair.difference.value, pair.difference.interval
        seeds = seeds_text(pair.seeds_to_decide) if pair.verdict == "not decided" else "-"
        signs = np.sign([c.difference_of_medians for c in pair.compared])
        counts = ", ".join(str((signs == sign).sum()) for sign in (1, 0, -1))
        body.append([pair.name, pair.verdict, signed(value), interval(low, high),
                     interval(pair.examples_low, pair.examples_high), p_value(pair.p), p_value(pair.p_holm), seeds,
                     score(pair.improvement.value), estimate_interval(pair.improvement), counts])  # fmt: skip
    header = ["Pair", "Verdict", "Difference", "95 % (seeds)", "95 % (seeds, examples)", "p", "p Holm",
              "Seeds to decide", "P(higher)", "95 %", "Tasks higher, equal, lower"]  # fmt: skip
    return markdown_table(header, body, "ll" + "r" * 9)


def _notes(page: Page) -> str:
    notes = page.found.notes
    return "Notes:\n\n" + "".join(f"- {markdown(note)}\n" for note in notes) if notes else ""


def comparisons_markdown(pairs: Sequence[Pair]) -> str:
    """A table and a sentence per task, for each pair."""
    parts = []
    for pair in pairs:
        body = []
        for c in pair.tasks:
            if c.missing:
                body.append([TASKS[c.task].title, *["-"] * 9])
                continue
            seeds = f"{c.n_a}, paired" if c.paired else f"{c.n_a}, {c.n_b}"
            examples = "-"
            if not math.isnan(c.difference_in_examples):
                examples = f"{number(c.difference_in_examples, 1)} of {count(c.dev_rows)}"
            body.append([TASKS[c.task].title, seeds, signed(c.difference_of_medians),
                         interval(c.medians_low, c.medians_high), examples, signed(c.difference_of_means),
                         interval(c.means_low, c.means_high), p_value(c.p), p_value(c.p_holm),
                         seeds_text(c.seeds_needed)])  # fmt: skip
        header = ["Task", "Seeds", "Medians", "95 % (seeds, examples)", "In dev examples", "Means", "95 % (seeds)", "p",
                  "p Holm", "Seeds needed"]  # fmt: skip
        sentences = "".join(f"- {markdown(c.verdict)}\n" for c in pair.tasks)
        parts.append(f"### {markdown(pair.name)}\n\n{markdown_table(header, body)}\n{sentences}")
    return "\n".join(parts)


def _cost(page: Page) -> str:
    cells = page.found.cells
    cells = cells[(cells["stage"] == "final") & cells["chosen"]]
    labels = {row.name: row.label for row in page.found.made.rows}
    further = page.found.made.further

    def value(line: "pd.Series", name: str) -> float:
        return float(line[name]) if name in line.index else float("nan")

    body = [
        [TASKS[line["task"]].title, labels[line["row"]], rate(line["lr"]), rate(line["weight_decay"]),
         *(shown(line[name]) for name in further), count(value(line, "updates")), score(value(line, "best_epoch")),
         score(value(line, "median")), score(value(line, "median_last_score")), score(value(line, "majority_score")),
         seconds(value(line, "seconds")), size(value(line, "peak_memory_bytes")),
         size(value(line, "optimizer_state_bytes"))]
        for _, line in cells.iterrows()
    ]  # fmt: skip
    header = ["Task", "Method", "lr", "Weight decay", *further, "Updates", "Best epoch", "Best score", "Last score",
              "Constant", "Seconds", "Peak memory", "Optimizer state"]  # fmt: skip
    return markdown_table(header, body, "ll" + "r" * (10 + len(further)))


def _provenance(page: Page) -> str:
    made = page.found.made
    members = made.members.drop_duplicates("run_id")
    fates = ", ".join(f"{count(n)} {status}" for status, n in members["status"].value_counts().items())
    lines = [f"{count(len(members))} runs ({fates}).", ""]
    if page.commands:
        lines += ["```", *(clean(command, 10_000) for command in page.commands), "```", ""]
    for name in ("device", "precision", "padding", "optimizer"):
        used = members[name].replace("", pd.NA).dropna().value_counts()
        if len(used):
            what = "optimizer implementation" if name == "optimizer" else name
            lines.append(f"- {what}: {_listed(used)}")
    environments = pd.DataFrame([made.runs.environments.get(i, {}) for i in members["run_id"]]).astype("string")
    for name in sorted(environments.columns):
        used = environments[name].dropna().value_counts()
        if len(used):
            lines.append(f"- {markdown(str(name))}: {_listed(used)}")
    made_with = ", ".join(f"{name} {version}" for name, version in page.versions.items())
    lines.append(f"- this page: {made_with}")
    return "\n".join(lines) + "\n\nEvery column and statistic is defined in glue-mva's `docs/report.md`.\n"


def _listed(used: "pd.Series[int]") -> str:
    """`bf16 (12 runs), fp32 (4 runs)`; without numbers where all are alike."""
    names = [markdown(str(value)) for value in used.index]
    if len(names) == 1:
        return names[0]
    return ", ".join(f"{name} ({count(n)} run{'s' if n > 1 else ''})" for name, n in zip(names, used, strict=True))
