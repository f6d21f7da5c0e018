"""The folder that a sweep fills: which runs have a result, which record cannot be used, who is at work. No torch."""

import contextlib
import json
import os
import shutil
import socket
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from glue_mva.config.resolve import ResolvedConfig
from glue_mva.errors import UsageError
from glue_mva.files import WORK_FOLDER, atomic_write
from glue_mva.record import LOCK_FILE, RECORD_FILE, RecordError, RunRecord, lacking, read_own, write_failure
from glue_mva.sweep.protocol import Outcome

LOG_FILE = "log.txt"
"""What a run printed, beside its record."""

PREPARE_LOG_FILE = "prepare.log"
"""What loading data and models printed before the first run."""

STATE_FILE = ".sweep.json"
"""What the sweep at work in a folder is doing; read by `glue-mva status`."""


def read_outcomes(output: Path, wanted: Mapping[str, ResolvedConfig]) -> tuple[dict[str, Outcome], dict[str, str]]:
    """(run_id -> outcome of each run that has a record, run_id -> why its record cannot be used).

    Args:
        wanted: run_id -> config of the runs to look for.
    """
    present = {entry.name for entry in os.scandir(output)} if output.is_dir() else set()
    outcomes: dict[str, Outcome] = {}
    problems: dict[str, str] = {}
    for run_id, config in wanted.items():
        path = output / run_id / RECORD_FILE
        if run_id not in present or not path.exists():
            continue
        try:
            record = read_own(output / run_id)
            lacks = lacking(record, path.parent, predict_test=config.predict_test, save_model=config.save_model)
            outcomes[run_id] = replace(Outcome.of(record), lacks=tuple(lacks))
        except RecordError as error:
            problems[run_id] = str(error)
    return outcomes, problems


def recorded(output: Path) -> set[str]:
    """Names of the folders with a record."""
    return {path.parent.name for path in output.glob(f"*/{RECORD_FILE}")}


def remove_work(output: Path, run_id: str) -> None:
    """Remove the checkpoints of a finished run. (A run does so itself; this is for one that was killed in between.)"""
    shutil.rmtree(output / run_id / WORK_FOLDER, ignore_errors=True)


def write_failed(config: ResolvedConfig, run_id: str, error: str) -> None:
    """Write the record of a run that could not write its own."""
    record = RunRecord(run_id=run_id, status="failed", config=config, error=error)
    write_failure(record, Path(config.output) / run_id)


@contextlib.contextmanager
def only_sweep(output: Path, *, wait: bool = False) -> Iterator[None]:
    """Be the one sweep at work in a folder. The lock is the operating system's: it goes with the process.

    Args:
        wait: wait for the other sweep to end.

    Raises:
        UsageError: another sweep is at work there and `wait` is off.
    """
    lock = FileLock(output / LOCK_FILE, timeout=-1 if wait else 1)
    try:
        lock.acquire()
    except Timeout:
        other = read_state(output)
        who = f" (process {other['pid']} on {other['host']}, since {other['since']})" if other else ""
        raise UsageError(
            f"another sweep is at work in {str(output)!r}{who}: --wait waits for it, or take another --output"
        ) from None
    try:
        _forget_state(output)  # of one that was killed
        yield
    finally:
        _forget_state(output)
        lock.release()


def _forget_state(output: Path) -> None:
    with contextlib.suppress(OSError):  # a folder that is read-only meanwhile is told of where it matters
        (output / STATE_FILE).unlink(missing_ok=True)


def is_active(output: Path) -> bool:
    """Whether a sweep is at work in a folder."""
    if not (output / LOCK_FILE).exists():
        return False
    try:
        with FileLock(output / LOCK_FILE, timeout=0):
            return False
    except (Timeout, OSError):
        return True


def write_state(output: Path, since: str, running: dict[str, str], slots: int) -> None:
    """Say what the sweep at work is doing. Never stops it: a full disk is met where it matters, at a record."""
    state = {"pid": os.getpid(), "host": socket.gethostname(), "since": since, "slots": slots, "running": running}
    with contextlib.suppress(OSError), atomic_write(output / STATE_FILE) as stream:
        stream.write(json.dumps(state).encode())


def read_state(output: Path) -> dict[str, Any] | None:
    """What the sweep at work wrote last, or `None`."""
    try:
        return json.loads((output / STATE_FILE).read_bytes())
    except (OSError, ValueError):
        return None
