"""Figures of the search: scores by hyperparameters, and what a smaller search would have found."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from glue_mva.report.aggregate import Row
from glue_mva.report.columns import in_table
from glue_mva.report.plots import NAME_WIDTH, add_legend, balanced, looks, panels, unit
from glue_mva.report.selection import Selection
from glue_mva.style import TEXT_WIDTH, figure_style, figure_text
from glue_mva.sweep.hparams import shown
from glue_mva.tasks import TASKS
from glue_mva.text import rate

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DIVERGED = "div."
"""Stands for the score of a point all of whose runs diverged."""
_LABELS = {"lr": "learning rate", "weight_decay": "weight decay"}
"""Names on axes; any other hyperparameter has its own."""
_WIDE = 10
"""Ratio of the largest to the smallest value from which on the axis of another hyperparameter is logarithmic."""


def searched(selection: Selection) -> list[str]:
    """The hyperparameters of which several values were tried."""
    return [name for name in selection.hparams if selection.points[name].nunique() > 1]


def shows_best_of_others(found: Sequence[Selection]) -> bool:
    """Whether some cell searched more hyperparameters than a figure has axes."""
    return any(len(searched(s)) > 2 for s in found)


def _label(name: str) -> str:
    return _LABELS.get(name, figure_text(name, NAME_WIDTH, 1))


def _on_axis(values: "pd.Series[Any]") -> "pd.Series[Any]":
    """Numbers as they are, truth values as words."""
    return values.map(shown) if pd.api.types.is_bool_dtype(values) else values


def line_figure(found: Sequence[Selection], rows: Sequence[Row]) -> "Figure | None":
    """Search score against the one hyperparameter that was searched, one panel per task and hyperparameter, one line
    per row; a dot is a seed, a ring the chosen point, a cross a run without a score, an arrow one below the panel.
    `None` where no cell searched just one."""
    single = [(s, names[0]) for s in found if len(names := searched(s)) == 1]
    if not single:
        return None
    keys = list(dict.fromkeys((s.task, name) for s, name in single))
    look = looks(rows)
    drawn = [row for row in rows if any(s.row == row for s, _ in single)]
    columns = balanced(len(keys), 4)
    with figure_style():
        fig, axes = panels(len(keys), columns, TEXT_WIDTH if len(keys) > 1 else 3.4, 1.75)
        for number, (ax, (task, name)) in enumerate(zip(axes, keys, strict=True)):
            ticks: set[float] = set()
            same = [s for s, its in single if (s.task, its) == (task, name)]
            scores = pd.concat([s.runs["score"] for s in same])
            bottom = _bottom(scores)
            ax.margins(x=0.08, y=0.1)
            for s in same:
                own = look[s.row.name]
                at, tried = _on_axis(s.points[name]), _on_axis(s.runs[name])
                ax.plot(at, s.points["median"], color=own.color, linestyle=own.line, zorder=2)
                ax.plot(tried, s.runs["score"], linestyle="", marker=own.marker, color=own.color,
                        markerfacecolor=own.face, markersize=3, zorder=3)  # fmt: skip
                for marker, there in (("x", s.runs["score"].isna()), ("v", s.runs["score"] < bottom)):
                    ax.plot(tried[there], [0.03] * there.sum(), linestyle="", marker=marker, color=own.color,
                            markersize=4, transform=ax.get_xaxis_transform())  # fmt: skip
                chosen = s.points[name] == (in_table(s.chosen)[name] if s.chosen else None)
                ax.plot(at[chosen], s.points["median"][chosen], linestyle="", marker="o", markersize=8, color=own.color,
                        markerfacecolor="none", markeredgewidth=0.8)  # fmt: skip
                ticks |= set(at)
            if not any(isinstance(tick, str) for tick in ticks):
                _number_axis(ax, name, sorted(ticks))
            ax.set_title(TASKS[task].title)
            ax.set_xlabel(_label(name))
            ax.set_ylabel(unit(task) if number % columns == 0 or unit(task) != unit(keys[number - 1][0]) else "")
            if (scores < bottom).any():
                ax.set_ylim(bottom, scores.max() + 0.1 * (scores.max() - bottom))
        add_legend(fig, [(row.label, look[row.name]) for row in drawn])
    return fig


def _bottom(scores: "pd.Series[float]") -> float:
    """Where a panel may end: twice as far below the lowest quarter of the scores as the best is above it. So a run that
    fell apart does not flatten all others. NaN without scores."""
    low, high = scores.quantile(0.25), scores.max()
    return float(low - 2 * (high - low))


def _number_axis(ax: "Axes", name: str, values: list[float]) -> None:
    """An axis, logarithmic for rates and wide ranges, with a tick at each value that was tried, or at some of them."""
    if min(values) > 0 and (name in _LABELS or max(values) > _WIDE * min(values)):
        ax.set_xscale("log")
    shown = values if len(values) <= 4 else [values[0], values[len(values) // 2], values[-1]]
    ax.set_xticks(shown, [rate(v) for v in shown])
    ax.set_xticks([], minor=True)


def heatmap_figure(found: Sequence[Selection], rows: Sequence[Row]) -> "Figure | None":
    """Median search score by the first two hyperparameters that were searched (learning rate and weight decay come
    first), the best over further ones: a line of panels per task, a panel per row, one colour scale per task. `None`
    where no cell searched two."""
    double = [s for s in found if len(searched(s)) >= 2]
    if not double:
        return None
    tasks = list(dict.fromkeys(s.task for s in double))
    drawn = [row for row in rows if any(s.row == row for s in double)]
    axes_of = {id(s): tuple(searched(s)[:2]) for s in double}
    same_axes = len(set(axes_of.values())) == 1
    decays = max(s.points[axes_of[id(s)][1]].nunique() for s in double)
    columns = min(4, len(drawn))
    lines = math.ceil(len(drawn) / columns)
    with figure_style():
        width = TEXT_WIDTH if columns > 2 else 2.6 * columns
        fig, axes = panels(len(tasks) * lines * columns, columns, width, 0.42 + 0.17 * decays)
        for ax in axes:
            ax.set_axis_off()
        for number, task in enumerate(tasks):
            same = [s for s in double if s.task == task]
            medians = np.concatenate([s.points["median"].dropna().to_numpy() for s in same])
            scale = (float(np.quantile(medians, 0.1)), float(medians.max())) if len(medians) else (0.0, 1.0)
            for s in same:
                place = drawn.index(s.row)
                ax = axes[number * lines * columns + place]
                ax.set_axis_on()
                x, y = axes_of[id(s)]
                _heatmap(ax, s, x, y, scale, small=columns > 2)
                name = figure_text(s.row.label, NAME_WIDTH, 1)
                ax.set_title(f"{TASKS[task].title}, {name}", fontsize=7)
                ax.set_ylabel(_label(y) if place % columns == 0 or not same_axes else "", fontsize=6.5)
                if not same_axes:
                    ax.set_xlabel(_label(x), fontsize=6.5)
        for ax in axes[-columns:] if same_axes else ():
            ax.set_xlabel(_label(x), fontsize=6.5)
    return fig


def _heatmap(ax: "Axes", s: Selection, x: str, y: str, scale: tuple[float, float], *, small: bool) -> None:
    from matplotlib.patches import Rectangle

    cells = s.points.groupby([y, x])
    grid = cells["median"].max().unstack(x).sort_index()
    diverged = cells["diverged"].sum().unstack(x).reindex_like(grid).to_numpy()
    values = grid.to_numpy(dtype=float)
    best = (in_table(s.chosen)[x], in_table(s.chosen)[y]) if s.chosen else None
    ax.imshow(values, cmap="cividis", vmin=scale[0], vmax=scale[1], aspect="auto", origin="lower")
    for i, across in enumerate(grid.index):
        for j, along in enumerate(grid.columns):
            value, lost = values[i, j], diverged[i, j]
            dark = not math.isnan(value) and value < sum(scale) / 2
            text = f"{value:.1f}" if not math.isnan(value) else (DIVERGED if lost > 0 else "-")
            label = ax.text(j, i, text, ha="center", va="center", fontsize=5 if small else 6.5,
                            color="white" if dark else "black")  # fmt: skip
            label.set_in_layout(False)
            if best == (along, across):
                for paint, line in (("white", 1.8), ("#C00000", 0.9)):
                    ax.add_patch(Rectangle((j - 0.47, i - 0.44), 0.94, 0.88, fill=False, linewidth=line,
                                           edgecolor=paint))  # fmt: skip
    ax.set_xticks(range(len(grid.columns)), [_tick(x, v) for v in grid.columns])
    ax.set_yticks(range(len(grid.index)), [_tick(y, v) for v in grid.index])
    ax.tick_params(length=0, labelsize=5.5 if small else 6.5)
    ax.set_facecolor("#EFEFEF")  # points without a score
    ax.spines[:].set_visible(False)


def _tick(name: str, value: Any) -> str:
    return rate(float(value)) if name in _LABELS else figure_text(shown(value), NAME_WIDTH, 1)


def expected_best_figure(found: Sequence[Selection], rows: Sequence[Row]) -> "Figure | None":
    """Expected best score against the number of search runs tried, one panel per task (Dodge et al. 2019). `None` where
    no search has a score."""
    shown = [s for s in found if len(s.best_of)]
    tasks = list(dict.fromkeys(s.task for s in shown))
    if not tasks:
        return None
    look = looks(rows)
    columns = balanced(len(tasks), 4)
    with figure_style():
        fig, axes = panels(len(tasks), columns, TEXT_WIDTH if len(tasks) > 1 else 3.4, 1.75)
        for number, (ax, task) in enumerate(zip(axes, tasks, strict=True)):
            for s in (s for s in shown if s.task == task):
                own = look[s.row.name]
                tried = np.arange(1, len(s.best_of) + 1)
                ax.plot(tried, s.best_of, color=own.color, linestyle=own.line, marker=own.marker, markevery=[-1],
                        markerfacecolor=own.face)  # fmt: skip
            ax.set_title(TASKS[task].title)
            ax.set_ylabel(unit(task) if number % columns == 0 or unit(task) != unit(tasks[number - 1]) else "")
            ax.set_xlabel("runs tried")
            ax.locator_params(axis="x", integer=True, nbins=5)
        add_legend(fig, [(row.label, look[row.name]) for row in rows if any(s.row == row for s in shown)])
    return fig
