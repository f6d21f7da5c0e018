"""glue-mva: fine-tune encoders on GLUE with MAdam and LaMAdam, and compare optimizers honestly.

Importing this package loads nothing; each name is imported when it is first used, so that the optimizers need torch and
NumPy only.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from glue_mva.config.run import RunConfig
    from glue_mva.errors import UsageError
    from glue_mva.optim.lamadam import LaMAdam
    from glue_mva.optim.laprop import LaProp
    from glue_mva.optim.madam import MAdam
    from glue_mva.record import RunRecord
    from glue_mva.report.results import results
    from glue_mva.training.runner import run
    from glue_mva.training.trainer import GlueTrainer

__version__ = "0.1.0"
__all__ = ["GlueTrainer", "LaMAdam", "LaProp", "MAdam", "RunConfig", "RunRecord", "UsageError", "results", "run"]

_MODULES = {
    "GlueTrainer": "glue_mva.training.trainer",
    "LaMAdam": "glue_mva.optim",
    "LaProp": "glue_mva.optim",
    "MAdam": "glue_mva.optim",
    "RunConfig": "glue_mva.config.run",
    "RunRecord": "glue_mva.record",
    "UsageError": "glue_mva.errors",
    "results": "glue_mva.report.results",
    "run": "glue_mva.training.runner",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
