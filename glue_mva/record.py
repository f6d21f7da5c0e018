"""`RunRecord`: the stored result of one run, the only seam between training and reporting. Imports no torch.

`docs/record.md` describes every key.
"""

import contextlib
import dataclasses
import json
import math
import os
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import numpy as np

SCHEMA_VERSION = 1
RECORD_FILE = "record.json"
PREDICTIONS_FILE = "predictions.npz"
LOCK_FILE = ".lock"
"""Held by the process that writes in a folder: that of one run, or that of a sweep."""

Status = Literal["ok", "diverged", "failed"]


class RecordError(Exception):
    """A record that cannot be used: truncated, empty, or of another schema version. Says which file and why."""


@dataclass
class RunRecord:
    """Result of one run. Values that are not known are `None`; scores are metric x 100."""

    run_id: str
    status: Status
    config: dict[str, Any]
    """The resolved `RunConfig`."""
    sources: dict[str, str]
    """Config key -> where its value came from."""
    score: float | None = None
    """Headline metric x 100 at the best epoch."""
    best_epoch: int | None = None
    """Index into `epochs`, from 0, of the best epoch by the headline metric; the earliest of equals."""
    last_score: float | None = None
    """Headline metric x 100 at the last epoch."""
    epochs: list[dict[str, Any]] = field(default_factory=list)
    """One entry per evaluation: `epoch`, `step` and `metrics` (`<split>/<metric>` -> value, not x 100)."""
    majority: dict[str, float] = field(default_factory=dict)
    """The same metrics for the constant prediction: the training rows' most frequent class, or mean target."""
    curves: dict[str, list[float | None]] = field(default_factory=dict)
    """`step`, `epoch`, `loss`, `learning_rate`, `step_size` and, for MaxVA optimizers, `beta_mean`, `beta_at_min`,
    `beta_at_max`: lists of equal length."""
    schedule: dict[str, int] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)
    model: dict[str, Any] = field(default_factory=dict)
    execution: dict[str, Any] = field(default_factory=dict)
    """How it was carried out: device, precision, padding, optimizer implementation, processes, memory, speed."""
    environment: dict[str, Any] = field(default_factory=dict)
    """Package versions, Python, platform, commit."""
    error: str | None = None
    """What went wrong, for `diverged` and `failed`."""
    created: str = ""
    """UTC time at which the record was written, ISO 8601."""
    schema_version: int = SCHEMA_VERSION

    @property
    def is_finished(self) -> bool:
        """Whether the result stands: `ok` and `diverged` runs are not run again."""
        return self.status in ("ok", "diverged")

    def to_json(self) -> str:
        """JSON text; NaN and infinities become null, so that any JSON reader can read it."""
        return json.dumps(_finite(dataclasses.asdict(self)), indent=1, allow_nan=False) + "\n"


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[IO[bytes]]:
    """Open a file for writing that appears under its name only when it is whole and on disk; else nothing changes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    try:
        with scratch.open("xb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        scratch.replace(path)
    except BaseException:
        scratch.unlink(missing_ok=True)
        raise


def write_record(record: RunRecord, folder: Path) -> Path:
    """Write `folder/record.json` atomically; an older record stays whole if the disk is full.

    Raises:
        OSError: the folder cannot be written or the disk is full.
    """
    with atomic_write(folder / RECORD_FILE) as stream:
        stream.write(record.to_json().encode())
    return folder / RECORD_FILE


def read_record(path: Path) -> RunRecord:
    """Read `record.json`, or the one in a run's folder.

    Raises:
        RecordError: unreadable, not JSON, not a record, or of another schema version.
    """
    path = path / RECORD_FILE if path.is_dir() else path
    try:
        values = json.loads(path.read_bytes())
    except OSError as error:
        raise RecordError(f"{path}: {error.strerror}") from None
    except ValueError:
        size = path.stat().st_size
        raise RecordError(f"{path}: {'empty' if size == 0 else 'not whole JSON'} ({size} bytes)") from None
    if not isinstance(values, dict) or "schema_version" not in values:
        raise RecordError(f"{path}: not a record of glue-mva")
    if values["schema_version"] != SCHEMA_VERSION:
        raise RecordError(f"{path}: schema version {values['schema_version']}, this program reads {SCHEMA_VERSION}")
    known = {f.name for f in dataclasses.fields(RunRecord)}
    if missing := {"run_id", "status", "config", "sources"} - values.keys():
        raise RecordError(f"{path}: lacks {', '.join(sorted(missing))}")
    if unknown := values.keys() - known:
        raise RecordError(f"{path}: unknown keys {', '.join(sorted(unknown))}")
    return RunRecord(**values)


def write_predictions(arrays: "dict[str, np.ndarray]", folder: Path) -> Path:
    """Write `folder/predictions.npz` atomically. Keys `<split>/labels` (rows,), and `<split>/best` and `<split>/last`:
    logits (rows, classes), or predicted targets (rows,) of a regression, on the original scale."""
    import numpy as np  # not at the top: commands that only read records answer sooner

    with atomic_write(folder / PREDICTIONS_FILE) as stream:
        np.savez_compressed(stream, **arrays)  # type: ignore[arg-type]
    return folder / PREDICTIONS_FILE
