"""What an optimizer does, for the training curves: its average step size and the decay rates it chooses.

Both functions read the optimizer's state without changing it, piece by piece in bounded memory, and return 0-dim
tensors on the device of the parameters without waiting for it. Under sharding they speak of this rank's entries.
"""

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.optim import AdamW, Optimizer

from glue_mva.errors import UsageError
from glue_mva.optim import maxva
from glue_mva.optim.base import Base, MaxVAOptimizer, bias_correction
from glue_mva.optim.registry import OptimizerSpec
from glue_mva.optim.state import STATE_NAMES, Scalars, Tensors, compute_dtype, local, pieces

_PIECE = 2**20


def knows(optimizer: Optimizer) -> bool:
    """Whether `average_step_size` can read the state of this optimizer: of the package's own and of AdamW."""
    return isinstance(optimizer, Base) or type(optimizer) is AdamW


@torch.no_grad()
def average_step_size(optimizer: Optimizer) -> Tensor | None:
    """The paper's average step size (section 5), to be called right after `optimizer.step()`.

    The mean over all entries of |lr m / (sqrt(v) + eps)| for Adam and MAdam, of |lr m| for LaProp and LaMAdam, with
    their bias corrections and the learning rate of the groups as it is now; weight decay is not part of it.

    Args:
        optimizer: a MAdam, LaMAdam, LaProp or torch.optim.AdamW (or accelerate's wrapper of one).

    Returns:
        0-dim float32 tensor; None for any other optimizer, and before the first step.
    """
    optimizer = _unwrap(optimizer)
    if not knows(optimizer):
        return None
    sums: list[Tensor] = []
    count = 0
    steps: Iterable[Tensor]
    for group in optimizer.param_groups:
        for p in group["params"]:
            state = optimizer.state.get(p)
            if not state:
                continue
            t = _count(state["step"])
            if isinstance(optimizer, Base):
                tensors = Tensors(p, p, *(state.get(name) for name in STATE_NAMES))
                scalars = optimizer.scalars(group, group["lr"], t)
                steps = (_step(optimizer, x, scalars, group["eps"]) for x in pieces(local(tensors), _PIECE))
            else:
                steps = _adamw_steps(group, p, state, t)
            for step in steps:
                sums.append(torch.linalg.vector_norm(step, 1).float())
                count += step.numel()
    return _mean(sums, count) if count else None


@torch.no_grad()
def beta_statistics(optimizer: Optimizer, grad_scale: Tensor | None = None) -> dict[str, Tensor] | None:
    """The decay rates beta_t that the coming step will use, to be called right before `optimizer.step()`.

    Args:
        optimizer: a MAdam or LaMAdam (or accelerate's wrapper of one) whose parameters have their gradients.
        grad_scale: the loss scale by which the gradients are still multiplied; by default the optimizer's own
            `grad_scale` attribute, if GradScaler has set it.

    Returns:
        0-dim float32 tensors over all coordinates with a gradient: `beta_mean`, and the shares `beta_at_min` and
        `beta_at_max` of coordinates whose beta_t lies at beta2_min and beta2_max. None for other optimizers, and where
        there is no gradient.
    """
    optimizer = _unwrap(optimizer)
    if not isinstance(optimizer, MaxVAOptimizer):
        return None
    scale = grad_scale if grad_scale is not None else getattr(optimizer, "grad_scale", None)
    totals: list[list[Tensor]] = [[], [], []]
    count = 0
    for group in optimizer.param_groups:
        smallest, largest = maxva.gamma_range(group["beta2_min"], group["beta2_max"])
        for p in group["params"]:
            if p.grad is None:
                continue
            for gamma in _gammas(optimizer, group, p, scale):
                at_bound = torch.empty_like(gamma)  # 0 and 1 as numbers: to count booleans takes three times as long
                totals[0].append((1 - gamma).sum().float())
                totals[1].append(torch.ge(gamma, largest, out=at_bound).sum().float())
                totals[2].append(torch.le(gamma, smallest, out=at_bound).sum().float())
                count += gamma.numel()
    if count == 0:
        return None
    return {
        name: _mean(sums, count) for name, sums in zip(("beta_mean", "beta_at_min", "beta_at_max"), totals, strict=True)
    }


def _gammas(optimizer: MaxVAOptimizer, group: dict[str, Any], p: Tensor, scale: Tensor | None) -> Iterator[Tensor]:
    state = optimizer.state.get(p)
    grad: Any = p.grad
    if not state:
        first = maxva.first_gamma(group["beta2_max"])
        for x in pieces(local(Tensors(p, grad, grad)), _PIECE):
            yield torch.full(x.param.shape, first, dtype=compute_dtype(p), device=p.device)
        return
    scalars = optimizer.scalars(group, group["lr"], _count(state["step"]) + 1)
    for x in pieces(local(Tensors(p, grad, *(state.get(name) for name in STATE_NAMES))), _PIECE):
        g = x.grad.to(x.mean.dtype)
        if scale is not None:
            g = g / scale.to(g.device)
        g = -g if group["maximize"] else g
        yield maxva.gamma_t(g, x.mean, x.var, x.weight_sum, scalars.gamma_min, scalars.gamma_max)


def _step(optimizer: Base, x: Tensors, by: Scalars, eps: float) -> Tensor:
    if optimizer.normalise_first:
        return x.exp_avg * by.step_size
    v = x.mean * x.mean + x.var
    if x.max_second is not None:
        v = x.max_second if x.weight_sum is None else x.max_second / x.weight_sum
    return x.exp_avg / (v.sqrt() + eps) * by.step_size


def _adamw_steps(group: dict[str, Any], p: Tensor, state: dict[str, Any], t: float | Tensor) -> Iterator[Tensor]:
    beta1, beta2 = group["betas"]
    step_size = group["lr"] / bias_correction(beta1, t)
    second = state["max_exp_avg_sq" if group["amsgrad"] else "exp_avg_sq"]
    for x in pieces(local(Tensors(p, p, state["exp_avg"], exp_avg_sq=second)), _PIECE):
        root = (x.exp_avg_sq.float() / bias_correction(beta2, t)).sqrt()
        yield x.exp_avg.float() / (root + group["eps"]) * step_size


def state_bytes_of(spec: OptimizerSpec, side: int = 512) -> float | None:
    """Bytes of state per parameter that an optimizer of the registry keeps for one side x side matrix, measured after a
    step; `None` where its package is not installed."""
    try:
        cls = spec.cls
    except UsageError:
        return None
    matrix = torch.nn.Parameter(torch.ones(side, side))
    optimizer = cls([matrix], **{"lr": 1e-3, **spec.implementation, **spec.constants})
    getattr(optimizer, "train", lambda: None)()
    matrix.grad = torch.ones(side, side)
    optimizer.step()
    return state_bytes(optimizer) / side**2


def state_bytes(optimizer: Optimizer) -> int:
    """Bytes of all tensors in an optimizer's state, however deep they lie."""
    return sum(x.numel() * x.element_size() for state in optimizer.state.values() for x in _tensors(state))


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict | list | tuple):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _tensors(item)


def _count(step: Tensor) -> float | Tensor:
    """A step count on the host as a number; one on a device stays there."""
    return step.item() if step.device.type == "cpu" else step


def _mean(sums: list[Tensor], count: int) -> Tensor:
    device = sums[0].device
    return torch.stack([x.to(device) for x in sums]).sum() / count


def _unwrap(optimizer: Optimizer) -> Optimizer:
    """The optimizer inside accelerate's wrapper."""
    return getattr(optimizer, "optimizer", optimizer)
