"""What a run needs around it: its folder to itself, quiet libraries, deterministic kernels."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import datasets
import torch
from filelock import FileLock, Timeout
from transformers.utils import logging

from glue_mva.errors import UsageError
from glue_mva.machine import process_place
from glue_mva.models.memory import reuse_freed_memory
from glue_mva.record import LOCK_FILE
from glue_mva.training.environment import device_type


def check_output(folder: Path) -> None:
    """Raise `UsageError` where the folder could not be made or written to; makes nothing itself."""
    existing = next(p for p in (folder, *folder.absolute().parents) if os.access(p, os.F_OK))
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        raise UsageError(f"output {str(folder.parent)!r} cannot be written: {str(existing)!r} is not a writable folder")


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the run's folder, so that two processes never write one record; freed by the system after a kill."""
    if process_place()[0] > 0:
        yield
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / LOCK_FILE)
        lock.acquire(timeout=0)
    except Timeout:
        raise UsageError(f"{str(folder)!r} is in use: another process is making this very run") from None
    except OSError as error:
        raise UsageError(f"output {str(folder)!r} cannot be written: {error.strerror}") from None
    try:
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def quiet_libraries() -> Iterator[None]:
    """Silence progress bars of datasets and transformers; the caller shows its own, and gets back what it had."""
    verbosity = logging.get_verbosity()
    quiet_datasets, quiet_transformers = datasets.are_progress_bars_disabled(), not logging.is_progress_bar_enabled()
    datasets.disable_progress_bars()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if not quiet_datasets:
            datasets.enable_progress_bars()
        if not quiet_transformers:
            logging.enable_progress_bar()


def keep_freed_memory() -> None:
    """On a CPU, keep freed memory for the next step of training (`models.memory`). Holds for the whole process, so it
    is for programs that make runs and nothing else."""
    if device_type() == "cpu":
        reuse_freed_memory()


@contextlib.contextmanager
def deterministic() -> Iterator[None]:
    """Deterministic kernels where there are any: on a CPU a seed gives the same record bit for bit on one machine.

    Warn-only, because some CUDA operations have no deterministic kernel and would end the run; in this mode
    FlashAttention's backward pass takes its faster, non-deterministic one too.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    before = torch.get_deterministic_debug_mode()
    fills = torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
    torch.use_deterministic_algorithms(True, warn_only=True)
    _fill_new_memory(False)  # would fill every new tensor: slow, and of no use here
    try:
        yield
    finally:
        torch.set_deterministic_debug_mode(before)
        _fill_new_memory(fills)


def _fill_new_memory(flag: bool) -> None:
    torch.utils.deterministic.fill_uninitialized_memory = flag  # type: ignore[attr-defined]
