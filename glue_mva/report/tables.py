"""Table 3 as markdown, CSV and LaTeX, and the comparisons as markdown."""

import csv
import io
import math
from dataclasses import dataclass

import numpy as np

from glue_mva import paper
from glue_mva.report.aggregate import Row, Study, missing_reason
from glue_mva.report.comparisons import Pair
from glue_mva.report.stats import standard_error
from glue_mva.tasks import TASKS, get_task
from glue_mva.text import Strong, count, error, interval, latex, markdown_table, number, p_value, score, signed


@dataclass(frozen=True)
class Entry:
    """One cell of the printed table."""

    median: float
    standard_error: float
    seeds: int
    reason: str | None = None
    """Why there is no value."""
    best: bool = False
    """Highest median of its column, as printed; equals share it."""

    @property
    def text(self) -> str:
        """`80.15 (.64)`, `80.15` for one seed, `-` where there is no value."""
        if self.reason is not None:
            return "-"
        spread = "" if math.isnan(self.standard_error) else f" ({error(self.standard_error)})"
        return score(self.median) + spread


@dataclass(frozen=True)
class Table3:
    """The table's content, before it is printed in one form or another."""

    tasks: list[str]
    rows: list[Row]
    entries: dict[tuple[str, str], Entry]
    """(task, row) -> entry."""
    caption: str
    notes: list[str]
    with_paper: bool = False


def table3(made: Study, *, with_paper: bool = False) -> Table3:
    """Medians and standard errors over the final seeds of every cell; a cell with fewer seeds than asked has none."""
    entries: dict[tuple[str, str], Entry] = {}
    notes = []
    for row in made.rows:
        for task in made.tasks:
            reason = missing_reason(made, task, row.name)
            scores = made.scores(task, row.name).to_numpy()
            if reason is not None:
                entries[task, row.name] = Entry(math.nan, math.nan, len(scores), reason)
                notes.append(f"{TASKS[task].title}, {row.label}: {reason}")
            else:
                entries[task, row.name] = Entry(float(np.median(scores)), standard_error(scores), len(scores))
    for task in made.tasks:
        printed = {r.name: score(entries[task, r.name].median) for r in made.rows if not entries[task, r.name].reason}
        top = max((float(text) for text in printed.values()), default=math.nan)
        for name, text in printed.items():
            if float(text) == top:
                old = entries[task, name]
                entries[task, name] = Entry(old.median, old.standard_error, old.seeds, best=True)
    return Table3(made.tasks, made.rows, entries, caption(made), notes, with_paper)


def caption(made: Study) -> str:
    """What the table shows, on which model and data, how its hyperparameters were chosen."""
    seeds = f"{made.final_seeds} seeds" if made.final_seeds > 1 else "1 seed"
    text = f"Median (standard error) of dev set scores over {seeds}."
    models = sorted(made.members["model"].dropna().astype(str).unique())
    if models and not all(_is_paper_model(m) for m in models):
        size = made.members["parameters"].max()
        parameters = "" if math.isnan(size) else f" ({size / 1e6:.3g} million parameters)"
        text += f" Model: {', '.join(models)}{parameters}, not the paper's RoBERTa-base."
    if partial := partial_data(made):
        text += f" Partial data: {partial}."
    if made.sweep is not None:
        protocol = {
            "paper": "Hyperparameters were selected on the same dev set, with other seeds.",
            "heldout": "Hyperparameters were selected on held-out training rows; only the final seeds saw the dev set.",
            "grid": "Hyperparameters were selected on the same dev set and with the same seeds.",
            "fixed": "Hyperparameters are the paper's best; nothing was searched.",
        }[made.sweep.protocol]
        text += f" {protocol}"
    return text + " The best epoch was selected on the dev set too, as in the paper."


def _is_paper_model(name: str) -> bool:
    return name in (paper.MODEL, paper.MODEL.rpartition("/")[2])


def partial_data(made: Study) -> str:
    """`QNLI (1,000 of 104,743 training rows, 800 of 5,463 dev rows)` for every task whose data are not the whole."""
    parts = []
    for task in made.tasks:
        rows = made.members[(made.members["task"] == task) & made.members["partial"].astype("boolean").fillna(False)]
        if rows.empty:
            continue
        final = rows[rows["stage"] == "final"]
        line = (final if len(final) else rows).iloc[0]
        official = get_task(task).rows
        pairs = ((line["train_rows"], official["train"], "training"),
                 (line["dev_rows"], official[get_task(task).eval_splits[0]], "dev"))  # fmt: skip
        shown = [f"{count(n)} of {count(whole)} {what} rows" for n, whole, what in pairs if n != whole]
        parts.append(f"{TASKS[task].title} ({', '.join(shown)})" if shown else f"{TASKS[task].title} (not official)")
    return ", ".join(parts)


def _paper_lines(table: Table3, row: Row) -> list[list[str]]:
    """The paper's values of a row, and ours minus the paper's."""
    if not table.with_paper or row.name not in paper.TABLE3:
        return []
    values, differences = [], []
    for task in table.tasks:
        known = paper.TABLE3[row.name].get(task)
        ours = table.entries[task, row.name]
        values.append("-" if known is None else f"{score(known[0])} ({error(known[1])})")
        differences.append("-" if known is None or ours.reason else signed(ours.median - known[0]))
    return [[f"{row.label}, paper", *values], ["difference", *differences]]


def _reported(table: Table3) -> list[str]:
    return ["-" if t not in paper.REPORTED else f"{paper.REPORTED[t]:.1f}" for t in table.tasks]


def _headings(table: Table3) -> list[str]:
    return [TASKS[t].heading for t in table.tasks]


def table3_markdown(table: Table3) -> str:
    """GitHub-flavoured markdown with caption and notes."""
    body = [["Reported (Liu et al. 2019)", *_reported(table)]]
    for row in table.rows:
        entries = [table.entries[t, row.name] for t in table.tasks]
        body.append([row.label, *(Strong(e.text) if e.best else e.text for e in entries)])
        body += _paper_lines(table, row)
    text = markdown_table(["Method", *_headings(table)], body) + f"\n{table.caption}\n"
    if table.notes:
        text += "\nWithout a value:\n\n" + "".join(f"- {note}\n" for note in table.notes)
    return text


def table3_csv(table: Table3) -> str:
    """One line per method and one column per task, as printed; `cells.csv` has the numbers in full precision."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["Method", *_headings(table)])
    writer.writerow(["Reported (Liu et al. 2019)", *_reported(table)])
    for row in table.rows:
        writer.writerow([row.label, *(table.entries[t, row.name].text for t in table.tasks)])
        writer.writerows(_paper_lines(table, row))
    return stream.getvalue()


def table3_tex(table: Table3) -> str:
    """A `table*` for packages booktabs; notes as comments."""
    lines = [r"\begin{table*}", r"  \centering", rf"  \caption{{{latex(table.caption)}}}", r"  \label{tab:glue}",
             rf"  \begin{{tabular}}{{l{'r' * len(table.tasks)}}}", r"    \toprule",
             "    " + " & ".join(["Method", *map(latex, _headings(table))]) + r" \\", r"    \midrule",
             "    " + " & ".join(["Reported (Liu et al. 2019)", *_reported(table)]) + r" \\"]  # fmt: skip
    for row in table.rows:
        entries = [table.entries[t, row.name] for t in table.tasks]
        cells = [rf"\textbf{{{e.text}}}" if e.best else e.text for e in entries]
        lines.append("    " + " & ".join([latex(row.label), *cells]) + r" \\")
        for name, *values in _paper_lines(table, row):
            lines.append("    " + " & ".join([rf"\quad {latex(name)}", *(f"${v}$" if v[0] in "+-" and v != "-" else v
                                                                       for v in values)]) + r" \\")  # fmt: skip
    lines += [r"    \bottomrule", r"  \end{tabular}", *(f"  % {note}" for note in table.notes), r"\end{table*}"]
    return "\n".join(lines) + "\n"


def comparisons_markdown(pairs: list[Pair]) -> str:
    """A table, a sentence per task and an overall sentence, for each pair."""
    if not pairs:
        return "No pair of optimizers to compare: give one with `--compare A:B`.\n"
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
                         number(c.seeds_needed)])  # fmt: skip
        header = ["Task", "Seeds", "Medians", "95 % (seeds, examples)", "In dev examples", "Means", "95 % (seeds)", "p",
                  "p Holm", "Seeds needed"]  # fmt: skip
        sentences = "".join(f"- {c.verdict}\n" for c in pair.tasks)
        parts.append(f"### {pair.a.label} minus {pair.b.label}\n\n{pair.overall}\n\n{markdown_table(header, body)}\n"
                     f"{sentences}")  # fmt: skip
    return "\n".join(parts)
