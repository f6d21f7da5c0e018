"""Which optimizers there are, what they take, and the paper's constants for them. Imports no torch."""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from glue_mva.errors import UsageError, nearest

if TYPE_CHECKING:
    from torch.optim import Optimizer


@dataclass(frozen=True)
class OptimizerSpec:
    """One optimizer of the registry."""

    name: str
    """Name on the command line and in records."""
    label: str
    """Name in tables and figures."""
    path: str
    """Import path of the class, `module:Class`."""
    hparams: tuple[str, ...]
    """Hyperparameters that a config may set, besides `lr` and `weight_decay`."""
    paper_args: Mapping[str, Any] = field(default_factory=dict)
    """The paper's GLUE constants (section 5.3), as keyword arguments of the class."""
    implementation: Mapping[str, Any] = field(default_factory=dict)
    """Keyword arguments that make it fast and leave its result alone."""

    @property
    def cls(self) -> "type[Optimizer]":
        """The class; importing it imports torch."""
        return import_object(self.path)


_MAXVA = ("beta1", "beta2_min", "beta2_max", "eps", "amsgrad")
_MAXVA_GLUE = {"beta1": 0.9, "beta2_min": 0.5, "beta2_max": 0.98}

OPTIMIZERS: dict[str, OptimizerSpec] = {
    spec.name: spec
    for spec in (
        OptimizerSpec("adam", "Adam", "torch.optim:AdamW", ("betas", "eps", "amsgrad"),
                      {"betas": (0.9, 0.98), "eps": 1e-6}, {"fused": True}),
        OptimizerSpec("laprop", "LaProp", "glue_mva.optim.laprop:LaProp", ("beta1", "beta2", "eps", "amsgrad"),
                      {"beta1": 0.9, "beta2": 0.98, "eps": 1e-15}),
        OptimizerSpec("madam", "MAdam", "glue_mva.optim.madam:MAdam", _MAXVA, {**_MAXVA_GLUE, "eps": 1e-6}),
        OptimizerSpec("lamadam", "LaMAdam", "glue_mva.optim.lamadam:LaMAdam", _MAXVA, {**_MAXVA_GLUE, "eps": 1e-15}),
    )
}  # fmt: skip
"""name -> optimizer, in the order of the rows of the paper's Table 3."""

ALIASES = {"adamw": "adam"}


def import_object(path: str) -> Any:
    """The object that `pkg.module:Name` names.

    Raises:
        UsageError: the module cannot be imported or lacks the name.
    """
    module_name, _, attribute = path.partition(":")
    try:
        return getattr(importlib.import_module(module_name), attribute)
    except ImportError as error:
        raise UsageError(f"cannot import {module_name!r} of optimizer {path!r}: {error}") from error
    except AttributeError:
        raise UsageError(f"module {module_name!r} has no class {attribute!r} (optimizer {path!r})") from None


def get_optimizer(name: str) -> OptimizerSpec:
    """The registry's entry for a name, or one made for `pkg.module:Class`, whose hyperparameters are not checked.

    Raises:
        UsageError: no such optimizer; names the nearest.
    """
    if ":" in name:
        return OptimizerSpec(name, name.rpartition(":")[2], name, ())
    key = name.lower().replace("-", "").replace("_", "")
    key = ALIASES.get(key, key)
    if key not in OPTIMIZERS:
        hint = nearest(key, [*OPTIMIZERS, *ALIASES])
        raise UsageError(f"unknown optimizer {name!r}{hint}; any other class goes as pkg.module:Class")
    return OPTIMIZERS[key]
