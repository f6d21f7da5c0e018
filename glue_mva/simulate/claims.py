"""What the paper says of its synthetic problems, and what came out here, claim by claim."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from glue_mva.simulate.intervals import mean_interval, rate_interval, ratio_interval
from glue_mva.simulate.nonconvex import FIGURE_LRS, SUCCESS, NonconvexResult
from glue_mva.simulate.quadratic import FIGURE_CELL, QuadraticResult
from glue_mva.simulate.stepping import OPTIMIZER_LABELS

Verdict = Literal["reproduced", "in part", "not reproduced", "not tested", "holds", "does not hold"]
"""The last two are for statements that the paper shows as curves only: there is no number to reproduce."""

PAPER_RATES = {("madam", 1.2): 1.0, ("amsgrad", 1.2): 0.01, ("amsgrad", 0.9): 0.65, ("amsgrad", 0.8): 1.0}
"""(optimizer, lr) -> success rate of section 4.1, of 100 repeats."""
ADAM_LRS = (1e-4, 1.0)
"""Range of learning rates in which the paper's Adam never succeeds."""
PAPER_LR = 0.005
PAPER_LOSS = {"madam": (2.46e-3, 2.94e-4), "adam": (4.05e-3, 4.82e-4)}
"""Optimizer -> (mean loss, standard error) of Figure 2, both at `PAPER_LR`."""
CURVES = "curves, no number"
PAPER_GAIN = (0.3, 0.4)
"""How much lower MAdam's loss is, said of every (h2, sigma)."""


@dataclass(frozen=True)
class Claim:
    """One statement of the paper beside what was measured."""

    statement: str
    paper: str
    here: str
    verdict: Verdict


def judge(parts: Sequence[bool]) -> Verdict:
    """All parts hold, some do, or none."""
    if not parts:
        return "not tested"
    if all(parts):
        return "reproduced"
    return "in part" if any(parts) else "not reproduced"


def judge_curve(parts: Sequence[bool]) -> Verdict:
    """For a statement that the paper gives no number for."""
    return "not tested" if not parts else "holds" if all(parts) else "does not hold"


def percent(rate: float) -> str:
    return f"{100 * rate:.3g} %"


def nonconvex_claims(results: Sequence[NonconvexResult]) -> list[Claim]:
    """The claims of section 4.1. Learning rates or optimizers that were not run leave a claim not tested."""
    runs = {(r.optim, lr): k for r in results for k, lr in enumerate(r.lrs)}
    by_name = {r.optim: r for r in results}

    def rates(optim: str, statement: str) -> Claim:
        here, parts = [], []
        for (name, lr), paper in PAPER_RATES.items():
            if name == optim and (name, lr) in runs:
                success = by_name[name].success[runs[name, lr]]
                low, high = rate_interval(success)
                here.append(f"{percent(success.mean())} [{100 * low:.1f}, {100 * high:.1f}] at {lr}")
                parts.append(low <= paper <= high)
        paper_text = "; ".join(f"{percent(rate)} at {lr}" for (name, lr), rate in PAPER_RATES.items() if name == optim)
        return Claim(statement, paper_text, "; ".join(here), judge(parts))

    claims = [
        rates("madam", f"MAdam ends with |theta| < {SUCCESS} at lr 1.2"),
        rates("amsgrad", "AMSGrad reaches that only at a smaller learning rate"),
    ]
    adam = [(lr, by_name["adam"].success[k]) for (name, lr), k in runs.items()
            if name == "adam" and ADAM_LRS[0] <= lr <= ADAM_LRS[1]]  # fmt: skip
    total = np.concatenate([success for _, success in adam]) if adam else np.zeros(0, dtype=bool)
    here = f"{total.sum()} of {total.size} repeats at lr {', '.join(f'{lr:g}' for lr, _ in adam)}" if adam else ""
    if adam and not total.any():
        here += f"; at most {percent(rate_interval(adam[0][1])[1])} at each (95 %)"
    claims.append(Claim(f"Adam never reaches it, for lr in [{ADAM_LRS[0]:g}, {ADAM_LRS[1]:g}]", "never", here,
                        judge([not success.any() for _, success in adam])))  # fmt: skip
    return claims + _figure1_claims(by_name, runs)


def settled_at(result: NonconvexResult, k: int) -> np.ndarray:
    """(R,) first recorded step from which on |theta| stays below `SUCCESS`; infinite where it does not end there."""
    outside = np.abs(result.theta[:, k]) >= SUCCESS  # (K, R)
    last = len(outside) - 1 - np.argmax(outside[::-1], axis=0)  # index of the last record outside
    after = np.minimum(last + 1, len(outside) - 1)
    return np.where(outside[-1], np.inf, result.steps[after])


def _figure1_claims(by_name: dict[str, NonconvexResult], runs: dict[tuple[str, float], int]) -> list[Claim]:
    rows = {name: runs[name, lr] for name, lr in FIGURE_LRS.items() if (name, lr) in runs}
    others = [name for name in rows if name != "madam"]
    where = ", ".join(f"{OPTIMIZER_LABELS[name]} {FIGURE_LRS[name]}" for name in rows)
    claims = []
    for title, key in (("Term A", "term_a"), ("Term B", "term_b")):
        final = {name: getattr(by_name[name], key)[-1, k] for name, k in rows.items()}
        here, parts = [], []
        for name in others if "madam" in rows else ():
            ratio, low, high = ratio_interval(final["madam"], final[name], np.median)
            here.append(f"{ratio:.3g} [{low:.3g}, {high:.3g}] of {OPTIMIZER_LABELS[name]}'s")
            parts.append(high < 1)
        claims.append(
            Claim(f"Figure 1: {title} of MAdam ends lowest (lr: {where})", CURVES, "; ".join(here), judge_curve(parts))
        )
    settled = {name: settled_at(by_name[name], k) for name, k in rows.items()}
    here = [f"{OPTIMIZER_LABELS[name]} {_steps(np.median(values))}" for name, values in settled.items()]
    earlier = (
        [bool(np.median(settled["madam"]) < np.median(settled[name])) for name in others] if "madam" in rows else []
    )
    claims.append(Claim(f"Figure 1: MAdam stays below |theta| = {SUCCESS} first", CURVES,
                        "median step: " + ", ".join(here), judge_curve(earlier)))  # fmt: skip
    return claims


def _steps(value: float) -> str:
    return "never" if np.isinf(value) else f"{value:,.0f}"


@dataclass(frozen=True)
class Best:
    """The setting and learning rate of one optimizer with the lowest mean loss in one cell."""

    detail: str
    lr: float
    loss: np.ndarray
    """(R,) losses of the repeats."""


def best(results: Sequence[QuadraticResult], optim: str, h: int, s: int, lr: float | None = None) -> Best | None:
    """The lowest mean loss of an optimizer at the h-th h2 and s-th sigma, over its settings and learning rates, or at
    one `lr`; None where it was not run."""
    rows = [Best(r.setting.detail, rate, r.loss[k, h, s]) for r in results if r.setting.optim == optim
            for k, rate in enumerate(r.lrs) if lr is None or rate == lr]  # fmt: skip
    return min(rows, key=lambda row: row.loss.mean(), default=None)


def quadratic_claims(results: Sequence[QuadraticResult]) -> list[Claim]:
    """The claims of section 4.2 and Appendix C; what was not run leaves a claim not tested."""
    first = results[0]
    claims: list[Claim] = []
    if FIGURE_CELL[0] in first.h2s and FIGURE_CELL[1] in first.sigmas:
        h, s = first.h2s.index(FIGURE_CELL[0]), first.sigmas.index(FIGURE_CELL[1])
        claims += _figure2_claims(results, h, s)
    gains = []
    for h in range(len(first.h2s)):
        for s in range(len(first.sigmas)):
            a, m = best(results, "adam", h, s), best(results, "madam", h, s)
            if a and m:
                gains.append(ratio_interval(m.loss, a.loss))
    within = [low <= 1 - PAPER_GAIN[0] and high >= 1 - PAPER_GAIN[1] for _, low, high in gains]
    ahead = [high < 1 for _, _, high in gains]
    here = ""
    if gains:
        ratios = [1 - ratio for ratio, _, _ in gains]
        here = (f"{100 * min(ratios):.0f} to {100 * max(ratios):.0f} % lower at the best settings of each; the "
                f"interval touches 30 to 40 % in {sum(within)} of {len(within)} cells and lies below Adam's loss "
                f"in {sum(ahead)}")  # fmt: skip
    statement = "Figure 6: MAdam's best loss is lower at every (h2, sigma), by 30 to 40 %"
    claims.append(Claim(statement, "30 to 40 % lower", here, judge([*within, *ahead])))
    return claims


def _figure2_claims(results: Sequence[QuadraticResult], h: int, s: int) -> list[Claim]:
    at_lr = {name: best(results, name, h, s, PAPER_LR) for name in PAPER_LOSS}
    at_best = {name: best(results, name, h, s) for name in PAPER_LOSS}
    claims = []
    for name, (paper, paper_error) in PAPER_LOSS.items():
        row = at_lr[name]
        here, parts = "", []
        if row:
            mean, error, _, _ = mean_interval(row.loss)
            here = f"{mean:.2e} ({error:.2e}), {row.detail}"
            parts = [bool(abs(mean - paper) < 1.96 * np.hypot(error, paper_error))]
        claims.append(Claim(f"Figure 2: mean loss (SE) of {OPTIMIZER_LABELS[name]} at lr {PAPER_LR}",
                            f"{paper:.2e} ({paper_error:.2e})", here, judge(parts)))  # fmt: skip
    for rows, where in ((at_lr, f"at lr {PAPER_LR}"), (at_best, "at the best lr of each")):
        madam, adam = rows["madam"], rows["adam"]
        loss, spread, here_loss, here_spread = [], [], "", ""
        if madam and adam:
            ratio, low, high = ratio_interval(madam.loss, adam.loss)
            here_loss = f"{ratio:.2f} [{low:.2f}, {high:.2f}] (lr {madam.lr:g}; Adam lr {adam.lr:g}, {adam.detail})"
            loss = [high < 1]
            ratio, low, high = ratio_interval(madam.loss, adam.loss, np.std)
            here_spread, spread = f"{ratio:.2f} [{low:.2f}, {high:.2f}]", [high < 1]
        paper_loss, paper_se = (PAPER_LOSS["madam"][i] / PAPER_LOSS["adam"][i] for i in (0, 1))
        claims.append(Claim(f"Figure 2: MAdam's mean loss over Adam's, {where}, is below 1", f"{paper_loss:.2f}",
                            here_loss, judge(loss)))  # fmt: skip
        claims.append(Claim(f"Figure 2: MAdam's SE over Adam's, {where}, is below 1", f"{paper_se:.2f}", here_spread,
                            judge(spread)))  # fmt: skip
    return claims
