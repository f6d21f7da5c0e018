"""Records on disk -> one table row per run, with its curves. What cannot be used is named, never silently dropped."""

import contextlib
import json
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from glue_mva.config.identity import EXECUTION_FIELDS
from glue_mva.config.run import RunConfig, parse_assignments
from glue_mva.errors import UsageError, first_line, nearest
from glue_mva.optim.registry import get_optimizer
from glue_mva.record import FINISHED, PREDICTIONS_FILE, RECORD_FILE, Metrics, RecordError, RunRecord, read_record
from glue_mva.sweep.config import SET_BY_SWEEP
from glue_mva.sweep.kept import SOURCES
from glue_mva.sweep.protocol import mean_step_size
from glue_mva.tasks import TASKS, get_task
from glue_mva.text import clean

Curves = dict[str, NDArray[np.float64]]

SEARCHED = SET_BY_SWEEP.keys() - {"output", "own_task"}
"""Config keys in which the runs of one report may differ."""
HARMLESS = {"padding", "precision"}
"""Config keys whose mixture is not refused: the same computation up to rounding. `mixtures` says what `auto` became."""


@dataclass
class Runs:
    """All runs of a report."""

    table: pd.DataFrame
    """One row per run, index `run_id`; columns as in `runs.csv` (docs/report.md)."""
    curves: dict[str, Curves] = field(default_factory=dict)
    """run_id -> training curves and, under `dev_step` and `dev_score`, the score x 100 of each evaluation."""
    environments: dict[str, dict[str, Any]] = field(default_factory=dict)
    """run_id -> versions and platform."""
    configs: dict[str, dict[str, Any]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    """What was left out or mixed, for the reader."""

    def keep(self, mask: NDArray[np.bool_]) -> "Runs":
        """The runs of the rows (rows,) where `mask` is true."""
        return Runs(self.table[mask], self.curves, self.environments, self.configs, list(self.notes))


def load_runs(folders: Sequence[Path], where: Sequence[str] = ()) -> Runs:
    """Read every `record.json` below some folders; a run that lies in several counts once.

    Args:
        folders: RUNS of a sweep, or a single run's folder, each.
        where: `key=value` conditions on the config; other runs are left out.

    Raises:
        UsageError: no such folder, no record that can be read, an unknown key, or no run meets the conditions.
    """
    check_folders(folders)
    with _readable():
        files = _record_files(folders)
    wanted = _conditions(where)
    broken: list[str] = []
    found: list[_Read] = []
    number = 0
    for folder, path in files:
        try:
            record = read_record(path)
        except RecordError as error:
            broken.append(clean(str(error).replace(f"{folder}/", "")))
            continue
        number += 1
        config = record.config.model_dump()
        meets = all(_meets(config.get(key), value) for key, value in wanted.items())
        if record.model is not None and record.model.start is not None:
            config["init_from"] = record.model.start  # what was found there, for `check_comparable`
        if meets:
            found.append(_Read(_row(record, config, path.parent), _curves(record), record.environment, config))
    if not number:
        reason = f"; {broken[0]}" if broken else f": looked for {RECORD_FILE} in it and below"
        raise UsageError(f"{', '.join(map(str, folders))}: no record that can be read{reason}")
    if not found:
        raise UsageError(f"none of {number} records meets --where {' '.join(where)}")
    runs = Runs(pd.DataFrame())
    if broken:
        runs.notes.append(_listed(f"{_count(len(broken), 'record')} could not be read and left out", broken))
    kept = _of_latest_versions(_without_duplicates(found, runs.notes), runs.notes)
    table = pd.DataFrame([read.row for read in kept])
    runs.table = table.assign(model=_one_name_each(table)).set_index("run_id", drop=False)
    for read in kept:
        run_id = read.row["run_id"]
        runs.curves[run_id], runs.environments[run_id], runs.configs[run_id] = (
            read.curves,
            read.environment,
            read.config,
        )
    return runs


def _meets(value: Any, wanted: Any) -> bool:
    """Whether a setting is the one that is wanted; of a table, whether every key that is named is."""
    if isinstance(wanted, dict) and isinstance(value, dict):
        return all(_meets(value.get(key), part) for key, part in wanted.items())
    return bool(value == wanted)


def check_folders(folders: Sequence[Path]) -> None:
    """Refuse what is no folder that can be looked into.

    Raises:
        UsageError: names the first.
    """
    with _readable():
        for folder in folders:
            if not folder.is_dir():
                raise UsageError(f"{folder}: no such folder of runs")


@contextlib.contextmanager
def _readable() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UsageError(f"{clean(str(error.filename))}: {error.strerror}") from None


def _record_files(folders: Sequence[Path]) -> list[tuple[Path, Path]]:
    """(folder, record) for every file of that name, each once, in an order that depends on the runs' folders alone."""
    found = {path.resolve(): (folder, path) for folder in folders for path in folder.rglob(RECORD_FILE)}
    return sorted(found.values(), key=lambda pair: (pair[1].parent.name, str(pair[1])))


class _Read(NamedTuple):
    """What is kept of one record."""

    row: dict[str, Any]
    curves: Curves
    environment: dict[str, Any]
    config: dict[str, Any]


def _conditions(where: Sequence[str]) -> dict[str, Any]:
    wanted = parse_assignments(list(where), "--where")
    for key, value in wanted.items():
        if key not in RunConfig.model_fields:
            raise UsageError(f"--where {key}={value}: no such key of a run{nearest(key, RunConfig.model_fields)}")
        if key == "task":
            wanted[key] = get_task(str(value)).name
        if key == "optim":
            wanted[key] = get_optimizer(str(value)).name
    return wanted


def _without_duplicates(found: list[_Read], notes: list[str]) -> list[_Read]:
    """One record per run_id: folders of several machines may hold a run twice. The latest finished one counts."""
    best: dict[str, _Read] = {}
    disagreeing = []
    for read in found:
        run_id = read.row["run_id"]
        other = best.get(run_id)
        if other is not None and not np.array_equal(other.row["score"], read.row["score"], equal_nan=True):
            disagreeing.append(run_id)
        if other is None or _rank(read) > _rank(other):
            best[run_id] = read
    if doubled := len(found) - len(best):
        notes.append(f"{_count(doubled, 'record')} of a run that lies here twice: each run counts once, the latest")
    if disagreeing:
        notes.append(_listed("copies of one run with different scores, the latest counts", disagreeing))
    return list(best.values())


def _one_name_each(table: pd.DataFrame) -> "pd.Series[str]":
    """Name of each run's model, (runs,): one that lies under several paths has the name that most of its runs give."""
    known = table[table["model_digest"] != ""]
    most = known.groupby("model_digest")["model"].agg(lambda names: names.mode().iloc[0]).to_dict()
    of_name = {name: most[digest] for name, digest in zip(known["model"], known["model_digest"], strict=True)}
    names = [most.get(digest) or of_name.get(name, name)
             for name, digest in zip(table["model"], table["model_digest"], strict=True)]  # fmt: skip
    return pd.Series(names, index=table.index)


def _of_latest_versions(found: list[_Read], notes: list[str]) -> list[_Read]:
    """Without the results of an own optimizer whose source has changed since: no row mixes two optimizers."""
    latest: dict[tuple[str, ...], str | None] = {}

    def classes(read: _Read) -> tuple[str, ...]:
        return read.row["optim"], *(route["optim"] for route in read.config["routes"])

    for read in sorted(found, key=lambda read: read.row["created"]):
        if read.row["status"] in FINISHED:
            latest[classes(read)] = read.row["optimizer_source"]

    def is_older(read: _Read) -> bool:
        return read.row["status"] in FINISHED and read.row["optimizer_source"] != latest[classes(read)]

    for optim, number in Counter(read.row["optim"] for read in found if is_older(read)).items():
        notes.append(f"{optim}: {_count(number, 'run')} of another version than the latest left out")
    return [read for read in found if not is_older(read)]


def _rank(read: _Read) -> tuple[bool, str]:
    return read.row["status"] in FINISHED, read.row["created"]


def arguments_of(optim_args: dict[str, Any], routes: list[dict[str, Any]]) -> dict[str, Any]:
    """What tells two rows of one optimizer apart: its arguments, and the routes where it has some."""
    return {**optim_args, "routes": routes} if routes else optim_args


def _row(record: RunRecord, config: dict[str, Any], folder: Path) -> dict[str, Any]:
    execution, data, model = record.execution, record.data, record.model
    task, split = record.config.task_spec, dev_split(record)
    rows = data.rows if data is not None else {}
    official = data.official_rows if data is not None else task.rows
    best, last = record.best, record.epochs[-1] if record.epochs else None
    usable = record.status == "ok" and record.score is not None
    row: dict[str, Any] = {
        "run_id": record.run_id,
        **{key: config[key] for key in ("task", "optim", "lr", "weight_decay", "seed")},
        "optim_args": json.dumps(arguments_of(config["optim_args"], config["routes"]), sort_keys=True),
        **{key: config[key] for key in ("holdout_fraction", "recipe")},
        "status": record.status,
        "score": record.score if usable else math.nan,
        "last_score": record.last_score if usable and record.last_score is not None else math.nan,
        "best_epoch": best.epoch if best is not None else math.nan,
        "last_epoch": last.epoch if last is not None else math.nan,
        "best_step": best.step if best is not None else math.nan,
        "majority_score": 100 * pick(record.majority, split, task.headline),
        "split": split,
        "dev_rows": rows.get(split, math.nan),
        "train_rows": rows.get("train", math.nan),
        "official_train_rows": official.get("train") or math.nan,
        "official_dev_rows": next((official.get(s) for s in task.eval_splits), None) or math.nan,
        "partial": data is not None and data.partial,
        "data": data.source if data is not None else config["data"],
        "data_digest": data.digest if data is not None else "",
        "model": model.name if model is not None else config["model"],
        "model_digest": (model.digest if model is not None else None) or "",
        "parameters": model.parameters if model is not None else math.nan,
        "start": model.start if model is not None else None,
        "weights": record.weights,
        "updates": _or(record.updates, math.nan),
        "step_size": _or(mean_step_size(record), math.nan),
        "seconds": execution.total_seconds if execution is not None else math.nan,
    }
    for key in ("train_seconds", "eval_seconds", "examples_per_second", "tokens_per_second", "peak_memory_bytes",
                "optimizer_state_bytes", "world_size", "threads"):  # fmt: skip
        row[key] = _or(getattr(execution, key, None), math.nan)
    if execution is not None and not execution.times_the_whole_run:
        row |= dict.fromkeys(("seconds", "train_seconds", "eval_seconds"), math.nan)
    for key in ("device", "precision", "padding", "optimizer", "kernel"):
        row[key] = _or(getattr(execution, key, None), "")
    for which, evaluation in (("best", best), ("last", last)):
        metrics = evaluation.metrics if evaluation is not None else {}
        row |= {f"{which} {s}/{name}": value for s, named in metrics.items() for name, value in named.items()}
    row["optimizer_source"] = record.optimizer_source
    row["warnings"] = clean("; ".join(record.warnings)) or None
    checks = execution.checks if execution is not None else {}
    row["failed_checks"] = clean(", ".join(name for name, check in sorted(checks.items()) if not check.ok)) or None
    return row | {"error": record.error or "", "created": record.created, "folder": str(folder)}


def _or(value: Any, otherwise: Any) -> Any:
    return otherwise if value is None else value


def dev_split(record: RunRecord) -> str:
    """The split that the score comes from; of a run that failed before it was known, the one it would have been."""
    if record.headline is not None:
        return record.headline.split
    return "holdout" if record.config.holdout_fraction else next(iter(record.config.task_spec.eval_splits), "test")


def pick(metrics: Metrics, split: str, name: str) -> float:
    """A metric that may be missing or no number, as a float."""
    value = metrics.get(split, {}).get(name)
    return math.nan if value is None else value


def _curves(record: RunRecord) -> Curves:
    curves = {k: np.array(v, dtype=float) for k, v in record.curves.items()}  # None becomes NaN
    if "step_size" in curves:
        curves["step_size"] = np.array(record.step_sizes, dtype=float)
    key = dev_split(record), record.config.task_spec.headline
    curves["dev_step"] = np.array([e.step for e in record.epochs], dtype=float)
    curves["dev_score"] = np.array([100 * pick(e.metrics, *key) for e in record.epochs], dtype=float)
    return curves


def load_predictions(folder: str, split: str) -> tuple[NDArray, NDArray]:
    """Labels (rows,) and outputs of the best epoch of one run, (rows, classes) or (rows,).

    Raises:
        RecordError: no such file, a damaged one, or outputs that are no finite numbers for every row; one line.
    """
    path = Path(folder) / PREDICTIONS_FILE
    place = f"{path.parent.name}/{path.name}"
    try:
        with np.load(path, allow_pickle=False) as arrays:
            labels, outputs = arrays[f"{split}/labels"], arrays[f"{split}/best"]
        fits = labels.ndim == 1 and outputs.ndim in (1, 2) and 0 < len(labels) == len(outputs)
        if not (fits and np.isfinite(labels).all() and np.isfinite(outputs).all()):
            raise RecordError(f"{place}: not one finite output for every row")
    except FileNotFoundError:
        raise RecordError(f"{place}: is not there") from None
    except RecordError:
        raise
    except Exception as error:  # of zipfile, zlib and numpy, on what is damaged
        raise RecordError(f"{place}: cannot be read ({first_line(error)})") from None
    return labels, outputs


def check_comparable(runs: Runs, names: "pd.Series[str]") -> None:
    """Refuse runs that differ in anything but the searched keys and what is the same up to rounding.

    Args:
        names: run_id -> row of the table.

    Raises:
        UsageError: runs of several models or recipes, or runs of one task on other data or with other settings.
    """
    table = runs.table
    _refuse_mixture(table["model"], "models", "--where model=NAME")
    _refuse_mixture(table["recipe"], "recipes", "--where recipe=NAME")
    if len(digests := _known(table["model_digest"])) > 1:
        raise UsageError(f"{len(digests)} different models of one name ({', '.join(digests)}): "
                         "keep their runs in separate folders")  # fmt: skip
    for task, rows in table.groupby("task"):
        title = TASKS[str(task)].title
        for holdout, part in rows.groupby("holdout_fraction"):
            if len(digests := _known(part["data_digest"])) > 1:
                where = "" if not holdout else f" with holdout_fraction {part['holdout_fraction'].iloc[0]:g}"
                found = f"{title}: runs{where} on {len(digests)} different sets of rows ({', '.join(digests)})"
                raise UsageError(f"{found}: keep them in separate folders, or choose with --where data=PLACE")
        configs = [runs.configs[run_id] for run_id in rows.index]
        _refuse_other_starts(title, rows, configs, names)
        ignored = SEARCHED | SOURCES | HARMLESS | EXECUTION_FIELDS
        for key in sorted({k for config in configs for k in config} - ignored):
            of: dict[str, set[str]] = {}  # an optimizer with a value of its own, such as its schedule, is a group alone
            for config in configs:
                has_own = key in get_optimizer(config["optim"]).defaults
                of.setdefault(config["optim"] if has_own else "", set()).add(json.dumps(config.get(key)))
            for values in (sorted(found) for found in of.values() if len(found) > 1):
                raise UsageError(f"{title}: runs with different {key} ({', '.join(values)}) cannot stand in one table; "
                                 f"choose with --where {key}={values[0]}, or give the sweep's file")  # fmt: skip


def _refuse_other_starts(
    title: str, rows: pd.DataFrame, configs: list[dict[str, Any]], names: "pd.Series[str]"
) -> None:
    """Rows of a table start alike: all from the pretrained model, or each from one fine-tuned model."""
    starts = pd.Series([config["init_from"] for config in configs], index=rows.index)
    if starts.eq("").any() and starts.ne("").any():
        raise UsageError(f"{title}: runs with and without init_from cannot stand in one table: keep them in separate "
                         "folders")  # fmt: skip
    for name, of_row in starts.groupby(names.loc[rows.index]):
        if of_row.nunique() > 1:
            raise UsageError(f"{title}, {name}: runs from {of_row.nunique()} different models (init_from): keep them "
                             "in separate folders")  # fmt: skip


def _known(values: "pd.Series[str]") -> list[str]:
    return sorted({value for value in values if value})


def _refuse_mixture(values: "pd.Series[Any]", what: str, way_out: str) -> None:
    counts = values.value_counts()
    if len(counts) > 1:
        listed = ", ".join(f"{name} ({_count(n, 'run')})" for name, n in counts.items())
        raise UsageError(f"runs of {len(counts)} {what} cannot stand in one table: {listed}; choose with {way_out}")


def _count(n: int, noun: str) -> str:
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


def _listed(title: str, items: Sequence[str], shown: int = 5) -> str:
    more = f" and {len(items) - shown} more" if len(items) > shown else ""
    return f"{title}: {', '.join(items[:shown])}{more}"
