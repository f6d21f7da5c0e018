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
            if name in (parts := _parts_of_betas(spec)):
                betas = list(args.get("betas", spec.constants["betas"]))
                betas[parts.index(name)] = value
                args["betas"] = betas
            else:
                args[name] = _listed(value)
        return args


def row_name(optim: str, differing: Mapping[str, Any]) -> str:
    """Name of a row that has none: its optimizer, with the arguments that are not its usual ones."""
    arguments = ", ".join(f"{name}={json.dumps(value)}" for name, value in sorted(differing.items()))
    return f"{optim} ({arguments})" if arguments else optim


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


def _parts_of_betas(spec: OptimizerSpec) -> list[str]:
    """`beta1`, `beta2`, ... of an optimizer that takes them together as `betas`."""
    return [f"beta{number}" for number in range(1, len(spec.constants.get("betas", ())) + 1)]


def with_search(values: dict[str, Any], fields: list[str]) -> dict[str, Any]:
    """An entry of a sweep whose keys that are no fields are taken for hyperparameters: several values go to `search`,
    one goes to `optim_args`.

    Args:
        fields: of `OptimizerEntry`.

    Raises:
        ValueError: the optimizer does not have one, or these are no values for it.
    """
    search, args = values.get("search", {}), values.get("optim_args", {})
    if not isinstance(search, dict) or not isinstance(args, dict) or not isinstance(values.get("optim"), str):
        return values  # refused as what they are
    given = {**search, **{key: value for key, value in values.items() if key not in fields}}
    if not given:
        return values
    spec = get_optimizer(values["optim"])
    if twice := [key for key in given if key in args]:
        raise ValueError(f"{', '.join(twice)}: given in optim_args too")
    found = {key: _values(spec, key, value, fields) for key, value in given.items()}
    if "betas" in found and (parts := [key for key in found if key in _parts_of_betas(spec)]):
        raise ValueError(f"{', '.join(parts)}: a part of betas, which is given too")
    single = Hparams(0, 0, tuple((key, hashable(some[0])) for key, some in found.items() if len(some) == 1))
    rest = {key: value for key, value in values.items() if key in fields}
    return {**rest, "optim_args": single.applied(values["optim"], args),
            "search": {key: some for key, some in found.items() if len(some) > 1}}  # fmt: skip


def _values(spec: OptimizerSpec, name: str, value: Any, fields: list[str]) -> list[Any]:
    """The values of one hyperparameter that an entry names: those of a list, or a single one."""
    known = [*spec.hparams, *_parts_of_betas(spec)]
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
    if len(values) > 1 and "dict" in "".join(map(_kind, values)):
        raise ValueError(f"{name}: tables cannot be searched, got {value!r}")
    if len({_kind(item) for item in values}) > 1:
        raise ValueError(f"{name}: values of different kinds cannot be compared, got {value!r}")
    return values


def _kind(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_kind, value))}]"
    return "number" if isinstance(value, int | float) and not isinstance(value, bool) else type(value).__name__
