"""Points of the grid: a learning rate, a weight decay, and further hyperparameters of an optimizer by their names."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from glue_mva.config.run import plain
from glue_mva.errors import nearest
from glue_mva.optim.registry import OPTIMIZERS, OptimizerSpec, get_optimizer


@dataclass(frozen=True, order=True)
class Hparams:
    """One point of the grid. Points are ordered by lr, then weight decay, then the others as they are listed."""

    lr: float
    weight_decay: float
    others: tuple[tuple[str, Any], ...] = ()
    """(name, value) of whatever else is searched; lists as tuples."""

    @property
    def named(self) -> dict[str, Any]:
        """name -> value of all of them."""
        return {"lr": self.lr, "weight_decay": self.weight_decay, **dict(self.others)}

    @property
    def in_table(self) -> dict[str, Any]:
        """The same with lists as text, so that a table can be grouped by them."""
        return {name: scalar(value) for name, value in self.named.items()}

    @property
    def further(self) -> str:
        """The others as a table in JSON; empty where there are none."""
        return json.dumps(dict(self.others)) if self.others else ""

    @property
    def others_in_words(self) -> list[str]:
        """`["beta1 0.95"]`."""
        return [f"{name} {shown(value)}" for name, value in self.others]

    @property
    def in_words(self) -> str:
        """`lr 1e-05 wd 0.1 beta1 0.95`."""
        return " ".join([f"lr {self.lr:g} wd {self.weight_decay:g}", *self.others_in_words])

    def applied(self, optim: str, optim_args: Mapping[str, Any]) -> dict[str, Any]:
        """The optimizer's arguments at this point."""
        spec, args = get_optimizer(optim), dict(optim_args)
        for name, value in self.others:
            if (place := _place_in_betas(spec, name)) is None:
                args[name] = _listed(value)
            else:
                betas = list(args.get("betas", spec.constants["betas"]))
                args["betas"] = [*betas[:place], value, *betas[place + 1 :]]
        return args


def shown(value: Any) -> str:
    """A value of a hyperparameter, for people; a dash where there is none."""
    if value is None or value != value:
        return "-"
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return f"{value:.10g}" if number else json.dumps(_listed(value)).strip('"')


def further_from(text: str) -> dict[str, Any]:
    """What `Hparams.further` says: name -> value, lists as tuples."""
    return {name: hashable(value) for name, value in json.loads(text or "{}").items()}


def hashable(value: Any) -> Any:
    """Lists as tuples, so that a point may be a key."""
    return tuple(map(hashable, value)) if isinstance(value, list | tuple) else value


def scalar(value: Any) -> Any:
    """A list as the text that stands for it, every other value as it is."""
    return shown(value) if isinstance(value, tuple) else value


def _listed(value: Any) -> Any:
    return [_listed(item) for item in value] if isinstance(value, tuple) else value


def _place_in_betas(spec: OptimizerSpec, name: str) -> int | None:
    """`beta1` of an optimizer that takes `betas` is the first of them."""
    names = [f"beta{number}" for number in range(1, len(spec.constants.get("betas", ())) + 1)]
    return names.index(name) if name in names and name not in spec.hparams else None


def values_to_search(spec: OptimizerSpec, name: str, value: Any, fields: list[str]) -> list[Any]:
    """The values of one hyperparameter that an entry names: those of a list, or a single one.

    Args:
        fields: what else an entry may name, for the hint.

    Raises:
        ValueError: the optimizer does not have it, or these are no values for it.
    """
    count = len(spec.constants.get("betas", ()))
    known = [*spec.hparams, *(f"beta{number}" for number in range(1, count + 1))]
    if spec.name in OPTIMIZERS and name not in known:
        hint = nearest(name, fields)
        raise ValueError(f"unknown key {name!r}: {spec.label} has {', '.join(['lr', 'weight_decay', *known])}"
                         + (hint if "did you mean" in hint else ""))  # fmt: skip
    values = value if isinstance(value, list) else [value]
    if not values:
        raise ValueError(f"{name}: an empty list leaves nothing to search; give a value, or leave {name} out")
    values = [plain(item, name) for i, item in enumerate(values) if item not in values[:i]]
    if isinstance(spec.constants.get(name), tuple) and not all(isinstance(item, list) for item in values):
        raise ValueError(f"{name}: each value is a list itself, such as [{list(spec.constants[name])}]; got {value!r}")
    if len({_kind(item) for item in values}) > 1:
        raise ValueError(f"{name}: values of different kinds cannot be compared, got {value!r}")
    return values


def _kind(value: Any) -> str:
    return "number" if isinstance(value, int | float) and not isinstance(value, bool) else type(value).__name__
