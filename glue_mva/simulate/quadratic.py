"""The noisy quadratic model of section 4.2 and Appendix C (Eq. 12-13): two coordinates of different curvature.

    loss(theta) = 0.5 * sum_i h_i theta_i^2,   h = (1, h2)
    gradient    = h * (theta - sigma * noise),  noise ~ N(0, I) at each step,   theta_0 ~ N(0, I)

Adam and MAdam normalise each coordinate by itself, so theta does not depend on h at all (eps apart): h2 only weighs the
two coordinates in the loss.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from glue_mva.simulate.stepping import Progress, Setting, build, no_progress

STEPS = 1000
REPEATS = 100
EPS = 1e-10
OPTIMIZERS = ("adam", "madam")
LRS = (0.001, 0.002, 0.003, 0.004, 0.005, 0.006, 0.007, 0.008, 0.009,
       0.01, 0.02, 0.03, 0.04, 0.05, 0.06, 0.07, 0.08, 0.09, 0.1, 0.2)  # fmt: skip
H2S = (2.0, 20.0, 200.0)
SIGMAS = (0.05, 0.1, 0.2, 0.5, 1.0)
FIGURE_CELL = (20.0, 0.2)
"""(h2, sigma) of the paper's Figure 2."""
BETA2S = (0.5, 0.6, 0.7, 0.8, 0.9, 0.99)

_MAXVA = {"beta1": 0.9, "beta2_min": 0.5, "beta2_max": 0.99, "eps": EPS}
SETTINGS: dict[str, tuple[Setting, ...]] = {
    "adam": tuple(Setting("adam", {"betas": (0.9, b), "eps": EPS}, f"beta2={b}") for b in BETA2S),
    "amsgrad": tuple(Setting("amsgrad", {"betas": (0.9, b), "eps": EPS}, f"beta2={b}") for b in BETA2S),
    "laprop": tuple(Setting("laprop", {"beta1": 0.9, "beta2": b, "eps": EPS}, f"beta2={b}") for b in BETA2S),
    "madam": (Setting("madam", _MAXVA, "beta2 in (0.5, 0.99)"),),
    "lamadam": (Setting("lamadam", _MAXVA, "beta2 in (0.5, 0.99)"),),
}

_BLOCK = 100


@dataclass(frozen=True)
class QuadraticResult:
    """One setting at L learning rates, H curvatures, S noise levels and R repeats."""

    setting: Setting
    lrs: tuple[float, ...]
    h2s: tuple[float, ...]
    sigmas: tuple[float, ...]
    theta: np.ndarray
    """(L, H, S, R, 2) where each repeat ended."""
    path: np.ndarray
    """(steps + 1, L, 2) the trajectories of repeat 0 at `cell`."""
    cell: tuple[float, float]
    """(h2, sigma) of `path`: the paper's Figure 2, or the first of the grid."""

    @property
    def loss(self) -> np.ndarray:
        """(L, H, S, R) the loss at the end."""
        return 0.5 * (self.theta[..., 0] ** 2 + np.reshape(self.h2s, (-1, 1, 1)) * self.theta[..., 1] ** 2)


def draw(steps: int, repeats: int, seed: int) -> tuple[Tensor, Iterator[Tensor]]:
    """theta_0 (R, 2), and blocks (<= 100, R, 2) of the noise, one entry per step."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    return normal(repeats, 2), (normal(min(_BLOCK, steps - t), repeats, 2) for t in range(0, steps, _BLOCK))


def simulate(
    setting: Setting,
    lrs: Sequence[float] = LRS,
    h2s: Sequence[float] = H2S,
    sigmas: Sequence[float] = SIGMAS,
    repeats: int = REPEATS,
    steps: int = STEPS,
    seed: int = 0,
    progress: Progress = no_progress,
) -> QuadraticResult:
    """Run one setting in float64 at every (h2, sigma). The same seed gives all settings, learning rates, h2 and sigma
    the same start and the same noise, so that they can be compared repeat by repeat."""
    start, blocks = draw(steps, repeats, seed)
    grid = (len(h2s), len(sigmas), repeats, 2)
    optimizer, theta, gradient = build(setting, lrs, start.expand(grid))
    h = torch.ones(len(h2s), 1, 1, 2, dtype=torch.float64)
    h[..., 1] = torch.tensor(h2s).view(-1, 1, 1)
    sigma = torch.tensor(sigmas, dtype=torch.float64).view(-1, 1, 1)
    cell = (h2s.index(FIGURE_CELL[0]) if FIGURE_CELL[0] in h2s else 0,
            sigmas.index(FIGURE_CELL[1]) if FIGURE_CELL[1] in sigmas else 0)  # fmt: skip
    path = [theta[:, *cell, 0].clone()]
    for block in blocks:
        for noise in block:
            torch.sub(theta, sigma * noise, out=gradient)
            gradient.mul_(h)
            optimizer.step()
            path.append(theta[:, *cell, 0].clone())
        progress(len(block))
    return QuadraticResult(setting, tuple(lrs), tuple(h2s), tuple(sigmas), theta.numpy(), torch.stack(path).numpy(),
                           (h2s[cell[0]], sigmas[cell[1]]))  # fmt: skip
