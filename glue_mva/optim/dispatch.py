"""Which implementation steps a group of parameters."""

import functools
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from glue_mva.optim.kernels import cpu, foreach, loop
from glue_mva.optim.state import Constants, Scalars, Slot, Tensors

ALL = ("for-loop", "foreach", "cpu", "cuda")
"""The implementations; "cpu" and "cuda" are the fused ones."""


def choose(group: dict[str, Any], params: list[Tensor]) -> str:
    """The one of `ALL` for a group.

    As in torch.optim, either flag set to False forces the for-loop. With both unset, CUDA gets foreach and a CPU the
    fused kernel where it can be had and is worth compiling, foreach otherwise.
    """
    use_foreach, fused = group["foreach"], group["fused"]
    if torch.compiler.is_compiling():
        return "for-loop"
    if not fused and (use_foreach is False or (fused is False and use_foreach is None)):
        return "for-loop"
    if use_foreach:
        return "foreach"
    devices = {param.device.type for param in params}
    if devices == {"cpu"} and not group["capturable"]:
        numel = sum(param.numel() for param in params)
        return "cpu" if cpu.ready(numel, eager=bool(fused)) else "foreach"
    if fused and devices == {"cuda"} and _has_triton():
        return "cuda"
    return "foreach" if devices <= {"cpu", "cuda", "xpu"} else "for-loop"


@functools.cache
def _has_triton() -> bool:
    try:
        import triton  # noqa: F401
    except ImportError:
        warnings.warn("fused=True on CUDA needs triton, which is not installed: using foreach", stacklevel=2)
        return False
    return True


def step(name: str, slots: list[Slot], c: Constants, update: Callable[[Tensors, Scalars, Constants], None]) -> None:
    """Steps every slot in place by an implementation other than "cuda", which reads no number on the host."""
    if name == "for-loop":
        loop.step(slots, c, update)
    elif name == "foreach":
        foreach.step(slots, c)
    else:
        cpu.step(slots, c)
