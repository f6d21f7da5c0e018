"""Parameter groups by depth: layer-wise learning rates (ELECTRA and later fine-tuning recipes)."""

import re
from collections.abc import Collection
from typing import Any

from torch import nn

_LAYER = re.compile(r"\.layers?\.(\d+)\.")


def depth(name: str, layers: int) -> int:
    """How far a parameter lies from the input: 0 for the embeddings, 1 to `layers` for the encoder's layers, and
    `layers` + 1 for all that comes after them."""
    found = _LAYER.search(name)
    if found:
        return int(found[1]) + 1
    return 0 if "embed" in name else layers + 1


def layer_groups(
    model: nn.Module, lr: float, layer_decay: float, weight_decay: float, decayed: Collection[str]
) -> list[dict[str, Any]]:
    """Parameter groups for an optimizer, the head's first, whose rate is the one that a Trainer
    logs: each with its `lr`, `weight_decay` and parameters.

    Args:
        lr: peak learning rate of the head.
        layer_decay: the learning rate of a parameter is lr * layer_decay ** (layers + 1 - depth).
        weight_decay: of the parameters named in `decayed`; that of all others is 0.
    """
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    layers = max((int(found[1]) + 1 for name, _ in named if (found := _LAYER.search(name))), default=0)
    groups: dict[tuple[int, bool], list[nn.Parameter]] = {}
    for name, parameter in named:
        groups.setdefault((depth(name, layers), name in decayed), []).append(parameter)
    return [
        {"params": params, "lr": lr * layer_decay ** (layers + 1 - level),
         "weight_decay": weight_decay if decays else 0.0}
        for (level, decays), params in sorted(groups.items(), key=lambda item: item[0], reverse=True)
    ]  # fmt: skip
