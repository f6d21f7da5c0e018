"""Which implementation steps a group of parameters."""

import functools
import logging
import warnings
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from glue_mva.optim.kernels import cpu, foreach, loop

if TYPE_CHECKING:
    from glue_mva.optim.base import Base

logger = logging.getLogger(__name__)


def run(
    optimizer: "Base",
    group: dict[str, Any],
    params: list[Tensor],
    grads: list[Tensor],
    steps: list[Tensor],
    states: list[list[Tensor | None]],
) -> None:
    """One step of the parameters of a group, all of which have a gradient."""
    name = choose(group, params)
    if name == "cuda":
        from glue_mva.optim.kernels.cuda import step as fused_step  # imports triton

        fused_step(optimizer, group, params, grads, steps, states)
        return
    if not _unscale_(optimizer, grads):
        return
    slots = optimizer.slots(group, params, grads, steps, states)
    step = {"cpu": cpu.step, "foreach": foreach.step, "for-loop": loop.step}[name]
    step(optimizer, slots, optimizer.constants(group))


def choose(group: dict[str, Any], params: list[Tensor]) -> str:
    """The implementation for a group: "for-loop", "foreach", "cpu" or "cuda" (both fused).

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


def _unscale_(optimizer: "Base", grads: list[Tensor]) -> bool:
    """Divides the gradients by GradScaler's scale, in place as torch's fused optimizers do; False to skip the step."""
    found_inf, scale = getattr(optimizer, "found_inf", None), getattr(optimizer, "grad_scale", None)
    if found_inf is not None and found_inf.item() != 0:
        return False
    if scale is not None:
        for grad in grads:
            grad.div_(scale.to(grad.device))
    return True
