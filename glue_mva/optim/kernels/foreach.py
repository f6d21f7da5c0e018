"""The foreach implementation: the updates of `MAdam`, `LaMAdam` and `LaProp` over lists of tensors, in bounded memory.

Each function does exactly the operations of the for-loop implementation, in the same order, so that both give the same
bits; here they are in place where they can be. On a CPU one piece fits the cache; on a GPU it fills the device.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from glue_mva.optim.maxva import TINY, sqrt
from glue_mva.optim.state import Constants, Scalars, Slot, Tensors, chunks, compute_dtype

CPU_CHUNK = 2**16
"""Elements of a piece on a CPU: large enough for torch, small enough for the cache."""
GPU_CHUNK = 2**21
"""Elements of a piece elsewhere: five temporary float32 buffers are 40 MiB."""


def step(slots: list[Slot], c: Constants) -> None:
    """Steps every slot in place."""
    alike: dict[tuple, list[Slot]] = {}
    for slot in slots:
        x = slot.tensors
        alike.setdefault((x.param.device, x.param.dtype, x.grad.dtype, x.weight_sum is None), []).append(slot)
    for (device, *_), group in alike.items():
        for chunk in chunks(group, CPU_CHUNK if device.type == "cpu" else GPU_CHUNK):
            _step_chunk(chunk, c)


def _step_chunk(chunk: list[Slot], c: Constants) -> None:
    # The same names as in `Tensors` and `Scalars`, each a list over the chunk, or None where nothing is kept.
    x: Any = Tensors._make(_columns([slot.tensors for slot in chunk]))
    by: Any = Scalars._make(_columns([slot.scalars for slot in chunk]))
    dtype = compute_dtype(x.param[0])
    params, grads = x.param, x.grad
    if params[0].dtype != dtype:
        params = [param.to(dtype) for param in params]
    if grads[0].dtype != dtype:
        grads = [grad.to(dtype) for grad in grads]
    if c.maximize:
        grads = torch._foreach_neg(grads)

    torch._foreach_mul_(params, by.decay)
    if x.mean is not None:
        if not c.normalise_first:
            _lerp_(x.exp_avg, grads, 1 - c.beta1)
        v = _maxva_(grads, x.mean, x.var, x.weight_sum, by)
        if x.max_second is not None:
            v = _amsgrad_(v, x.weight_sum, x.max_second)
    else:
        v = _laprop_second_(grads, x.exp_avg_sq, x.max_second, by, c)
    v = [sqrt(second) for second in v] if v[0].device.type == "cpu" else list(torch._foreach_sqrt(v))
    torch._foreach_add_(v, c.eps)
    if c.normalise_first:
        n = torch._foreach_div(grads, v)
        _lerp_(x.exp_avg, n, 1 - c.beta1)
        delta = torch._foreach_mul(x.exp_avg, by.step_size)
    else:
        delta = torch._foreach_div(x.exp_avg, v)
        torch._foreach_mul_(delta, by.step_size)
    torch._foreach_sub_(params, delta)
    if params is not x.param:
        torch._foreach_copy_(x.param, params)


def _columns(rows: Sequence[tuple]) -> list[list[Any] | None]:
    return [None if column[0] is None else list(column) for column in zip(*rows, strict=True)]


def _lerp_(averages: list[Tensor], values: Sequence[Tensor], weight: float) -> None:
    """average += weight (value - average)."""
    change = torch._foreach_sub(list(values), averages)
    torch._foreach_mul_(change, weight)
    torch._foreach_add_(averages, change)


def _maxva_(
    grads: list[Tensor], means: list[Tensor], variances: list[Tensor], weights: list[Tensor] | None, by: Any
) -> list[Tensor]:
    """`maxva.gamma_t` and `maxva.average_` over lists: moves the averages and returns their second moments."""
    e = torch._foreach_sub(grads, means)
    d = torch._foreach_mul(e, e)
    gamma = torch._foreach_sub(d, variances)
    if weights is not None:
        torch._foreach_mul_(gamma, weights)  #      q
    scratch = torch._foreach_add(gamma, d)
    torch._foreach_add_(scratch, variances)
    torch._foreach_add_(scratch, TINY)
    torch._foreach_add_(gamma, TINY)
    torch._foreach_div_(gamma, scratch)
    torch._foreach_clamp_min_(gamma, by.gamma_min)
    torch._foreach_clamp_max_(gamma, by.gamma_max)
    b = gamma
    if weights is not None:
        torch._foreach_copy_(scratch, weights)
        torch._foreach_neg_(scratch)
        torch._foreach_add_(scratch, 1)
        torch._foreach_mul_(scratch, gamma)
        torch._foreach_add_(weights, scratch)  #    w
        torch._foreach_div_(b, weights)
    torch._foreach_mul_(e, b)
    torch._foreach_add_(means, e)  #                u
    torch._foreach_mul_(d, b)
    torch._foreach_add_(variances, d)
    torch._foreach_neg_(b)
    torch._foreach_add_(b, 1)
    torch._foreach_mul_(variances, b)  #            s
    v = torch._foreach_mul(means, means)
    torch._foreach_add_(v, variances)
    return list(v)


def _amsgrad_(v: list[Tensor], weights: list[Tensor] | None, maxima: list[Tensor]) -> list[Tensor]:
    if weights is None:
        torch._foreach_maximum_(maxima, v)
        return maxima
    torch._foreach_mul_(v, weights)
    torch._foreach_maximum_(maxima, v)
    return list(torch._foreach_div(maxima, weights))


def _laprop_second_(
    grads: list[Tensor], averages: list[Tensor], maxima: list[Tensor] | None, by: Any, c: Constants
) -> list[Tensor]:
    _lerp_(averages, torch._foreach_mul(grads, grads), 1 - c.beta2)
    if maxima is not None:
        torch._foreach_maximum_(maxima, averages)
    return list(torch._foreach_div(averages if maxima is None else maxima, by.bias_correction2))
