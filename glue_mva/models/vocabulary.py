"""Train only the rows of the token embedding that occur in a run's data.

The other rows never have a gradient: an element-wise optimizer changes them by weight decay alone. So they are left out
of training, with their state, and put back when weights are saved, decayed as training would have done. Losses and
weights are the same to the bit; but for rounding where gradients are clipped (their norm is summed in another order),
and in the rows put back where an optimizer does not decay by one product per update (torch's fused AdamW).
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import embedding
from torch.optim.lr_scheduler import LambdaLR, LRScheduler
from transformers import PreTrainedModel

_CHUNK = 2**16
"""Elements that are decayed update by update while they lie in the cache."""


class CompactEmbedding(nn.Module):
    """Some rows of an embedding, under their old numbers.

    Args:
        whole: the embedding, (vocabulary, size).
        tokens: (K,) numbers of the rows to keep, ascending.
    """

    weight: nn.Parameter
    """(K, size)."""
    rows: Tensor
    """(vocabulary,) row of `weight` that holds each token; -1, which the lookup refuses, for one that was left out."""

    def __init__(self, whole: nn.Embedding, tokens: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(whole.weight.detach()[tokens].clone(), requires_grad=whole.weight.requires_grad)
        rows = torch.full((len(whole.weight),), -1)
        rows[tokens] = torch.arange(len(tokens))
        self.register_buffer("rows", rows, persistent=False)
        self.padding_idx = None if whole.padding_idx is None else int(rows[whole.padding_idx])

    def forward(self, input: Tensor) -> Tensor:
        """(...) tokens -> (..., size).

        Raises:
            IndexError: a token whose row was left out.
        """
        return embedding(self.rows[input], self.weight, self.padding_idx)


class CompactVocabulary:
    """What was left out of one model, and how to put it back.

    Args:
        model: its token embedding is replaced.
        tokens: numbers of all tokens that the model will ever see; that of the padding is added.
        keep_rest: keep a copy of the other rows, for `whole_state`.
    """

    def __init__(self, model: PreTrainedModel, tokens: Iterable[np.ndarray], *, keep_rest: bool) -> None:
        whole: Any = model.get_input_embeddings()
        used = np.unique(np.concatenate([*map(np.unique, tokens), [model.config.pad_token_id or 0]]))
        self.tokens = torch.from_numpy(used)
        self.rest = whole.weight.detach().clone() if keep_rest else None
        self.embedding = CompactEmbedding(whole, self.tokens)
        model.set_input_embeddings(self.embedding)
        self._decayed = 0

    def whole_state(self, model: nn.Module, scheduler: LRScheduler | None, updates: int) -> dict[str, Tensor]:
        """The `state_dict` of the model with its whole embedding, as it is after `updates` updates.

        Args:
            model: the model, with whatever weights it has now.
            scheduler: of the optimizer that made the updates; what it has yet to do is not looked at.

        Raises:
            ValueError: the rest was not kept, or the schedule is no function of the update.
        """
        if self.rest is None or not isinstance(scheduler, LambdaLR):
            raise ValueError("the rows that were left out were not kept, or their decay is not known")
        _decay(self.rest, self._factors(scheduler, range(self._decayed, updates)))
        self._decayed = updates
        state = model.state_dict()
        (name,) = (name for name, p in model.named_parameters() if p is self.embedding.weight)
        whole = self.rest.clone()
        whole[self.tokens] = self.embedding.weight.detach().to(whole.device)
        return {**state, name: whole}

    def _factors(self, scheduler: LambdaLR, updates: Sequence[int]) -> list[float]:
        """1 - lr_t * weight_decay of each update."""
        groups: Any = zip(scheduler.optimizer.param_groups, scheduler.base_lrs, scheduler.lr_lambdas, strict=True)
        for group, lr, schedule in groups:
            if any(p is self.embedding.weight for p in group["params"]):
                return [1 - lr * schedule(t) * group["weight_decay"] for t in updates]
        return []


def _decay(weight: Tensor, factors: list[float]) -> None:
    """Multiply by one factor after the other, in place, each product rounded as at its update."""
    factors = [factor for factor in factors if factor != 1.0]
    for part in weight.view(-1).split(_CHUNK) if factors else ():
        for factor in factors:
            part.mul_(factor)


def can_compact(model: PreTrainedModel) -> bool:
    """Whether the token embedding is a plain one, which nothing else in the model shares."""
    found: Any = model.get_input_embeddings()
    if type(found) is not nn.Embedding or found.max_norm is not None or found.scale_grad_by_freq or found.sparse:
        return False
    owners = [name for name, p in model.named_parameters(remove_duplicate=False) if p is found.weight]
    return len(owners) == 1
