"""Writes what a simulation found: figures, CSV files and a markdown page."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from glue_mva.files import atomic_write
from glue_mva.simulate import figures, nonconvex, quadratic
from glue_mva.simulate.claims import PAPER_RATES, Claim, best, nonconvex_claims, quadratic_claims
from glue_mva.simulate.intervals import mean_interval, rate_interval, ratio_interval
from glue_mva.simulate.nonconvex import NonconvexResult
from glue_mva.simulate.quadratic import QuadraticResult
from glue_mva.simulate.stepping import OPTIMIZER_LABELS
from glue_mva.style import save_figure
from glue_mva.text import Strong, markdown_table

_DIGITS = "%.6g"
_STABLE_LR = 0.1


@dataclass(frozen=True)
class Section:
    """What the page says of one problem."""

    text: str
    claims: list[Claim]


def success_table(results: Sequence[NonconvexResult]) -> pd.DataFrame:
    """A row per optimizer and learning rate: success rate with its interval, the paper's, medians of the sums."""
    rows = []
    for r in results:
        for k, lr in enumerate(r.lrs):
            low, high = rate_interval(r.success[k])
            a, b, s2 = (np.median(table[-1, k]) for table in (r.term_a, r.term_b, r.s2))
            rows.append({
                "optimizer": r.optim, "lr": lr, "repeats": r.success.shape[1], "success_rate": r.success[k].mean(),
                "low": low, "high": high, "paper": PAPER_RATES.get((r.optim, lr)),
                "objective": np.median(r.objective[-1, k]), "term_a": a, "term_b": b, "s2": s2,
                "bound": (lr * a + b) / s2,
            })  # fmt: skip
    return pd.DataFrame(rows)


def curve_table(results: Sequence[NonconvexResult]) -> pd.DataFrame:
    """The curves of Figure 1: median and quartiles over repeats at each recorded step."""
    frames = []
    for r in results:
        k = figures.figure_row(r)
        if k is None:
            continue
        columns = {"optimizer": r.optim, "lr": r.lrs[k], "step": r.steps}
        for key, _ in figures.CURVES:
            quartiles = np.quantile(getattr(r, key)[:, k], (0.25, 0.5, 0.75), axis=1)
            columns |= dict(zip((f"{key}_q25", f"{key}_median", f"{key}_q75"), quartiles, strict=True))
        frames.append(pd.DataFrame(columns))
    return pd.concat(frames) if frames else pd.DataFrame()


def loss_table(results: Sequence[QuadraticResult]) -> pd.DataFrame:
    """A row per setting, lr, h2 and sigma: mean loss, standard error, 95 % t interval."""
    rows = []
    for r in results:
        statistics = mean_interval(r.loss)
        for (k, h, s), _ in np.ndenumerate(statistics[0]):
            values = dict(zip(("mean", "se", "low", "high"), (table[k, h, s] for table in statistics), strict=True))
            rows.append({"optimizer": r.setting.optim, "setting": r.setting.detail, "lr": r.lrs[k], "h2": r.h2s[h],
                         "sigma": r.sigmas[s], "repeats": r.loss.shape[-1], **values})  # fmt: skip
    return pd.DataFrame(rows)


def best_table(results: Sequence[QuadraticResult]) -> pd.DataFrame:
    """A row per (h2, sigma): the best settings of Adam and MAdam, the ratio of their mean losses and its interval."""
    rows = []
    for h, h2 in enumerate(results[0].h2s):
        for s, sigma in enumerate(results[0].sigmas):
            adam, madam = best(results, "adam", h, s), best(results, "madam", h, s)
            if adam and madam:
                ratio, low, high = ratio_interval(madam.loss, adam.loss)
                rows.append({"h2": h2, "sigma": sigma, "adam_setting": adam.detail, "adam_lr": adam.lr,
                             "adam_loss": adam.loss.mean(), "madam_lr": madam.lr, "madam_loss": madam.loss.mean(),
                             "ratio": ratio, "low": low, "high": high})  # fmt: skip
    return pd.DataFrame(rows)


def _claims(claims: Sequence[Claim]) -> str:
    rows = [(c.statement, c.paper, c.here or "-", Strong(c.verdict)) for c in claims]
    return markdown_table(("claim", "paper", "here [95 % interval]", "verdict"), rows, "llll")


def _rows(table: pd.DataFrame) -> list[Any]:
    return list(table.itertuples())


def _csv(table: pd.DataFrame, path: Path) -> None:
    with atomic_write(path) as stream:
        stream.write(table.to_csv(index=False, float_format=_DIGITS, lineterminator="\n").encode())


def write_nonconvex(results: Sequence[NonconvexResult], out: Path, seed: int) -> Section:
    """Figures and CSV files of the nonconvex problem into `out`; returns its section of the page."""
    table = success_table(results)
    _csv(table, out / "nonconvex_success.csv")
    _csv(curve_table(results), out / "nonconvex_curves.csv")
    save_figure(figures.draw_success(results), out / "nonconvex_success")
    curves = figures.draw_nonconvex(results)
    if curves:
        save_figure(curves, out / "nonconvex_curves")
    rows = [(OPTIMIZER_LABELS[str(t.optimizer)], f"{t.lr:g}",
             f"{100 * t.success_rate:.0f} % [{100 * t.low:.1f}, {100 * t.high:.1f}]",
             "-" if pd.isna(t.paper) else f"{100 * t.paper:.0f} %", f"{t.term_a:.3g}", f"{t.term_b:.3g}", f"{t.s2:.3g}",
             f"{t.bound:.2g}") for t in _rows(table)]  # fmt: skip
    head = ("optimizer", "lr", "success", "paper", "Term A", "Term B", "s2", "(lr A + B) / s2")
    first = results[0]
    settings = _settings(
        repeats=(first.success.shape[1], nonconvex.REPEATS), steps=(int(first.steps[-1]), nonconvex.STEPS)
    )
    figure = ("![Objective and the sums of Theorem 3.1 against steps](nonconvex_curves.png)\n\nFigure 1. Line: median "
              "over repeats, band: quartiles. The objective is cut at 1e-8; it goes on "
              "to 0.\n\n") if curves else ""  # fmt: skip
    claims = nonconvex_claims(results)
    text = (
        f"## Nonconvex problem (section 4.1, Figure 1)\n\n{settings}, seed {seed}, beta1 = 0, eps = {nonconvex.EPS:g}; "
        f"{_details(results)}. Every optimizer and learning rate sees the same draws.\n\n"
        f"{_claims(claims)}\n{figure}"
        "![Success rate against learning rate](nonconvex_success.png)\n\n"
        f"Success: |theta| < {nonconvex.SUCCESS} at the end, with the Clopper-Pearson interval; the sums "
        "are medians "
        "over repeats at the end. The last column bounds the gradient in the theorem up to constants: where it goes to "
        f"zero, the method converges.\n\n{markdown_table(head, rows)}"
        "\nData: [success rates](nonconvex_success.csv), [curves](nonconvex_curves.csv).\n"
    )
    return Section(text, claims)


def write_quadratic(results: Sequence[QuadraticResult], out: Path, seed: int) -> Section:
    """Figures and CSV files of the noisy quadratic into `out`; returns its section of the page."""
    table = best_table(results)
    _csv(loss_table(results), out / "nqm.csv")
    if len(table):
        _csv(table, out / "nqm_best.csv")
    save_figure(figures.draw_quadratic(results), out / "nqm")
    save_figure(figures.draw_grid(results), out / "nqm_grid")
    rows = [(f"{t.h2:g}", f"{t.sigma:g}", f"{t.adam_loss:.3g} ({t.adam_setting}, lr {t.adam_lr:g})",
             f"{t.madam_loss:.3g} (lr {t.madam_lr:g})", f"{t.ratio:.2f} [{t.low:.2f}, {t.high:.2f}]")
            for t in _rows(table)]  # fmt: skip
    first = results[0]
    h2, sigma = first.cell
    steps = len(first.path) - 1
    settings = _settings(repeats=(first.loss.shape[-1], quadratic.REPEATS), steps=(steps, quadratic.STEPS))
    claims = quadratic_claims(results)
    of_cells = ", [best of each cell](nqm_best.csv)" if len(table) else ""
    text = (
        f"## Noisy quadratic model (section 4.2, Figures 2 and 6)\n\n{settings}, seed {seed}, beta1 = 0.9, "
        f"eps = {quadratic.EPS:g}. Start and noise are the same for every setting, learning rate, h2 and sigma; ratios "
        "are paired by repeat (bootstrap interval).\n\n"
        f"{_claims(claims)}\n"
        "![Mean loss against learning rate, and a path over the contours of the loss](nqm.png)\n\n"
        f"Figure 2 (h2 = {h2:g}, sigma = {sigma:g}). Line: mean over repeats, band: standard error. Thin lines: the "
        "other beta2. Right: one repeat; a marker is where it ends, the cross is the minimum.\n\n"
        "![Mean loss against learning rate for every h2 and sigma](nqm_grid.png)\n\n"
        "Figure 6. Number: MAdam's best mean loss over Adam's.\n\n"
        + markdown_table(("h2", "sigma", "Adam's best mean loss", "MAdam's", "ratio"), rows)
        + f"\n{_invariance(results)}\nData: [every mean](nqm.csv){of_cells}.\n"
    )
    return Section(text, claims)


def _invariance(results: Sequence[QuadraticResult]) -> str:
    lrs = [k for k, lr in enumerate(results[0].lrs) if lr <= _STABLE_LR]
    if len(results[0].h2s) < 2 or not lrs:
        return ""
    gap = max(float(np.abs(r.theta[lrs] - r.theta[lrs, :1]).max()) for r in results)
    return (f"h2 changes only the weighting of the loss: up to lr {_STABLE_LR:g} the final theta of a repeat differs "
            f"between the values of h2 by at most {gap:.0e}, which is the effect of eps.\n")  # fmt: skip


def _details(results: Sequence[NonconvexResult]) -> str:
    """`Adam beta2=0.9, MAdam beta2 in (0.5, 1)`: what else tells the optimizers apart."""
    return ", ".join(f"{OPTIMIZER_LABELS[r.optim]} {nonconvex.SETTINGS[r.optim].detail}" for r in results)


def _settings(**values: tuple[int, int]) -> str:
    """`100 repeats, 1,000 steps`, with the paper's number where it is another."""
    return ", ".join(f"{here:,} {name}" + (f" (paper: {paper:,})" if here != paper else "")
                     for name, (here, paper) in values.items())  # fmt: skip


def write_page(path: Path, command: str, sections: Sequence[Section]) -> None:
    """The markdown page: what made it, how to read it, the sections."""
    text = (
        "# The paper's synthetic problems\n\n"
        f"Made by `{command}`, in float64, with the optimizer classes that training uses (Adam and AMSGrad: "
        "`torch.optim.AdamW` without weight decay).\n\n"
        "Verdicts: a rate is reproduced where the paper's value lies in our 95 % interval; a mean where the two differ "
        "by less than 1.96 standard errors of the difference; a ratio where its interval lies below 1. Where the paper "
        "shows curves without numbers, the verdict says only whether the statement holds here.\n\n"
    )
    with atomic_write(path) as stream:
        stream.write((text + "\n".join(section.text for section in sections)).encode())
