"""Options that change what a sweep file says: the same words for `sweep`, `plan`, `status` and `report`."""

from collections.abc import Callable, Mapping
from typing import Any

from glue_mva.cli.options import with_fields
from glue_mva.config.base import merged
from glue_mva.config.run import RunConfig, parse_assignments
from glue_mva.errors import UsageError, nearest
from glue_mva.optim.registry import usual_name
from glue_mva.sweep.config import ALWAYS, SET_BY_SWEEP, SweepConfig, load_sweep
from glue_mva.tasks import is_folder

RUN_FIELDS = [name for name in RunConfig.model_fields if name not in (*SET_BY_SWEEP, *ALWAYS)]
HELPS = {
    "tasks": "Only these tasks.",
    "optimizers": "Only these rows of the file, or any other optimizers by name.",
}
RUN_HELPS = {
    "init_from": f"{RunConfig.model_fields['init_from'].description} For one task, from another: "
    "--set init_from.rte=mnli.",
}


def sweep_options(command: Callable[..., None]) -> Callable[..., None]:
    """An option for every key of a sweep file, and for every field that its runs share."""
    of_the_sweep = with_fields(SweepConfig, into="sweep_fields", helps=HELPS)
    return with_fields(RunConfig, RUN_FIELDS, into="run_fields", helps=RUN_HELPS)(of_the_sweep(command))


def same_options(command: Callable[..., None]) -> Callable[..., None]:
    """The same options for a command that reads a folder of runs. Those of the runs' fields are not in its help."""
    keys = [name for name in SweepConfig.model_fields if name != "output"]
    of_the_sweep = with_fields(SweepConfig, keys, into="sweep_fields", helps=HELPS)
    return with_fields(RunConfig, RUN_FIELDS, into="run_fields", hidden=True)(of_the_sweep(command))


def overrides(
    assignments: list[str] | None, sweep_fields: Mapping[str, Any], run_fields: Mapping[str, Any]
) -> dict[str, Any]:
    """What the command line puts over a sweep file.

    Raises:
        UsageError: a key that no sweep file has.
    """
    given = merged(parse_assignments(assignments or []), dict(sweep_fields))
    given = merged(given, {"run": dict(run_fields)}) if run_fields else given
    if unknown := [key for key in given if key not in SweepConfig.model_fields]:
        hint = nearest(unknown[0], [*SweepConfig.model_fields, "run.FIELD"])
        raise UsageError(f"--set: unknown key {unknown[0]!r}{hint}")
    return given


def changed(sweep: str | SweepConfig, given: Mapping[str, Any]) -> SweepConfig:
    """A sweep, or the one of a file, folder or name, with the command line's values over it. Rows are named as the file
    names them (an optimizer with changed constants also by the optimizer alone), or are other optimizers."""
    rest = {key: value for key, value in given.items() if key != "optimizers"}
    found = load_sweep(sweep, rest) if isinstance(sweep, str) else SweepConfig(**merged(sweep.model_dump(), rest))
    data = given.get("run", {}).get("data", "hub")
    if is_folder(data) and found.own_tasks.keys() == set(found.tasks):  # beside tasks of GLUE it is the folder of those
        found = found.replace(own_tasks={name: {**own, "data": data} for name, own in found.own_tasks.items()})
    if "optimizers" not in given:
        return found
    rows = given["optimizers"] if isinstance(given["optimizers"], list) else [given["optimizers"]]
    named = [entry for entry in found.optimizers if entry.name.startswith(f"{entry.optim} (")]
    entries = {entry.optim: entry for entry in reversed(named)} | {entry.name: entry for entry in found.optimizers}

    def entry(row: Any) -> Any:
        return entries.get(row) or entries.get(usual_name(row)) or row if isinstance(row, str) else row

    return found.replace(optimizers=[entry(row) for row in rows])
