"""The paper's Figure 5: training loss, dev score and average step size against updates; and beta_t."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from glue_mva.report.aggregate import Row, Study
from glue_mva.report.plots import add_legend, looks, panels, unit
from glue_mva.style import TEXT_WIDTH, Look, figure_style

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


def bands(made: Study, task: str) -> dict[str, list[tuple[Row, Band]]]:
    """Name of each curve -> the rows that have it, with their bands."""
    return {
        name: [(row, b) for row in made.rows if (b := cell_band(made, task, row, name)) is not None]
        for name in (*_TRAINING, "dev_score", *_BETA)
    }


def curve_table(made: Study) -> pd.DataFrame:
    """What the curves' figures draw, with the columns of `curves.csv` (docs/report.md)."""
    frames = [
        pd.DataFrame({"task": task, "row": row.name, "curve": name, "update": b.step, "mean": b.mean, "low": b.low,
                      "high": b.high, "seeds": b.seeds})
        for task in made.tasks for name, drawn in bands(made, task).items() for row, b in drawn
    ]  # fmt: skip
    columns = ["task", "row", "curve", "update", "mean", "low", "high", "seeds"]
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=columns)


def curves_figure(made: Study, task: str) -> "Figure | None":
    """Figure 5 for one task; `None` where no final run has a curve."""
    drawn = bands(made, task)
    if not drawn["loss"] and not drawn["dev_score"]:
        return None
    shown = ["loss", "dev_score", "step_size", *(_BETA if any(drawn[name] for name in _BETA) else ())]
    look = looks(made.rows)
    with figure_style():
        fig, axes = panels(len(shown), 3, TEXT_WIDTH, 1.8, sharex="all")
        for number, (ax, name) in enumerate(zip(axes, shown, strict=True)):
            for row, b in drawn[name]:
                _draw(ax, b, look[row.name], points=name == "dev_score" and len(b.step) <= 20)
            ax.set_ylabel((_TRAINING | _BETA).get(name, f"dev {unit(task)}"))
            if number >= len(shown) - 3:
                ax.set_xlabel("updates")
            ax.locator_params(axis="x", nbins=4)
            ax.ticklabel_format(axis="y", useOffset=False, scilimits=(-3, 5))
        present = [row for row in made.rows if any(r == row for name in shown for r, _ in drawn[name])]
        add_legend(fig, [(row.label, look[row.name]) for row in present])
    return fig


def _draw(ax: "Axes", b: Band, look: Look, *, points: bool) -> None:
    if b.seeds > 1 and len(b.step) > 1:
        ax.fill_between(b.step, b.low, b.high, color=look.color, alpha=0.15, linewidth=0)
    elif b.seeds > 1:
        ax.plot([b.step[0]] * 2, [b.low[0], b.high[0]], color=look.color, alpha=0.4)
    ax.plot(b.step, b.mean, color=look.color, linestyle=look.line, linewidth=1.1, markersize=3,
            marker=look.marker if points or len(b.step) == 1 else None, markerfacecolor=look.face)  # fmt: skip
