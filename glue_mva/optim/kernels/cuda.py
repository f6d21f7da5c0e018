"""The fused implementation on CUDA: one Triton launch for all tensors of a parameter group.

A table of addresses on the device tells each block which tensor it works on. Step counts stay on the device, so nothing
waits for the GPU. Parameters of 16 bits are read and written as they are; state and arithmetic are float32.
Tested with Triton's interpreter; never run on a GPU.
"""

import math
from typing import TYPE_CHECKING, Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from glue_mva.optim import maxva
from glue_mva.optim.kernels import foreach
from glue_mva.optim.state import Tensors, flat, local

if TYPE_CHECKING:
    from glue_mva.optim.base import Base

BLOCK = 2048
"""Elements per program."""
_DTYPES = {torch.float32: tl.float32, torch.bfloat16: tl.bfloat16, torch.float16: tl.float16}
_NAN: Any = tl.PropagateNan.ALL


@triton.jit
def _bias_correction(log_beta, t):
    """1 - beta^t = -expm1(t log beta), by its series where 1 - exp would cancel."""
    x = t * log_beta
    series = -x * (1 + x / 2 * (1 + x / 3 * (1 + x / 4 * (1 + x / 5 * (1 + x / 6)))))
    return tl.where(x > -0.25, series, 1 - tl.exp(x))


@triton.jit
def _address(row, column: tl.constexpr, dtype: tl.constexpr, aligned: tl.constexpr):
    pointer = tl.load(row + column).to(tl.pointer_type(dtype))
    if aligned:
        pointer = tl.multiple_of(pointer, 16)
    return pointer


@triton.jit
def _step(
    table, blocks, lr, found_inf, grad_scale,
    weight_decay, one_minus_beta1, log_beta1, one_minus_beta2, log_beta2, eps, sign,
    smallest, largest, first, tiny,
    param_dtype: tl.constexpr, grad_dtype: tl.constexpr, aligned: tl.constexpr, lr_on_device: tl.constexpr,
    has_found_inf: tl.constexpr, has_scale: tl.constexpr, maxva: tl.constexpr, weighted: tl.constexpr,
    amsgrad: tl.constexpr, normalise_first: tl.constexpr, nan: tl.constexpr, size: tl.constexpr,
):  # fmt: skip
    """`MAdam.update`, `LaMAdam.update` and `LaProp.update` on one block. Columns of the table: see `_table`."""
    program = tl.program_id(0)
    row = table + tl.load(blocks + 2 * program) * 10
    i = tl.load(blocks + 2 * program + 1) * size + tl.arange(0, size)
    numel = tl.load(row)
    if has_found_inf:
        numel = tl.where(tl.load(found_inf) == 0, numel, 0)
    mask = i < numel
    if lr_on_device:
        lr = tl.load(lr).to(tl.float32)

    t = tl.load(tl.load(row + 9).to(tl.pointer_type(tl.float32)))
    p_at = _address(row, 1, param_dtype, aligned) + i
    g_at = _address(row, 2, grad_dtype, aligned) + i
    m_at = _address(row, 3, tl.float32, aligned) + i
    p = tl.load(p_at, mask=mask, other=0.0).to(tl.float32)
    g = tl.load(g_at, mask=mask, other=0.0).to(tl.float32)
    m = tl.load(m_at, mask=mask, other=0.0)
    if has_scale:
        g = tl.div_rn(g, tl.load(grad_scale).to(tl.float32))
        tl.store(g_at, g.to(grad_dtype), mask=mask)
    g = g * sign

    if maxva:
        u_at = _address(row, 4, tl.float32, aligned) + i
        s_at = _address(row, 5, tl.float32, aligned) + i
        u = tl.load(u_at, mask=mask, other=0.0)
        s = tl.load(s_at, mask=mask, other=0.0)
        e = g - u
        d = e * e
        q = d - s
        if weighted:
            w_at = _address(row, 6, tl.float32, aligned) + i
            w = tl.load(w_at, mask=mask, other=1.0)
            q = q * w
        gamma = tl.div_rn(q + tiny, q + d + s + tiny)
        gamma = tl.maximum(gamma, tl.where(t == 1, first, smallest), propagate_nan=nan)
        gamma = tl.minimum(gamma, tl.where(t == 1, first, largest), propagate_nan=nan)
        b = gamma
        if weighted:
            w = w + (1 - w) * gamma
            tl.store(w_at, w, mask=mask)
            b = tl.div_rn(gamma, w)
        u = u + e * b
        s = (s + d * b) * (1 - b)
        tl.store(u_at, u, mask=mask)
        tl.store(s_at, s, mask=mask)
        v = u * u + s
        if amsgrad:
            x_at = _address(row, 8, tl.float32, aligned) + i
            x = tl.load(x_at, mask=mask, other=0.0)
            if weighted:
                x = tl.maximum(x, v * w, propagate_nan=nan)
                v = tl.div_rn(x, w)
            else:
                x = tl.maximum(x, v, propagate_nan=nan)
                v = x
            tl.store(x_at, x, mask=mask)
    else:
        v_at = _address(row, 7, tl.float32, aligned) + i
        v = tl.load(v_at, mask=mask, other=0.0)
        v = v + (g * g - v) * one_minus_beta2
        tl.store(v_at, v, mask=mask)
        if amsgrad:
            x_at = _address(row, 8, tl.float32, aligned) + i
            v = tl.maximum(tl.load(x_at, mask=mask, other=0.0), v, propagate_nan=nan)
            tl.store(x_at, v, mask=mask)
        v = v / _bias_correction(log_beta2, t)

    root = tl.sqrt_rn(v) + eps
    step_size = lr / _bias_correction(log_beta1, t)
    if normalise_first:
        m = m + (tl.div_rn(g, root) - m) * one_minus_beta1
        delta = m * step_size
    else:
        m = m + (g - m) * one_minus_beta1
        delta = tl.div_rn(m, root) * step_size
    tl.store(m_at, m, mask=mask)
    tl.store(p_at, (p * (1 - lr * weight_decay) - delta).to(param_dtype), mask=mask)


def step(
    optimizer: "Base",
    group: dict[str, Any],
    params: list[Tensor],
    grads: list[Tensor],
    steps: list[Tensor],
    states: list[list[Tensor | None]],
) -> None:
    """Steps the parameters of a group in place; the rest (float64, odd layouts) goes to foreach."""
    found_inf, grad_scale = getattr(optimizer, "found_inf", None), getattr(optimizer, "grad_scale", None)
    _drop_full(optimizer, group, params, steps, states)
    torch._foreach_add_(steps, 1)
    launches: dict[tuple, list[tuple[Tensors, Tensor]]] = {}
    others: list[int] = []
    columns: list[Any] = [params, grads, *states]
    for k, row in enumerate(zip(*columns, strict=True)):
        x = flat(local(Tensors._make(row)))
        if x is None or x.param.dtype not in _DTYPES or x.grad.dtype not in _DTYPES:
            others.append(k)
        elif x.param.numel():
            key = (x.param.device, x.param.dtype, x.grad.dtype, x.weight_sum is not None)
            launches.setdefault(key, []).append((x, steps[k]))
    for index, (key, rows) in enumerate(launches.items()):
        _launch(optimizer, group, index, key, rows, grad_scale, found_inf)
    if found_inf is not None:
        torch._foreach_sub_(steps, [found_inf.to(x.device) for x in steps])
    if others and (found_inf is None or found_inf.item() == 0):
        for k in others:
            if grad_scale is not None:
                grads[k].div_(grad_scale.to(grads[k].device))
        torch._foreach_sub_([steps[k] for k in others], 1)  # `slots` counts the step itself
        everything: list[Any] = [params, grads, steps, *states]
        lists = [[column[k] for k in others] for column in everything]
        slots = optimizer.slots(group, lists[0], lists[1], lists[2], lists[3:])
        foreach.step(optimizer, slots, optimizer.constants(group))


def _launch(
    optimizer: "Base",
    group: dict[str, Any],
    index: int,
    key: tuple,
    rows: list[tuple[Tensors, Tensor]],
    grad_scale: Tensor | None,
    found_inf: Tensor | None,
) -> None:
    device, param_dtype, grad_dtype, weighted = key
    first = rows[0][0]
    table, blocks, aligned = _table(optimizer, (id(group), index), rows, device)
    lr, c = group["lr"], optimizer.constants(group)
    if isinstance(lr, Tensor):
        lr = lr.reshape(()).to(device, non_blocking=True)
    smallest, largest = maxva.gamma_range(group.get("beta2_min", 0.0), group.get("beta2_max", 0.0))
    kernel: Any = _step
    kernel[(len(blocks) // 2,)](
        table, blocks, lr,
        table if found_inf is None else found_inf.to(device, non_blocking=True),
        table if grad_scale is None else grad_scale.to(device, non_blocking=True),
        group["weight_decay"], 1 - c.beta1, _log(c.beta1), 1 - c.beta2, _log(c.beta2), c.eps,
        -1.0 if c.maximize else 1.0, smallest, largest, maxva.first_gamma(group.get("beta2_max", 0.0)), maxva.TINY,
        param_dtype=_DTYPES[param_dtype], grad_dtype=_DTYPES[grad_dtype], aligned=aligned,
        lr_on_device=isinstance(lr, Tensor), has_found_inf=found_inf is not None, has_scale=grad_scale is not None,
        maxva=first.mean is not None, weighted=weighted, amsgrad=first.max_second is not None,
        normalise_first=optimizer.normalise_first, nan=_NAN, size=BLOCK, num_warps=8,
    )  # fmt: skip


def _table(optimizer: "Base", key: tuple, rows: list[tuple[Tensors, Tensor]], device: torch.device) -> tuple:
    """On the device: per tensor numel, the addresses of `Tensors` and of the step; per block its tensor and number.

    Kept on the optimizer and sent again only when an address changes; the host copy stays alive for CUDA graphs.
    """
    entries: list[int] = []
    for x, step_count in rows:
        entries.append(x.param.numel())
        entries.extend(0 if tensor is None else tensor.data_ptr() for tensor in x)
        entries.append(step_count.data_ptr())
    kept = optimizer.__dict__.setdefault("_tables", {})
    if key not in kept or kept[key][0] != entries:
        counts = torch.tensor([-(-entries[k] // BLOCK) for k in range(0, len(entries), 10)])
        tensor = torch.repeat_interleave(torch.arange(len(counts)), counts)
        number = torch.arange(len(tensor)) - torch.repeat_interleave(counts.cumsum(0) - counts, counts)
        host = [torch.tensor(entries), torch.stack([tensor, number], 1).flatten()]
        if device.type == "cuda":
            host = [x.pin_memory() for x in host]
        aligned = all(address % 16 == 0 for k, address in enumerate(entries) if k % 10 not in (0, 9))
        kept[key] = (entries, host, [x.to(device, non_blocking=True) for x in host], aligned)
    _, _, (table, blocks), aligned = kept[key]
    return table, blocks, aligned


def _drop_full(
    optimizer: "Base",
    group: dict[str, Any],
    params: list[Tensor],
    steps: list[Tensor],
    states: list[list[Tensor | None]],
) -> None:
    """Drops `weight_sum` where it is 1. Step counts are read from the device only when they may have got there."""
    if group["capturable"] or "beta2_max" not in group:
        return
    limit = maxva.steps_until_full(group["beta2_max"])
    weights = states[Tensors._fields.index("weight_sum") - 2]
    left = optimizer.__dict__.setdefault("_steps_left", {})
    due = [k for k, (p, w) in enumerate(zip(params, weights, strict=True)) if w is not None and left.get(p, 0) <= 0]
    if due and limit < math.inf:
        for k, t in zip(due, torch.stack([steps[k] for k in due]).tolist(), strict=True):
            left[params[k]] = limit - t
            if t >= limit and params[k].dtype != torch.float64:
                optimizer.state[params[k]].pop("weight_sum", None)
                weights[k] = None
    for p in params:
        if p in left:
            left[p] -= 1


def _log(beta: float) -> float:
    return math.log(beta) if beta > 0.0 else -1e4
