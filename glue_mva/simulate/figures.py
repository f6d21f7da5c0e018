"""Figures 1, 2 and 6 of the paper, drawn from results for a two-column page."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.legend_handler import HandlerTuple
from matplotlib.ticker import NullFormatter

from glue_mva.simulate import nonconvex
from glue_mva.simulate.claims import PAPER_LR, PAPER_RATES, best
from glue_mva.simulate.intervals import mean_interval, rate_interval
from glue_mva.simulate.nonconvex import NonconvexResult
from glue_mva.simulate.quadratic import QuadraticResult
from glue_mva.simulate.stepping import OPTIMIZER_LABELS
from glue_mva.style import COLUMN_WIDTH, MUTED, TEXT_WIDTH, color, figure_style, marker, new_figure

FLOOR = 1e-8
"""Smallest objective shown: below it an optimizer is at the minimum for every purpose (the values go on to 0)."""

CURVES = (
    ("objective", r"objective $f(\theta)$"),
    ("term_a", r"Term A: $\sum_t\,(g_t/\sqrt{v_t})^2$"),
    ("term_b", r"Term B: $\sum_t\,|1/\sqrt{v_t}-1/\sqrt{v_{t-1}}|$"),
    ("s2", r"$s_2(T)=\sum_t\,1/\sqrt{v_t}$"),
)


def figure_row(result: NonconvexResult) -> int | None:
    """Index of the learning rate that Figure 1 shows; the only one, if it is another; else None."""
    lr = nonconvex.FIGURE_LRS.get(result.optim, 0.8)
    if lr in result.lrs:
        return result.lrs.index(lr)
    return 0 if len(result.lrs) == 1 else None


def draw_nonconvex(results: Sequence[NonconvexResult]) -> Figure | None:
    """Figure 1: objective and the three sums against steps; line: median over repeats, band: quartiles."""
    rows = [(r, k) for r in results if (k := figure_row(r)) is not None]
    if not rows:
        return None
    with figure_style():
        fig = new_figure(TEXT_WIDTH, 3.9)
        for ax, (key, title) in zip(fig.subplots(2, 2).flat, CURVES, strict=True):
            for result, k in rows:
                values = getattr(result, key)[:, k]
                shown = values if key != "objective" else np.maximum(values, FLOOR)
                low, middle, high = np.quantile(shown, (0.25, 0.5, 0.75), axis=1)  # each (K,)
                paint = color(result.optim)
                name = f"{OPTIMIZER_LABELS[result.optim]}, lr {result.lrs[k]:g}"
                ax.fill_between(result.steps, low, high, color=paint, alpha=0.25, linewidth=0)
                ax.plot(result.steps, middle, color=paint, label=name, marker=marker(result.optim), markevery=(8, 24))
            ax.set(xscale="log", yscale="log", title=title, xlabel="step")
            ax.set_xlim(1, rows[0][0].steps[-1])
        axes = fig.axes
        axes[0].set_ylim(bottom=FLOOR)
        axes[2].set_ylim(bottom=0.1)  # before that, 1 / sqrt(v) changes by rounding only
        handles, names = axes[0].get_legend_handles_labels()
        fig.legend(handles, names, loc="outside upper center", ncols=len(names), labelcolor="linecolor")
    return fig


def draw_success(results: Sequence[NonconvexResult]) -> Figure:
    """Success rate against learning rate, with 95 % intervals and the paper's rates."""
    lrs = sorted({lr for result in results for lr in result.lrs})
    quoted: list[Any] = []  # one mark of the paper's for each optimizer that has some
    with figure_style():
        fig = new_figure(COLUMN_WIDTH, 2.5)
        ax = fig.subplots()
        for i, result in enumerate(results):
            rates = 100 * result.success.mean(axis=1)
            bounds = 100 * np.array([rate_interval(success) for success in result.success])
            place = {lr: lrs.index(lr) + 0.16 * (i - (len(results) - 1) / 2) for lr in lrs}  # side by side
            paint, sign = color(result.optim), marker(result.optim)
            ax.errorbar([place[lr] for lr in result.lrs], rates, np.abs(bounds.T - rates), color=paint, marker=sign,
                        linewidth=0.8, elinewidth=0.7, capsize=1.5, clip_on=False,
                        label=OPTIMIZER_LABELS[result.optim])  # fmt: skip
            for (name, lr), rate in PAPER_RATES.items():
                if name == result.optim and lr in result.lrs:
                    mark = ax.plot(place[lr], 100 * rate, linestyle="none", marker=sign, markersize=8, clip_on=False,
                                   markerfacecolor="none", markeredgecolor=paint, markeredgewidth=0.7)  # fmt: skip
                    quoted += mark if mark[0].get_marker() not in [other.get_marker() for other in quoted] else []
        ax.set_xticks(range(len(lrs)), [f"{lr:.0e}".replace("e-0", "e-") if lr < 0.01 else f"{lr:g}" for lr in lrs])
        ax.set(
            ylim=(0, 100),
            xlabel="learning rate (those tried, not to scale)",
            ylabel=rf"repeats with $|\theta| < {nonconvex.SUCCESS}$ (%)",
        )
        handles: list[Any]  # of lines with their bars, and a tuple of marks that share one entry
        handles, names = ax.get_legend_handles_labels()
        if quoted:
            handles, names = [*handles, tuple(quoted)], [*names, "paper"]
        fig.legend(handles, names, loc="outside upper center", ncols=4, columnspacing=1, handlelength=1.6,
                   handler_map={tuple: HandlerTuple(ndivide=None)})  # fmt: skip
    return fig


def _shade(paint: str, share: float) -> tuple[float, ...]:
    """The colour mixed with white: 0 is the colour, 1 is white."""
    return tuple(np.array(to_rgb(paint)) * (1 - share) + share)


def _loss_lines(ax: Axes, results: Sequence[QuadraticResult], h: int, s: int) -> None:
    """Mean loss with its SE against lr: each optimizer's best setting at every lr."""
    for optim in dict.fromkeys(r.setting.optim for r in results):
        rows = [r for r in results if r.setting.optim == optim]
        means, errors = np.array([mean_interval(r.loss[:, h, s])[:2] for r in rows]).transpose(1, 0, 2)  # (settings, L)
        pick = means.argmin(axis=0), np.arange(means.shape[1])
        paint, lrs = color(optim), rows[0].lrs
        ax.fill_between(lrs, (means - errors)[pick], (means + errors)[pick], color=paint, alpha=0.25, linewidth=0)
        name = OPTIMIZER_LABELS[optim] + (r", best $\beta_2$" if len(rows) > 1 else "")
        ax.plot(lrs, means[pick], color=paint, marker=marker(optim), markersize=2.8, label=name, zorder=3)
    ax.set(xscale="log", yscale="log")


def draw_quadratic(results: Sequence[QuadraticResult]) -> Figure:
    """Figure 2: mean loss against learning rate, every beta2 of Adam in thin lines; the path of repeat 0, whole and at
    the end."""
    h2, sigma = results[0].cell
    h, s = results[0].h2s.index(h2), results[0].sigmas.index(sigma)
    with figure_style():
        fig = new_figure(TEXT_WIDTH, 2.5)
        left, middle, right = fig.subplots(1, 3, width_ratios=(1.5, 1, 1))
        thin = [r for r in results if sum(o.setting.optim == r.setting.optim for o in results) > 1]
        for i, result in enumerate(thin):
            paint = _shade(color(result.setting.optim), 0.65 - 0.09 * (i % 6))
            mean = result.loss[:, h, s].mean(-1)
            left.plot(result.lrs, mean, color=paint, linewidth=0.6)
            if i in (0, len(thin) - 1):
                text = result.setting.detail.replace("beta2=", r"$\beta_2$ ")
                left.annotate(text, (result.lrs[-1], mean[-1]), (2, 0), textcoords="offset points", fontsize=6,
                              color=MUTED, va="center", annotation_clip=False)  # fmt: skip
        _loss_lines(left, results, h, s)
        left.set(xlabel="learning rate", ylabel=f"mean loss after {len(results[0].path) - 1:,} steps")
        left.legend(loc="upper right", labelcolor="linecolor")
        _paths((middle, right), results, h, s)
    return fig


def _paths(axes: tuple[Axes, Axes], results: Sequence[QuadraticResult], h: int, s: int) -> None:
    """Repeat 0 of each optimizer over the contours of the loss: the whole path, and its last fifth."""
    h2 = results[0].h2s[h]
    lr = PAPER_LR if PAPER_LR in results[0].lrs else results[0].lrs[0]
    drawn: list[tuple[str, np.ndarray]] = []
    for optim in dict.fromkeys(r.setting.optim for r in results):
        rows = [r for r in results if r.setting.optim == optim]
        result = min(rows, key=lambda r: r.loss[r.lrs.index(lr), h, s].mean())
        drawn.append((optim, result.path[:, result.lrs.index(lr)]))
    steps = len(drawn[0][1]) - 1
    for ax, begin in zip(axes, (0, steps - steps // 5), strict=True):
        points = np.concatenate([path[begin:] for _, path in drawn] + [np.zeros((1, 2))])
        low, high = points.min(0), points.max(0)
        room = 0.15 * (high - low) + 1e-12
        x, y = (np.linspace(a, b, 120) for a, b in zip(low - room, high + room, strict=True))
        loss = 0.5 * (x[None, :] ** 2 + h2 * y[:, None] ** 2)
        ax.contour(x, y, loss, levels=loss.max() * 3.0 ** np.arange(-6, 0), colors="#C8C8C8", linewidths=0.5)
        for optim, path in drawn:
            ax.plot(*path[begin:].T, color=color(optim), linewidth=0.8)
            ax.plot(
                *path[-1], color=color(optim), marker=marker(optim), markeredgecolor="white", markersize=5, zorder=4
            )
        ax.plot(0, 0, marker="+", color="black", markersize=7, zorder=5)
        ax.set(xlabel=r"$\theta_1$ (curvature 1)", title=f"steps {begin:,} to {steps:,}, lr {lr:g}")
    axes[0].set_ylabel(rf"$\theta_2$ (curvature {h2:g})")


def draw_grid(results: Sequence[QuadraticResult]) -> Figure:
    """Figure 6: mean loss against learning rate for every (h2, sigma), with the ratio of the best mean losses."""
    h2s, sigmas = results[0].h2s, results[0].sigmas
    with figure_style():
        fig = new_figure(TEXT_WIDTH, 0.6 + 1.3 * len(h2s))
        grid: Any = fig.subplots(len(h2s), len(sigmas), squeeze=False, sharex=True, sharey="row")
        for h, h2 in enumerate(h2s):
            for s, sigma in enumerate(sigmas):
                ax = grid[h, s]
                _loss_lines(ax, results, h, s)
                a, m = best(results, "adam", h, s), best(results, "madam", h, s)
                if a and m:
                    ratio = f"ratio {m.loss.mean() / a.loss.mean():.2f}"
                    ax.text(0.97, 0.97, ratio, transform=ax.transAxes, ha="right", va="top", fontsize=7)
                if h == 0:
                    ax.set_title(rf"$\sigma$ = {sigma:g}")
                if s == 0:
                    ax.set_ylabel(rf"$h_2$ = {h2:g}")
                ax.yaxis.set_minor_formatter(NullFormatter())
                ax.tick_params(labelsize=6)
        handles, names = grid[0, 0].get_legend_handles_labels()
        fig.legend(handles, names, loc="outside upper center", ncols=len(names), labelcolor="linecolor")
        fig.supxlabel("learning rate", fontsize=8)
        fig.supylabel("mean loss", fontsize=8)
    return fig
