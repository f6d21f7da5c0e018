"""The file that a sweep leaves in its folder: all that it was told, so that whoever reads its records needs no more.

Where the folder lies is no part of it: a folder may be moved and renamed. No torch.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from glue_mva.config.identity import EXECUTION_FIELDS
from glue_mva.config.run import RunConfig
from glue_mva.errors import UsageError
from glue_mva.files import atomic_write
from glue_mva.sweep.config import SWEEP_FILE, SweepConfig, load_sweep
from glue_mva.tasks import TASKS

SOURCES = frozenset({"model", "data", "init_from"})
"""Fields of a run that name a place: what counts is what was found there, and the same folder has many paths."""


def keep_sweep(sweep: SweepConfig) -> str:
    """Leave a sweep in its output folder. Launches that differ in tasks and rows alone, as by `--tasks`, are kept as
    the one sweep that they make together; otherwise the latest counts.

    Returns:
        Why what lay there is replaced: it was damaged, or another sweep, and in what. Empty where nothing is lost.

    Raises:
        UsageError: it cannot be written.
    """
    folder, replaced = Path(sweep.output), ""
    if (folder / SWEEP_FILE).is_file():
        try:
            sweep = together(load_sweep(folder / SWEEP_FILE), sweep)
        except UsageError as error:
            replaced = str(error)
    values = sweep.model_dump(exclude={"output"}, exclude_none=True)
    try:
        with atomic_write(folder / SWEEP_FILE) as stream:
            stream.write(f"{json.dumps(values, indent=1)}\n".encode())
    except OSError as error:
        raise UsageError(f"cannot write {str(folder / SWEEP_FILE)!r}: {error.strerror}") from None
    return replaced


def kept_sweep(folders: Sequence[Path]) -> SweepConfig | None:
    """What sweeps left in some folders, at any depth, as one sweep; `None` where none did.

    Raises:
        UsageError: a file that cannot be read, or sweeps that differ in more than tasks and rows.
    """
    paths = {path.resolve(): path for folder in folders for path in folder.rglob(SWEEP_FILE) if path.is_file()}
    whole: SweepConfig | None = None
    for path in sorted(paths.values()):
        found = load_sweep(path)
        try:
            whole = found if whole is None else together(whole, found)
        except UsageError as error:
            where = ", ".join(str(p.parent) for p in sorted(paths.values()))
            way_out = "give the folders one by one, or the sweep's file with --sweep"
            raise UsageError(f"{where}: {error}; {way_out}") from None
    return whole


def together(a: SweepConfig, b: SweepConfig) -> SweepConfig:
    """The tasks and rows of two sweeps that are otherwise the same.

    Raises:
        UsageError: they differ in more; says in what.
    """
    rows = {entry.name: entry for entry in a.optimizers}
    differing = [f"optimizers.{entry.name}" for entry in b.optimizers if rows.get(entry.name, entry) != entry]
    first, second = _settings(a), _settings(b)
    differing += [f"{key} ({first.get(key)}, {second.get(key)})" for key in {**first, **second}
                  if first.get(key) != second.get(key)]  # fmt: skip
    if differing:
        raise UsageError(f"sweeps that differ in {', '.join(differing)}")
    return b.replace(tasks=[*a.tasks, *b.tasks], own_tasks={**a.own_tasks, **b.own_tasks},
                     optimizers=[*a.optimizers, *b.optimizers])  # fmt: skip


def _settings(sweep: SweepConfig) -> dict[str, Any]:
    """What decides the runs of a sweep beside tasks and rows; a field at its default counts as not given."""
    defaults = RunConfig(task="rte", optim="adam")
    run = {f"run.{key}": value for key, value in sweep.run.items()
           if key not in (*EXECUTION_FIELDS, *SOURCES) and value != getattr(defaults, key)}  # fmt: skip
    starts = {f"init_from.{task}": begin if begin in TASKS or not begin else "a model"
              for task, begin in sweep.init_from.items()}  # fmt: skip
    return sweep.model_dump(exclude={"output", "tasks", "own_tasks", "optimizers", "run", "init_from"}) | run | starts
