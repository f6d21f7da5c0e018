"""The nonconvex problem of section 4.1 (Eq. 11): eleven losses of one variable, one drawn at each step.

    f_1(theta)  =   5.5 theta^2    if |theta| <= 1  else   11 |theta| - 5.5
    f_i(theta)  =  -0.5 theta^2    if |theta| <= 1  else  -|theta| + 0.5        i = 2..11

Their sum is 0.5 theta^2 near the minimum at 0 and |theta| - 0.5 outside [-1, 1]. One gradient in eleven points uphill
strongly and ten point downhill weakly, so an optimizer that forgets the large one too soon walks away from 0.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from glue_mva.simulate.stepping import Progress, Setting, build, no_progress, second_moment

LOSSES = 11
START = 2.0
SUCCESS = 0.1
"""A repeat succeeds when |theta| ends below this."""
STEPS = 100_000
REPEATS = 100
EPS = 1e-8
OPTIMIZERS = ("adam", "amsgrad", "madam")
LRS = (1e-4, 1e-3, 1e-2, 0.1, 0.8, 0.9, 1.0, 1.2, 1.6)
FIGURE_LRS = {"adam": 0.8, "amsgrad": 0.8, "madam": 1.2}
"""Learning rates of the paper's Figure 1 (0.8 for any optimizer that it does not show)."""

_ADAM = {"betas": (0.0, 0.9), "eps": EPS}
_MAXVA = {"beta1": 0.0, "beta2_min": 0.5, "beta2_max": 1.0, "eps": EPS}
SETTINGS = {
    "adam": Setting("adam", _ADAM, "beta2=0.9"),
    "amsgrad": Setting("amsgrad", _ADAM, "beta2=0.9"),
    "laprop": Setting("laprop", {"beta1": 0.0, "beta2": 0.9, "eps": EPS}, "beta2=0.9"),
    "madam": Setting("madam", _MAXVA, "beta2 in (0.5, 1)"),
    "lamadam": Setting("lamadam", _MAXVA, "beta2 in (0.5, 1)"),
}

_BLOCK = 1000


@dataclass(frozen=True)
class NonconvexResult:
    """One optimizer at L learning rates and R repeats, recorded at K steps."""

    optim: str
    lrs: tuple[float, ...]
    steps: np.ndarray
    """(K,) numbers of steps taken, log-spaced, the last one included."""
    theta: np.ndarray
    """(K, L, R) the variable after each of `steps`."""
    term_a: np.ndarray
    """(K, L, R) sum over t of (g_t / (sqrt(v_t) + eps))^2."""
    term_b: np.ndarray
    """(K, L, R) sum over t >= 2 of |1 / (sqrt(v_t) + eps) - 1 / (sqrt(v_(t-1)) + eps)|."""
    s2: np.ndarray
    """(K, L, R) sum over t of 1 / (sqrt(v_t) + eps)."""

    @property
    def success(self) -> np.ndarray:
        """(L, R) whether each repeat ended within `SUCCESS` of the minimum."""
        return np.abs(self.theta[-1]) < SUCCESS

    @property
    def objective(self) -> np.ndarray:
        """(K, L, R) the sum of the eleven losses."""
        return objective(self.theta)


def objective(theta: np.ndarray) -> np.ndarray:
    """Sum of the eleven losses, 0 at the minimum."""
    size = np.abs(theta)
    return np.where(size <= 1, 0.5 * size**2, size - 0.5)


def record_points(steps: int, count: int = 160) -> np.ndarray:
    """About `count` log-spaced numbers of steps from 1 to `steps`, both included."""
    return np.unique(np.geomspace(1, steps, count).round().astype(np.int64))


def draw_factors(steps: int, repeats: int, seed: int) -> Iterator[Tensor]:
    """Blocks (<= 1000, R) of gradient factors: 11 where loss 1 is drawn, -1 for the others. The gradient of the drawn
    loss is the factor times theta clipped to [-1, 1]."""
    generator = torch.Generator().manual_seed(seed)
    for start in range(0, steps, _BLOCK):
        index = torch.randint(LOSSES, (min(_BLOCK, steps - start), repeats), generator=generator)
        yield torch.where(index == 0, 11.0, -1.0).double()


def simulate(
    optim: str,
    lrs: Sequence[float] = LRS,
    repeats: int = REPEATS,
    steps: int = STEPS,
    seed: int = 0,
    progress: Progress = no_progress,
) -> NonconvexResult:
    """Run one optimizer from theta = 2 in float64. The same seed gives all optimizers and learning rates the same
    draws, so that they can be compared repeat by repeat."""
    setting = SETTINGS[optim]
    optimizer, theta, gradient = build(setting, lrs, torch.full((repeats,), START, dtype=torch.float64))
    term_a, term_b, s2 = (torch.zeros_like(theta) for _ in range(3))
    before = torch.empty_like(theta)
    points = record_points(steps)
    recorded: list[Tensor] = []
    wanted = set(points.tolist())
    t = 0
    for block in draw_factors(steps, repeats, seed):
        for factor in block:
            torch.clamp(theta, -1, 1, out=gradient)
            gradient.mul_(factor)
            optimizer.step()
            t += 1
            inverse = 1 / (torch.sqrt(second_moment(optimizer, t)) + EPS)  # (L, R), what multiplies lr * g
            term_a.addcmul_(product := gradient * inverse, product)
            if t > 1:
                term_b += (inverse - before).abs_()
            s2 += inverse
            before = inverse
            if t in wanted:
                recorded.append(torch.stack((theta, term_a, term_b, s2)))
        progress(len(block))
    table = torch.stack(recorded, dim=1).numpy()
    return NonconvexResult(optim, tuple(lrs), points, *table)
