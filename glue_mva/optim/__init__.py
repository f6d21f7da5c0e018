"""The optimizers of the paper. Importing this package is cheap; the classes import torch when they are first used."""

from typing import TYPE_CHECKING

from glue_mva.optim.registry import OPTIMIZERS, OptimizerSpec, get_optimizer

if TYPE_CHECKING:
    from torch.optim import Optimizer

    from glue_mva.optim.lamadam import LaMAdam
    from glue_mva.optim.laprop import LaProp
    from glue_mva.optim.madam import MAdam

__all__ = ["OPTIMIZERS", "LaMAdam", "LaProp", "MAdam", "OptimizerSpec", "get_optimizer"]

_CLASSES = {"MAdam": "madam", "LaMAdam": "lamadam", "LaProp": "laprop"}


def __getattr__(name: str) -> "type[Optimizer]":
    if name not in _CLASSES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return OPTIMIZERS[_CLASSES[name]].cls
