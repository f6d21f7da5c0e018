"""Table 3 as markdown, CSV and LaTeX."""

import csv
import io
import math
from dataclasses import dataclass, replace

import numpy as np

from glue_mva import paper
from glue_mva.optim.registry import get_optimizer
from glue_mva.record import CONSTANT
from glue_mva.report import suite
from glue_mva.report.aggregate import Row, Study, fates, missing_reason
from glue_mva.report.load import SEARCHED
from glue_mva.report.mixtures import mixtures
from glue_mva.report.settings import departures
from glue_mva.report.stats import standard_error
from glue_mva.sweep.protocol import cells
from glue_mva.tasks import TASKS
from glue_mva.text import Strong, count, error, latex, markdown, markdown_table, rate, score, signed

CONSTANT_SIGN = "\N{DAGGER}"
"""Behind a median that is no higher than the score of a constant prediction."""
AVERAGE = "Average"
REPORTED = "Reported (Liu et al. 2019)"
"""A row that the paper quotes."""


@dataclass(frozen=True)
class Entry:
    """One cell of the printed table."""

    median: float
    standard_error: float
    seeds: int
    reason: str | None = None
    """Why there is no value."""
    best: bool = False
    """Highest of several medians of its column, as printed; equals share it."""
    constant: bool = False
    """Whether the median is no higher than the score of the constant prediction."""

    @property
    def text(self) -> str:
        """`80.15 (.64)`, `80.15` for one seed, `-` where there is no value."""
        if self.reason is not None:
            return "-"
        spread = "" if math.isnan(self.standard_error) else f" ({error(self.standard_error)})"
        return score(self.median) + spread + (CONSTANT_SIGN if self.constant else "")


@dataclass(frozen=True)
class Table3:
    """The table's content, before it is printed in one form or another."""

    tasks: list[str]
    rows: list[Row]
    entries: dict[tuple[str, str], Entry]
    """(task, row) -> entry; the task `Average` is there where there are several."""
    caption: str
    notes: list[str]
    """What must be known beside it: cells without a value, runs that did not learn, mixtures."""
    with_reported: bool = False
    """Whether the row that the paper quotes is shown."""
    with_paper: bool = False
    """Whether the paper's own values are."""

    @property
    def columns(self) -> list[str]:
        return [*self.tasks, AVERAGE] if len(self.tasks) > 1 else self.tasks

    @property
    def headings(self) -> list[str]:
        return [TASKS[c].heading if c in TASKS else c for c in self.columns]


def table3(made: Study, *, with_paper: bool = False) -> Table3:
    """Medians and standard errors over the final seeds of every cell; a cell with fewer seeds than asked has none.

    Args:
        with_paper: show the paper's values, whatever model and data the runs have.
    """
    entries: dict[tuple[str, str], Entry] = {}
    notes = []
    for row in made.rows:
        for task in made.tasks:
            entries[task, row.name] = entry = _entry(made, task, row)
            if entry.reason is not None:
                notes.append(f"{TASKS[task].title}, {row.label}: {entry.reason}")
            final = made.final(task, row.name)
            if entry.reason is None and (lost := fates(final)):
                notes.append(f"{TASKS[task].title}, {row.label}: {lost} of {len(final)} runs, not in the median")
            for warning, runs in final["warnings"].value_counts().items():
                notes.append(f"{TASKS[task].title}, {row.label}: {runs} of {len(final)} runs: {warning}")
            for names, runs in final["failed_checks"].value_counts().items():
                plain = f"{runs} of {len(final)} runs took the plain path, since a check of a fast one failed: {names}"
                notes.append(f"{TASKS[task].title}, {row.label}: {plain}")
            if entry.reason is None and (unlearned := _unlearned(made, task, row)):
                notes.append(f"{TASKS[task].title}, {row.label}: {unlearned}")
            if entry.reason is None and row.matched:
                notes.append(f"{TASKS[task].title}, {row.label}: {_matched(made, task, row)}")
        entries[AVERAGE, row.name] = _average(made, row, [entries[task, row.name] for task in made.tasks])
    table = Table3(
        made.tasks, made.rows, entries, "", notes + mixtures(made), with_paper or is_papers_setting(made), with_paper
    )
    for column in table.columns:
        _mark_best([(column, row.name) for row in made.rows], entries)
    return replace(table, caption=caption(made, table))


def _entry(made: Study, task: str, row: Row) -> Entry:
    scores = made.values(task, row.name)
    if (reason := missing_reason(made, task, row.name)) is not None:
        return Entry(math.nan, math.nan, len(scores), reason)
    median = float(np.median(scores))
    return Entry(median, standard_error(scores), len(scores), constant=median <= _constant(made, task, row))


def _constant(made: Study, task: str, row: Row) -> float:
    """Score of a constant prediction, and what rounding may add to it."""
    return float(made.final(task, row.name)["majority_score"].max()) + 1e-9


def _unlearned(made: Study, task: str, row: Row) -> str:
    """`1 of 4 seeds (3) is no better than a constant prediction`; empty where all learned, or their records say so."""
    scores, final = made.scores(task, row.name), made.final(task, row.name)
    told = final.loc[final["warnings"].map(lambda text: CONSTANT in str(text)), "seed"]
    seeds = sorted(set(scores[scores <= _constant(made, task, row)].index) - set(told))
    if not seeds:
        return ""
    which = f"{len(seeds)} of {len(scores)} seeds ({', '.join(map(str, seeds))})"
    return f"{which} {'is' if len(seeds) == 1 else 'are'} no better than a constant prediction"


def _matched(made: Study, task: str, row: Row) -> str:
    """From what a row has its learning rate that was not searched for, and how well that came out."""
    target = next(other for other in made.rows if other.name == row.matched)
    own, wanted = (made.final(task, other.name)["step_size"].mean() for other in (row, target))
    reached = "" if math.isnan(own / wanted) else f", of which it reached {own / wanted:.2f}"
    return f"learning rate {rate(made.chosen[task, row.name].lr)}, set for {target.label}'s average step size{reached}"


def _average(made: Study, row: Row, entries: list[Entry]) -> Entry:
    """Mean of a row's medians, and its bootstrap standard error."""
    if any(entry.reason for entry in entries):
        return Entry(math.nan, math.nan, 0, "not on all tasks")
    scores = [made.values(task, row.name) for task in made.tasks]
    spread = suite.bootstrap_error(suite.mean_of_medians, scores)
    return Entry(float(suite.mean_of_medians(scores)), spread, min(len(s) for s in scores))


def _mark_best(keys: list[tuple[str, str]], entries: dict[tuple[str, str], Entry]) -> None:
    printed = {key: float(score(entries[key].median)) for key in keys if entries[key].reason is None}
    top = max(printed.values(), default=math.nan)
    for key, value in printed.items():
        if len(printed) > 1 and value == top and not entries[key].constant:
            entries[key] = replace(entries[key], best=True)


def is_papers_setting(made: Study) -> bool:
    """Whether all runs are of the paper's model, recipe and complete data, started from that model, so that its numbers
    may stand beside them."""
    models = set(made.members["model"].dropna().astype(str))
    pretrained = bool(made.members["start"].isna().all())
    same = set(made.members["recipe"]) == {"paper"} and not _departures(made) and not partial_data(made)
    return bool(models) and all(map(_is_paper_model, models)) and pretrained and same


def caption(made: Study, table: Table3) -> str:
    """What the table shows, on which model and data, how its hyperparameters were chosen."""
    text = f"Median (standard error of the mean) of dev set scores over {_seeds(made, table)}."
    if any(entry.best for entry in table.entries.values()):
        text += " Bold: the highest median of a column, tested or not."
    if AVERAGE in table.columns:
        text += " Average: mean of the medians (bootstrap standard error, seeds drawn within tasks)."
    if any(entry.constant for entry in table.entries.values()):
        text += f" {CONSTANT_SIGN}: no better than a constant prediction."
    models = sorted(made.members["model"].dropna().astype(str).unique())
    if models and not all(_is_paper_model(m) for m in models):
        size = made.members["parameters"].max()
        parameters = "" if math.isnan(size) else f" ({size / 1e6:.3g} million parameters)"
        text += f" Model: {', '.join(models)}{parameters}, not the paper's RoBERTa-base."
    if partial := partial_data(made):
        text += f" Partial data: {partial}."
    if (recipes := set(made.members["recipe"])) != {"paper"}:
        text += f" Recipe: {', '.join(sorted(recipes))}."
    if settings := _departures(made):
        text += f" Not as in the recipe: {settings}."
    if own := _own_settings(made):
        text += f" As usual with an optimizer: {own}."
    text += "".join(f" {line}." for line in _starts(made))
    if made.sweep is not None:
        all_cells = cells(made.sweep).values()
        several = any(len(cell.grid) > 1 for cell in all_cells)
        protocol = {
            "paper": "Hyperparameters were selected on the same dev set, with other seeds.",
            "heldout": "Hyperparameters were selected on held-out training rows; only the final seeds saw the dev set.",
            "grid": "Hyperparameters were selected on the same dev set and with the same seeds.",
            "fixed": "Hyperparameters are the paper's best; nothing was searched.",
        }[made.sweep.protocol]
        text += f" {protocol}" if several or made.sweep.protocol == "fixed" else " No hyperparameter was searched."
        others = [row.label for row in made.rows if row.optim not in paper.BEST_HPARAMS]
        if made.sweep.protocol == "fixed" and others:
            text += f" The paper has none for {', '.join(others)}: Adam's, or usual ones, untuned."
        if (times := made.sweep.extend_lr) and any(len(cell.rates) > 1 for cell in all_cells):
            text += (" Where a row's best learning rate was the lowest or the highest, the search went on beyond it, "
                     f"by at most {times} rate{'' if times == 1 else 's'}.")  # fmt: skip
        if matched := [row.label for row in made.rows if row.matched]:
            text += f" Not searched, but set for the average step size of another row: {', '.join(matched)}."
    elif made.chosen_on_final:
        text += " Hyperparameters were selected by the very scores that are shown."
    return text + " The best epoch was selected on the dev set too, as in the paper."


def _seeds(made: Study, table: Table3) -> str:
    """`5 seeds`, or `4 to 5 seeds` where cells differ."""
    counts = {entry.seeds for entry in table.entries.values() if entry.reason is None} or {made.final_seeds}
    least, most = min(counts), max(counts)
    return f"{least} to {most} seeds" if least < most else "1 seed" if most == 1 else f"{most} seeds"


def _starts(made: Study) -> list[str]:
    """What the runs of tasks start from, where it is not the pretrained model."""
    said = made.sweep.starts if made.sweep is not None else []
    told = made.sweep.init_from if made.sweep is not None else {}
    other = [TASKS[task].title for task in made.tasks if not told.get(task)
             and made.members.loc[made.members["task"] == task, "start"].notna().any()]  # fmt: skip
    return [*said, f"{', '.join(other)}: runs start from a fine-tuned model (init_from)"] if other else said


def _departures(made: Study) -> str:
    """Settings that are not the recipe's; with the tasks, where they have others, and the optimizers."""
    shown: dict[str, list[str]] = {}  # setting -> where, in the order of the tasks
    for task in made.tasks:
        of_task = made.members[made.members["task"] == task].drop_duplicates("optim")  # runs of one share theirs
        found: dict[str, list[str]] = {}
        for optim, run_id in of_task[["optim", "run_id"]].itertuples(index=False):
            for text in departures(made.runs.configs[run_id]):
                found.setdefault(text, []).append(get_optimizer(optim).label)
        for text, labels in found.items():
            only = f" with {', '.join(labels)}" if len(labels) < len(of_task) else ""
            shown.setdefault(text, []).append(TASKS[task].title + only)
    everywhere = [TASKS[task].title for task in made.tasks]
    return ", ".join(text if where == everywhere else f"{text} ({', '.join(where)})" for text, where in shown.items())


def _own_settings(made: Study) -> str:
    """Settings that some optimizers have by default in place of the recipe's, as `Adafactor lr_scheduler constant`."""
    found: dict[str, None] = {}
    for row in made.rows:
        for run_id in made.members.loc[made.members["row"] == row.name, "run_id"].iloc[:1]:
            config = made.runs.configs[run_id]
            own = get_optimizer(row.optim).defaults.keys() - SEARCHED
            found |= dict.fromkeys(f"{get_optimizer(row.optim).label} {key} {config[key]}" for key in sorted(own))
    return ", ".join(found)


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
        pairs = ((line["train_rows"], line["official_train_rows"], "training"),
                 (line["dev_rows"], line["official_dev_rows"], "dev"))  # fmt: skip
        shown = [f"{count(n)} {'' if math.isnan(whole) else f'of {count(whole)} '}{what} rows"
                 for n, whole, what in pairs if n != whole]  # fmt: skip
        parts.append(f"{TASKS[task].title} ({', '.join(shown)})" if shown else f"{TASKS[task].title} (not official)")
    return ", ".join(parts)


def _quoted_lines(table: Table3, row: Row) -> list[list[str]]:
    """The paper's values of a row, and ours minus the paper's."""
    if not table.with_paper or row.name not in paper.TABLE3:
        return []
    known = paper.TABLE3[row.name]
    values = [f"{score(known[t][0])} ({error(known[t][1])})" if t in known else "-" for t in table.tasks]
    medians = {task: value for task, (value, _) in known.items()}
    quoted = _with_average(table, medians)
    ours = [table.entries[c, row.name] for c in table.columns]
    differences = ["-" if c not in quoted or e.reason else signed(e.median - quoted[c])
                   for c, e in zip(table.columns, ours, strict=True)]  # fmt: skip
    average = [score(quoted.get(AVERAGE, math.nan))] if AVERAGE in table.columns else []
    return [[f"{row.label}, paper", *values, *average], [f"{row.label}, ours minus paper", *differences]]


def _with_average(table: Table3, values: dict[str, float]) -> dict[str, float]:
    known = [values[task] for task in table.tasks if task in values]
    return values | ({AVERAGE: float(np.mean(known))} if len(known) == len(table.tasks) else {})


def _reported_line(table: Table3) -> list[list[str]]:
    if not table.with_reported:
        return []
    values = _with_average(table, paper.REPORTED)
    return [[REPORTED, *(f"{values[c]:.{1 if c in TASKS else 2}f}" if c in values else "-" for c in table.columns)]]


def body(table: Table3) -> list[tuple[list[str], Row | None]]:
    """The lines of the table: texts as printed, bold where best; and the row that a line is of, `None` if quoted."""
    lines: list[tuple[list[str], Row | None]] = [(line, None) for line in _reported_line(table)]
    for row in table.rows:
        entries = [table.entries[c, row.name] for c in table.columns]
        lines.append(([row.label, *(Strong(e.text) if e.best else e.text for e in entries)], row))
        lines += [(line, None) for line in _quoted_lines(table, row)]
    return lines


def table3_markdown(table: Table3) -> str:
    """GitHub-flavoured markdown with caption and notes."""
    text = markdown_table(["Method", *table.headings], [line for line, _ in body(table)])
    text += f"\n{markdown(table.caption)}\n"
    if table.notes:
        text += "\nTo be known beside it:\n\n" + "".join(f"- {markdown(note)}\n" for note in table.notes)
    return text


def table3_csv(table: Table3) -> str:
    """One line per method and one column per task, as printed; `cells.csv` has the numbers in full precision."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["Method", *table.headings])
    writer.writerows(line for line, _ in body(table))
    return stream.getvalue()


def table3_latex(table: Table3) -> str:
    """A `table*` for the packages booktabs and adjustbox, with all that the markdown says in its caption; no wider than
    the page, whatever the number of tasks."""
    text = " ".join([table.caption, *(f"{note}." for note in table.notes)])
    names = [TASKS[c].title if c in TASKS else c for c in table.columns]
    metrics = [heading.removeprefix(name).strip() for name, heading in zip(names, table.headings, strict=True)]
    lines = [r"\begin{table*}", r"  \centering", rf"  \caption{{{latex(text)}}}", r"  \label{tab:glue}",
             r"  \begin{adjustbox}{max width=\textwidth}",
             rf"  \begin{{tabular}}{{@{{}}l{'r' * len(table.columns)}@{{}}}}", r"    \toprule",
             "    " + " & ".join(map(latex, ["Method", *names])) + r" \\",
             "    " + " & ".join(["", *map(latex, metrics)]) + r" \\",
             r"    \midrule"]  # fmt: skip
    for (name, *values), row in body(table):
        printed = [_latex_cell(value) for value in values]
        indent = "" if row is not None or name == REPORTED else r"\quad "
        lines.append("    " + " & ".join([indent + latex(name), *printed]) + r" \\")
    lines += [r"    \bottomrule", r"  \end{tabular}", r"  \end{adjustbox}", r"\end{table*}"]
    return "\n".join(lines) + "\n"


def _latex_cell(text: str) -> str:
    if isinstance(text, Strong):
        return rf"\textbf{{{latex(text)}}}"
    return f"${text}$" if text[0] in "+-" and text != "-" else latex(text)
