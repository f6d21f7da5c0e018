"""The fused implementation on CUDA: one Triton launch for all tensors of a parameter group that are alike.

A table of addresses on the device tells each block which tensor it works on. Step counts stay on the device, so nothing
waits for the GPU. Parameters of 16 bits are read and written as they are; state and arithmetic are float32, and every
operation is rounded on its own.
Tested with Triton's interpreter; never run on a GPU.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from glue_mva.optim import maxva
from glue_mva.optim.kernels import foreach
from glue_mva.optim.state import Constants, Scalars, Slot, Tensors, flat

BLOCK = 2048
"""Elements per program."""
_DTYPES = {torch.float32: tl.float32, torch.bfloat16: tl.bfloat16, torch.float16: tl.float16}
_NAN: Any = tl.PropagateNan.ALL


def _column(name: str) -> tl.constexpr:
    """Where a row of the table of addresses has the tensor of this name; its first number is the count of elements."""
    return tl.constexpr(1 + Tensors._fields.index(name))


def _scalar(name: str) -> tl.constexpr:
    return tl.constexpr(Scalars._fields.index(name))


_WIDTH = tl.constexpr(1 + len(Tensors._fields))
_PARAM, _GRAD, _EXP_AVG = _column("param"), _column("grad"), _column("exp_avg")
_MEAN, _VAR, _WEIGHT_SUM = _column("mean"), _column("var"), _column("weight_sum")
_EXP_AVG_SQ, _MAX_SECOND = _column("exp_avg_sq"), _column("max_second")
_SCALARS = tl.constexpr(len(Scalars._fields))
_DECAY, _STEP_SIZE, _BIAS_CORRECTION2 = _scalar("decay"), _scalar("step_size"), _scalar("bias_correction2")
_GAMMA_MIN, _GAMMA_MAX = _scalar("gamma_min"), _scalar("gamma_max")


@triton.jit
def _address(row, column: tl.constexpr, dtype: tl.constexpr, aligned: tl.constexpr):
    pointer = tl.load(row + column).to(tl.pointer_type(dtype))
    if aligned:
        pointer = tl.multiple_of(pointer, 16)
    return pointer


@triton.jit
def _step(
    table, blocks, scalars, found_inf, grad_scale, one_minus_beta1, one_minus_beta2, eps, sign, tiny,
    param_dtype: tl.constexpr, grad_dtype: tl.constexpr, aligned: tl.constexpr, has_found_inf: tl.constexpr,
    has_scale: tl.constexpr, maxva: tl.constexpr, weighted: tl.constexpr, amsgrad: tl.constexpr,
    normalise_first: tl.constexpr, nan: tl.constexpr, size: tl.constexpr,
):  # fmt: skip
    """`MAdam.update`, `LaMAdam.update` and `LaProp.update` on one block of one tensor."""
    program = tl.program_id(0)
    tensor = tl.load(blocks + 2 * program)
    row = table + tensor * _WIDTH
    by = scalars + tensor * _SCALARS
    i = tl.load(blocks + 2 * program + 1) * size + tl.arange(0, size)
    numel = tl.load(row)
    if has_found_inf:
        numel = tl.where(tl.load(found_inf) == 0, numel, 0)
    mask = i < numel

    p_at = _address(row, _PARAM, param_dtype, aligned) + i
    g_at = _address(row, _GRAD, grad_dtype, aligned) + i
    m_at = _address(row, _EXP_AVG, tl.float32, aligned) + i
    p = tl.load(p_at, mask=mask, other=0.0).to(tl.float32)
    g = tl.load(g_at, mask=mask, other=0.0).to(tl.float32)
    m = tl.load(m_at, mask=mask, other=0.0)
    if has_scale:
        g = tl.div_rn(g, tl.load(grad_scale).to(tl.float32))
        tl.store(g_at, g.to(grad_dtype), mask=mask)
    g = g * sign

    if maxva:
        u_at = _address(row, _MEAN, tl.float32, aligned) + i
        s_at = _address(row, _VAR, tl.float32, aligned) + i
        u = tl.load(u_at, mask=mask, other=0.0)
        s = tl.load(s_at, mask=mask, other=0.0)
        e = g - u
        d = e * e
        q = d - s
        if weighted:
            w_at = _address(row, _WEIGHT_SUM, tl.float32, aligned) + i
            w = tl.load(w_at, mask=mask, other=1.0)
            q = q * w
        gamma = tl.div_rn(q + tiny, q + d + s + tiny)
        gamma = tl.maximum(gamma, tl.load(by + _GAMMA_MIN), propagate_nan=nan)
        gamma = tl.minimum(gamma, tl.load(by + _GAMMA_MAX), propagate_nan=nan)
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
            x_at = _address(row, _MAX_SECOND, tl.float32, aligned) + i
            x = tl.load(x_at, mask=mask, other=0.0)
            if weighted:
                x = tl.maximum(x, v * w, propagate_nan=nan)
                v = tl.div_rn(x, w)
            else:
                x = tl.maximum(x, v, propagate_nan=nan)
                v = x
            tl.store(x_at, x, mask=mask)
    else:
        v_at = _address(row, _EXP_AVG_SQ, tl.float32, aligned) + i
        v = tl.load(v_at, mask=mask, other=0.0)
        v = v + (g * g - v) * one_minus_beta2
        tl.store(v_at, v, mask=mask)
        if amsgrad:
            x_at = _address(row, _MAX_SECOND, tl.float32, aligned) + i
            v = tl.maximum(tl.load(x_at, mask=mask, other=0.0), v, propagate_nan=nan)
            tl.store(x_at, v, mask=mask)
        v = tl.div_rn(v, tl.load(by + _BIAS_CORRECTION2))

    root = tl.sqrt_rn(v) + eps
    if normalise_first:
        m = m + (tl.div_rn(g, root) - m) * one_minus_beta1
        delta = m * tl.load(by + _STEP_SIZE)
    else:
        m = m + (g - m) * one_minus_beta1
        delta = tl.div_rn(m, root) * tl.load(by + _STEP_SIZE)
    tl.store(m_at, m, mask=mask)
    tl.store(p_at, (p * tl.load(by + _DECAY) - delta).to(param_dtype), mask=mask)


class Table(NamedTuple):
    """The tensors of one launch, on the device; sent again only when an address changes."""

    entries: list[int]
    """Per tensor the count of its elements, and the addresses of `Tensors`."""
    host: tuple[Tensor, Tensor]
    """What was sent, kept alive for CUDA graphs."""
    addresses: Tensor
    blocks: Tensor
    """Per block its tensor and its number within it."""
    aligned: bool
    """Whether all addresses are multiples of 16."""


Tables = dict[tuple, Table]
"""Device, dtypes and whether the weight is kept -> the table of that launch."""


def step(
    tensors: list[Tensors],
    steps: list[Tensor],
    scalars: Callable[[Tensor], Scalars],
    c: Constants,
    tables: Tables,
    grad_scale: Tensor | None = None,
    found_inf: Tensor | None = None,
) -> None:
    """Steps tensors in place; those that the kernel does not take (float64, odd layouts) by foreach.

    Args:
        tensors: of each parameter of a group.
        steps: the count of each, this step included; on the device.
        scalars: the numbers of a step from step counts (n,).
        c: the group's constants.
        tables: kept from step to step.
        grad_scale: by which gradients are to be divided, in place.
        found_inf: nothing is changed where it is not 0.
    """
    launches: dict[tuple, list[tuple[Tensors, Tensor]]] = {}
    others: list[tuple[Tensors, Tensor]] = []
    for whole, t in zip(tensors, steps, strict=True):
        x = flat(whole)
        if x is None or x.param.dtype not in _DTYPES or x.grad.dtype not in _DTYPES:
            others.append((whole, t))
        elif x.param.numel():
            key = (x.param.device, x.param.dtype, x.grad.dtype, x.weight_sum is not None)
            launches.setdefault(key, []).append((x, t))
    for key, rows in launches.items():
        tables[key] = _table([x for x, _ in rows], key[0], tables.get(key))
        _launch(tables[key], rows[0][0], scalars(torch.stack([t for _, t in rows])), c, grad_scale, found_inf)
    if others and (found_inf is None or found_inf.item() == 0):
        if grad_scale is not None:
            for x, _ in others:
                x.grad.div_(grad_scale.to(x.grad.device))
        foreach.step([Slot(x, scalars(t)) for x, t in others], c)


def _launch(
    table: Table, x: Tensors, by: Scalars, c: Constants, grad_scale: Tensor | None, found_inf: Tensor | None
) -> None:
    """One launch over the tensors of a table, which are all like `x`."""
    device = x.param.device
    count = len(table.entries) // _WIDTH.value
    columns = [n.expand(count) if isinstance(n, Tensor) else torch.full((count,), n, device=device) for n in by]
    kernel: Any = _step
    with torch.cuda.device_of(x.param):  # Triton launches on the current device
        kernel[(len(table.blocks) // 2,)](
            table.addresses, table.blocks, torch.stack(columns, 1).float(),  # a tensor lr may be a float64
            table.addresses if found_inf is None else found_inf.to(device, non_blocking=True),
            table.addresses if grad_scale is None else grad_scale.to(device, non_blocking=True),
            1 - c.beta1, 1 - c.beta2, c.eps, -1.0 if c.maximize else 1.0, maxva.TINY,
            param_dtype=_DTYPES[x.param.dtype], grad_dtype=_DTYPES[x.grad.dtype], aligned=table.aligned,
            has_found_inf=found_inf is not None, has_scale=grad_scale is not None, maxva=x.mean is not None,
            weighted=x.weight_sum is not None, amsgrad=x.max_second is not None, normalise_first=c.normalise_first,
            nan=_NAN, size=BLOCK, num_warps=8, enable_fp_fusion=False,
        )  # fmt: skip


def _table(tensors: list[Tensors], device: torch.device, kept: Table | None) -> Table:
    """The table of these tensors: the one that was kept, unless an address changed."""
    entries: list[int] = []
    for x in tensors:
        entries.append(x.param.numel())
        entries.extend(0 if tensor is None else tensor.data_ptr() for tensor in x)
    if kept is not None and kept.entries == entries:
        return kept
    counts = torch.tensor([-(-x.param.numel() // BLOCK) for x in tensors])
    tensor = torch.repeat_interleave(torch.arange(len(counts)), counts)
    number = torch.arange(len(tensor)) - torch.repeat_interleave(counts.cumsum(0) - counts, counts)
    host = torch.tensor(entries), torch.stack([tensor, number], 1).flatten()
    if device.type == "cuda":
        host = host[0].pin_memory(), host[1].pin_memory()
    aligned = all(address % 16 == 0 for k, address in enumerate(entries) if k % _WIDTH.value)
    addresses, blocks = (x.to(device, non_blocking=True) for x in host)
    return Table(entries, host, addresses, blocks, aligned)
