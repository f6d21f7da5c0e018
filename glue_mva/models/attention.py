"""Attention over a packed batch: sequences of different lengths end to end, none padded outside of here.

Registered with transformers as `glue_mva_packed`. Shapes: T tokens in all, B sequences, H heads, D values per head; a
group has b sequences of at most L tokens.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface

PACKED = "glue_mva_packed"

SHORT = 32
"""Sequences of up to this many tokens count as equally long: more groups would cost more than the padding."""
GROUP_RATIO = 0.7
"""A group holds sequences at least this share as long as its longest (with `SHORT` as the least length)."""


@dataclass(frozen=True)
class Group:
    """Sequences of similar length, which are padded to the longest of them inside attention."""

    index: Tensor
    """(b * L,) positions of their tokens among the T; padding repeats a sequence's last token."""
    size: tuple[int, int]
    """(b, L)."""
    bias: Tensor | None
    """(b, 1, 1, L): 0 for a token, minus infinity for padding; `None` where all are equally long."""


@dataclass(frozen=True)
class PackedLayout:
    """Where the sequences of a packed batch lie."""

    sizes: np.ndarray
    """(B,) int32: tokens of each sequence."""
    offsets: Tensor
    """(2B + 1,) int32: where each sequence starts, then where each of B pieces of filler does, and T. Filler counts as
    sequences, because FlashAttention leaves rows that belong to none as it found them, in outputs and gradients."""
    longest: int
    """At least the tokens of the longest sequence: a power of two, so that few values occur."""

    @classmethod
    def of(cls, sizes: np.ndarray, tokens: int, device: torch.device) -> "PackedLayout":
        """The layout of sequences of `sizes` (B,) tokens, laid end to end and filled up to `tokens` (T)."""
        ends = np.cumsum(sizes)
        offsets = np.concatenate([ends - sizes, np.linspace(ends[-1], tokens, len(sizes) + 1).astype(int)])
        longest = int(np.diff(offsets).max())
        on_device = torch.from_numpy(offsets.astype(np.int32))
        if device.type == "cuda":
            on_device = on_device.pin_memory().to(device, non_blocking=True)
        return cls(sizes.astype(np.int32), on_device, 1 << (longest - 1).bit_length())

    @property
    def starts(self) -> Tensor:
        """(B,) position of each sequence's first token."""
        return self.offsets[: len(self.sizes)]

    @cached_property
    def tokens(self) -> int:
        """Tokens of all sequences, filler not counted."""
        return int(self.sizes.sum())

    @cached_property
    def groups(self) -> tuple[Group, ...]:
        """All sequences in groups of similar length; made where attention needs them."""
        starts = np.cumsum(self.sizes) - self.sizes
        return tuple(_group(starts[rows], self.sizes[rows], self.offsets.device) for rows in _similar(self.sizes))


def _similar(sizes: np.ndarray) -> list[np.ndarray]:
    """Indices of sequences, longest first, cut into groups of similar length."""
    order = np.argsort(-sizes, kind="stable")
    effective = np.maximum(sizes[order], SHORT)
    groups, start = [], 0
    for end in range(1, len(order) + 1):
        if end == len(order) or effective[end] < GROUP_RATIO * effective[start]:
            groups.append(order[start:end])
            start = end
    return groups


def _group(starts: np.ndarray, sizes: np.ndarray, device: torch.device) -> Group:
    longest = int(sizes.max())
    within = np.arange(longest)[None, :]
    index = torch.from_numpy((starts[:, None] + np.minimum(within, sizes[:, None] - 1)).reshape(-1))
    bias = None
    if (sizes < longest).any():
        padding = torch.from_numpy(within >= sizes[:, None])
        bias = torch.zeros(padding.shape).masked_fill_(padding, -torch.inf)[:, None, None].to(device)
    return Group(index.to(device), (len(sizes), longest), bias)


class GroupedAttention(torch.autograd.Function):
    """softmax(scale Q K^T) V with dropout on the weights, group by group; forward and backward written out, so that
    the weights are kept once."""

    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, layout: PackedLayout, p: float, scale: float,
        window: int | None = None,
    ) -> Tensor:  # fmt: skip
        """query, key, value: (T, H, D); returns (T, H, D), zero where no sequence lies. `window`: furthest token that
        one looks at, `None` for all."""
        with torch.autocast(query.device.type, enabled=False):  # stay in the inputs' dtype, softmax too
            return GroupedAttention._forward(ctx, query, key, value, layout, p, scale, window)

    @staticmethod
    def _forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, layout: PackedLayout, p: float, scale: float,
        window: int | None,
    ) -> Tensor:  # fmt: skip
        out = torch.zeros_like(query, memory_format=torch.contiguous_format)
        saved: list[Tensor | None] = []
        for group in layout.groups:
            q, k, v = (_gather(x, group) for x in (query * scale, key, value))
            scores = q @ k.transpose(-1, -2)
            if group.bias is not None:
                scores += group.bias
            if window is not None and window < group.size[1] - 1:
                scores += _window_bias(group.size[1], window, scores)
            weights = torch.softmax(scores, -1)
            keep = torch.rand(weights.shape, device=weights.device) >= p if p > 0 else None
            _scatter(out, _dropped(weights, keep, p) @ v, group)
            saved += [q, k, v, weights, keep]
        ctx.save_for_backward(*saved)
        ctx.layout, ctx.p, ctx.scale = layout, p, scale
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        grads = tuple(torch.zeros_like(grad, memory_format=torch.contiguous_format) for _ in range(3))
        saved = ctx.saved_tensors
        for number, group in enumerate(ctx.layout.groups):
            q, k, v, weights, keep = saved[5 * number : 5 * number + 5]
            g = _gather(grad, group)
            if group.bias is not None:
                g = g.masked_fill(group.bias.transpose(-1, -2) < 0, 0)  # padded queries repeat a token: not theirs
            grad_v = _dropped(weights, keep, ctx.p).transpose(-1, -2) @ g
            grad_weights = _dropped(g @ v.transpose(-1, -2), keep, ctx.p)
            grad_scores = torch._softmax_backward_data(grad_weights, weights, -1, weights.dtype)
            for target, part in zip(
                grads, (grad_scores @ k * ctx.scale, grad_scores.transpose(-1, -2) @ q, grad_v), strict=True
            ):
                _scatter(target, part, group)
        return (*grads, None, None, None, None)


def _window_bias(length: int, window: int, scores: Tensor) -> Tensor:
    """(L, L): 0 within the window, elsewhere so low that nothing is left; finite, since padding (as a query) may see
    padding only, and a row of minus infinity has no softmax."""
    position = torch.arange(length, device=scores.device)
    far = (position[:, None] - position).abs() > window
    return far.to(scores.dtype) * (torch.finfo(scores.dtype).min / 2)


def _gather(x: Tensor, group: Group) -> Tensor:
    """(T, H, D) -> (b, H, L, D)."""
    return x.index_select(0, group.index).view(*group.size, *x.shape[1:]).transpose(1, 2)


def _scatter(target: Tensor, part: Tensor, group: Group) -> None:
    """Write (b, H, L, D) into (T, H, D), leaving padding out."""
    rows = part.transpose(1, 2).reshape(-1, *target.shape[1:])
    if group.bias is None:
        target.index_copy_(0, group.index, rows)
    else:
        real = group.bias.reshape(-1) == 0
        target.index_copy_(0, group.index[real], rows[real])


def _dropped(weights: Tensor, keep: Tensor | None, p: float) -> Tensor:
    return weights if keep is None else (weights * keep).mul_(1 / (1 - p))


def packed_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    packed_layout: PackedLayout | None = None,
    sliding_window: int | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Attention interface of transformers: (1, H, T, D) in, (1, T, H, D) out.

    In half precision on a GPU that has it (Ampere or newer) it is FlashAttention's variable-length kernel, elsewhere
    `GroupedAttention`.

    Args:
        sliding_window: as transformers' interface has it: one more than the furthest token that one looks at, to
            either side.

    Raises:
        ValueError: the batch is not packed.
    """
    if packed_layout is None:
        raise ValueError(f"attention {PACKED!r} takes packed batches only: see glue_mva.models.packing")
    q, k, v = (x[0].transpose(0, 1) for x in (query, key, value))
    scale = q.shape[-1] ** -0.5 if scaling is None else scaling
    attend = _flash if has_flash(q) else _grouped
    out = attend(q, k, v, packed_layout, dropout, scale, None if sliding_window is None else sliding_window - 1)
    return out[None], None


def has_flash(query: Tensor) -> bool:
    """Whether FlashAttention takes tensors like this one."""
    half = query.dtype in (torch.float16, torch.bfloat16)
    return query.is_cuda and half and torch.cuda.get_device_capability(query.device) >= (8, 0)


@torch.compiler.disable  # its shapes differ from batch to batch in number, not only in size
def _grouped(
    q: Tensor, k: Tensor, v: Tensor, layout: PackedLayout, p: float, scale: float, window: int | None
) -> Tensor:
    return GroupedAttention.apply(q, k, v, layout, p, scale, window)


def _flash(q: Tensor, k: Tensor, v: Tensor, layout: PackedLayout, p: float, scale: float, window: int | None) -> Tensor:
    """(T, H, D). torch's public `varlen_attn` has no dropout, so the operator under it is called. Not run on a GPU."""
    q, k, v = (x.contiguous() for x in (q, k, v))
    n = layout.longest
    return torch.ops.aten._flash_attention_forward(
        q, k, v, layout.offsets, layout.offsets, n, n, p, False, False, scale=scale, window_size_left=window,
        window_size_right=window,
    )[0]  # fmt: skip


def _no_mask(*args: Any, **kwargs: Any) -> None:
    """The layout says which tokens belong together: no mask is made."""


AttentionInterface.register(PACKED, packed_attention)
AttentionMaskInterface.register(PACKED, _no_mask)
