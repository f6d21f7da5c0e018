"""The optimizer of a run: its parameter groups by weight decay and depth, its arguments, and who decays the weights."""

import inspect
import logging
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn
from torch.optim import Optimizer

from glue_mva.config.run import Route
from glue_mva.errors import UsageError, kind_and_line
from glue_mva.optim.decay import DecoupledDecay, Rule, rule_of, switches
from glue_mva.optim.registry import LAYER, OPTIMIZERS, OptimizerSpec
from glue_mva.optim.routed import RoutedOptimizer

log = logging.getLogger(__name__)

Named = list[tuple[str, nn.Parameter]]


def depth(name: str, layers: int) -> int:
    """How far a parameter lies from the input: 0 for the embeddings, 1 to `layers` for the encoder's layers, and
    `layers` + 1 for all that comes after them."""
    found = re.search(LAYER, name)
    if found:
        return int(found[1]) + 1
    return 0 if "embed" in name else layers + 1


def parameter_groups(
    named: Named, lr: float, layer_decay: float, weight_decay: float, decayed: Collection[str], layers: int
) -> list[dict[str, Any]]:
    """Parameter groups for an optimizer, the head's first, whose rate is the one that a Trainer logs: each with its
    `lr`, `weight_decay` and parameters.

    Args:
        named: names and parameters of the model, or some of them.
        lr: peak learning rate of the head.
        layer_decay: the learning rate of a parameter is lr * layer_decay ** (layers + 1 - depth).
        weight_decay: of the parameters named in `decayed`; that of all others is 0.
        layers: of the whole model (`count_layers`).
    """
    groups: dict[tuple[int, bool], list[nn.Parameter]] = {}
    for name, parameter in named:
        level = depth(name, layers) if layer_decay != 1 else layers + 1
        groups.setdefault((level, name in decayed), []).append(parameter)
    return [
        {"params": params, "lr": lr * layer_decay ** (layers + 1 - level),
         "weight_decay": weight_decay if decays else 0.0}
        for (level, decays), params in sorted(groups.items(), key=lambda item: item[0], reverse=True)
    ]  # fmt: skip


def count_layers(named: Named) -> int:
    """Layers of a model's encoder."""
    return max((int(found[1]) + 1 for name, _ in named if (found := re.search(LAYER, name))), default=0)


@dataclass
class Part:
    """Some parameters and what steps them."""

    maker: "OptimizerMaker"
    match: str
    """The route's pattern; empty where these are what the routes leave."""
    named: Named
    optimizer: Optimizer
    decayed_by: Rule | None = None
    """Known once the decay is settled."""


class OptimizerMaker:
    """Makes the optimizer of a run.

    Args:
        optim: the class, and what is known of it.
        optim_args: its keyword arguments; they go over the registry's constants.
        routes: parameters for other optimizers, each with the fields of `Route`.

    Raises:
        UsageError: it cannot be imported, or its step needs a closure.
    """

    def __init__(
        self, optim: OptimizerSpec, optim_args: Mapping[str, Any], routes: Sequence[Mapping[str, Any]] = ()
    ) -> None:
        self.spec = optim
        self.routes = [Route(**fields) for fields in routes]
        self.parts: list[Part] = []
        """Of the optimizer that `build` made last, the row's own first."""
        self.cls = optim.cls
        decoupling = switches(self.cls) if optim.decay == "measured" else {}
        self.arguments = {**decoupling, **optim.implementation, **optim.constants, **optim_args}
        closure = inspect.signature(self.cls.step).parameters.get("closure")
        if closure is not None and closure.default is inspect.Parameter.empty:
            raise UsageError(f"{self.spec.label}: its step needs a closure that computes the loss again; not supported")

    def build(self, model: nn.Module, **of_groups: Any) -> Optimizer:
        """An optimizer for all parameters of a model. Routes take theirs, in their order; where a class is made for
        matrices only, Adam takes what is left of its share.

        Args:
            of_groups: `lr`, `layer_decay`, `weight_decay` and `decayed`, as `parameter_groups` takes them.

        Raises:
            UsageError: a class refuses its arguments or these parameters, or there are none for a route or for the
                row's own optimizer.
        """
        left = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
        of_groups["layers"] = count_layers(left)
        routed = []
        for route in self.routes:
            maker = OptimizerMaker(route.optim_spec, route.optim_args)
            taken = [item for item in left if re.search(route.match, item[0])]
            if not taken:
                names = [name for name, _ in left]
                some = dict.fromkeys([*names[:: len(names) // 5 + 1], *names[-1:]])
                raise UsageError(f"routes: {route.match!r} is in the name of no parameter that is left; some of these: "
                                 + ", ".join(some))  # fmt: skip
            left = [item for item in left if not re.search(route.match, item[0])]
            own = {"lr": route.lr, "weight_decay": route.weight_decay}
            own = of_groups | {key: value for key, value in own.items() if value is not None}
            routed.append(Part(maker, route.match, taken, maker._share(taken, own)))
        if not left:
            raise UsageError(f"routes: they leave no parameter to {self.spec.label}: make the last route's optimizer "
                             "the row's own")  # fmt: skip
        self.parts = [Part(self, "", left, self._share(left, of_groups)), *routed]
        return RoutedOptimizer([part.optimizer for part in self.parts]) if routed else self.parts[0].optimizer

    def _share(self, named: Named, of_groups: Mapping[str, Any]) -> Optimizer:
        """This optimizer for some parameters of a model."""
        if not self.spec.scope:
            return self._made(parameter_groups(named, **of_groups))
        inside = {name for name, p in named if p.ndim == 2 and re.search(self.spec.scope, name)}
        adam = OPTIMIZERS["adam"]
        own, rest = ([item for item in named if (item[0] in inside) == wanted] for wanted in (True, False))
        make_adam: Callable[..., Optimizer] = adam.cls
        parts = [self._made(parameter_groups(own, **of_groups))] if own else []
        if rest:
            parts.append(make_adam(parameter_groups(rest, **of_groups), **{**adam.implementation, **adam.constants}))
        return RoutedOptimizer(parts)

    def _made(self, groups: list[dict[str, Any]]) -> Optimizer:
        arguments = {"lr": groups[0]["lr"], **self.arguments}
        try:
            return self.cls(groups, **arguments)
        except UsageError:
            raise
        except (Exception, SystemExit) as error:  # whatever somebody else's class does
            given = ", ".join(f"{name}={value!r}" for name, value in arguments.items())
            raise UsageError(f"{self.spec.label} cannot be built with {given}: {kind_and_line(error)}") from error

    def decay_rules(self) -> list[Rule | None]:
        """Who decays the weights of each part of the optimizer that `build` made last; `None` where nothing does.

        Raises:
            UsageError: the step of a class fails where it is tried.
        """
        return [part.maker._rule(part.optimizer) for part in self.parts]

    def _rule(self, optimizer: Optimizer) -> Rule | None:
        if not any(group.get("weight_decay") for group in optimizer.param_groups):
            return None
        if self.spec.decay != "measured":
            return self.spec.decay
        try:
            return rule_of(self._made, _smallest(optimizer))
        except (Exception, SystemExit) as error:
            raise UsageError(f"{self.spec.label}: what its weight decay does cannot be seen, since its step raises "
                             f"{kind_and_line(error)}") from error  # fmt: skip

    def settle_decay(self, optimizer: Optimizer) -> Rule | None:
        """See to it that the weight decay of the optimizer that `build` made last is decoupled, in all its parts;
        returns who decays what no route takes."""
        for part, rule in zip(self.parts, self.decay_rules(), strict=True):
            part.decayed_by, maker = rule, part.maker
            if rule == "trainer":
                log.warning("%s has no decoupled weight decay; the trainer applies it", maker.spec.label)
            if rule == "own" and maker.spec.decay == "measured":
                log.warning("%s decays weights by a rule of its own, neither decoupled nor L2", maker.spec.label)
        if groups := [g for part in self.parts if part.decayed_by == "trainer" for g in part.optimizer.param_groups]:
            DecoupledDecay(optimizer, groups)
        return self.parts[0].decayed_by


def _smallest(optimizer: Optimizer) -> list[nn.Parameter]:
    """The smallest parameter of each number of dimensions."""
    params = sorted((p for group in optimizer.param_groups for p in group["params"]), key=nn.Parameter.numel)
    return list({p.ndim: p for p in reversed(params)}.values())
