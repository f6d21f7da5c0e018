"""What a worker does: make one run, and turn whatever happens into an outcome. Both engines share it."""

import contextlib
import os
import sys
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from filelock import FileLock, Timeout

from glue_mva.config import identity
from glue_mva.config.resolve import ResolvedConfig
from glue_mva.errors import UsageError
from glue_mva.files import STORAGE_ERRORS
from glue_mva.record import LOCK_FILE, RecordError, RunRecord, read_own
from glue_mva.sweep.protocol import Outcome
from glue_mva.sweep.store import LOG_FILE, PREPARE_LOG_FILE, write_failed

Trouble = Literal["memory", "storage", "other"]
"""Why a run failed, as far as it decides what happens next."""

PREVIOUS_OWNER_SECONDS = 60
"""How long to wait for a dying process to let go of the run that is made again here."""


@dataclass(frozen=True)
class Finished:
    """One run that came to an end in an engine."""

    run_id: str
    outcome: Outcome
    trouble: Trouble | None = None


def execute(config: ResolvedConfig, run_id: str) -> Finished:
    """Make one run; never raises. What it prints goes to `<run_id>/log.txt`; a failed run leaves a record."""
    folder = Path(config.output) / run_id
    earlier: RunRecord | None = None
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _wait_for_previous_owner(folder)
        earlier = _stored(folder)
        if identity.run_id(config) != run_id:
            raise UsageError("data, model or optimizer changed since the sweep was started; start it again")
        with _output_to(folder / LOG_FILE):
            from glue_mva.training.runner import run

            return Finished(run_id, Outcome.of(run(config)))
    except Exception as error:
        return _failure(config, run_id, error, earlier)


def _failure(config: ResolvedConfig, run_id: str, error: Exception, earlier: RunRecord | None) -> Finished:
    """`earlier`: the record that the attempt found."""
    message = f"{type(error).__name__}: {error}".strip()
    trouble = trouble_of(error)
    stored = _stored(Path(config.output) / run_id)
    if stored is not None and stored.is_finished:
        if not config.force:  # it stood already when something else went wrong
            return Finished(run_id, Outcome.of(stored))
    elif stored == earlier:  # the attempt wrote none
        try:
            write_failed(config, run_id, message)
        except OSError as second:
            trouble = trouble_of(second)
    return Finished(run_id, Outcome("failed", None, error=message), trouble)


def _stored(folder: Path) -> RunRecord | None:
    try:
        return read_own(folder)
    except RecordError:
        return None


OUT_OF_MEMORY = ("out of memory", "cublas_status_alloc_failed", "can't allocate memory")
"""What says so in an error: of CUDA's allocator, of cuBLAS beside a neighbour on the card, of torch's on a CPU."""


def trouble_of(error: BaseException) -> Trouble:
    """The kind of an error, looking through the errors that it was raised from."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, MemoryError) or any(words in str(cause).lower() for words in OUT_OF_MEMORY):
            return "memory"
        if isinstance(cause, OSError) and cause.errno in STORAGE_ERRORS:
            return "storage"
        cause = cause.__cause__ or cause.__context__
    return "other"


def prepare(config: ResolvedConfig) -> str | None:
    """Load and tokenize the data of a task, and load model and optimizer; returns what is wrong, or `None`."""
    from glue_mva.training.prepare import prepare as prepare_run

    try:
        with _output_to(Path(config.output) / PREPARE_LOG_FILE):
            prepare_run(config)
    except UsageError as error:
        return str(error)
    return None


def _wait_for_previous_owner(folder: Path) -> None:
    with contextlib.suppress(Timeout):
        FileLock(folder / LOCK_FILE, timeout=PREVIOUS_OWNER_SECONDS).acquire().lock.release()


@contextlib.contextmanager
def _output_to(path: Path) -> Iterator[None]:
    """Send what this process prints, C libraries included, to a file meanwhile; a crash leaves it there."""
    saved = os.dup(1), os.dup(2)
    sys.stdout.flush()
    sys.stderr.flush()
    with path.open("ab", buffering=0) as stream:
        os.dup2(stream.fileno(), 1)
        os.dup2(stream.fileno(), 2)
        try:
            yield
        except Exception:
            with contextlib.suppress(OSError):
                stream.write(traceback.format_exc().encode())
            raise
        finally:
            with contextlib.suppress(OSError):
                sys.stdout.flush()
                sys.stderr.flush()
            for target, descriptor in enumerate(saved, start=1):
                os.dup2(descriptor, target)
                os.close(descriptor)
