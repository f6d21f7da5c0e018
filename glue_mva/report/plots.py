"""Figures of scores: every seed, and the differences between optimizers. Each function returns a figure; nothing is
written here. What all figures of the report share is here too."""

import math
from collections.abc import Collection, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np

from glue_mva import paper
from glue_mva.report.aggregate import Row, Study
from glue_mva.report.comparisons import Pair
from glue_mva.style import (
    COLUMN_WIDTH,
    FURTHER_COLORS,
    FURTHER_MARKERS,
    MUTED,
    OPTIMIZER_COLORS,
    OPTIMIZER_MARKERS,
    TEXT_WIDTH,
    Look,
    figure_style,
    figure_text,
    further_look,
    new_figure,
)
from glue_mva.tasks import METRICS, TASKS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TIMES = "\N{MULTIPLICATION SIGN}"
NAME_WIDTH = 22
"""Characters of a row's name that stand on one line beside an axis."""
PAIR_WIDTH = 26
"""And those of a pair."""
LEGEND_WIDTH = 44
"""And in a legend."""
ALL = "all tasks"


def looks(rows: Sequence[Row]) -> dict[str, Look]:
    """Name of each row -> its look: the paper's optimizers always have theirs, a row with a matched step size looks as
    the plain row of its optimizer, dashed (a second one has a colour of its own), and any other row has a look of its
    own."""
    found: dict[str, Look] = {}
    for row in (r for r in rows if not r.matched):
        if row.name in OPTIMIZER_COLORS:
            found[row.name] = Look(OPTIMIZER_COLORS[row.name], OPTIMIZER_MARKERS[row.name])
        else:
            found[row.name] = further_look(sum(name not in OPTIMIZER_COLORS for name in found))
    plain = {r.optim: found[r.name] for r in reversed(rows) if not r.matched}
    for place, row in enumerate(r for r in rows if r.matched):
        own = plain.get(row.optim, further_look(len(found) + place)).as_control()
        found[row.name] = _free([own], found.values(), found.values())
    return found


def _free(wanted: Sequence[Look], taken: Collection[Look], rows: Collection[Look]) -> Look:
    """The first of some looks that is not taken; where all are, that of the control of an optimizer that is no row."""
    further = (further_look(place) for place in range(len(FURTHER_COLORS) * len(FURTHER_MARKERS)))
    controls = (look.as_control() for look in further if look not in rows)
    return next((look for look in chain(wanted, controls) if look not in taken), wanted[0])


def unit(task: str) -> str:
    """Axis label of a task's score, as in `accuracy (%)`."""
    own = {"accuracy": "accuracy (%)", "matthews_correlation": f"Matthews {TIMES} 100"}
    headline = TASKS[task].headline
    return own.get(headline, f"{METRICS[headline]} {TIMES} 100")


def balanced(count: int, most: int) -> int:
    """Columns for so many panels, at most so many: as few lines as can be, as equally full as can be."""
    return math.ceil(count / math.ceil(count / most))


def panels(count: int, columns: int, width: float, height: float, **share: Any) -> "tuple[Figure, list[Axes]]":
    """A figure of `count` panels in lines of `columns`, each of this height in inches with its labels; `share` as
    `Figure.subplots` takes it."""
    columns = min(columns, count)
    lines = math.ceil(count / columns)
    fig = new_figure(width, lines * height)
    grid = fig.subplots(lines, columns, squeeze=False, **share).ravel()
    for ax in grid[count:]:
        ax.remove()
    for ax in grid[max(0, count - columns) : count]:  # the lowest of each column, where the last line is not full
        ax.tick_params(labelbottom=True)
    return fig, list(grid[:count])


def add_legend(fig: "Figure", entries: Sequence[tuple[str, Look]], *, lines: bool = True) -> None:
    """Names above all panels; the figure grows by as much."""
    from matplotlib.lines import Line2D

    names = [figure_text(name, LEGEND_WIDTH) for name, _ in entries]
    handles = [Line2D([], [], color=look.color, ls=look.line if lines else "", marker=look.marker,
                      markerfacecolor=look.face, markersize=4) for _, look in entries]  # fmt: skip
    longest = max(len(line) for name in names for line in name.split("\n"))
    columns = max(1, min(len(names), int((fig.get_figwidth() - 0.2) / (0.5 + 0.062 * longest))))
    deep = sum(max(name.count("\n") + 1 for name in names[i : i + columns]) for i in range(0, len(names), columns))
    fig.set_figheight(fig.get_figheight() + 0.1 + 0.15 * deep)
    fig.legend(handles, names, loc="outside upper center", ncols=columns, handlelength=2.2, columnspacing=1.4)


def scores_figure(made: Study, *, with_paper: bool = False) -> "Figure":
    """Every final seed's score, one panel per task, one line per row; a tick is the median."""
    look = looks(made.rows)
    names = [figure_text(row.label, NAME_WIDTH) for row in made.rows]
    columns = balanced(len(made.tasks), 4 if max(len(name) for name in names) < 15 else 3)
    with figure_style():
        width = TEXT_WIDTH if len(made.tasks) > 1 else COLUMN_WIDTH + 1
        fig, axes = panels(len(made.tasks), columns, width, 0.6 + 0.13 * _lines(names), sharey="row")
        fig.set_figheight(fig.get_figheight() + 0.2)
        for number, (ax, task) in enumerate(zip(axes, made.tasks, strict=True)):
            for place, row in enumerate(made.rows):
                _one_row_of_scores(ax, made, task, row, place, look[row.name])
                known = paper.TABLE3.get(row.name, {}).get(task)
                if with_paper and known is not None:
                    ax.plot([known[0]], [place], marker="x", color=MUTED, markersize=4, linestyle="")
            ax.set_title(TASKS[task].heading)
            ax.locator_params(axis="x", nbins=4)
            ax.margins(x=0.12)
            ax.tick_params(axis="y", length=0)
            ax.grid(axis="x", color="#E4E4E4", linewidth=0.5)
            ax.set_axisbelow(True)
            ax.ticklabel_format(axis="x", useOffset=False)
            if number % columns == 0:
                ax.set_yticks(range(len(made.rows)), names)
                ax.set_ylim(len(made.rows) - 0.4, -0.6)
                for text, row in zip(ax.get_yticklabels(), made.rows, strict=True):
                    text.set_color(look[row.name].text_color)
        note = f"dev score {TIMES} 100; a dot is a seed, the tick their median"
        fig.supxlabel(note + (f", {TIMES} the paper's median" if with_paper else ""), fontsize=7)
    return fig


def _one_row_of_scores(ax: "Axes", made: Study, task: str, row: Row, place: int, look: Look) -> None:
    scores = np.sort(made.values(task, row.name))
    if len(scores) == 0:
        ax.text(0.02, place, "no score", color=MUTED, fontsize=6, va="center", transform=ax.get_yaxis_transform())
        return
    spread = place + 0.22 * ((np.arange(len(scores)) % 2) - 0.5) * (len(scores) > 2)
    ax.plot(scores, spread, linestyle="", marker=look.marker, color=look.color, markerfacecolor=look.face,
            markeredgewidth=0.8, alpha=0.85, clip_on=False)  # fmt: skip
    if len(scores) >= made.final_seeds:
        ax.plot([np.median(scores)] * 2, [place - 0.34, place + 0.34], color=look.text_color, linewidth=1.8)


def forest_figure(made: Study, pairs: Sequence[Pair], margin: float) -> "Figure | None":
    """Difference of means of each pair with its interval, one panel per task and one for all tasks, one line per pair;
    `None` where nothing was compared."""
    drawn = [pair for pair in pairs if pair.difference is not None]
    if not drawn:
        return None
    look = looks(made.rows)
    shown = [*made.tasks, *([ALL] if len(made.tasks) > 1 else [])]
    names, found = [figure_text(pair.name, PAIR_WIDTH) for pair in drawn], [_differences(pair) for pair in drawn]
    columns = balanced(len(shown), 3)
    with figure_style():
        width = TEXT_WIDTH if len(shown) > 1 else COLUMN_WIDTH + 1
        fig, axes = panels(len(shown), columns, width, 0.55 + 0.12 * _lines(names), sharey="row")
        fig.set_figheight(fig.get_figheight() + 0.2)
        for number, (ax, task) in enumerate(zip(axes, shown, strict=True)):
            ax.axvspan(-margin, margin, color="#EDEDED", linewidth=0)
            ax.axvline(0, color=MUTED, linewidth=0.7)
            for place, (pair, values) in enumerate(zip(drawn, found, strict=True)):
                own = look[pair.a.name]
                if task in values:
                    own = own.as_control() if pair.b.matched else own
                    _draw_interval(ax, values[task], place, own, bold=task == ALL)
            ax.set_title(TASKS[task].heading if task in TASKS else task)
            ax.locator_params(axis="x", nbins=5)
            ax.tick_params(axis="y", length=0)
            if number % columns == 0:
                ax.set_yticks(range(len(names)), names)
                ax.set_ylim(len(names) - 0.5, -0.5)
        note = f"difference of mean dev scores {TIMES} 100 and 95 % t interval over seeds; grey: within {margin:g}"
        fig.supxlabel(note, fontsize=7)
    return fig


def _lines(names: Sequence[str]) -> float:
    """Room for names beside an axis, in lines of text."""
    return len(names) * max(1.5, 1.2 + max(name.count("\n") for name in names))


def _differences(pair: Pair) -> dict[str, tuple[float, float, float]]:
    """Value, low and high by task, and over all of several."""
    known = {c.task: (c.difference_of_means, c.means_low, c.means_high) for c in pair.compared}
    if pair.difference is not None and len(known) > 1:
        known[ALL] = (pair.difference.value, *pair.difference.interval)
    return known


def _draw_interval(ax: "Axes", values: tuple[float, float, float], place: float, look: Look, *, bold: bool) -> None:
    value, low, high = values
    if not math.isnan(low):
        ax.plot([low, high], [place, place], color=look.color, linestyle=look.line, linewidth=1.8 if bold else 1.0,
                solid_capstyle="butt")  # fmt: skip
    ax.plot([value], [place], linestyle="", marker=look.marker, color=look.color, markerfacecolor=look.face,
            markeredgewidth=0.8, markersize=5 if bold else 3.5)  # fmt: skip
