"""The for-loop implementation: each parameter in turn, by its class's `update`."""

from collections.abc import Callable

from torch import Tensor

from glue_mva.optim.state import Constants, Scalars, Slot, Tensors, compute_dtype


def step(slots: list[Slot], c: Constants, update: Callable[[Tensors, Scalars, Constants], None]) -> None:
    """Steps every slot in place by `update`. Parameters of 16 bits are updated in float32 and rounded once."""
    for tensors, scalars in slots:
        param, dtype = tensors.param, compute_dtype(tensors.param)
        grad: Tensor = tensors.grad.to(dtype)
        work = tensors._replace(param=param.to(dtype), grad=-grad if c.maximize else grad)
        update(work, scalars, c)
        if work.param is not param:
            param.copy_(work.param)
