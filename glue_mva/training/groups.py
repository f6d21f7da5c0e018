"""Parameter groups: by weight decay, by depth (layer-wise learning rates), and by the optimizer that takes them."""

import re
from collections.abc import Callable, Collection
from typing import Any

from torch import nn
from torch.optim import Optimizer

from glue_mva.optim.registry import OPTIMIZERS
from glue_mva.optim.routed import RoutedOptimizer

_LAYER = re.compile(r"\.layers?\.(\d+)\.")
Named = list[tuple[str, nn.Parameter]]


def depth(name: str, layers: int) -> int:
    """How far a parameter lies from the input: 0 for the embeddings, 1 to `layers` for the encoder's layers, and
    `layers` + 1 for all that comes after them."""
    found = _LAYER.search(name)
    if found:
        return int(found[1]) + 1
    return 0 if "embed" in name else layers + 1


def parameter_groups(
    named: Named, lr: float, layer_decay: float, weight_decay: float, decayed: Collection[str]
) -> list[dict[str, Any]]:
    """Parameter groups for an optimizer, the head's first, whose rate is the one that a Trainer logs: each with its
    `lr`, `weight_decay` and parameters.

    Args:
        named: names and parameters of the model.
        lr: peak learning rate of the head.
        layer_decay: the learning rate of a parameter is lr * layer_decay ** (layers + 1 - depth).
        weight_decay: of the parameters named in `decayed`; that of all others is 0.
    """
    layers = max((int(found[1]) + 1 for name, _ in named if (found := _LAYER.search(name))), default=0)
    groups: dict[tuple[int, bool], list[nn.Parameter]] = {}
    for name, parameter in named:
        level = depth(name, layers) if layer_decay != 1 else layers + 1
        groups.setdefault((level, name in decayed), []).append(parameter)
    return [
        {"params": params, "lr": lr * layer_decay ** (layers + 1 - level),
         "weight_decay": weight_decay if decays else 0.0}
        for (level, decays), params in sorted(groups.items(), key=lambda item: item[0], reverse=True)
    ]  # fmt: skip


def build_optimizer(
    cls: Callable[..., Optimizer], arguments: dict[str, Any], scope: str, model: nn.Module, **of_groups: Any
) -> Optimizer:
    """An optimizer for all parameters of a model; where it is made for matrices only, Adam takes what is left.

    Args:
        arguments: keyword arguments of the class.
        scope: `OptimizerSpec.scope`.
        of_groups: `lr`, `layer_decay`, `weight_decay` and `decayed`, as `parameter_groups` takes them.
    """
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    if not scope:
        return cls(parameter_groups(named, **of_groups), **arguments)
    inside = {name for name, p in named if p.ndim == 2 and re.search(scope, name)}
    adam = OPTIMIZERS["adam"]
    parts: list[tuple[Callable[..., Optimizer], dict[str, Any], Named]] = [
        (cls, arguments, [(name, p) for name, p in named if name in inside]),
        (adam.cls, {**adam.implementation, **adam.constants}, [(name, p) for name, p in named if name not in inside]),
    ]
    return RoutedOptimizer([make(parameter_groups(part, **of_groups), **given) for make, given, part in parts if part])
