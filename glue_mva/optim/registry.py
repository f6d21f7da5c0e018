"""Which optimizers there are, what they take, and their constants for fine-tuning. Imports no torch."""

import importlib
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from glue_mva.errors import UsageError, first_line, nearest
from glue_mva.optim.source import note_import

if TYPE_CHECKING:
    from torch.optim import Optimizer


Value = float | str

LAYER = r"(?:^|\.)layers?\.(\d+)\."
"""In the name of a parameter: it is of a layer of the encoder, whose number from 0 this has as its group. There may be
no name before it, in the weights of a bare encoder."""


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
    constants: Mapping[str, Any] = field(default_factory=dict)
    """Keyword arguments of the class: the paper's GLUE constants (section 5.3), or those of `origin`."""
    origin: str = "the paper's constant"
    """Where `constants` and `defaults` come from."""
    defaults: Mapping[str, "Value | Callable[[float], float]"] = field(default_factory=dict)
    """Fields of a run's config whose recipe values do not fit it -> its own value, or a function of Adam's."""
    scope: str = ""
    """Pattern of the names of the matrices that it is made for; Adam takes all others. Empty: it takes everything."""
    implementation: Mapping[str, Any] = field(default_factory=dict)
    """Keyword arguments that make it fast and leave its result alone."""
    decay: Literal["class", "own", "measured"] = "class"
    """Weight decay: decoupled by the class; by a rule of its own that is neither; or to be seen (`optim.decay`)."""
    given: "type[Optimizer] | None" = None
    """The class itself, where it was given and not its name."""

    @property
    def cls(self) -> "type[Optimizer]":
        """The class; importing it imports torch.

        Raises:
            UsageError: it cannot be imported, is not there, is no optimizer, or its source has changed since.
        """
        if self.given is not None:
            return self.given
        found = import_class(self.path)
        if not self.is_known:
            note_import(self.path)
        return found

    def differing(self, optim_args: Mapping[str, Any]) -> dict[str, Any]:
        """Those of some arguments that are not its constants; tuples as lists."""
        given, usual = ({key: list(value) if isinstance(value, tuple) else value for key, value in of.items()}
                        for of in (optim_args, self.constants))  # fmt: skip
        return {key: value for key, value in given.items() if key not in usual or usual[key] != value}

    @property
    def is_known(self) -> bool:
        """Whether it is of the registry."""
        return self.name in OPTIMIZERS


_MAXVA = ("beta1", "beta2_min", "beta2_max", "eps", "amsgrad")
_MAXVA_GLUE = {"beta1": 0.9, "beta2_min": 0.5, "beta2_max": 0.98}
_ADAM = {"betas": (0.9, 0.98), "eps": 1e-6}


def _times(factor: float) -> Callable[[float], float]:
    return lambda adam: adam * factor


_SPECS = (
    OptimizerSpec("adam", "Adam", "torch.optim:AdamW", ("betas", "eps", "amsgrad"), _ADAM,
                  implementation={"fused": True}),
    OptimizerSpec("laprop", "LaProp", "glue_mva.optim.laprop:LaProp", ("beta1", "beta2", "eps", "amsgrad"),
                  {"beta1": 0.9, "beta2": 0.98, "eps": 1e-15}),
    OptimizerSpec("madam", "MAdam", "glue_mva.optim.madam:MAdam", _MAXVA, {**_MAXVA_GLUE, "eps": 1e-6}),
    OptimizerSpec("lamadam", "LaMAdam", "glue_mva.optim.lamadam:LaMAdam", _MAXVA, {**_MAXVA_GLUE, "eps": 1e-15}),
    # Rivals. Those with betas and eps of Adam's kind get the paper's values for Adam, so that they differ in the rule.
    OptimizerSpec("sgd", "SGD", "torch.optim:SGD", ("momentum", "dampening", "nesterov"), {"momentum": 0.9},
                  "momentum as usual; lr untuned: search it", {"lr": 1e-2, "weight_decay": 0.0}, decay="measured"),
    OptimizerSpec("nadam", "NAdam", "torch.optim:NAdam", ("betas", "eps", "momentum_decay"), _ADAM,
                  "the paper's for Adam", implementation={"decoupled_weight_decay": True}),
    OptimizerSpec("radam", "RAdam", "torch.optim:RAdam", ("betas", "eps"), _ADAM,
                  "the paper's for Adam", implementation={"decoupled_weight_decay": True}),
    OptimizerSpec("adafactor", "Adafactor", "torch.optim:Adafactor", ("beta2_decay", "eps", "d"), {},
                  "T5's fine-tuning (Raffel et al. 2020)",
                  {"lr": 1e-3, "weight_decay": 0.0, "lr_scheduler": "constant"}),
    OptimizerSpec("muon", "Muon", "torch.optim:Muon", ("momentum", "nesterov", "ns_steps", "eps", "adjust_lr_fn"),
                  {"momentum": 0.95, "adjust_lr_fn": "match_rms_adamw"},
                  "Moonlight (Liu et al. 2025): updates of AdamW's size, so AdamW's lr", scope=LAYER),
    OptimizerSpec("lion", "Lion", "pytorch_optimizer:Lion", ("betas",), {"betas": (0.9, 0.99)},
                  "Chen et al. 2023: lr 3 to 10 times smaller, decay as much larger",
                  {"lr": _times(0.2), "weight_decay": _times(5.0)}),
    OptimizerSpec("ademamix", "AdEMAMix", "pytorch_optimizer:AdEMAMix", ("betas", "alpha", "t_alpha_beta3", "eps"),
                  {"betas": (0.9, 0.999, 0.9999), "alpha": 5.0}, "Pagliardini et al. 2024",
                  implementation={"weight_decouple": True}),
    OptimizerSpec("adabelief", "AdaBelief", "pytorch_optimizer:AdaBelief", ("betas", "eps", "rectify"),
                  {"betas": (0.9, 0.98), "eps": 1e-16}, "the paper's betas for Adam; eps of Zhuang et al. 2020"),
    OptimizerSpec("lamb", "LAMB", "pytorch_optimizer:Lamb", ("betas", "eps"), {"betas": (0.9, 0.999), "eps": 1e-6},
                  "You et al. 2020; lr untuned: search it", {"lr": 5e-4}),
    OptimizerSpec("soap", "SOAP", "pytorch_optimizer:SOAP", ("betas", "eps", "precondition_frequency",
                  "max_precondition_dim"), {"betas": (0.95, 0.95), "precondition_frequency": 10},
                  "Vyas et al. 2024"),
    OptimizerSpec("prodigy", "Prodigy", "pytorch_optimizer:Prodigy", ("betas", "eps", "d0", "d_coef", "growth_rate",
                  "bias_correction", "safeguard_warmup"),
                  {"betas": (0.9, 0.999), "bias_correction": True, "safeguard_warmup": True},
                  "Mishchenko and Defazio 2023: it finds the step size itself",
                  {"lr": 1.0, "lr_scheduler": "cosine"}, decay="own"),
    OptimizerSpec("schedulefree", "Schedule-free AdamW", "schedulefree:AdamWScheduleFree", ("betas", "eps", "r"),
                  {"betas": (0.9, 0.98), "eps": 1e-6}, "Defazio et al. 2024: no decay of the lr",
                  {"lr_scheduler": "constant_with_warmup"}, decay="own"),
)  # fmt: skip
OPTIMIZERS: dict[str, OptimizerSpec] = {spec.name: spec for spec in _SPECS}
"""name -> optimizer: the rows of the paper's Table 3 in their order, then rivals."""

ALIASES = {"adamw": "adam"}


RIVALS = ("pytorch_optimizer", "schedulefree")
"""Packages of the extra `rivals`."""


def import_class(path: str) -> "type[Optimizer]":
    """The class that `pkg.module:Class` names.

    Raises:
        UsageError: the module cannot be imported or lacks the name, or what it names is no class of an optimizer.
    """
    import torch

    module, _, name = path.partition(":")
    try:
        found: Any = importlib.import_module(module)
    except (Exception, SystemExit) as error:  # whatever somebody else's module does
        hint = "; pip install 'glue-mva[rivals]'" if module in RIVALS else ""
        kind = "" if isinstance(error, ImportError) else f"it raises {type(error).__name__}: "
        raise UsageError(f"cannot import {module!r} of optimizer {path!r}: {kind}{first_line(error)}{hint}") from error
    try:
        found = operator.attrgetter(name)(found)
    except AttributeError:
        raise UsageError(f"module {module!r} has no class {name!r} (optimizer {path!r})") from None
    if not (isinstance(found, type) and issubclass(found, torch.optim.Optimizer)):
        raise UsageError(f"{path!r} is no optimizer: not a class derived from torch.optim.Optimizer")
    return found


def usual_name(name: str) -> str:
    """A name of the registry in any spelling, as the registry has it; of any other name, something that it has not."""
    key = name.lower().replace("-", "").replace("_", "")
    return ALIASES.get(key, key)


def get_optimizer(name: "str | type[Optimizer]") -> OptimizerSpec:
    """The registry's entry for a name, or one made for `pkg.module:Class` or a class, whose hyperparameters are not
    checked.

    Raises:
        UsageError: no such optimizer; names the nearest.
    """
    if isinstance(name, type):
        path = f"{name.__module__}:{name.__qualname__}"
        return OptimizerSpec(path, name.__name__, path, (), decay="measured", given=name)
    module, colon, attribute = name.partition(":")
    if colon:
        if not all(part.isidentifier() for part in (*module.split("."), *attribute.split("."))):
            raise UsageError(f"optimizer {name!r}: write it as pkg.module:Class, the names of a module and a class")
        return OptimizerSpec(name, attribute, name, (), decay="measured")
    key = usual_name(name)
    if key not in OPTIMIZERS:
        module, _, attribute = name.rpartition(".")
        is_path = module and all(part.isidentifier() for part in name.split("."))
        hint = f"; did you mean {f'{module}:{attribute}'!r}?" if is_path else nearest(key, [*OPTIMIZERS, *ALIASES])
        raise UsageError(f"unknown optimizer {name!r}{hint}; any other class goes as pkg.module:Class")
    return OPTIMIZERS[key]
