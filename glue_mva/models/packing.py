"""Batches without padding: sequences end to end as one row of tokens, through models that were made for padded ones.

Position ids restart with every sequence, attention is that of `glue_mva.models.attention` and all else the model's own
code; or, on a CPU with a C compiler, the layers are those of `glue_mva.models.encoder`. What the head reads as first
tokens is gathered by hooks.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from glue_mva.models.attention import PACKED, PackedLayout
from glue_mva.models.encoder import use_packed_encoder
from glue_mva.models.load import first_position

FAMILIES = ("bert", "roberta", "xlm-roberta", "camembert", "electra", "distilbert", "modernbert")
"""Model types for which packed and padded training were tested to agree."""


def can_pack(model: PreTrainedModel) -> bool:
    """Whether packing was verified for this family."""
    return model.config.model_type in FAMILIES and not getattr(model.config, "is_decoder", False)


class PackedCollator:
    """Rows of a dataset -> one packed batch.

    `input_ids`, `position_ids` and (where the rows have them) `token_type_ids` are (1, T), `labels` (B,), and
    `sequence_lengths` (B,) is a numpy array, so that the Trainer leaves it where it is. T is rounded up to one of a few
    sizes with tokens that belong to no sequence, because kernels are prepared anew for every size not seen before.

    Args:
        model: as prepared by `use_packing`.
        few_sizes: round to fewer sizes, for a model of which each of them is recorded as a CUDA graph.
    """

    def __init__(self, model: PreTrainedModel, *, few_sizes: bool = False) -> None:
        self.pad_token_id = model.config.pad_token_id or 0
        self.first_position = first_position(model)
        self.sizes_per_doubling = 4 if few_sizes else 16

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        lengths = np.array([len(row["input_ids"]) for row in rows])
        total = int(lengths.sum())
        size = round_up(total, self.sizes_per_doubling)
        starts = np.cumsum(lengths) - lengths
        positions = np.arange(total) - np.repeat(starts, lengths)
        labels = np.array([row["labels"] for row in rows])
        batch = {"labels": torch.from_numpy(labels)}  # first, because the Trainer takes its size for the batch's
        for name, filler in (("input_ids", self.pad_token_id), ("token_type_ids", 0)):
            if name in rows[0]:
                batch[name] = _filled(np.concatenate([row[name] for row in rows]), size, filler)
        batch["position_ids"] = _filled(positions + self.first_position, size, self.first_position)
        return {**batch, "sequence_lengths": lengths}


def round_up(tokens: int, per_doubling: int = 16) -> int:
    """The next of at most `per_doubling` (a power of two) sizes per doubling, at least 16 apart."""
    step = max(16, (1 << tokens.bit_length()) // (2 * per_doubling))
    return -(-tokens // step) * step


def _filled(values: np.ndarray, size: int, filler: int) -> Tensor:
    row = np.full((1, size), filler, dtype=np.int64)
    row[0, : len(values)] = values
    return torch.from_numpy(row)


def use_packing(model: PreTrainedModel, activations: torch.dtype | None = None) -> bool:
    """Make a model take the batches of `PackedCollator`, in place.

    Args:
        activations: on a CPU, their dtype: float32, or bfloat16 under autocast to it. The layers become those of
            `glue_mva.models.encoder`, where these can be had. `None` keeps transformers' own.

    Returns:
        Whether the layers are those of `glue_mva.models.encoder`.

    Raises:
        ValueError: the family is not one of `FAMILIES`.
    """
    if not can_pack(model):
        raise ValueError(f"packing is not verified for {model.config.model_type}; verified: {', '.join(FAMILIES)}")
    model.set_attn_implementation(PACKED)
    first_only = activations is not None and use_packed_encoder(model, activations)
    hooks = _Hooks(first_only=first_only, mean=getattr(model.config, "classifier_pooling", "cls") == "mean")
    model.register_forward_pre_hook(hooks.read_layout, with_kwargs=True)
    base = model.base_model
    pooler = getattr(base, "pooler", None)
    if isinstance(pooler, nn.Module):
        pooler.register_forward_pre_hook(hooks.gather_input)
    base.register_forward_hook(hooks.gather_output)
    return hooks.first_only


class _Hooks:
    """The hooks of one model, and the layout of the batch that passes through."""

    layout: PackedLayout

    def __init__(self, *, first_only: bool, mean: bool) -> None:
        self.first_only = first_only
        """Whether the layers give first tokens only."""
        self.mean = mean
        """Whether the head reads the mean over a sequence's tokens (ModernBERT), not the first one."""

    def read_layout(self, model: nn.Module, args: tuple, kwargs: dict[str, Any]) -> tuple[tuple, dict[str, Any]]:
        """`sequence_lengths` of the batch becomes the layout that every attention gets."""
        kwargs = dict(kwargs)
        tokens = kwargs["input_ids"]
        self.layout = PackedLayout.of(kwargs.pop("sequence_lengths"), tokens.shape[1], tokens.device)
        return args, {**kwargs, "packed_layout": self.layout}

    def gather_input(self, pooler: nn.Module, args: tuple) -> tuple:
        """A pooler inside the base model reads [:, 0]: give it (B, 1, hidden)."""
        return (self._first_tokens(args[0]), *args[1:])

    def gather_output(self, base: nn.Module, args: tuple, output: Any) -> Any:
        """A head outside of it reads [:, 0] of the last hidden state, or its mean over tokens."""
        gather = self._means if self.mean else self._first_tokens
        output.last_hidden_state = gather(output.last_hidden_state)
        return output

    def _means(self, hidden: Tensor) -> Tensor:
        """(1, T, hidden) -> (B, 1, hidden): of one token, which the mean over it leaves as it is."""
        sizes = torch.from_numpy(self.layout.sizes).to(hidden.device, non_blocking=True)
        numbers = torch.arange(len(sizes), device=hidden.device)
        owner = torch.repeat_interleave(numbers, sizes, output_size=self.layout.tokens)  # else it asks the device
        sums = hidden.new_zeros(len(sizes), hidden.shape[-1]).index_add(0, owner, hidden[0, : self.layout.tokens])
        return (sums / sizes[:, None])[:, None]

    def _first_tokens(self, hidden: Tensor) -> Tensor:
        """(1, T, hidden), or (1, B, hidden) of first tokens already -> (B, 1, hidden)."""
        if self.first_only:
            return hidden[0][:, None]
        return hidden[0].index_select(0, self.layout.starts)[:, None]
