"""Training without padding against padded training on this machine, before a model is trained that way."""

import copy
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from transformers import AutoModelForSequenceClassification, PretrainedConfig, PreTrainedModel

from glue_mva import checks
from glue_mva.models.attention import PackedLayout, packed_attention
from glue_mva.models.packing import PackedCollator, use_packing

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
_LENGTHS = (5, 40, 33, 1, 18)
_STEPS = 3
_ROUNDING = 1e-4
"""Tolerance where the plain path makes no error of its own: float32, summed in another order."""
_FACTOR = 3
_VOCABULARY = 200


def packing_is_sound(model: PreTrainedModel, device: torch.device, precision: str) -> bool:
    """Whether packed training of a model of this family gives what padded training gives, on this device."""
    config, size = model.config, _head_size(model.config)
    name = f"packing ({config.model_type}, heads of {size}, {precision}, {device})"

    def make() -> checks.Check:
        return checks.Check(lambda: compare(config, device, precision), "padding", device, (Path(__file__).parent,))

    return checks.verdict(name, make).ok


def compare(config: PretrainedConfig, device: torch.device, precision: str) -> list[checks.Difference]:
    """Attention by itself, a small model of this family over a few updates, and dropout.

    The packed path and the plain one in `precision` are both held against the plain path in float32: packed may be
    `_FACTOR` times as far from it as plain.
    """
    with torch.random.fork_rng([device] if device.type == "cuda" else []), torch.enable_grad():
        torch.manual_seed(0)
        size, dtype = _head_size(config), _DTYPES[precision]
        return [
            *_attention(size, device, dtype),
            *_model(_small(config), device, "fp32"),
            *(_model(_small(config), device, precision) if precision != "fp32" else ()),
            checks.Difference("outputs and gradients under dropout", _dropout_error(size, device, dtype), 0.1),
        ]


def _attention(head_size: int, device: torch.device, dtype: torch.dtype) -> list[checks.Difference]:
    """Outputs and gradients of attention, beside torch's own sequence by sequence."""
    tokens = sum(_LENGTHS) + 7
    layout = PackedLayout.of(np.array(_LENGTHS), tokens, device)
    shape = (1, 4, tokens, head_size)
    inputs = [torch.randn(shape, device=device).to(dtype) for _ in range(3)]
    weights = torch.randn(shape, device=device)
    weights[:, :, sum(_LENGTHS) :] = 0.0

    def packed(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return packed_attention(nn.Identity(), q, k, v, None, packed_layout=layout)[0].transpose(1, 2)

    def plain(*whole: Tensor) -> Tensor:
        sequences = zip(*(x.split([*_LENGTHS, 7], dim=2) for x in whole), strict=True)
        return torch.cat([nn.functional.scaled_dot_product_attention(*x) for x in sequences], 2)

    def results(attention: Callable[..., Tensor], dtype: torch.dtype) -> list[Tensor]:
        leaves = [x.to(dtype).detach().requires_grad_() for x in inputs]
        out = attention(*leaves)
        gradients = torch.autograd.grad((out.float() * weights).sum(), leaves)
        return [(out * weights.to(dtype)).detach(), *gradients]

    truth = results(plain, torch.float32)
    ours, theirs = (max(map(checks.relative, results(attention, dtype), truth)) for attention in (packed, plain))
    return [checks.Difference("outputs and gradients of attention", ours, _FACTOR * theirs + _ROUNDING)]


def _model(small: PretrainedConfig, device: torch.device, precision: str) -> list[checks.Difference]:
    """Logits and gradients of packed training, beside padded training."""
    exact = AutoModelForSequenceClassification.from_config(small, attn_implementation="eager")
    exact = exact.to(device, torch.float32).train()
    plain, packed = copy.deepcopy(exact), copy.deepcopy(exact)
    plain.set_attn_implementation("sdpa")
    use_packing(packed)
    collate = PackedCollator(packed)
    ours, theirs = _Distances(0.0, 0.0), _Distances(0.0, 0.0)
    for step in range(_STEPS):
        rows = _rows(small, np.random.default_rng(step))
        truth = _update(exact, _padded(rows, collate.pad_token_id), device, "fp32")
        theirs = theirs.furthest(_update(plain, _padded(rows, collate.pad_token_id), device, precision), truth)
        ours = ours.furthest(_update(packed, collate(rows), device, precision), truth)
    return [
        checks.Difference(f"logits ({precision})", ours.logits, _FACTOR * theirs.logits + _ROUNDING),
        checks.Difference(f"gradients ({precision})", ours.gradients, _FACTOR * theirs.gradients + _ROUNDING),
    ]


class _Update(NamedTuple):
    logits: Tensor
    gradients: list[Tensor]


class _Distances(NamedTuple):
    """The largest differences from the truth so far."""

    logits: float
    gradients: float

    def furthest(self, got: _Update, truth: _Update) -> "_Distances":
        # gradients that are zero but for rounding (biases of keys) count beside the others, not by themselves
        least = 1e-3 * max(g.abs().max().item() for g in truth.gradients)
        pairs = zip(got.gradients, truth.gradients, strict=True)
        gradients = max(checks.relative(g, true, least) for g, true in pairs)
        return _Distances(max(self.logits, checks.relative(got.logits, truth.logits)), max(self.gradients, gradients))


def _update(model: nn.Module, batch: Mapping[str, Any], device: torch.device, precision: str) -> _Update:
    """Forward, backward and a step of gradient descent."""
    inputs = {name: x.to(device) if isinstance(x, Tensor) else x for name, x in batch.items() if name != "labels"}
    with torch.autocast(device.type, _DTYPES[precision], enabled=precision != "fp32"):
        logits = model(**inputs).logits
    weights = torch.linspace(-1, 1, logits.numel(), device=device).view_as(logits)
    (logits.float() * weights).sum().backward()
    gradients = []
    with torch.no_grad():
        for p in model.parameters():
            if p.grad is not None:
                gradients.append(p.grad)
                p.sub_(p.grad, alpha=0.01)
                p.grad = None
    return _Update(logits.detach(), gradients)


def _small(config: PretrainedConfig) -> PretrainedConfig:
    """The same family with heads of the same size, but two layers, two heads, few tokens and no dropout."""
    small = copy.deepcopy(config)
    small.hidden_size = 2 * _head_size(config)
    small.num_attention_heads, small.num_hidden_layers, small.vocab_size = 2, 2, _VOCABULARY
    for name in ("intermediate_size", "embedding_size"):
        if hasattr(small, name):
            setattr(small, name, small.hidden_size)
    for name, value in vars(small).items():
        if "dropout" in name and isinstance(value, float):
            setattr(small, name, 0.0)
    return small


def _head_size(config: PretrainedConfig) -> int:
    return config.hidden_size // config.num_attention_heads


def _rows(config: PretrainedConfig, rng: np.random.Generator) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = [{"input_ids": rng.integers(5, _VOCABULARY, n), "labels": 0} for n in _LENGTHS]
    if getattr(config, "type_vocab_size", 0) > 1:
        rows = [{**row, "token_type_ids": np.arange(len(row["input_ids"])) % 2} for row in rows]
    return rows


def _padded(rows: list[dict[str, Any]], pad_token_id: int) -> dict[str, Tensor]:
    def stack(values: list[np.ndarray], filler: int) -> Tensor:
        return torch.from_numpy(
            np.stack([np.pad(v, (0, max(_LENGTHS) - len(v)), constant_values=filler) for v in values])
        )

    batch = {"input_ids": stack([row["input_ids"] for row in rows], pad_token_id)}
    batch["attention_mask"] = stack([np.ones(n, dtype=np.int64) for n in _LENGTHS], 0)
    if "token_type_ids" in rows[0]:
        batch["token_type_ids"] = stack([row["token_type_ids"] for row in rows], 0)
    return batch


def _dropout_error(head_size: int, device: torch.device, dtype: torch.dtype) -> float:
    """How far attention with dropout is from what it must be, whatever its mask.

    Its mean over values of 1 is 1; and it is linear in the values, so <output, x> = <gradient of that, values>, which
    holds only if the backward pass has the mask of the forward pass.
    """
    sizes = np.array([64] * 8)
    layout = PackedLayout.of(sizes, int(sizes.sum()), device)
    shape = (1, 4, int(sizes.sum()), head_size)
    query, key, x = (torch.randn(shape).to(device, dtype) for _ in range(3))
    ones = torch.ones(shape, device=device, dtype=dtype, requires_grad=True)
    module = nn.Identity().train()
    out = packed_attention(module, query, key, ones, None, dropout=0.5, packed_layout=layout)[0].transpose(1, 2)
    product = (out.float() * x.float()).sum()
    product.backward()
    assert ones.grad is not None
    scale = (out.float() * x.float()).norm()
    linear = (product - ones.grad.float().sum()).abs() / scale
    return max((out.float().mean() - 1).abs().item(), linear.item())
