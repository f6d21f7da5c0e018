"""`RunRecord`: the stored result of one run, the only seam between training and reporting. Imports no torch.

The model that writes a record reads it too, so that what comes from elsewhere is right or refused. `docs/record.md`
describes every key.
"""

import contextlib
import stat
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from glue_mva.config.base import describe
from glue_mva.config.identity import Identity, identity
from glue_mva.config.resolve import ResolvedConfig
from glue_mva.config.schedule import Schedule
from glue_mva.errors import UsageError, one_line
from glue_mva.files import MODEL_FOLDER, RECORD_FILE, atomic_write

if TYPE_CHECKING:
    import numpy as np

SCHEMA_VERSION: Final = 2
FAILURE_FILE = "failure.json"
"""Record of an attempt that failed where a finished record of the same run stands."""
PREDICTIONS_FILE = "predictions.npz"
DAMAGED_PREDICTIONS = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error)
"""What NumPy raises on a predictions file that is not whole."""
LOCK_FILE = ".lock"
"""Held by the process that writes in a folder: that of one run, or that of a sweep."""
LONGEST_RECORD = 100 * 2**20
"""Bytes of a file that is read as a record; one of ours has some 10,000."""

Status = Literal["ok", "diverged", "failed"]
FINISHED = ("ok", "diverged")
"""States in which a result stands: such a run is not made again."""

CONSTANT = "did not learn: constant predictions"
"""Warning of a run whose last evaluation gave every example the same answer."""

Metrics = Mapping[str, Mapping[str, float | None]]
"""split -> metric -> value, a fraction (not x 100); `None` where it was not a number."""
Natural = Annotated[int, Field(ge=0)]


class RecordError(Exception):
    """A record that cannot be used: truncated, of wrong types, or of another schema version. Says which and why, in one
    line."""

    def __init__(self, message: str) -> None:
        super().__init__(one_line(message))


class Part(BaseModel):
    """A part of a record: frozen, with types that are checked when it is made and when it is read."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True,
                              allow_inf_nan=False, protected_namespaces=())  # fmt: skip


class Headline(Part):
    """The metric that gives the score and chooses the best epoch."""

    split: str
    """The task's first evaluated split, or `holdout`."""
    metric: str


class Evaluation(Part):
    """One evaluation: all splits after the same update."""

    epoch: float
    """Passes over the training rows."""
    step: Natural
    """Updates."""
    metrics: Metrics
    """The task's metrics and `loss`."""


class DataInfo(Part):
    """The rows that a run trained and was evaluated on."""

    source: Literal["hub", "demo", "folder"]
    rows: dict[str, Natural]
    """split -> rows used."""
    source_rows: dict[str, Natural]
    """split -> rows that the source has."""
    official_rows: dict[str, Natural]
    partial: bool
    """Whether rows differ from the official ones or were limited."""
    holdout: bool
    digest: str
    """Of texts and labels."""
    test_rows: dict[str, Natural] | None = None
    """Test set -> rows that were predicted; `None` without `predict_test`."""


class ModelInfo(Part):
    """The encoder with its head."""

    name: str
    """As given."""
    architecture: str
    model_type: str
    parameters: Natural
    digest: str | None
    """Of a local folder's files, or the commit on the Hub."""
    start: str | None = None
    """Digest of the fine-tuned weights that it started from (`init_from`), or their commit on the Hub."""
    kept_head: bool | None = None
    """Whether their head was kept too, its classes being the task's."""


class CheckResult(Part):
    """Verdict on a fast path that a run asked for."""

    ok: bool
    """Whether it was taken; the plain path ran where not."""
    difference: float | None = None
    """From the plain path, relative: the one closest to what is allowed; `None` where the path raised, or it was
    infinite."""
    detail: str = ""
    """What is wrong with it."""


class RouteTaken(Part):
    """The parameters that one route of the config took."""

    match: str
    optimizer: str
    """Class."""
    kernel: str
    """As that of `Execution`."""
    parameters: Natural
    weight_decay: Literal["class", "trainer", "own"] | None
    """Who decays them, as in `Execution`."""


class Execution(Part):
    """How a run was carried out. Times are of this process; of a resumed run, since it was resumed."""

    device: str
    """Name of GPU or CPU."""
    device_type: str
    """`cuda`, `cpu`, ..."""
    precision: Literal["fp32", "bf16", "fp16"]
    """What `auto` became."""
    padding: Literal["none", "longest", "max_length"]
    """What `auto` became; `none` is packed."""
    optimizer: str | None
    """Class; `None` where nothing was trained, as for the next six."""
    kernel: str | None
    """Implementation of its step: `for-loop`, `foreach`, `cpu` or `cuda` (fused by this package), `fused` (by torch),
    or `own` of a class that does not say."""
    trained_parameters: Natural | None
    """Parameters that training could change: of the token embedding, the rows that occur in the data."""
    optimizer_state_bytes: Natural | None
    train_seconds: float | None
    examples_per_second: float | None
    """Of training."""
    tokens_per_second: float | None
    """Of training; padding does not count."""
    eval_seconds: float
    prepare_seconds: float
    total_seconds: float
    world_size: Natural
    threads: Natural
    gradient_accumulation_steps: Natural
    max_length: Natural
    """What the model could take."""
    resumed_from_step: Natural | None
    """Update of the checkpoint that the run went on from."""
    peak_memory_bytes: Natural | None
    """Most memory allocated on the GPU; on a CPU the peak resident size of the process, where this run is its first."""
    weight_decay: Literal["class", "trainer", "own"] | None = None
    """Who decays: the optimizer's class, decoupled; the trainer, decoupled, for a class that couples decay or has none;
    or the class by a rule of its own. `None` where nothing decays."""
    routes: list[RouteTaken] = Field(default_factory=list)
    """The routes of the config, in their order; what is above speaks of the row's own optimizer, or of all together."""
    checks: dict[str, CheckResult] = Field(default_factory=dict)
    """Name of a fast path that the run asked for -> the verdict on it."""

    @property
    def times_the_whole_run(self) -> bool:
        """Whether the times are those of the whole run, which was not cut off and resumed."""
        return self.resumed_from_step is None


class RunRecord(Part):
    """Result of one run; made once, when all of it is known. Scores are metric x 100."""

    schema_version: Literal[2] = SCHEMA_VERSION
    run_id: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,100}$")]
    status: Status
    config: ResolvedConfig
    headline: Headline | None = None
    """As the next five parts, `None` only in a run that failed before it was known."""
    schedule: Schedule | None = None
    data: DataInfo | None = None
    model: ModelInfo | None = None
    execution: Execution | None = None
    score: float | None = None
    """Headline metric x 100 at the best epoch; `None` for a diverged run and for data without labels."""
    best_epoch: Natural | None = None
    """Index into `epochs`, from 0, of the best epoch by the headline metric; the earliest of equals."""
    last_score: float | None = None
    """Headline metric x 100 at the last epoch."""
    epochs: list[Evaluation] = Field(default_factory=list)
    majority: Metrics = Field(default_factory=dict)
    """Metrics of the constant prediction: the training rows' most frequent class, or mean target."""
    curves: dict[str, list[float | None]] = Field(default_factory=dict)
    """`step`, `epoch`, `loss`, `learning_rate`, `step_size` and, for MaxVA optimizers, `beta_mean`, `beta_at_min`,
    `beta_at_max`: lists of equal length. The last four are over the parameters that were trained."""
    environment: dict[str, str | None] = Field(default_factory=dict)
    """Package versions, Python, platform, commit."""
    error: str | None = None
    """What went wrong, for `diverged` and `failed`."""
    warnings: list[str] = Field(default_factory=list)
    """What makes the score mean less than it seems to."""
    weights: str | None = None
    """Digest of the weights that it kept (`save_model`): the `model.start` of a run that starts from them."""
    optimizer_source: str | None = None
    """Digest of the source of an optimizer that is not of the registry, or `name==version` of its package."""
    created: str = Field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    """UTC time at which the record was made, ISO 8601."""

    @model_validator(mode="after")
    def _whole(self) -> Self:
        missing = [n for n in ("headline", "schedule", "data", "model", "execution") if getattr(self, n) is None]
        if self.is_finished and missing:
            raise ValueError(f"a run that is {self.status} has {', '.join(missing)}")
        if self.best_epoch is not None and self.best_epoch >= len(self.epochs):
            raise ValueError(f"best_epoch {self.best_epoch} of {len(self.epochs)} epochs")
        if len({len(curve) for curve in self.curves.values()}) > 1:
            raise ValueError("curves of different lengths")
        datetime.fromisoformat(self.created)
        return self

    @property
    def is_finished(self) -> bool:
        """Whether the result stands: `ok` and `diverged` runs are not run again."""
        return self.status in FINISHED

    @property
    def best(self) -> Evaluation | None:
        """The best epoch."""
        return None if self.best_epoch is None else self.epochs[self.best_epoch]

    @property
    def updates(self) -> int | None:
        """Updates that were made: up to the last evaluation or point of the curves; `None` without any."""
        steps = [*self.curves.get("step", [])[-1:], *(e.step for e in self.epochs[-1:])]
        return max((int(step) for step in steps if step is not None), default=None)

    @property
    def step_sizes(self) -> list[float | None]:
        """The paper's average step size at each point of the curve, over all parameters of the model: so it compares
        between a compact embedding and a whole one. `curves["step_size"]` is over `execution.trained_parameters`; the
        others do not move."""
        sizes = self.curves.get("step_size", [])
        if self.model is None or self.execution is None or not self.execution.trained_parameters:
            return sizes
        share = self.execution.trained_parameters / self.model.parameters
        return [None if size is None else size * share for size in sizes]

    def to_json(self) -> str:
        """JSON text that any JSON reader can read: there is no NaN in it."""
        return self.model_dump_json(indent=1) + "\n"


def write_record(record: RunRecord, folder: Path) -> Path:
    """Write `folder/record.json` atomically; an older record stays whole if the disk is full.

    Raises:
        OSError: the folder cannot be written or the disk is full.
    """
    path = _write(record, folder / RECORD_FILE)
    if record.is_finished:
        (folder / FAILURE_FILE).unlink(missing_ok=True)
    return path


def _write(record: RunRecord, path: Path) -> Path:
    with atomic_write(path) as stream:
        stream.write(record.to_json().encode())
    return path


def read_record(path: str | Path) -> RunRecord:
    """Read `record.json`, or the one in a run's folder.

    Raises:
        RecordError: unreadable, not a record, or of another schema version.
    """
    path = Path(path)
    try:
        path = path / RECORD_FILE if path.is_dir() else path
        found = path.stat()
        if not stat.S_ISREG(found.st_mode) or found.st_size > LONGEST_RECORD:
            raise RecordError(f"{path}: no file of a record's size")
        text = path.read_bytes()
    except OSError as error:
        raise RecordError(f"{path}: {error.strerror}") from None
    try:
        version = _Version.model_validate_json(text).schema_version
        if version != SCHEMA_VERSION:
            raise RecordError(f"{path}: schema version {version}, this program reads {SCHEMA_VERSION}")
        return RunRecord.model_validate_json(text)
    except ValidationError as error:
        if any(problem["type"] == "json_invalid" for problem in error.errors()):
            raise RecordError(f"{path}: {'not whole JSON' if text else 'empty'} ({len(text)} bytes)") from None
        raise RecordError(f"{path}: not a record: {'; '.join(describe(error, RunRecord)[:3])}") from None
    except (UsageError, ValueError) as error:
        raise RecordError(f"{path}: not a record: {error}") from None


def read_own(folder: Path) -> RunRecord:
    """Read the record in a run's folder, which bears the run's name.

    Raises:
        RecordError: as `read_record`, or it is the record of another run.
    """
    record = read_record(folder / RECORD_FILE)
    if record.run_id != folder.name:
        raise RecordError(f"{folder / RECORD_FILE}: is the record of run {record.run_id}")
    return record


def set_aside(folder: Path) -> Path:
    """Rename a record that cannot be used, so that its run can be made again; returns the new name."""
    path = folder / RECORD_FILE
    number = next(n for n in range(1, 1000) if not path.with_suffix(f".unusable-{n}.json").exists())
    return path.rename(path.with_suffix(f".unusable-{number}.json"))


def write_failure(record: RunRecord, folder: Path) -> Path:
    """Write the record of a failed run; where a result of the same run stands in the folder, beside it.

    Raises:
        OSError: as `write_record`.
    """
    try:
        stands = read_own(folder).is_finished
    except RecordError:
        stands = False
    return _write(record, folder / (FAILURE_FILE if stands else RECORD_FILE))


class _Version(BaseModel):
    """What is looked at before the rest, which may be of another version."""

    schema_version: int


def lacking(record: RunRecord, folder: Path, *, predict_test: bool, save_model: bool) -> list[str]:
    """What is wanted of a run in `folder` that ended well, but was made without it: names of fields of `RunConfig`."""
    without_test = predict_test and record.data is not None and record.data.test_rows is None
    kept = record.weights is not None and any((folder / MODEL_FOLDER).glob("*.safetensors"))
    without_model = save_model and not kept
    missing = (without_test, "predict_test"), (without_model, "save_model")
    return [name for is_missing, name in missing if is_missing and record.status == "ok"]


def of_other_source(output: Path, runs: Iterable[Identity]) -> dict[str, str]:
    """run_id -> run_id of a finished run in a folder of runs that differs in the source of its optimizer alone."""
    wanted = {run.but_for_source: run.run_id for run in runs if run.optimizer_source is not None}
    names = {f"{name.rpartition('-')[0]}-*" for name in wanted.values()} if output.is_dir() else set()
    found = {}
    for folder in sorted({folder for name in names for folder in output.glob(name)}):
        with contextlib.suppress(RecordError, UsageError):
            record = read_record(folder)
            new = wanted.get(identity(record.config).but_for_source)
            if new is not None and record.is_finished and new != record.run_id:
                found[new] = record.run_id
    return found


def write_predictions(arrays: "dict[str, np.ndarray]", folder: Path) -> Path:
    """Write `folder/predictions.npz` atomically. Keys `<split>/labels` (rows,), and `<split>/best` and `<split>/last`:
    logits (rows, classes), or predicted targets (rows,) of a regression, on the original scale."""
    import numpy as np  # not at the top: commands that only read records answer sooner

    with atomic_write(folder / PREDICTIONS_FILE) as stream:
        np.savez_compressed(stream, **arrays)  # type: ignore[arg-type]
    return folder / PREDICTIONS_FILE
