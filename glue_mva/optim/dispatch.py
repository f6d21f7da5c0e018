"""Which implementation steps a group of parameters."""

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from glue_mva.optim import foreach, loop

if TYPE_CHECKING:
    from glue_mva.optim.base import Base


def run(
    optimizer: "Base",
    group: dict[str, Any],
    params: list[Tensor],
    grads: list[Tensor],
    steps: list[Tensor],
    states: list[list[Tensor | None]],
) -> None:
    """One step of the parameters of a group, all of which have a gradient."""
    slots = optimizer.slots(group, params, grads, steps, states)
    implementation = loop if torch.compiler.is_compiling() or group["foreach"] is False else foreach
    implementation.step(optimizer, slots, optimizer.constants(group))
