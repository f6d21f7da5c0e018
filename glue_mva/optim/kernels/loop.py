"""The for-loop implementation: each parameter in turn, by its class's `update`."""

from torch import Tensor

from glue_mva.optim.state import Constants, Slot, compute_dtype


def step(optimizer, slots: list[Slot], c: Constants) -> None:
    """Steps every slot in place. Parameters of 16 bits are updated in float32 and rounded once."""
    for tensors, scalars in slots:
        param, dtype = tensors.param, compute_dtype(tensors.param)
        grad: Tensor = tensors.grad.to(dtype)
        work = tensors._replace(param=param.to(dtype), grad=-grad if c.maximize else grad)
        optimizer.update(work, scalars, c)
        if work.param is not param:
            param.copy_(work.param)
