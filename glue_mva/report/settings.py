"""Settings of runs beside what a sweep's file names, and beside their recipe."""

import json
from collections import Counter
from typing import Any

import numpy as np

from glue_mva.config.identity import EXECUTION_FIELDS
from glue_mva.config.recipes import FIELDS, RECIPES
from glue_mva.config.resolve import ResolvedConfig, resolve
from glue_mva.config.run import RunConfig
from glue_mva.errors import UsageError
from glue_mva.optim.registry import get_optimizer
from glue_mva.report.load import HARMLESS, SEARCHED, Runs
from glue_mva.sweep.config import SweepConfig
from glue_mva.sweep.kept import SOURCES
from glue_mva.tasks import get_task
from glue_mva.text import clean

_SAID_ELSEWHERE = {"recipe", "own_task", "max_train_samples", "max_eval_samples"}


def departures(config: dict[str, Any]) -> list[str]:
    """`num_train_epochs 3` for each setting of a run that is not its recipe's, or not the usual one where the recipe
    has none; what is searched, named elsewhere or without effect on scores is left out."""
    spec, recipe = get_task(config["task"]), RECIPES[config["recipe"]]
    usual = {name: field.default for name, field in ResolvedConfig.model_fields.items() if name not in FIELDS}
    usual |= {key: value for key, (value, _) in recipe.for_run(spec, get_optimizer(config["optim"])).items()}
    free = SEARCHED | SOURCES | EXECUTION_FIELDS | HARMLESS | _SAID_ELSEWHERE
    free |= {"num_train_epochs"} if config["max_steps"] else set()
    differing = (key for key in RunConfig.model_fields if key not in free and config[key] != usual.get(key))
    return [f"{key} {_in_words(config[key])}" for key in differing]


def _in_words(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else clean(str(value))


def only_of_sweep(runs: Runs, sweep: SweepConfig, *, as_found: bool) -> Runs:
    """The runs with the settings that follow from the sweep's file; the others are left out, with a note. Where all
    contradict it and are taken as found, all of them, with a note.

    Raises:
        UsageError: all contradict it; names the settings.
    """
    expected = _Expected(sweep)
    configs = {run_id: config for run_id in runs.table.index if expected.has_row(config := runs.configs[run_id])}
    differing = {run_id: expected.contradictions(config) for run_id, config in configs.items()}
    contradicting = {run_id: found for run_id, found in differing.items() if found}
    if not contradicting:
        return runs
    common = Counter(text for found in contradicting.values() for text in found)
    listed = clean(", ".join(text for text, _ in common.most_common(5)))
    count = len(contradicting)
    runs_were = "run was" if count == 1 else "runs were"
    problem = f"{count:,} {runs_were} made with other settings than the sweep's file names: {listed}"
    if count < len(differing):
        kept = runs.keep(np.array([run_id not in contradicting for run_id in runs.table.index]))
        kept.notes.append(f"{problem}; left out")
        return kept
    if not as_found:
        raise UsageError(f"{problem}; give the file that they were made with, or take them with --as-found")
    runs.notes.append(f"{problem}; taken as found")
    return runs


class _Expected:
    """The settings that follow from a sweep's file, for each task and optimizer."""

    def __init__(self, sweep: SweepConfig) -> None:
        self.sweep = sweep
        self.rows = {(task, entry.optim) for task in sweep.tasks for entry in sweep.optimizers}
        self.known: dict[tuple[str, str, str], dict[str, Any]] = {}
        free = SEARCHED | SOURCES | EXECUTION_FIELDS | (HARMLESS - sweep.run.keys())
        self.keys = [key for key in RunConfig.model_fields if key not in free]
        self.keys.sort(key=lambda key: key not in sweep.run)  # what the file names is told first

    def has_row(self, config: dict[str, Any]) -> bool:
        """Whether a run's task and optimizer are the sweep's."""
        return (config["task"], config["optim"]) in self.rows

    def contradictions(self, config: dict[str, Any]) -> list[str]:
        """`num_train_epochs = 2 (file: 1)` for each setting of a run of these rows that is another one."""
        place = (config["task"], config["optim"], config["data"])  # limits on rows depend on what the data hold
        if place not in self.known:
            values = {**self.sweep.fields_of(place[0]), "optim": place[1], "data": place[2]}
            self.known[place] = resolve(RunConfig(**values)).model_dump()
        mine = self.known[place]
        return [f"{key} = {json.dumps(config[key])} (file: {json.dumps(mine[key])})" for key in self.keys
                if config[key] != mine[key]]  # fmt: skip
