"""What one step of one parameter reads and writes, and how it is cut into pieces of bounded size."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

_NOT_KEPT: Any = None


class Tensors(NamedTuple):
    """The tensors of one parameter, all of one shape. What an optimizer does not keep is None.

    The kernels take their layout from these fields: a new one goes here, into `state_names` of the class that keeps it,
    and into the implementations that compute with it.
    """

    param: Tensor
    grad: Tensor
    exp_avg: Tensor
    """m: momentum average, not bias-corrected."""
    mean: Tensor = _NOT_KEPT
    """u: MaxVA's mean of the gradient."""
    var: Tensor = _NOT_KEPT
    """s: MaxVA's variance estimate v - u^2."""
    weight_sum: Tensor | None = None
    """w: MaxVA's total weight; None from where it is 1."""
    exp_avg_sq: Tensor = _NOT_KEPT
    """LaProp's average of g^2, not bias-corrected."""
    max_second: Tensor | None = None
    """AMSGrad's running maximum of the un-normalised second moment; None without AMSGrad."""

    def map(self, function: Callable[[Tensor], Tensor]) -> "Tensors":
        """The same with `function` applied to each tensor."""
        return Tensors._make(None if tensor is None else function(tensor) for tensor in self)


STATE_NAMES = Tensors._fields[2:]
"""Names of the state tensors of all optimizers, in the order of `Tensors`."""


class Scalars(NamedTuple):
    """What depends on a parameter's own step count and on the scheduled learning rate: floats, or 0-dim tensors.

    Computed from the step counts (n,) of n parameters, each is a float, 0-dim, or (n,).
    """

    decay: float | Tensor
    """1 - lr * weight_decay."""
    step_size: float | Tensor
    """lr / (1 - beta1^t)."""
    gamma_min: float | Tensor
    gamma_max: float | Tensor
    bias_correction2: float | Tensor
    """1 - beta2^t (LaProp)."""


class Constants(NamedTuple):
    """What is the same for all parameters of a group, at every step."""

    beta1: float
    beta2: float
    """LaProp's; 0 elsewhere."""
    eps: float
    maximize: bool
    normalise_first: bool
    """Whether the gradient is normalised before it enters the momentum (LaProp, LaMAdam) or after (MAdam)."""


class Slot(NamedTuple):
    """One parameter (or a piece of one) at one step."""

    tensors: Tensors
    scalars: Scalars


def rows(by: Scalars, like: Tensor) -> list[Scalars]:
    """Numbers computed from step counts `like` (n,), parameter by parameter: floats or 0-dim tensors."""
    columns = [x.expand_as(like).unbind() if isinstance(x, Tensor) else [x] * len(like) for x in by]
    return [Scalars._make(row) for row in zip(*columns, strict=True)]


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


def pieces(tensors: Tensors, limit: int) -> list[Tensors]:
    """The tensors, flattened and cut to at most `limit` elements; as they are where they cannot be flattened."""
    x = flat(tensors)
    if x is None:
        return [tensors]
    if x.param.numel() <= limit:
        return [x]
    columns = [None if tensor is None else tensor.split(limit) for tensor in x]
    return [
        Tensors._make(None if column is None else column[i] for column in columns)
        for i in range(-(-x.param.numel() // limit))
    ]


def chunks(slots: Iterable[Slot], limit: int) -> Iterator[list[Slot]]:
    """The slots cut and packed into lists of about `limit` elements: temporary memory does not grow with the model."""
    batch: list[Slot] = []
    size = 0
    for slot in slots:
        for piece in pieces(slot.tensors, limit):
            length = piece.param.numel()
            if length == 0:
                continue
            if batch and size + length > limit:
                yield batch
                batch, size = [], 0
            batch.append(Slot(piece, slot.scalars))
            size += length
    if batch:
        yield batch


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
