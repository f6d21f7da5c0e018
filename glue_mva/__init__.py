"""glue-mva: fine-tune encoders on GLUE with MAdam and LaMAdam, and compare optimizers honestly.

Importing this package is cheap; what needs torch is loaded when it is first used.
"""

import importlib
from typing import TYPE_CHECKING, Any

from glue_mva.config.run import RunConfig
from glue_mva.errors import UsageError
from glue_mva.record import RunRecord

if TYPE_CHECKING:
    from glue_mva.optim.lamadam import LaMAdam
    from glue_mva.optim.laprop import LaProp
    from glue_mva.optim.madam import MAdam
    from glue_mva.training.runner import run
    from glue_mva.training.trainer import GlueTrainer

__version__ = "0.1.0"
__all__ = ["GlueTrainer", "LaMAdam", "LaProp", "MAdam", "RunConfig", "RunRecord", "UsageError", "run"]

_LAZY = {
    "GlueTrainer": "glue_mva.training.trainer",
    "LaMAdam": "glue_mva.optim",
    "LaProp": "glue_mva.optim",
    "MAdam": "glue_mva.optim",
    "run": "glue_mva.training.runner",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_LAZY[name]), name)
