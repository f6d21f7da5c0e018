"""What a sweep will cost, before anything runs: counted where that can be done, else estimated. Imports no torch."""

import os
import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from glue_mva.config.identity import model_path, task_root
from glue_mva.config.resolve import ResolvedConfig
from glue_mva.errors import UsageError
from glue_mva.record import RECORD_FILE, RecordError, read_record
from glue_mva.sweep.config import SweepConfig
from glue_mva.sweep.protocol import Cell, Cells, Outcomes, Stage, SweepRun, cells, final_runs, search_runs
from glue_mva.sweep.unit import Unit, rows_of, rows_used, unit_of
from glue_mva.tasks import get_task, is_folder

ASSUMED_TOKENS_PER_SECOND = {"gpu": 20_000.0, "cpu": 250.0}
"""Training speed of a 125M-parameter encoder that is assumed where no record tells; not a measurement."""

ASSUMED_PARAMETERS = 125e6

ASSUMED_RECORD_BYTES = 60_000
WEIGHTS_BYTES_PER_PARAMETER = 4
"""In float32, as a run keeps them."""
CHECKPOINT_BYTES_PER_PARAMETER = WEIGHTS_BYTES_PER_PARAMETER * (1 + 4)
"""Weights and up to four state tensors."""

SAMPLE_RECORDS = 200
"""Records that are read for the speed: the first so many of the folder."""


@dataclass(frozen=True)
class Speed:
    """How fast this model runs, and how that is known."""

    tokens_per_second: float
    per_task: Mapping[str, float] = field(default_factory=dict)
    """Task -> speed, where records of that very task tell."""
    basis: str = ""
    measured: bool = False
    record_bytes: float | None = None

    def seconds(self, task: str, unit: Unit) -> float:
        return unit.work / self.per_task.get(task, self.tokens_per_second)


@dataclass(frozen=True)
class Line:
    """All runs of one cell and stage."""

    task: str
    row: str
    stage: Stage
    runs: int
    done: int
    unit: Unit
    seconds: float
    """Estimated wall time of one run."""
    keeps_weights: bool = False

    @property
    def left(self) -> int:
        return self.runs - self.done


@dataclass(frozen=True)
class Machines:
    """Where a sweep is to run."""

    gpus: int
    runs_per_gpu: int = 1

    @property
    def slots(self) -> int:
        return self.gpus * self.runs_per_gpu


@dataclass(frozen=True)
class Plan:
    """The whole sweep, line by line; totals are properties."""

    lines: list[Line]
    speed: Speed
    disk_bytes: float
    weights_bytes: float
    """Of the models that are kept, of runs that are left."""
    checkpoint_bytes: float
    """Of one run that is long enough to write checkpoints; while it runs."""
    savings: list[tuple[str, int, float]]
    """(change, runs saved, seconds saved), largest first."""
    partial: list[str]
    """`RTE (1,000 of 2,490 training rows)` of every task whose data are not the whole."""
    starts: list[str]
    """What tasks start from another, in words."""
    beyond: int
    """Search runs that `extend_lr` may add at most; not among `lines`."""
    ways: Mapping[str, Sequence[str]]
    """Task -> the tasks whose runs come one after the other up to its own, itself included."""
    waits: Mapping[tuple[str, str], Sequence[tuple[str, str]]]
    """(task, row) of a matched row -> the cells whose final runs come before its own."""
    machines: Machines | None = None

    @property
    def runs(self) -> int:
        return sum(line.runs for line in self.lines)

    @property
    def done(self) -> int:
        return sum(line.done for line in self.lines)

    @property
    def seconds(self) -> float:
        return sum(line.runs * line.seconds for line in self.lines)

    @property
    def seconds_left(self) -> float:
        return sum(line.left * line.seconds for line in self.lines)

    @property
    def wall_seconds(self) -> float:
        """Until all that is left is done on `machines`: all runs spread evenly, or the longest search with the longest
        final run after it (and what it starts from or is matched to before it), where that is longer."""
        slots = self.machines.slots if self.machines is not None else 1
        chains: dict[tuple[str, str], float] = defaultdict(float)
        for line in self.lines:
            chains[line.task, line.row] += line.seconds * (line.left > 0)
        for (task, row), awaited in self.waits.items():
            chains[task, row] += max(chains[key] for key in awaited)
        whole = [sum(chains[before, row] for before in self.ways[task]) for task, row in list(chains)]
        return max(self.seconds_left / slots, *whole, 0.0)

    @property
    def longest(self) -> Line | None:
        return max(self.lines, key=lambda line: line.seconds, default=None)


def make_plan(
    sweep: SweepConfig, outcomes: Outcomes, machines: Machines | None = None, tokens_per_second: float | None = None
) -> Plan:
    """Count and estimate every run of a sweep.

    Args:
        machines: GPUs to run on; by default this machine.
        tokens_per_second: training speed of one run, in place of what records tell or an assumption.

    Raises:
        UsageError: a data folder without one of the tasks: all that are missing, in one line.
    """
    table = cells(sweep)
    _check_data(table)
    speed = estimate_speed(sweep, machines)
    if tokens_per_second is not None:
        speed = Speed(tokens_per_second, basis=f"{tokens_per_second:,.0f} tokens/s in each run, as given",
                      record_bytes=speed.record_bytes)  # fmt: skip
    lines = [line for key in table for line in _lines(table, key, outcomes, speed)]
    record_bytes = speed.record_bytes or ASSUMED_RECORD_BYTES
    predictions = sum(line.left * line.unit.eval_rows * 4 * (2 * get_task(line.task).num_labels + 1) for line in lines)
    disk = sum(line.left for line in lines) * record_bytes + (0 if speed.record_bytes else predictions)
    parameters = _parameters(next(iter(table.values())).any_config.model)
    weights = WEIGHTS_BYTES_PER_PARAMETER * parameters * sum(line.left for line in lines if line.keeps_weights)
    checkpoint = CHECKPOINT_BYTES_PER_PARAMETER * parameters
    ways = {task: sweep.way_to(task) for task in sweep.tasks}
    waits = {key: cell.matched_from for key, cell in table.items() if cell.matched_from}
    beyond = sum(_beyond(table, key, outcomes) for key in table)
    return Plan(lines, speed, disk, weights, checkpoint, _savings(sweep, speed), _partial(table), sweep.starts,
                beyond, ways, waits, machines)  # fmt: skip


def _lines(table: Cells, key: tuple[str, str], outcomes: Outcomes, speed: Speed) -> list[Line]:
    cell = table[key]

    def line(stage: Stage, runs: int, known: list[SweepRun], config: ResolvedConfig) -> Line:
        done, unit = sum(_is_done(run.run_id, outcomes) for run in known), unit_of(config)
        return Line(*key, stage, runs, done, unit, speed.seconds(cell.task, unit), config.save_model)

    lines = []
    if searching := cell.search_runs():
        known = search_runs(table, key, outcomes)
        lines.append(line("search", max(len(searching), len(known)), known, searching[0].config))
    if cell.sweep.protocol != "grid" or cell.entry.match_step_size is not None:
        lines.append(line("final", cell.sweep.final_seeds, final_runs(table, key, outcomes), cell.any_config))
    return lines


def _beyond(table: Cells, key: tuple[str, str], outcomes: Outcomes) -> int:
    """Search runs that may follow beyond what is known of a cell: none once all of those are finished."""
    cell, known = table[key], search_runs(table, key, outcomes)
    is_over = bool(known) and all(_is_done(run.run_id, outcomes) for run in known)
    if len(cell.rates) < 2 or is_over:
        return 0
    of_grid = len(cell.search_runs())
    return cell.sweep.extend_lr * of_grid // len(cell.rates) - max(0, len(known) - of_grid)


def _partial(table: Cells) -> list[str]:
    found = {}
    for cell in table.values():
        config, task = cell.any_config, cell.any_config.task_spec
        splits = [("train", "training")] if "train" in task.rows else []
        splits += [(split, "dev") for split in task.eval_splits]
        counts = [(rows_used(config, split), task.rows[split] or rows_of(config, task, split), what)
                  for split, what in splits]  # fmt: skip
        if short := [f"{n:,} of {whole:,} {what} rows" for n, whole, what in counts if n != whole]:
            found[cell.task] = f"{task.title} ({', '.join(dict.fromkeys(short))})"
    return list(found.values())


def _is_done(run_id: str, outcomes: Outcomes) -> bool:
    return run_id in outcomes and outcomes[run_id].is_finished


def _check_data(table: Cells) -> None:
    missing = {}
    for cell in table.values():
        data, task = cell.any_config.data, cell.any_config.task_spec
        if is_folder(data) and not task.is_own and task_root(data, task.folder) is None:
            missing[cell.task] = f"no data for {cell.task} in {data!r}"
    if missing:
        raise UsageError("; ".join(missing.values()))


def estimate_speed(sweep: SweepConfig, machines: Machines | None = None) -> Speed:
    """Speed from the records of the same model in the sweep's folder, of the device most of them ran on; else the
    stated assumption. Runs that share a GPU are assumed to share that speed, and to gain nothing by it.

    Args:
        machines: look at records of GPUs only, and assume a GPU.
    """
    model = next(iter(cells(sweep).values())).any_config.model
    found: dict[str, list[tuple[str, float, int]]] = {}
    for path in sorted(Path(sweep.output).glob(f"*/{RECORD_FILE}"))[:SAMPLE_RECORDS]:
        try:
            record = read_record(path)
            unit = unit_of(record.config)
        except (RecordError, OSError, ValueError, KeyError):  # data folders that are not here, or not whole
            continue
        execution = record.execution
        if record.status != "ok" or execution is None or record.config.model != model:
            continue
        if not (execution.times_the_whole_run and execution.total_seconds):
            continue
        if machines is not None and execution.device_type != "cuda":
            continue
        size = sum(p.stat().st_size for p in path.parent.iterdir() if p.is_file())
        done = (record.updates or 0) / unit.updates if unit.updates else 1.0  # less than all where it was stopped early
        rate = done * unit.work / execution.total_seconds
        found.setdefault(execution.device, []).append((record.config.task, rate, size))
    if not found:
        return _assumed_speed(model, machines)
    device, rates = max(found.items(), key=lambda item: len(item[1]))
    tasks = {task for task, _, _ in rates}
    share = machines.runs_per_gpu if machines is not None else 1
    return Speed(
        statistics.median(rate for _, rate, _ in rates) / share,
        {task: statistics.median(rate for t, rate, _ in rates if t == task) / share for task in tasks},
        f"from {len(rates)} records of {model} on {device}" + (f", divided among {share} runs" if share > 1 else ""),
        measured=True,
        record_bytes=statistics.fmean(size for _, _, size in rates),
    )


def _assumed_speed(model: str, machines: Machines | None) -> Speed:
    kind = "gpu" if machines is not None or os.path.exists("/dev/nvidia0") else "cpu"  # noqa: PTH110 - a device node
    rate = ASSUMED_TOKENS_PER_SECOND[kind] * ASSUMED_PARAMETERS / _parameters(model)
    where = "one GPU" if kind == "gpu" else "the CPU (no GPU seen here)"
    if machines is not None and machines.runs_per_gpu > 1:
        rate /= machines.runs_per_gpu
        where = f"one GPU that {machines.runs_per_gpu} runs share"
    return Speed(rate, basis=f"assumed, not measured: {rate:,.0f} tokens/s on {where}")


def _parameters(model: str) -> float:
    """Number of weights: from the size of a local model's file, else roberta-base's."""
    files = Path(model_path(model)).glob("*.safetensors")
    return sum(path.stat().st_size for path in files) / 4 or ASSUMED_PARAMETERS


def _savings(sweep: SweepConfig, speed: Speed) -> list[tuple[str, int, float]]:
    """What some changes would save of the whole sweep, done runs or not, without rates beyond the grids."""
    lines = _lines_of_file(sweep, speed)
    total_runs, total_seconds = _total(lines)
    changes: list[tuple[str, SweepConfig]] = []
    if len(sweep.tasks) > 1:
        by_cost = sorted(sweep.tasks, key=lambda t: _total([x for x in lines if x.task == t])[1], reverse=True)
        for count in (1, 2):
            rest = [t for t in sweep.tasks if t not in by_cost[:count]]
            if rest and all(sweep.sources.get(t, t) in rest for t in rest):
                changes.append((f"--tasks {','.join(rest)}", sweep.replace(tasks=rest)))
    if sweep.search_seeds > 1 and sweep.protocol in ("paper", "heldout"):
        changes.append(("--search-seeds 1", sweep.replace(search_seeds=1)))
    if sweep.final_seeds > 2:
        changes.append(("--final-seeds 2", sweep.replace(final_seeds=2)))
    if sweep.protocol != "fixed" and not sweep.unknown_to_paper:
        changes.append(("--protocol fixed", sweep.replace(protocol="fixed")))
    if sweep.protocol == "grid":
        changes.append(("--protocol paper", sweep.replace(protocol="paper")))
    savings = []
    for label, changed in changes:
        runs, seconds = _total(_lines_of_file(changed, speed))
        if runs < total_runs:
            savings.append((label, total_runs - runs, total_seconds - seconds))
    return sorted(savings, key=lambda saving: -saving[2])


def _lines_of_file(sweep: SweepConfig, speed: Speed) -> list[Line]:
    table = cells(sweep)
    return [line for key in table for line in _lines(table, key, {}, speed)]


def _total(lines: list[Line]) -> tuple[int, float]:
    return sum(line.runs for line in lines), sum(line.runs * line.seconds for line in lines)


def seconds_of(cell: Cell, config: ResolvedConfig, speed: Speed) -> float:
    """Estimated wall time of one run of a cell."""
    return speed.seconds(cell.task, unit_of(config))
