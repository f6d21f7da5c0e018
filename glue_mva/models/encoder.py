"""The layers of a BERT-like encoder over packed sequences on a CPU, as one autograd function.

Matrix products are torch's; what lies between them is C (`kernels.py`), in a few passes over memory. Of the last layer
only what the head reads is computed: the first token of each sequence. The result is that of transformers' layers but
for rounding (the residual stream stays float32, as under autocast) and for the masks of dropout.

Shapes: T tokens, B sequences, E hidden size, F size of the intermediate layer.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import linear
from transformers import PreTrainedModel
from transformers.activations import GELUActivation
from transformers.modeling_outputs import BaseModelOutputWithPastAndCrossAttentions, ModelOutput

from glue_mva.models import kernels
from glue_mva.models.attention import PackedLayout
from glue_mva.models.kernels import Dropout, Heads, Kernels


class Layer:
    """The parts of one layer of transformers' model, and copies of its weights in the dtype of activations."""

    def __init__(self, layer: Any) -> None:
        if hasattr(layer, "ffn"):  # DistilBERT
            attention = layer.attention
            self.linear = [attention.q_lin, attention.k_lin, attention.v_lin, attention.out_lin]
            self.linear += [layer.ffn.lin1, layer.ffn.lin2]
            self.norms = [layer.sa_layer_norm, layer.output_layer_norm]
            self.dropouts = [attention.dropout, None, layer.ffn.dropout]
            self.activation, self.heads = layer.ffn.activation, attention.n_heads
        else:
            attention = layer.attention.self
            self.linear = [attention.query, attention.key, attention.value, layer.attention.output.dense]
            self.linear += [layer.intermediate.dense, layer.output.dense]
            self.norms = [layer.attention.output.LayerNorm, layer.output.LayerNorm]
            self.dropouts = [attention.dropout, layer.attention.output.dropout, layer.output.dropout]
            self.activation, self.heads = layer.intermediate.intermediate_act_fn, attention.num_attention_heads
        self.scale = (self.linear[0].out_features // self.heads) ** -0.5
        self._weights: list[Tensor] = []

    def parameters(self) -> list[Tensor]:
        """In the order in which the function returns their gradients."""
        return [p for module in (*self.linear, *self.norms) for p in (module.weight, module.bias)]

    def weights(self, dtype: torch.dtype) -> list[Tensor]:
        """Weights and biases as `dtype`: of queries, keys and values as one (3E, E), then those of the others."""
        q, k, v, *others = self.linear
        size = q.out_features
        if not self._weights or self._weights[0].dtype != dtype:
            shapes = [(3 * size, q.in_features), (3 * size,)]
            shapes += [tuple(p.shape) for module in others for p in (module.weight, module.bias)]
            self._weights = [torch.empty(shape, dtype=dtype) for shape in shapes]
        for part, module in enumerate((q, k, v)):
            rows = slice(part * size, (part + 1) * size)
            self._weights[0][rows].copy_(module.weight)
            self._weights[1][rows].copy_(module.bias)
        for target, p in zip(
            self._weights[2:], (p for module in others for p in (module.weight, module.bias)), strict=True
        ):
            target.copy_(p)
        return self._weights


@dataclass
class _Saved:
    """What the backward pass of a layer needs of its forward pass."""

    inputs: Tensor
    """(T, E) activations."""
    first: Tensor | None
    """(B, E) activations of the first tokens, in the last layer."""
    heads: Heads
    context: Tensor
    log_sum: Tensor
    middle: Tensor
    """(T, E) activations after the first normalization."""
    before_gelu: Tensor
    after_gelu: Tensor
    norms: list[tuple[Tensor, Tensor]]
    dropouts: list[Dropout]


class PackedEncoder(torch.autograd.Function):
    """All layers, one after the other."""

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, layers: Sequence[Layer], layout: PackedLayout, dtype: torch.dtype, *parameters: Tensor
    ) -> Tensor:
        """Hidden states (T, E) -> those of the first tokens (B, E), float32.

        Args:
            layers: of the encoder; `parameters` are theirs, in order, for autograd to know of.
            dtype: of activations.
        """
        with torch.autocast("cpu", enabled=False):
            ctx.layers, ctx.kernels, ctx.saved = layers, Kernels(dtype), []
            x = hidden.float().contiguous()
            activations = x.to(dtype)
            drawing = any(module is not None and module.training for layer in layers for module in layer.dropouts)
            # An evaluation draws nothing: the size of its batches would change the masks of the next epoch.
            seeds = iter(_seeds(3 * len(layers)) if drawing else [0] * (3 * len(layers)))
            for layer in layers:
                dropouts = [
                    Dropout(next(seeds), module.p if module is not None and module.training else 0.0)
                    for module in layer.dropouts
                ]
                last = layer is layers[-1]
                x, activations, saved = _forward(ctx.kernels, layer, x, activations, layout, dropouts, last)
                ctx.saved.append(saved)
            return x

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        with torch.autocast("cpu", enabled=False):
            grad, grad_act = grad.contiguous(), None
            gradients: list[Tensor] = []
            for layer in reversed(ctx.layers):
                grad, grad_act, of_layer = _backward(ctx.kernels, layer, ctx.saved.pop(), grad, grad_act)
                gradients = of_layer + gradients
            return grad if grad_act is None else grad + grad_act, None, None, None, *gradients


def _seeds(count: int) -> list[int]:
    return torch.empty(count, dtype=torch.int64).random_().tolist()


def _forward(
    k: Kernels, layer: Layer, x: Tensor, activations: Tensor, layout: PackedLayout, dropouts: list[Dropout], last: bool
) -> tuple[Tensor, Tensor, _Saved]:
    w_in, b_in, w_out, b_out, w_up, b_up, w_down, b_down = layer.weights(k.dtype)
    size, first = x.shape[1], None
    if last:
        first, x = activations[layout.starts], x[layout.starts]
        query = linear(first, w_in[:size], b_in[:size])
        key_value = linear(activations, w_in[size:], b_in[size:])
        heads = Heads(query, key_value, key_value[:, size:], layout, layer.heads, first_only=True)
    else:
        qkv = linear(activations, w_in, b_in)
        heads = Heads(qkv[:, :size], qkv[:, size:], qkv[:, 2 * size :], layout, layer.heads, first_only=False)
    context, log_sum = k.attention(heads, layer.scale, dropouts[0])
    norm, other_norm = layer.norms
    y, middle, *norm1 = k.norm(linear(context, w_out, b_out), x, norm.weight, norm.bias, norm.eps, dropouts[1])
    before = linear(middle, w_up, b_up)
    after = k.gelu(before)
    branch = linear(after, w_down, b_down)
    z, out, *norm2 = k.norm(branch, y, other_norm.weight, other_norm.bias, other_norm.eps, dropouts[2])
    norms = [(norm1[0], norm1[1]), (norm2[0], norm2[1])]
    return z, out, _Saved(activations, first, heads, context, log_sum, middle, before, after, norms, dropouts)


def _backward(
    k: Kernels, layer: Layer, s: _Saved, grad: Tensor, grad_act: Tensor | None
) -> tuple[Tensor, Tensor, list[Tensor]]:
    """The gradients of a layer's inputs, as residual (T, E) and as activations (T, E), and of its parameters."""
    w_in, _, w_out, _, w_up, _, w_down, _ = layer._weights
    norm, other_norm = layer.norms
    grad, branch, sums2 = k.norm_backward(grad, grad_act, *s.norms[1], other_norm.weight, s.dropouts[2])
    g_down = branch.t() @ s.after_gelu
    inner = branch @ w_down
    b_up = k.gelu_backward_(s.before_gelu, inner)
    g_up = inner.t() @ s.middle
    grad, branch, sums1 = k.norm_backward(grad, inner @ w_up, *s.norms[0], norm.weight, s.dropouts[1])
    g_out = branch.t() @ s.context
    context = branch @ w_out
    size = grad.shape[1]
    layout = s.heads.layout
    if s.first is not None:
        query = torch.empty_like(context)
        key_value = torch.empty(len(s.inputs), 2 * size, dtype=k.dtype)
        key_value[layout.tokens :] = 0
        into = Heads(query, key_value, key_value[:, size:], layout, layer.heads, first_only=True)
        k.attention_backward(s.heads, into, context, s.log_sum, layer.scale, s.dropouts[0])
        grad_x = torch.zeros(s.inputs.shape)
        grad_x[layout.starts] = grad + query @ w_in[:size]
        grad, grad_act = grad_x, key_value @ w_in[size:]
        g_in = [query.t() @ s.first, *(key_value.t() @ s.inputs).split(size)]
        b_in = [query.sum(0, dtype=torch.float32), *key_value.sum(0, dtype=torch.float32).split(size)]
    else:
        qkv = torch.empty(len(s.inputs), 3 * size, dtype=k.dtype)
        qkv[layout.tokens :] = 0
        into = Heads(qkv[:, :size], qkv[:, size:], qkv[:, 2 * size :], layout, layer.heads, first_only=False)
        k.attention_backward(s.heads, into, context, s.log_sum, layer.scale, s.dropouts[0])
        grad_act = qkv @ w_in
        g_in = list((qkv.t() @ s.inputs).split(size))
        b_in = list(qkv.sum(0, dtype=torch.float32).split(size))
    of_linear = [*zip(g_in, b_in, strict=True), (g_out, sums1[2]), (g_up, b_up), (g_down, sums2[2])]
    gradients = [x for g, b in of_linear for x in (g.float(), b)]
    return grad, grad_act, [*gradients, sums1[0], sums1[1], sums2[0], sums2[1]]


def has_packed_encoder(model: PreTrainedModel, dtype: torch.dtype) -> bool:
    """Whether `use_packed_encoder` will replace the layers of this model."""
    if _encoder(model) is None:  # a family that keeps its layers elsewhere, as ModernBERT does
        return False
    return all(isinstance(layer.activation, GELUActivation | nn.GELU) for layer in _layers(model)) and bool(
        kernels.library(dtype)
    )


def _layers(model: PreTrainedModel) -> list[Layer]:
    return [Layer(layer) for layer in _encoder(model).layer]


def _encoder(model: PreTrainedModel) -> Any:
    return getattr(model.base_model, "encoder", None) or getattr(model.base_model, "transformer", None)


def use_packed_encoder(model: PreTrainedModel, dtype: torch.dtype) -> bool:
    """Replace the layers of a model that takes packed batches, in place; False where they or the compiler do not allow
    it. The encoder then returns first tokens only: (1, B, E).

    Args:
        dtype: of activations, float32 or bfloat16.
    """
    if not has_packed_encoder(model, dtype):
        return False
    layers = _layers(model)
    parameters = [p for layer in layers for p in layer.parameters()]

    _encoder(model).forward = _Forward(layers, parameters, dtype)
    return True


@dataclass
class _Forward:
    """What an encoder does in place of its own forward pass. An object, so that a copy of the model has one of its own
    parameters."""

    layers: list[Layer]
    parameters: list[Tensor]
    dtype: torch.dtype

    def __call__(self, hidden_states: Tensor, *args: Any, packed_layout: PackedLayout, **kwargs: Any) -> ModelOutput:
        first = PackedEncoder.apply(hidden_states[0], self.layers, packed_layout, self.dtype, *self.parameters)
        return BaseModelOutputWithPastAndCrossAttentions(last_hidden_state=first[None])
