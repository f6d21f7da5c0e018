"""The optimizer of a run: its parameter groups by weight decay and depth, its arguments, and who decays the weights."""

import inspect
import logging
import re
from collections.abc import Callable, Collection, Mapping
from typing import Any

from torch import nn
from torch.optim import Optimizer

from glue_mva.errors import UsageError, kind_and_line
from glue_mva.optim.decay import DecoupledDecay, Rule, rule_of, switches
from glue_mva.optim.registry import OPTIMIZERS, get_optimizer
from glue_mva.optim.routed import RoutedOptimizer

log = logging.getLogger(__name__)

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


class OptimizerMaker:
    """Makes the optimizer of a run.

    Args:
        optim: name of the registry, `pkg.module:Class`, or a class.
        optim_args: its keyword arguments; they go over the registry's constants.

    Raises:
        UsageError: no such optimizer, or one whose step needs a closure.
    """

    def __init__(self, optim: str | type[Optimizer], optim_args: Mapping[str, Any]) -> None:
        spec = get_optimizer(optim) if isinstance(optim, str) else None
        self.cls: type[Optimizer] = spec.cls if spec is not None else optim  # type: ignore[assignment]
        self.label = spec.label if spec is not None else self.cls.__name__
        self.scope = spec.scope if spec is not None else ""
        self.decay = spec.decay if spec is not None else "measured"
        given = {**spec.implementation, **spec.constants} if spec is not None else {}
        self.arguments = {**(switches(self.cls) if self.decay == "measured" else {}), **given, **optim_args}
        closure = inspect.signature(self.cls.step).parameters.get("closure")
        if closure is not None and closure.default is inspect.Parameter.empty:
            raise UsageError(f"{self.label}: its step needs a closure that computes the loss again; not supported")

    def build(self, model: nn.Module, **of_groups: Any) -> Optimizer:
        """An optimizer for all parameters of a model; where it is made for matrices only, Adam takes what is left.

        Args:
            of_groups: `lr`, `layer_decay`, `weight_decay` and `decayed`, as `parameter_groups` takes them.

        Raises:
            UsageError: the class refuses its arguments or these parameters.
        """
        named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
        if not self.scope:
            return self._made(parameter_groups(named, **of_groups))
        inside = {name for name, p in named if p.ndim == 2 and re.search(self.scope, name)}
        adam = OPTIMIZERS["adam"]
        own, rest = ([item for item in named if (item[0] in inside) == wanted] for wanted in (True, False))
        make_adam: Callable[..., Optimizer] = adam.cls
        parts = [self._made(parameter_groups(own, **of_groups))] if own else []
        others = make_adam(parameter_groups(rest, **of_groups), **{**adam.implementation, **adam.constants})
        return RoutedOptimizer([*parts, others])

    def _made(self, groups: list[dict[str, Any]]) -> Optimizer:
        arguments = {"lr": groups[0]["lr"], **self.arguments}
        try:
            return self.cls(groups, **arguments)
        except UsageError:
            raise
        except (Exception, SystemExit) as error:  # whatever somebody else's class does
            given = ", ".join(f"{name}={value!r}" for name, value in arguments.items())
            raise UsageError(f"{self.label} cannot be built with {given}: {kind_and_line(error)}") from error

    def decay_rule(self, optimizer: Optimizer) -> Rule | None:
        """Who decays the weights that an optimizer from `build` is for; `None` where nothing does.

        Raises:
            UsageError: the class's step fails where it is tried.
        """
        if not any(group.get("weight_decay") for group in optimizer.param_groups):
            return None
        if self.decay != "measured":
            return self.decay
        try:
            return rule_of(self._made, _smallest(optimizer))
        except (Exception, SystemExit) as error:
            raise UsageError(f"{self.label}: what its weight decay does cannot be seen, since its step raises "
                             f"{kind_and_line(error)}") from error  # fmt: skip

    def settle_decay(self, optimizer: Optimizer) -> Rule | None:
        """See to it that the weight decay of an optimizer that `build` made is decoupled; returns its `decay_rule`."""
        rule = self.decay_rule(optimizer)
        if rule == "trainer":
            DecoupledDecay(optimizer)
            log.warning("%s has no decoupled weight decay; the trainer applies it", self.label)
        if rule == "own" and self.decay == "measured":
            log.warning("%s decays weights by a rule of its own, neither decoupled nor L2", self.label)
        return rule


def _smallest(optimizer: Optimizer) -> list[nn.Parameter]:
    """The smallest parameter of each number of dimensions."""
    params = sorted((p for group in optimizer.param_groups for p in group["params"]), key=nn.Parameter.numel)
    return list({p.ndim: p for p in reversed(params)}.values())
