"""The paper's Figure 5: training loss, dev score and average step size against updates; and beta_t."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from glue_mva.report.aggregate import Row, Study
from glue_mva.report.plots import label_ends, line_style, longest, panels, text_color, unit
from glue_mva.style import TEXT_WIDTH, color, figure_style, marker

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Band:
    """A curve over the seeds of one cell."""

    step: Floats
    mean: Floats
    low: Floats
    """Lowest seed."""
    high: Floats
    """Highest seed."""
    seeds: int


_TRAINING = {"loss": "training loss", "step_size": "average step size"}
_BETA = {
    "beta_mean": "mean of \N{GREEK SMALL LETTER BETA}\N{LATIN SUBSCRIPT SMALL LETTER T}",
    "beta_at_min": "share at beta2_min",
    "beta_at_max": "share at beta2_max",
}


def band(curves: list[tuple[Floats, Floats]]) -> Band | None:
    """Mean and range of several curves (step, value), each (points,); interpolated to the steps of the first one where
    they differ. `None` without any point."""
    usable = []
    for step, value in curves:
        known = ~(np.isnan(step) | np.isnan(value))
        if known.any():
            usable.append((step[known], value[known]))
    if not usable:
        return None
    start, stop = max(s[0] for s, _ in usable), min(s[-1] for s, _ in usable)
    step = usable[0][0]
    step = step[(step >= start) & (step <= stop)]
    if len(step) == 0:
        return None
    values = np.stack([np.interp(step, s, v) for s, v in usable])
    return Band(step, values.mean(axis=0), values.min(axis=0), values.max(axis=0), len(usable))


def cell_band(made: Study, task: str, row: Row, name: str) -> Band | None:
    """The band of one curve over the usable final runs of a cell."""
    final = made.final(task, row.name)
    x = "dev_step" if name == "dev_score" else "step"
    curves = []
    for run_id in final[final["status"] == "ok"]["run_id"]:
        known = made.runs.curves[run_id]
        if len(known.get(name, ())) and len(known.get(x, ())) == len(known[name]):
            curves.append((known[x], known[name]))
    return band(curves)


def curves_figure(made: Study, task: str) -> "Figure | None":
    """Figure 5 for one task; `None` where no final run has a curve."""
    names = ["loss", "dev_score", "step_size"]
    drawn: dict[str, list[tuple[Row, Band]]] = {}
    for name in (*names, *_BETA):
        drawn[name] = [(row, b) for row in made.rows if (b := cell_band(made, task, row, name)) is not None]
    if not drawn["loss"] and not drawn["dev_score"]:
        return None
    has_beta = any(drawn[n] for n in _BETA)
    shown = names + (list(_BETA) if has_beta else [])
    with figure_style():
        fig, axes = panels(len(shown), 3, TEXT_WIDTH, 2.0, left=0.5, right=0.06 + 0.055 * longest(made.rows), top=0.15)
        for ax, name in zip(axes, shown, strict=True):
            _draw(ax, drawn[name], made.rows, points=name == "dev_score")
            ax.set_ylabel((_TRAINING | _BETA).get(name, f"dev {unit(task)}"))
            ax.set_xlabel("updates")
            if name == "step_size":
                ax.ticklabel_format(axis="y", style="sci", scilimits=(0, 0))
        for ax, name in zip(axes, shown, strict=True):
            if name == "step_size" and drawn[name]:  # all lines end at 0, so their names stand in the empty corner
                ax.legend(loc="upper right", fontsize=6, handlelength=1.8, labelspacing=0.25, borderaxespad=0)
                continue
            ends = [(float(b.step[-1]), float(b.mean[-1]), r.label, text_color(r.optim)) for r, b in drawn[name]]
            label_ends(ax, ends, size=6)
    return fig


def _draw(ax: "Axes", bands: list[tuple[Row, Band]], rows: list[Row], *, points: bool) -> None:
    for row, b in bands:
        style = line_style(row, rows)
        if b.seeds > 1:
            ax.fill_between(b.step, b.low, b.high, color=color(row.optim), alpha=0.15, linewidth=0)
        ax.plot(b.step, b.mean, color=color(row.optim), linestyle=style, linewidth=1.1, label=row.label,
                marker=marker(row.optim) if points and len(b.step) <= 20 else None, markersize=3,
                markerfacecolor="white" if row.matched else color(row.optim))  # fmt: skip
    ax.locator_params(axis="x", nbins=4)
