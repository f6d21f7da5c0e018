"""Figures of scores and of the search. Each function returns a figure; nothing is written here."""

import colorsys
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from glue_mva import paper
from glue_mva.report.aggregate import Row, Study
from glue_mva.report.selection import Selection
from glue_mva.style import MUTED, TEXT_WIDTH, color, figure_style, marker, new_figure
from glue_mva.tasks import TASKS
from glue_mva.text import rate

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TIMES = "\N{MULTIPLICATION SIGN}"
_MATCHED_STYLE, _VARIANT_STYLES = "--", (":", "-.")


def line_style(row: Row, rows: Sequence[Row]) -> str:
    """Solid for an optimizer with its usual constants, dashed for a matched step size, dotted for other variants."""
    if row.matched:
        return _MATCHED_STYLE
    same = [r.name for r in rows if r.optim == row.optim and not r.matched]
    place = same.index(row.name)
    return "-" if place == 0 else _VARIANT_STYLES[(place - 1) % len(_VARIANT_STYLES)]


def unit(task: str) -> str:
    """Axis label of a task's score, as in `Accuracy (%)`."""
    return {"accuracy": "accuracy (%)", "matthews_correlation": f"Matthews {TIMES} 100",
            "pearson": f"Pearson {TIMES} 100"}[TASKS[task].headline]  # fmt: skip


def label_ends(ax: "Axes", ends: Sequence[tuple[float, float, str, str]], size: float = 6.5) -> None:
    """Write each line's name beside its last point, moved apart where they would overlap.

    Args:
        ends: (x, y, text, colour) in data coordinates, all at about the same x.
    """
    if not ends:
        return
    height = ax.get_window_extent().height / ax.figure.dpi * 72  # points
    low, high = ax.get_ylim()
    gap = (high - low) * (size + 1.5) / height
    order = sorted(range(len(ends)), key=lambda i: ends[i][1])
    places = np.array([ends[i][1] for i in order])
    for k in range(1, len(places)):
        places[k] = max(places[k], places[k - 1] + gap)
    places -= max(0.0, (places - np.array([ends[i][1] for i in order])).mean())
    places += max(0.0, low + gap / 2 - places[0])
    right = max(x for x, *_ in ends)
    for place, i in zip(places, order, strict=True):
        x, y, text, colour = ends[i]
        ax.annotate(text, xy=(x, y), xytext=(right, place), textcoords=_beside(ax), color=colour, fontsize=size,
                    va="center", ha="left", annotation_clip=False)  # fmt: skip


def _beside(ax: "Axes"):
    from matplotlib.transforms import ScaledTranslation

    return ax.transData + ScaledTranslation(4 / 72, 0, ax.figure.dpi_scale_trans)


def longest(rows: Sequence[Row]) -> int:
    """Length of the longest label, in characters."""
    return max(len(row.label) for row in rows)


def text_color(optimizer: str) -> str:
    """The optimizer's colour, darkened so that small text in it is legible on white."""
    from matplotlib.colors import to_hex, to_rgb

    hue, saturation, value = colorsys.rgb_to_hsv(*to_rgb(color(optimizer)))
    return to_hex(colorsys.hsv_to_rgb(hue, min(1.0, saturation * 1.1), min(value, 0.62)))


def panels(count: int, columns: int, width: float, height: float, *, left: float = 0.55, right: float = 0.1,
           bottom: float = 0.42, top: float = 0.25, gap: float | None = None, last: float = 0.0,
           ) -> "tuple[Figure, list[Axes]]":  # fmt: skip
    """A figure of `count` equal panels in rows of `columns`. All sizes are inches, so that panels of several figures
    are alike and nothing is moved after it was drawn.

    Args:
        width, height: of the whole figure, and of one panel with its margins.
        left, right, bottom, top: margins of each panel, for its labels.
        gap: left margin of the panels after the first in a row, where they share its labels.
        last: further margin at the right of the figure.
    """
    columns = min(columns, count)
    lines = math.ceil(count / columns)
    fig = new_figure(width, lines * height)
    fig.set_layout_engine("none")
    inner = left if gap is None else gap
    panel = (width - last - left - right - (columns - 1) * (inner + right)) / columns
    axes = []
    for place in range(count):
        line, column = divmod(place, columns)
        x = left + column * (panel + right + inner)
        y = (lines - 1 - line) * height + bottom
        box = (x / width, y / (lines * height), panel / width, (height - bottom - top) / (lines * height))
        axes.append(fig.add_axes(box))
    return fig, axes


def scores_figure(made: Study, *, with_paper: bool = False) -> "Figure":
    """Every final seed's score, one panel per task, one line per row; a tick is the median."""
    height = 0.72 + 0.17 * len(made.rows)
    names = 0.15 + 0.07 * longest(made.rows)
    with figure_style():
        fig, axes = panels(len(made.tasks), 4, TEXT_WIDTH if len(made.tasks) > 2 else 4.5, height, left=names, gap=0.08)
        for place_of_task, (ax, task) in enumerate(zip(axes, made.tasks, strict=True)):
            for place, row in enumerate(made.rows):
                _one_row_of_scores(ax, made, task, row, place, with_paper)
            ax.set_title(TASKS[task].heading)
            named = place_of_task % 4 == 0
            ax.set_yticks(range(len(made.rows)), [row.label if named else "" for row in made.rows])
            ax.set_ylim(len(made.rows) - 0.4, -0.6)
            ax.locator_params(axis="x", nbins=4)
            ax.margins(x=0.12)
            ax.tick_params(axis="y", length=0)
            ax.grid(axis="x", color="#E4E4E4", linewidth=0.5)
            ax.set_axisbelow(True)
            for text, row in zip(ax.get_yticklabels(), made.rows, strict=False):
                text.set_color(text_color(row.optim))
        note = f"dev score {TIMES} 100; a dot is a seed, the tick their median"
        note += f", {TIMES} the paper's median" if with_paper else ""
        fig.text(0.5, 0.05 / fig.get_figheight(), note, ha="center", fontsize=7)
    return fig


def _one_row_of_scores(ax: "Axes", made: Study, task: str, row: Row, place: int, with_paper: bool) -> None:
    scores = np.sort(made.scores(task, row.name).to_numpy())
    spread = place + 0.22 * ((np.arange(len(scores)) % 2) - 0.5) * (len(scores) > 2)
    face = "white" if row.matched else color(row.optim)
    ax.plot(scores, spread, linestyle="", marker=marker(row.optim), color=color(row.optim), markerfacecolor=face,
            markeredgewidth=0.8, alpha=0.85, clip_on=False)  # fmt: skip
    if len(scores) >= made.final_seeds:
        ax.plot([np.median(scores)] * 2, [place - 0.34, place + 0.34], color=text_color(row.optim), linewidth=1.8)
    elif len(scores) == 0:
        ax.text(0.02, place, "no score", color=MUTED, fontsize=6, va="center", transform=ax.get_yaxis_transform())
    known = paper.TABLE3.get(row.name, {}).get(task)
    if with_paper and known is not None:
        ax.plot([known[0]], [place], marker="x", color=MUTED, markersize=4, linestyle="")


def heatmap_figure(found: Sequence[Selection]) -> "Figure":
    """Median search score of every lr x weight decay of one task, one panel per row on a common colour scale."""
    columns = min(2, len(found))
    medians = np.concatenate([s.points["median"].dropna().to_numpy() for s in found])
    decays = max(2, *(s.points["weight_decay"].nunique() for s in found))
    scale = (np.quantile(medians, 0.1), medians.max()) if len(medians) else (0.0, 1.0)
    with figure_style():
        width = TEXT_WIDTH if columns > 1 else 3.9
        fig, axes = panels(len(found), 2, width, 0.72 + 0.24 * decays, right=0.08, last=0.72)
        for ax, selection in zip(axes, found, strict=True):
            image = _heatmap(ax, selection, scale)
        height = fig.get_figheight()
        rail = fig.add_axes((1 - 0.62 / width, 0.42 / height, 0.1 / width, 1 - 0.67 / height))
        bar = fig.colorbar(image, cax=rail, extend="min")
        bar.set_label(unit(found[0].task), fontsize=7)
        rail.tick_params(labelsize=6.5)
    return fig


def _heatmap(ax: "Axes", s: Selection, scale: tuple[float, float]):
    from matplotlib import colormaps
    from matplotlib.patches import Rectangle

    grid = s.points.pivot(index="weight_decay", columns="lr", values="median").sort_index()
    diverged = s.points.pivot(index="weight_decay", columns="lr", values="diverged").reindex_like(grid).to_numpy()
    values = grid.to_numpy(dtype=float)
    image = ax.imshow(values, cmap=colormaps["cividis"], vmin=scale[0], vmax=scale[1], aspect="auto", origin="lower")
    for i, decay in enumerate(grid.index):
        for j, lr in enumerate(grid.columns):
            value, lost = values[i, j], diverged[i, j]
            dark = not math.isnan(value) and value < (scale[0] + scale[1]) / 2
            text = f"{value:.1f}" if not math.isnan(value) else ("diverged" if lost > 0 else "-")
            ax.text(j, i, text, ha="center", va="center", fontsize=6.5 if len(text) < 6 else 5.5,
                    color="white" if dark else "black")  # fmt: skip
            if s.chosen == (lr, decay):
                ax.add_patch(Rectangle((j - 0.47, i - 0.44), 0.94, 0.88, fill=False, linewidth=1.8, edgecolor="white"))
                ax.add_patch(Rectangle((j - 0.47, i - 0.44), 0.94, 0.88, fill=False, linewidth=0.9,
                                       edgecolor="#C00000"))  # fmt: skip
    ax.set_xticks(range(len(grid.columns)), [rate(float(v)) for v in grid.columns])
    ax.set_yticks(range(len(grid.index)), [rate(float(v)) for v in grid.index])
    ax.set_xlabel("learning rate")
    ax.set_ylabel("weight decay")
    ax.set_title(s.row.label, color=text_color(s.row.optim))
    ax.set_facecolor("#EFEFEF")  # points without a score
    ax.spines[:].set_visible(False)
    ax.tick_params(length=0)
    return image


def expected_best_figure(found: Sequence[Selection]) -> "Figure":
    """Expected best score against the number of search runs tried, one panel per task (Dodge et al. 2019)."""
    tasks = list(dict.fromkeys(s.task for s in found))
    rows = list(dict.fromkeys(s.row for s in found))
    with figure_style():
        fig, axes = panels(len(tasks), 2, 3.5 * min(2, len(tasks)), 1.75, right=0.1 + 0.065 * longest(rows))
        for ax, task in zip(axes, tasks, strict=True):
            ends = []
            for s in (s for s in found if s.task == task and len(s.best_of)):
                tried = np.arange(1, len(s.best_of) + 1)
                ax.plot(tried, s.best_of, color=color(s.row.optim), linestyle=line_style(s.row, rows),
                        marker=marker(s.row.optim), markevery=[-1])  # fmt: skip
                ends.append((float(tried[-1]), float(s.best_of[-1]), s.row.label, text_color(s.row.optim)))
            ax.set_title(TASKS[task].title)
            ax.set_ylabel(unit(task))
            ax.set_xlabel("runs tried")
            ax.locator_params(axis="x", integer=True)
            label_ends(ax, ends)
    return fig


def best_of_table(found: Sequence[Selection]) -> pd.DataFrame:
    """What `expected_best_figure` draws: `task`, `row`, `runs_tried`, `expected_best`."""
    lines = [{"task": s.task, "row": s.row.name, "runs_tried": k, "expected_best": value}
             for s in found for k, value in enumerate(s.best_of, start=1)]  # fmt: skip
    return pd.DataFrame(lines, columns=["task", "row", "runs_tried", "expected_best"])
