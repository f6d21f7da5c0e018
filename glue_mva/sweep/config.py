"""`SweepConfig`: what a sweep file says, checked, with every problem listed at once. Imports no torch."""

import itertools
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, ValidationInfo, field_validator, model_validator

from glue_mva import paper
from glue_mva.config.base import Config, merged, read_toml
from glue_mva.config.own_task import is_task_file, read_own_task
from glue_mva.config.recipes import paper_column
from glue_mva.config.run import NonNegative, Positive, RunConfig, Seed
from glue_mva.errors import UsageError, nearest
from glue_mva.files import expanded
from glue_mva.optim.registry import get_optimizer
from glue_mva.sweep.hparams import Hparams, hashable, row_name, with_search
from glue_mva.tasks import TASKS, get_task

_PACKAGE = Path(__file__).parents[1]
CONFIGS = next((f for f in (_PACKAGE / "configs", _PACKAGE.parent / "configs") if f.is_dir()), _PACKAGE / "configs")
"""The sweep files that come with the package: inside it where it was installed from a wheel (`setup.py` puts them
there), else the folder `configs/` at the top of the source tree."""

DEFAULT_SWEEP = "table3"

SWEEP_FILE = "sweep.json"
"""The sweep that filled a folder, as it left itself there; see `sweep.kept`."""
LONGEST_KEPT = 2**20
"""Bytes of such a file that are read; one of ours has some 1,000."""

SET_BY_SWEEP = {
    "task": "tasks", "optim": "optimizers", "optim_args": "optimizers[].optim_args",
    "routes": "optimizers[].routes", "lr": "lr", "weight_decay": "weight_decay",
    "seed": "search_seeds and final_seeds", "holdout_fraction": "holdout_fraction",
    "holdout_seed": "holdout_seed", "output": "output", "own_task": "tasks",
}  # fmt: skip
"""Field of `RunConfig` that a sweep decides itself -> the key of the sweep file that does it."""

ALWAYS = ("resume", "force")
"""Fields of `RunConfig` that make no sense in a sweep: it always resumes and never repeats a finished run."""

FIRST_FINAL_SEED = 1
FIRST_SEARCH_SEED = 1001
"""Final seeds are 1, 2, ...; search seeds are 1001, 1002, ...: the two never meet, whatever their numbers."""

LAST_SEARCH_SEED = 2 * (FIRST_SEARCH_SEED - FIRST_FINAL_SEED)

Protocol = Literal["paper", "heldout", "grid", "fixed"]
SeedCount = Annotated[int, Field(ge=1, le=FIRST_SEARCH_SEED - FIRST_FINAL_SEED)]


def _as_list(value: Any) -> Any:
    """One value stands for a list of one; repeated values count once."""
    values = value if isinstance(value, list | tuple) else [value]
    return [v for i, v in enumerate(values) if v not in values[:i]]


Rates = Annotated[list[Positive], Field(min_length=1), BeforeValidator(_as_list)]
Decays = Annotated[list[NonNegative], Field(min_length=1), BeforeValidator(_as_list)]


class OptimizerEntry(Config):
    """One optimizer of a sweep: a row of its table."""

    optim: str
    """Optimizer of the registry, or `pkg.module:Class`."""
    optim_args: dict[str, Any] = Field(default_factory=dict)
    """Further keyword arguments of the optimizer; they go over the paper's constants."""
    routes: list[dict[str, Any]] = Field(default_factory=list)
    """Parameters for other optimizers, as in `RunConfig`; an entry that has some needs a name."""
    lr: Rates | None = None
    """Learning rates to search, in place of the sweep's."""
    weight_decay: Decays | None = None
    """Weight decays to search, in place of the sweep's."""
    search: dict[str, list[Any]] = Field(default_factory=dict)
    """Further hyperparameters to search: name -> values. An entry names them beside its other keys
    (`beta1 = [0.9, 0.95]`); one value goes to `optim_args`."""
    match_step_size: str | None = None
    """Name of another row. This one is then not searched: it takes the best hyperparameters of the plain row of the
    same optimizer, with lr scaled so that the average step size equals the other row's (eta' in the paper's Figure 5).
    """
    name: str = Field(default="", validate_default=True)
    """Name of the row, unique in the sweep; by default the optimizer's, with those of its constants that are given
    otherwise, and `-matched` for a matched one."""

    @model_validator(mode="before")
    @classmethod
    def _hyperparameters_by_name(cls, values: Any) -> Any:
        return with_search(values, list(cls.model_fields)) if isinstance(values, dict) else values

    @field_validator("optim")
    @classmethod
    def _known_optimizer(cls, value: str) -> str:
        return get_optimizer(value).name

    @field_validator("name")
    @classmethod
    def _default_name(cls, value: str, info: ValidationInfo) -> str:
        if not value and info.data.get("routes"):
            raise ValueError("an entry with routes needs a name")
        if value or not info.data.get("optim"):
            return value
        spec = get_optimizer(info.data["optim"])
        differing = spec.differing(info.data.get("optim_args", {})) if spec.is_known else {}
        matched = "-matched" if info.data.get("match_step_size") else ""
        return row_name(spec.name.rpartition(":")[2], differing) + matched

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for others in self.further_points:  # refuses what is wrong
            args = Hparams(0, 0, others).applied(self.optim, self.optim_args)
            RunConfig(task="rte", optim=self.optim, optim_args=args, routes=self.routes)
        if self.match_step_size is not None and (self.lr or self.weight_decay or self.search):
            named = ", ".join(["lr, weight_decay", *self.search])
            raise ValueError(f"match_step_size leaves nothing to search: drop {named}")
        return self

    @property
    def further_points(self) -> list[tuple[tuple[str, Any], ...]]:
        """Every combination of the further hyperparameters; a single empty one where there are none."""
        values = [[(name, hashable(value)) for value in values] for name, values in self.search.items()]
        return list(itertools.product(*values))


def _entry(value: Any) -> Any:
    """A bare name stands for an entry with nothing but that name; problems name the entry."""
    if not isinstance(value, str | dict):
        return value
    values = {"optim": value} if isinstance(value, str) else value
    try:
        return OptimizerEntry(**values)
    except UsageError as error:
        raise ValueError(f"optimizers: {values.get('name') or values.get('optim') or 'entry'}: {error}") from None


def _read_own_tasks(values: dict[str, Any]) -> dict[str, Any]:
    """Files among the tasks become names, and what they say goes to `own_tasks`."""
    if not isinstance(values.get("own_tasks", {}), dict):
        return values  # refused as what it is
    tasks, own_tasks = _as_list(values.get("tasks", [])), dict(values.get("own_tasks", {}))
    for place, task in enumerate(tasks):
        if is_task_file(task):
            read = read_own_task(task)
            tasks[place] = read.pop("task")
            own_tasks[tasks[place]] = read
    return {**values, "tasks": tasks, "own_tasks": own_tasks}


def _task(value: Any) -> Any:
    return get_task(value).name if isinstance(value, str) else value


def _start_of(task: str, begin: str) -> str:
    """A task by its name, or a model: a folder, or a name on the Hub with its owner."""
    if "/" in begin or not begin:
        return begin
    try:
        return get_task(begin).name
    except UsageError as error:
        if Path(begin).is_dir():
            return begin
        raise ValueError(f"init_from.{task}: {error}; or give a model: a folder, or OWNER/NAME on the Hub") from None


class SweepConfig(Config):
    """A sweep: tasks x optimizers x hyperparameters x seeds, and the protocol that picks among them."""

    own_tasks: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Own task -> what its file says (`own_task`) and where its data are (`data`); filled by itself."""
    output: str = "runs"
    """Folder that gets `<run_id>/record.json`. Sweeps that share it share the runs they have in common."""
    tasks: Annotated[list[Annotated[str, BeforeValidator(_task)]], Field(min_length=1), BeforeValidator(_as_list)]
    """Columns of the table: GLUE tasks by name, and own ones by their TOML files (docs/own-data.md)."""
    optimizers: Annotated[
        list[Annotated[OptimizerEntry, BeforeValidator(_entry)]], Field(min_length=1), BeforeValidator(_as_list)
    ]
    """Rows of the table: names, or tables with the fields of `OptimizerEntry`."""
    protocol: Protocol = "paper"
    """`paper`: search seeds over the grid, best median dev score, then further seeds of that point. `heldout`: the
    same, searching on a part of the training set instead of the dev set. `grid`: every point with the final seeds.
    `fixed`: the paper's best points, whatever the grid."""
    lr: Rates = Field(default=list(paper.LR_GRID))
    """Learning rates to search."""
    weight_decay: Decays = Field(default=list(paper.WEIGHT_DECAY_GRID))
    """Weight decays to search."""
    extend_lr: Annotated[int, Field(ge=0, le=20)] = 0
    """How many learning rates a search may add to a row's: while the best is the lowest or highest of them, one more
    follows, by the factor between it and its neighbour (after 2e-5 and 4e-5 comes 8e-5). A row with one learning rate
    has no ends."""
    search_seeds: SeedCount = 1
    """Seeds per grid point of the search (1001, 1002, ...)."""
    final_seeds: SeedCount = paper.FINAL_SEEDS
    """Seeds of the chosen point, and of every point under `grid` (1, 2, ...)."""
    holdout_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Protocol `heldout`: share of the training rows that the search is scored on."""
    holdout_seed: Seed = 0
    """Protocol `heldout`: seed of that split."""
    run: dict[str, Any] = Field(default_factory=dict)
    """Fields of `RunConfig` that all runs share: model, data, recipe, limits."""
    init_from: dict[str, str] = Field(default_factory=dict)
    """Task -> what its runs start from: another task of the sweep, of which it is the best final run of the same row,
    or a fine-tuned model. Empty words stand for the pretrained model."""

    @field_validator("output")
    @classmethod
    def _with_home(cls, value: str) -> str:
        return expanded(value)

    @model_validator(mode="before")
    @classmethod
    def _own_tasks_by_name(cls, values: Any) -> Any:
        return _read_own_tasks(values) if isinstance(values, dict) and values.get("tasks") else values

    @field_validator("own_tasks")
    @classmethod
    def _known_own_tasks(cls, values: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        for name, fields in values.items():
            RunConfig(task=name, optim="adam", **fields)  # refuses what is none, and makes the task known
        return values

    @field_validator("init_from")
    @classmethod
    def _known_starts(cls, values: dict[str, str]) -> dict[str, str]:
        found = {}
        for target, begin in values.items():
            name = get_task(target).name
            if name in found:
                raise ValueError(f"init_from: {name} is named twice")
            found[name] = _start_of(name, begin)
        return found

    @model_validator(mode="after")
    def _starts_lead_somewhere(self) -> Self:
        for task in self.tasks:
            begin = self.init_from.get(task)
            if begin in TASKS and begin not in self.tasks:
                raise ValueError(f"init_from: {task} starts from {begin}, which is not among the tasks: add it "
                                 "(what is finished is not run again), or give a model")  # fmt: skip
            if begin:
                RunConfig(**{**self.fields_of(task), "optim": "adam", "init_from": begin})
            if self.sources.get((way := self.way_to(task))[-1]) == task:
                raise ValueError(f"init_from: {' from '.join([*way, task])} is a circle")
        return self

    @model_validator(mode="after")
    def _paper_knows(self) -> Self:
        if self.protocol == "fixed" and (unknown := self.unknown_to_paper):
            raise ValueError(f"protocol fixed: the paper has no values for {', '.join(unknown)}, whose file names no "
                             "GLUE task (like)")  # fmt: skip
        return self

    def fields_of(self, task: str) -> dict[str, Any]:
        """Fields of `RunConfig` that all runs of a task share; `lr` and `weight_decay` stand for the searched
        ones."""
        own, begin = self.own_tasks.get(task, {}), self.init_from.get(task)
        fields = {"task": task, "lr": self.lr[0], "weight_decay": self.weight_decay[0], **self.run, **own}
        return fields if begin is None else {**fields, "init_from": "" if begin in self.tasks else begin}

    @property
    def sources(self) -> dict[str, str]:
        """Task -> the task whose best final run of the same row its runs start from."""
        return {task: self.init_from[task] for task in self.tasks if self.init_from.get(task) in self.tasks}

    def way_to(self, task: str) -> list[str]:
        """A task, the one that it starts from, the one that that starts from, and so on."""
        way = [task]
        while (following := self.sources.get(way[-1])) is not None and following not in way:
            way.append(following)
        return way

    @property
    def starts(self) -> list[str]:
        """`RTE and MRPC start from the row's best MNLI run`, a line per start, for people."""
        lines = []
        for begin in dict.fromkeys(self.init_from[task] for task in self.tasks if self.init_from.get(task)):
            titles = [get_task(task).title for task in self.tasks if self.init_from.get(task) == begin]
            names = " and ".join([", ".join(titles[:-1]), titles[-1]]) if len(titles) > 1 else titles[0]
            what = f"the row's best {get_task(begin).title} run" if begin in self.tasks else f"the model {begin}"
            lines.append(f"{names} {'starts' if len(titles) == 1 else 'start'} from {what}")
        return lines

    @property
    def unknown_to_paper(self) -> list[str]:
        """The tasks that have no values of the paper: own ones whose files name no GLUE task."""
        return [task for task in self.tasks if paper_column(get_task(task)) is None]

    @field_validator("optimizers")
    @classmethod
    def _rows_fit_together(cls, entries: list[OptimizerEntry]) -> list[OptimizerEntry]:
        names = [entry.name for entry in entries]
        problems = [f"two entries are named {n!r}: give one a name" for n in dict.fromkeys(names) if names.count(n) > 1]
        plain = {entry.name: entry for entry in entries if entry.match_step_size is None}
        for entry in entries:
            if entry.match_step_size is None:
                continue
            if entry.match_step_size not in plain:
                problems.append(f"{entry.name}: no row {entry.match_step_size!r} to match"
                                f"{nearest(entry.match_step_size, plain)}")  # fmt: skip
            if not base_rows(entry, entries):
                problems.append(f"{entry.name}: match_step_size needs a plain row of {entry.optim} with the same "
                                "optim_args and routes")  # fmt: skip
        if problems:
            raise ValueError("optimizers: " + "; optimizers: ".join(problems))
        return entries

    @field_validator("run")
    @classmethod
    def _valid_run_fields(cls, values: dict[str, Any]) -> dict[str, Any]:
        problems = [f"run.{key}: a sweep sets it through {SET_BY_SWEEP[key]}" for key in values if key in SET_BY_SWEEP]
        problems += [f"run.{key}: a sweep always resumes and never repeats a finished run" for key in values
                     if key in ALWAYS]  # fmt: skip
        rest = {key: value for key, value in values.items() if key not in SET_BY_SWEEP and key not in ALWAYS}
        try:
            RunConfig(task="rte", optim="adam", **rest)
        except UsageError as error:
            problems.append(f"run: {error}")
        if problems:
            raise ValueError("; ".join(problems))
        return values


def base_rows(entry: OptimizerEntry, entries: Iterable[OptimizerEntry]) -> list[OptimizerEntry]:
    """The searched rows with the optimizer, arguments and routes of a matched row; the first gives its
    hyperparameters."""
    return [e for e in entries if e.match_step_size is None and e.optim == entry.optim
            and e.optim_args == entry.optim_args and e.routes == entry.routes]  # fmt: skip


def sweep_path(file: str | Path) -> Path:
    """The sweep file that a path or a name means: a file, the folder that a sweep filled, or a name; `table3`,
    `table3.toml` and `configs/table3.toml` are found in the package where no such file lies in the working directory.

    Raises:
        UsageError: none of these; lists the names.
    """
    try:
        path = Path(expanded(str(file)))
    except ValueError as error:
        raise UsageError(f"sweep file {error}") from None
    for found in (path, path / SWEEP_FILE):
        if found.is_file():
            return found
    shipped = {p.stem: p for p in sorted(CONFIGS.glob("*.toml"))}
    if path.parent in (Path(), Path("configs")) and path.suffix in ("", ".toml") and path.stem in shipped:
        return shipped[path.stem]
    if path.is_dir():
        raise UsageError(f"{path}: no {SWEEP_FILE} in this folder: give the sweep's file")
    raise UsageError(f"no sweep file {str(file)!r}{nearest(path.stem, shipped)}")


def load_sweep(file: str | Path, overrides: dict[str, Any] | None = None) -> SweepConfig:
    """Read a sweep file by path, folder or name. `overrides` replace keys of the file; tables (`run`) are merged.

    Raises:
        UsageError: no such file, not TOML (or JSON, of one that a sweep left), or bad values: all problems in one line.
    """
    path = sweep_path(file)
    values = read_toml(path) if path.name != SWEEP_FILE else {**_read_kept(path), "output": str(path.parent)}
    try:
        return SweepConfig(**merged(values, overrides or {}))
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from None


def _read_kept(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_bytes()) if path.stat().st_size <= LONGEST_KEPT else None
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from None
    except (ValueError, RecursionError):
        values = None
    if not isinstance(values, dict):
        raise UsageError(f"{path}: not the file of a sweep: it is damaged; remove it, and give the sweep's own file")
    return values
