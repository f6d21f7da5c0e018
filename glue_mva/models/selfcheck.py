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
from glue_mva.models.precision import ACTIVATIONS

_LENGTHS = (5, 40, 33, 1, 18)
_STEPS = 3
_ROUNDING = 1e-4
"""Tolerance where the plain path makes no error of its own: float32, summed in another order."""
_FACTOR = 3
_RATE = 0.01
_SHARP = 8.0
_SHARPENED = ("query.weight", "key.weight", "q_lin.weight", "k_lin.weight", "Wqkv.weight")
_VOCABULARY = 200
_WINDOW = 4
"""Furthest token that one looks at in layers with local attention: less than the lengths, so that it matters."""


def packing_is_sound(model: PreTrainedModel, device: torch.device, precision: str, *, own_layers: bool) -> bool:
    """Whether packed training of a model of this family gives what padded training gives, on this device.

    Args:
        own_layers: with the layers of `glue_mva.models.encoder`.
    """
    config = model.config
    layers = "layers in C" if own_layers else "attention"
    name = f"packing: {layers} ({config.model_type}, heads of {_head_size(config)}, {precision}, {device})"
    instead = "transformers' layers" if own_layers else "padding"

    def make() -> checks.Check:
        sources = (Path(__file__).parent,)
        return checks.Check(lambda: compare(config, device, precision, own_layers), instead, device, sources)

    return checks.verdict(name, make).ok


def compare(
    config: PretrainedConfig, device: torch.device, precision: str, own_layers: bool
) -> list[checks.Difference]:
    """Attention by itself, a small model of this family over a few updates, and dropout.

    The packed path and the plain one in `precision` are both held against the plain path in float32: packed may be
    `_FACTOR` times as far from it as plain.
    """
    with torch.random.fork_rng([device] if device.type == "cuda" else []), torch.enable_grad():
        torch.manual_seed(0)
        size, dtype = _head_size(config), ACTIVATIONS[precision]
        differences = _model(_small(config), device, precision, own_layers)
        if own_layers:
            return differences
        if precision != "fp32":
            differences += _model(_small(config), device, "fp32", own_layers)
        dropout = checks.Difference("outputs and gradients under dropout", _dropout_error(size, device, dtype), 0.1)
        return [*differences, *_attention(size, device, dtype), dropout]


def _model(small: PretrainedConfig, device: torch.device, precision: str, own_layers: bool) -> list[checks.Difference]:
    """Logits and gradients of packed training, beside padded training."""
    exact = AutoModelForSequenceClassification.from_config(small, attn_implementation="eager")
    exact = exact.to(device, torch.float32).train()
    with torch.no_grad():
        for name, p in exact.named_parameters():
            if name.endswith(_SHARPENED):
                p.mul_(_SHARP)  # so that attention weighs tokens differently
    plain, packed = copy.deepcopy(exact), copy.deepcopy(exact)
    plain.set_attn_implementation("sdpa")
    use_packing(packed, ACTIVATIONS[precision] if own_layers else None)
    collate = PackedCollator(packed)
    ours, theirs = _Distances(0.0, 0.0), _Distances(0.0, 0.0)
    for step in range(_STEPS):
        rows = _rows(small, np.random.default_rng(step))
        padded = _padded(rows, collate.pad_token_id)
        truth = _gradients(exact, padded, device, "fp32")
        theirs = theirs.furthest(_gradients(plain, padded, device, precision), truth)
        ours = ours.furthest(_gradients(packed, collate(rows), device, precision), truth)
        with torch.no_grad():
            for *models, gradient in zip(
                exact.parameters(), plain.parameters(), packed.parameters(), truth.gradients, strict=True
            ):
                for p in models:
                    p.sub_(gradient, alpha=_RATE)
    return [
        checks.Difference(f"logits ({precision})", ours.logits, _FACTOR * theirs.logits + _ROUNDING),
        checks.Difference(f"gradients ({precision})", ours.gradients, _FACTOR * theirs.gradients + _ROUNDING),
    ]


class _Result(NamedTuple):
    logits: Tensor
    gradients: list[Tensor]


class _Distances(NamedTuple):
    """The largest differences from the truth so far."""

    logits: float
    gradients: float

    def furthest(self, got: _Result, truth: _Result) -> "_Distances":
        # gradients that are zero but for rounding (biases of keys) count beside the others, not by themselves
        least = 1e-2 * max(g.norm().item() for g in truth.gradients)
        pairs = zip(got.gradients, truth.gradients, strict=True)
        gradients = max((g - t).norm().item() / max(t.norm().item(), least) for g, t in pairs)
        return _Distances(max(self.logits, checks.relative(got.logits, truth.logits)), max(self.gradients, gradients))


def _gradients(model: nn.Module, batch: Mapping[str, Any], device: torch.device, precision: str) -> _Result:
    inputs = {name: x.to(device) if isinstance(x, Tensor) else x for name, x in batch.items() if name != "labels"}
    with torch.autocast(device.type, ACTIVATIONS[precision], enabled=precision != "fp32"):
        logits = model(**inputs).logits.float()
    weights = torch.linspace(-1, 1, logits.numel(), device=device).view_as(logits)
    parameters = list(model.parameters())
    found = torch.autograd.grad((logits * weights).sum(), parameters)
    return _Result(logits.detach(), list(found))


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


def _small(config: PretrainedConfig) -> PretrainedConfig:
    """The same family with heads of the same size, but two layers, two heads, few tokens and no dropout."""
    small = copy.deepcopy(config)
    small.hidden_size = 2 * _head_size(config)
    small.num_attention_heads, small.num_hidden_layers, small.vocab_size = 2, 2, _VOCABULARY
    for name in ("intermediate_size", "embedding_size"):
        if hasattr(small, name):
            setattr(small, name, small.hidden_size)
    if hasattr(small, "local_attention"):
        small.local_attention = 2 * _WINDOW
    if (small.pad_token_id or 0) >= _VOCABULARY:
        small.pad_token_id = 0
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
