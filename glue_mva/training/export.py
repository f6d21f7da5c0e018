"""The weights of a finished run as a model folder: those that it kept, or those of the same run made again."""

import contextlib
import shutil
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from transformers import TrainerCallback

from glue_mva.config.identity import identity, weights_folder
from glue_mva.errors import UsageError
from glue_mva.record import DAMAGED_PREDICTIONS, MODEL_FOLDER, PREDICTIONS_FILE, RunRecord
from glue_mva.training.runner import run


@dataclass(frozen=True)
class Again:
    """A run made again for its weights, beside its record."""

    record: RunRecord
    folder: Path
    largest_difference: float
    """Of any dev output of the best epoch; 0 where the two runs are one bit for bit."""


def kept_model(record: RunRecord, folder: Path) -> Path | None:
    """The model folder of a run that kept the weights of its best epoch, or `None`.

    Raises:
        UsageError: there are weights, but they are not those of the record.
    """
    if record.weights is None or not (folder / MODEL_FOLDER).is_dir():
        return None
    return Path(weights_folder(str(folder)))


def make_again(
    record: RunRecord,
    folder: Path,
    output: Path,
    *,
    data: str | None = None,
    model: str | None = None,
    callbacks: Sequence[TrainerCallback] = (),
) -> Again:
    """Make a run once more, keeping its weights, under `output`; the run itself and its record stay as they are.

    Args:
        data, model: where they lie now, if not where they lay.

    Raises:
        UsageError: data or model are not there, or not what they were; nothing was started.
    """
    moved = {key: value for key, value in (("data", data), ("model", model)) if value is not None}
    beside = folder.parent / Path(record.config.init_from).name  # where a sweep's runs lie, wherever that is now
    if record.config.init_from and not Path(record.config.init_from).is_dir() and beside.is_dir():
        moved["init_from"] = str(beside)
    config = record.config.replace(output=str(output), save_model=True, predict_test=False, resume=True, force=False,
                            report_to="none", **moved)  # fmt: skip
    now = identity(config)
    if now.run_id != record.run_id:
        if record.optimizer_source != now.optimizer_source:
            raise UsageError(f"run {record.run_id} cannot be made again: {config.optim} is not what it was")
        begin = f", its start {config.init_from!r}" if config.init_from else ""
        raise UsageError(
            f"run {record.run_id} cannot be made again: model {config.model!r}{begin} or data "
            f"{config.data!r} is not what it was; say where they lie now with --model and --data"
        )
    with _threads_of(record):
        again = run(config, callbacks)
    return Again(again, output / again.run_id, _largest_difference(folder, output / again.run_id))


@contextlib.contextmanager
def _threads_of(record: RunRecord) -> Iterator[None]:
    """As many threads as the run had on a CPU, since another number adds up in another order."""
    before, execution = torch.get_num_threads(), record.execution
    if execution is not None and execution.device_type == "cpu":
        torch.set_num_threads(execution.threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _largest_difference(one: Path, other: Path) -> float:
    """Largest difference of any output of the best epoch between two runs; not a number where one has none."""
    try:
        with np.load(one / PREDICTIONS_FILE) as a, np.load(other / PREDICTIONS_FILE) as b:
            names = [name for name in b if name.endswith("/best")]
            return max(float(np.abs(a[name] - b[name]).max()) for name in names)
    except DAMAGED_PREDICTIONS:
        return float("nan")


def copy_model(model: Path, out: Path) -> None:
    """Copy a model folder to `out`, which appears whole or not at all.

    Raises:
        UsageError: it cannot be written.
    """
    scratch = out.with_name(f".{out.name}.{uuid.uuid4().hex[:8]}")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(model, scratch)
        scratch.rename(out)
    except (OSError, shutil.Error) as error:
        shutil.rmtree(scratch, ignore_errors=True)
        raise UsageError(f"{out} cannot be written: {getattr(error, 'strerror', None) or error}") from None
