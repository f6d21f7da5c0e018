"""What one step of one parameter reads and writes, and how it is cut into pieces of bounded size."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor


class Tensors(NamedTuple):
    """The tensors of one parameter, all of one shape. What an optimizer does not keep is None."""

    param: Tensor
    grad: Tensor
    exp_avg: Tensor
    """m: momentum average, not bias-corrected."""
    mean: Any = None
    """u: MaxVA's mean of the gradient."""
    var: Any = None
    """s: MaxVA's variance estimate v - u^2."""
    weight_sum: Any = None
    """w: MaxVA's total weight; None from where it is 1."""
    exp_avg_sq: Any = None
    """LaProp's average of g^2, not bias-corrected."""
    max_second: Any = None
    """AMSGrad's running maximum of the un-normalised second moment."""

    def map(self, function: Callable[[Tensor], Any]) -> "Tensors":
        """The same with `function` applied to each tensor."""
        return Tensors._make(None if tensor is None else function(tensor) for tensor in self)


class Scalars(NamedTuple):
    """What depends on a parameter's own step count and on the scheduled learning rate: floats, or 0-dim tensors."""

    decay: float | Tensor
    """1 - lr * weight_decay."""
    step_size: float | Tensor
    """lr / (1 - beta1^t)."""
    gamma_min: float | Tensor
    gamma_max: float | Tensor
    bias_correction2: float | Tensor
    """1 - beta2^t (LaProp)."""


class Constants(NamedTuple):
    """Hyperparameters of a group that no schedule changes."""

    beta1: float
    beta2: float
    """LaProp's; 0 elsewhere."""
    eps: float
    maximize: bool


class Slot(NamedTuple):
    """One parameter (or a piece of one) at one step."""

    tensors: Tensors
    scalars: Scalars


def flat(tensors: Tensors) -> Tensors | None:
    """1-D views of the same elements in the same order, or None where the layouts do not allow it.

    Dense tensors of any memory format (channels last, transposed) pass if parameter, gradient and state share it.
    """
    param = tensors.param
    if all(tensor is None or tensor.is_contiguous() for tensor in tensors):
        return tensors.map(lambda tensor: tensor.view(-1))
    strides = param.stride()
    if any(tensor is not None and tensor.stride() != strides for tensor in tensors):
        return None
    order = sorted(range(param.dim()), key=lambda i: strides[i], reverse=True)
    if not param.permute(order).is_contiguous():
        return None
    return tensors.map(lambda tensor: tensor.permute(order).view(-1))


def chunks(slots: Iterable[Slot], limit: int) -> Iterator[list[Slot]]:
    """The slots cut and packed into lists of about `limit` elements: temporary memory does not grow with the model.

    A parameter whose layout cannot be flattened is not cut.
    """
    batch: list[Slot] = []
    size = 0
    for slot in slots:
        flattened = flat(slot.tensors)
        numel = slot.tensors.param.numel()
        pieces = [slot] if flattened is None else _cut(Slot(flattened, slot.scalars), numel, limit)
        for piece in pieces:
            length = piece.tensors.param.numel()
            if length == 0:
                continue
            if batch and size + length > limit:
                yield batch
                batch, size = [], 0
            batch.append(piece)
            size += length
    if batch:
        yield batch


def _cut(slot: Slot, numel: int, limit: int) -> list[Slot]:
    if numel <= limit:
        return [slot]
    columns = [None if tensor is None else tensor.split(limit) for tensor in slot.tensors]
    rows = (
        Tensors._make(None if column is None else column[i] for column in columns) for i in range(-(-numel // limit))
    )
    return [Slot(row, slot.scalars) for row in rows]


def compute_dtype(param: Tensor) -> torch.dtype:
    """Dtype of state and arithmetic: float64 for float64 and complex128 parameters, float32 for all others."""
    return torch.float64 if param.dtype in (torch.float64, torch.complex128) else torch.float32


def local(tensors: Tensors) -> Tensors:
    """The same memory as plain real tensors: this rank's shard of a DTensor, complex numbers as pairs."""
    param: Any = tensors.param
    grad: Any = tensors.grad
    if hasattr(param, "to_local"):
        if grad.placements != param.placements:
            grad = grad.redistribute(placements=param.placements)
        tensors = tensors._replace(grad=grad).map(_to_local)
    if param.is_complex():
        pairs = [torch.view_as_real(x.resolve_conj()) for x in tensors[:2]]
        tensors = tensors._replace(param=pairs[0], grad=pairs[1])
    return tensors


def _to_local(tensor: Any) -> Tensor:
    return tensor.to_local()
