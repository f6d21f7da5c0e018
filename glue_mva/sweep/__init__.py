"""Sweeps: what a sweep file says, which runs follow from it, and the engines that run them.

Importing this package is cheap: no torch, no Ray.
"""

from glue_mva.sweep.config import OptimizerEntry, SweepConfig, load_sweep, sweep_path
from glue_mva.sweep.hparams import Hparams
from glue_mva.sweep.protocol import Cell, Outcome, SweepRun, cells, chosen, expand, final_runs, known_runs

__all__ = [
    "Cell",
    "Hparams",
    "OptimizerEntry",
    "Outcome",
    "SweepConfig",
    "SweepRun",
    "cells",
    "chosen",
    "expand",
    "final_runs",
    "known_runs",
    "load_sweep",
    "sweep_path",
]
