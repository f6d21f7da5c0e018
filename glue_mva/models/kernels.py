"""The C functions of encoder.c as functions of tensors.

Shapes: T tokens, B sequences, H heads of D values, E = H D. Activations are float32 or bfloat16 and all of one dtype;
what is called a gradient of activations has their dtype, all other tensors are float32.
"""

import functools
import logging
import subprocess
from ctypes import POINTER, Structure, byref, c_double, c_int, c_int64, c_uint64, c_void_p
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from glue_mva import native
from glue_mva.models.attention import PackedLayout

logger = logging.getLogger(__name__)

PIECE = 32
"""Rows that are summed up at a time (encoder.c)."""


class _Threads(Structure):
    _fields_ = [("runner", c_void_p), ("threads", c_int64)]


class Dropout(Structure):
    """Probability, and the seed of the masks: the same seed gives the same mask again."""

    _fields_ = [("seed", c_uint64), ("p", c_double)]


class _Attention(Structure):
    _fields_ = [
        *((name, c_void_p) for name in ("query", "key", "value", "out", "grad_query", "grad_key", "grad_value")),
        *((name, c_void_p) for name in ("log_sum", "starts", "sizes")),
        *((name, c_int64) for name in ("query_stride", "key_stride", "grad_query_stride", "grad_key_stride")),
        *((name, c_int64) for name in ("out_stride", "sequences", "heads", "size", "first_only")),
        ("scale", c_double),
        ("dropout", Dropout),
    ]


class _Norm(Structure):
    _fields_ = [
        *((name, c_void_p) for name in ("branch", "residual", "gain", "shift", "normalized", "inverse", "out")),
        *((name, c_void_p) for name in ("out_act", "grad_out", "grad_out_act", "grad_residual", "grad_branch")),
        ("partial", c_void_p),
        ("rows", c_int64),
        ("size", c_int64),
        ("eps", c_double),
        ("dropout", Dropout),
    ]


class _Gelu(Structure):
    _fields_ = [("in_", c_void_p), ("out", c_void_p), ("partial", c_void_p), ("rows", c_int64), ("size", c_int64)]


_FUNCTIONS = {
    "attention": (POINTER(_Threads), POINTER(_Attention), c_int),
    "norm": (POINTER(_Threads), POINTER(_Norm), c_void_p, c_int),
    "gelu": (POINTER(_Threads), POINTER(_Gelu), c_void_p, c_int),
}
_SOURCE = Path(__file__).with_name("encoder.c")
_FLAGS = {torch.float32: ("-ffp-contract=fast",), torch.bfloat16: ("-ffp-contract=fast", "-DBF16")}


@functools.cache
def library(dtype: torch.dtype) -> Any:
    """The functions for activations of this dtype, compiled at first use; None where they cannot be had."""
    if dtype not in _FLAGS:
        return None
    try:
        loaded = native.load(_SOURCE, _FLAGS[dtype])
        for name, types in _FUNCTIONS.items():
            function = getattr(loaded, name)
            function.argtypes, function.restype = types, None
        return loaded
    except (OSError, subprocess.SubprocessError, AttributeError) as error:
        logger.debug("no compiled layers, using torch's: %s", error)
        return None


class Kernels:
    """The functions for activations of one dtype, on as many threads as torch uses."""

    def __init__(self, dtype: torch.dtype) -> None:
        self.dtype = dtype
        self._library = library(dtype)
        self._threads = _Threads(native.openmp_parallel(), torch.get_num_threads())

    def attention(self, x: "Heads", scale: float, dropout: Dropout) -> tuple[Tensor, Tensor]:
        """softmax(scale Q K^T) V, with dropout on the weights, sequence by sequence.

        Returns:
            The result, (queries, E), zero in rows of no sequence; logs of the sums of exponentials, (queries, H).
        """
        out = x.empty()
        log_sum = torch.empty(out.shape[0], x.heads)
        call = x.call(out, log_sum, scale, dropout)
        self._library.attention(byref(self._threads), byref(call), 0)
        return out, log_sum

    def attention_backward(
        self, x: "Heads", grad: "Heads", grad_out: Tensor, log_sum: Tensor, scale: float, dropout: Dropout
    ) -> None:
        """Write the gradients of queries, keys and values into `grad`, given that of the result, (queries, E)."""
        call = x.call(grad_out, log_sum, scale, dropout)
        call.grad_query, call.grad_key, call.grad_value = (t.data_ptr() for t in (grad.query, grad.key, grad.value))
        call.grad_query_stride, call.grad_key_stride = grad.query.stride(0), grad.key.stride(0)
        self._library.attention(byref(self._threads), byref(call), 1)

    def norm(
        self, branch: Tensor, residual: Tensor, gain: Tensor, shift: Tensor, eps: float, dropout: Dropout
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """LayerNorm of residual + dropout(branch), all (rows, E).

        Returns:
            The result, the same as activations, the normalized sum without gain and shift, and the inverse standard
            deviations (rows,).
        """
        out, normalized = torch.empty_like(residual), torch.empty_like(residual)
        out_act, inverse = torch.empty_like(branch), torch.empty(len(branch))
        call = _Norm(
            branch=branch.data_ptr(),
            residual=residual.data_ptr(),
            gain=gain.data_ptr(),
            shift=shift.data_ptr(),
            normalized=normalized.data_ptr(),
            inverse=inverse.data_ptr(),
            out=out.data_ptr(),
            out_act=out_act.data_ptr(),
            rows=branch.shape[0],
            size=branch.shape[1],
            eps=eps,
            dropout=dropout,
        )
        self._library.norm(byref(self._threads), byref(call), None, 0)
        return out, out_act, normalized, inverse

    def norm_backward(
        self,
        grad_out: Tensor,
        grad_out_act: Tensor | None,
        normalized: Tensor,
        inverse: Tensor,
        gain: Tensor,
        dropout: Dropout,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The gradients of residual and branch, and (3, E) those of gain, shift and of a bias added to the branch."""
        rows, size = grad_out.shape
        grad_residual, grad_branch = torch.empty_like(grad_out), torch.empty(rows, size, dtype=self.dtype)
        partial, sums = torch.empty(-(-rows // PIECE), 3, size), torch.empty(3, size)
        call = _Norm(
            gain=gain.data_ptr(),
            normalized=normalized.data_ptr(),
            inverse=inverse.data_ptr(),
            grad_out=grad_out.data_ptr(),
            grad_out_act=None if grad_out_act is None else grad_out_act.data_ptr(),
            grad_residual=grad_residual.data_ptr(),
            grad_branch=grad_branch.data_ptr(),
            partial=partial.data_ptr(),
            rows=rows,
            size=size,
            dropout=dropout,
        )
        self._library.norm(byref(self._threads), byref(call), sums.data_ptr(), 1)
        return grad_residual, grad_branch, sums

    def gelu(self, x: Tensor) -> Tensor:
        """x times the normal distribution function of x."""
        out = torch.empty_like(x)
        call = _Gelu(x.data_ptr(), out.data_ptr(), None, *x.shape)
        self._library.gelu(byref(self._threads), byref(call), None, 0)
        return out

    def gelu_backward_(self, x: Tensor, grad: Tensor) -> Tensor:
        """Turn the gradient of the result into that of x, in place; returns its sum over rows."""
        partial, total = torch.empty(-(-len(x) // PIECE), x.shape[1]), torch.empty(x.shape[1])
        call = _Gelu(x.data_ptr(), grad.data_ptr(), partial.data_ptr(), *x.shape)
        self._library.gelu(byref(self._threads), byref(call), total.data_ptr(), 1)
        return total


class Heads:
    """Queries, keys and values of packed sequences, or their gradients.

    Args:
        query: (T, E), or (B, E) for one query per sequence; a view with any stride between rows, as the others.
        key: (T, E).
        value: (T, E), with the stride of `key`.
        layout: which rows are whose.
        heads: H.
        first_only: one query per sequence.
    """

    def __init__(
        self, query: Tensor, key: Tensor, value: Tensor, layout: PackedLayout, heads: int, *, first_only: bool
    ) -> None:
        self.query, self.key, self.value, self.layout = query, key, value, layout
        self.heads, self.first_only = heads, first_only

    def empty(self) -> Tensor:
        """Room for the result of attention, zero where no sequence lies."""
        out = torch.empty(self.query.shape, dtype=self.query.dtype)
        if not self.first_only:
            out[self.layout.tokens :] = 0
        return out

    def call(self, out: Tensor, log_sum: Tensor, scale: float, dropout: Dropout) -> _Attention:
        layout = self.layout
        return _Attention(
            query=self.query.data_ptr(),
            key=self.key.data_ptr(),
            value=self.value.data_ptr(),
            out=out.data_ptr(),
            log_sum=log_sum.data_ptr(),
            starts=layout.offsets.data_ptr(),
            sizes=layout.sizes.ctypes.data,
            query_stride=self.query.stride(0),
            key_stride=self.key.stride(0),
            out_stride=out.stride(0),
            sequences=len(layout.sizes),
            heads=self.heads,
            size=self.query.shape[1] // self.heads,
            first_only=self.first_only,
            scale=scale,
            dropout=dropout,
        )
