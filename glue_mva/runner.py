"""`run(RunConfig) -> RunRecord`: fine-tune one encoder on one task, once, and store the result."""

import contextlib
import os
import shutil
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import torch
from filelock import FileLock, Timeout
from torch.utils import deterministic
from transformers import DataCollatorWithPadding, PrinterCallback, TrainerCallback, TrainingArguments, set_seed

from glue_mva import environment, metrics
from glue_mva.config import RunConfig
from glue_mva.data import EncodedSplit, TaskData, encode, load_task
from glue_mva.dropout import use_cpu_dropout
from glue_mva.errors import UsageError
from glue_mva.glue_metric import GlueMetric
from glue_mva.model import check_vocabulary, load_model, load_tokenizer, longest_input
from glue_mva.model_card import write_model_card
from glue_mva.packing import PackedCollator, can_pack, use_packing
from glue_mva.precision import resolve_precision
from glue_mva.recipes import Schedule, resolve, schedule
from glue_mva.record import RECORD_FILE, RecordError, RunRecord, read_record, write_predictions, write_record
from glue_mva.trainer import GlueTrainer, KeepBest, StopOnDivergence, Stopwatch, TimedCheckpoint

CURVES_POINTS = 100
"""Points of the curves, about, where `logging_steps` is not given."""

CURVES = ("step", "epoch", "loss", "learning_rate", "step_size", "beta_mean", "beta_at_min", "beta_at_max")


def finished_record(config: RunConfig) -> RunRecord | None:
    """The record of this very run, if it is there and its result stands; `None` where `force` is set."""
    path = Path(config.output) / config.run_id / RECORD_FILE
    if config.force or not path.is_file():
        return None
    try:
        record = read_record(path)
    except RecordError:
        return None
    return record if record.is_finished else None


def run(config: RunConfig, callbacks: Sequence[TrainerCallback] = ()) -> RunRecord:
    """Fine-tune and evaluate as the config says, and write `OUTPUT/<run_id>/record.json` and `predictions.npz`.

    Fields left at `None` take the recipe's values. A finished record of the same run is returned as it is (unless
    `force`). Under `accelerate launch` every process returns the record and the first one writes it.

    Args:
        callbacks: further callbacks of the Trainer, for progress and the like.

    Raises:
        UsageError: bad input; nothing was written.
        Exception: whatever stopped the training; a record with status `failed` was written.
    """
    if (record := finished_record(config)) is not None:
        return record
    resolved, sources = resolve(config)
    folder = Path(config.output) / config.run_id
    _check_output(folder)
    with _quiet_libraries(), _deterministic():
        prepared = _prepare(resolved)
        with _lock(folder):
            return _Run(resolved, sources, folder, prepared).execute(callbacks)


@dataclass
class _Prepared:
    """Everything that can be refused, loaded and checked before anything is written."""

    data: TaskData
    train: EncodedSplit | None
    evaluation: dict[str, EncodedSplit]
    tokenizer: Any
    model: Any
    device: str
    precision: str
    padding: str
    target_scale: float
    max_length: int
    seconds: float


def _prepare(config: RunConfig) -> _Prepared:
    watch = Stopwatch()
    device = environment.device_type()
    precision = resolve_precision(config.precision, device)
    data = load_task(config)
    tokenizer = load_tokenizer(config)
    set_seed(config.seed)
    model = load_model(config)
    check_vocabulary(model, tokenizer)
    padding = set_padding(config.padding, model, device)
    max_length = longest_input(model, config.max_length or 512)
    scale = 1 / data.task.label_range[1] if config.scale_targets and data.task.is_regression else 1.0
    train = encode(data.train, data.task, tokenizer, max_length, scale) if data.train is not None else None
    evaluation = {
        name: encode(split, data.task, tokenizer, max_length, scale) for name, split in data.evaluation.items()
    }
    return _Prepared(
        data, train, evaluation, tokenizer, model, device, precision, padding, scale, max_length, watch.seconds
    )


class _Run:
    """One run in the making."""

    def __init__(self, config: RunConfig, sources: dict[str, str], folder: Path, prepared: _Prepared) -> None:
        self.config = config
        self.folder = folder
        self.work = folder / "work"
        self.prepared = prepared
        self.task = prepared.data.task
        self.schedule = schedule(config, len(prepared.train) if prepared.train is not None else 0)
        self.headline = f"eval_{next(iter(prepared.evaluation))}_{self.task.headline}"
        self.record = RunRecord(
            run_id=config.run_id,
            status="failed",
            config=config.model_dump(),
            sources=sources,
            schedule=asdict(self.schedule),
            data=prepared.data.info,
            model=environment.describe_model(config.model, prepared.model),
            environment=environment.describe(),
        )

    def execute(self, callbacks: Sequence[TrainerCallback]) -> RunRecord:
        watch = Stopwatch()
        trainer = self._trainer(callbacks)
        writes = trainer.is_world_process_zero()
        checkpoint = self._checkpoint(trainer.args.world_size)
        if checkpoint is None and writes:
            shutil.rmtree(self.work, ignore_errors=True)
        divergence = StopOnDivergence()
        trainer.add_callback(divergence)
        environment.reset_peak_memory(self.prepared.device)
        try:
            self._train(trainer, checkpoint)
            self._fill(trainer, divergence)
        except BaseException as error:
            self.record.error = "".join(traceback.format_exception_only(error)).strip()
            if writes and not isinstance(error, KeyboardInterrupt):
                self._write()
            raise
        self.record.execution |= {
            "device": environment.device_name(self.prepared.device),
            "precision": self.prepared.precision,
            "padding": self.prepared.padding,
            "world_size": trainer.args.world_size,
            "threads": torch.get_num_threads(),
            "gradient_accumulation_steps": self.config.gradient_accumulation_steps,
            "max_length": self.prepared.max_length,
            "resumed_from_step": int(checkpoint.name.rpartition("-")[2]) if checkpoint else None,
            "prepare_seconds": round(self.prepared.seconds, 3),
            "total_seconds": round(self.prepared.seconds + watch.seconds, 3),
            "peak_memory_bytes": environment.peak_memory(self.prepared.device),
        }
        if writes:
            self._write()
            shutil.rmtree(self.work, ignore_errors=True)
        return self.record

    def _trainer(self, callbacks: Sequence[TrainerCallback]) -> GlueTrainer:
        config, prepared = self.config, self.prepared
        arguments = training_arguments(config, self.schedule, str(self.work), prepared.precision, prepared.device)
        trainer = GlueTrainer(
            model=prepared.model,
            args=arguments,
            train_dataset=prepared.train,
            eval_dataset=prepared.evaluation,
            data_collator=_collator(prepared),
            compute_metrics=self._compute_metrics,
            callbacks=[TimedCheckpoint(config.checkpoint_minutes), *callbacks],
            optim=config.optim,
            optim_args=config.optim_args,
            lr_schedule=self.schedule,
            decay_all_parameters=bool(config.decay_all_parameters),
            log_dynamics=arguments.logging_strategy == "steps",
            evaluation_folder=self.work / "evaluations",
        )
        trainer.remove_callback(PrinterCallback)
        if config.save_model:
            trainer.add_callback(KeepBest(self.headline, lambda: self._save_model(trainer)))
        return trainer

    def _compute_metrics(self, prediction: Any) -> dict[str, float]:
        outputs, labels = self._original_scale(prediction.predictions), self._original_scale(prediction.label_ids)
        if not self.task.is_regression and (labels < 0).all():
            return {}  # a test set without labels
        return GlueMetric(self.task.name).from_outputs(outputs, labels)

    def _original_scale(self, values: np.ndarray) -> np.ndarray:
        """Targets, or predicted targets, as (rows,) on the scale of the data; logits and classes as they are."""
        return values.reshape(len(values)) / self.prepared.target_scale if self.task.is_regression else values

    def _checkpoint(self, world_size: int) -> Path | None:
        return last_checkpoint(self.work, world_size) if self.config.resume else None

    def _train(self, trainer: GlueTrainer, checkpoint: Path | None) -> None:
        if self.config.num_train_epochs == 0:
            trainer.evaluate()
            return
        watch = Stopwatch()
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        train_seconds = watch.seconds - trainer.eval_seconds
        steps = trainer.state.global_step - (int(checkpoint.name.rpartition("-")[2]) if checkpoint else 0)
        rows = min(
            steps * (self.config.train_batch_size or 1), int(trainer.state.epoch * len(self.prepared.train or ()))
        )
        tokens = float(self.prepared.train.lengths.mean()) * rows if self.prepared.train is not None else 0.0
        self.record.execution = {
            "optimizer": type(trainer.optimizer.optimizer).__name__,
            "optimizer_state_bytes": environment.state_bytes(trainer.optimizer.optimizer),
            "train_seconds": round(train_seconds, 3),
            "eval_seconds": round(trainer.eval_seconds, 3),
            "examples_per_second": round(rows / train_seconds, 2),
            "tokens_per_second": round(tokens / train_seconds, 1),
        }

    def _fill(self, trainer: GlueTrainer, divergence: StopOnDivergence) -> None:
        record, history = self.record, trainer.state.log_history
        record.curves = _curves(history)
        record.epochs = _evaluations(history, tuple(self.prepared.evaluation))
        record.majority = self._majority()
        values = [
            e["metrics"].get(
                self.headline.removeprefix("eval_").replace("_" + self.task.headline, "/" + self.task.headline)
            )
            for e in record.epochs
        ]
        finite = [v if v is not None and np.isfinite(v) else -np.inf for v in values]
        if divergence.diverged_at is not None or (values and values[-1] is not None and not np.isfinite(values[-1])):
            record.status = "diverged"
            at = divergence.diverged_at or record.epochs[-1]["step"]
            record.error = f"the loss was not finite at update {at}"
        else:
            record.status = "ok"
            if values and values[-1] is not None:
                record.best_epoch = int(np.argmax(finite))
                record.score, record.last_score = 100 * finite[record.best_epoch], 100 * finite[-1]
        if record.epochs and trainer.is_world_process_zero():
            self.folder.mkdir(parents=True, exist_ok=True)
            write_predictions(self._predictions(), self.folder)
        record.created = datetime.now(UTC).isoformat(timespec="seconds")

    def _majority(self) -> dict[str, float]:
        data = self.prepared.data
        if data.train is None:
            return {}
        labels = np.asarray(data.train["label"])
        values = {
            name: metrics.majority(self.task.name, labels, np.asarray(split["label"]))
            for name, split in data.evaluation.items()
        }
        return {f"{name}/{metric}": v for name, named in values.items() for metric, v in named.items()}

    def _predictions(self) -> dict[str, np.ndarray]:
        steps = {"last": self.record.epochs[-1]["step"]}
        if self.record.best_epoch is not None:
            steps["best"] = self.record.epochs[self.record.best_epoch]["step"]
        arrays = {}
        for name in self.prepared.evaluation:
            for which, step in steps.items():
                with np.load(self.work / "evaluations" / f"{step}-{name}.npz") as stored:
                    arrays[f"{name}/{which}"] = self._original_scale(stored["predictions"])
                    arrays[f"{name}/labels"] = self._original_scale(stored["labels"])
        return arrays

    def _save_model(self, trainer: GlueTrainer) -> None:
        if trainer.is_world_process_zero():
            target = self.folder / "model"
            trainer.accelerator.unwrap_model(trainer.model).save_pretrained(target)
            self.prepared.tokenizer.save_pretrained(target)

    def _write(self) -> None:
        try:
            write_record(self.record, self.folder)
            if self.config.save_model and (self.folder / "model").is_dir():
                write_model_card(self.record, self.folder / "model")
        except OSError as error:
            raise UsageError(f"cannot write the record in {str(self.folder)!r}: {error.strerror}") from error


def training_arguments(
    config: RunConfig, plan: Schedule, output: str, precision: str, device: str
) -> TrainingArguments:
    """Hugging Face's arguments for a resolved config.

    Raises:
        UsageError: the batch cannot be divided among processes and accumulation steps.
    """
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    parts = processes * config.gradient_accumulation_steps
    batch = config.train_batch_size or 1
    if batch % parts:
        raise UsageError(
            f"train_batch_size {batch} cannot be divided among {processes} processes x "
            f"{config.gradient_accumulation_steps} accumulation steps"
        )
    logging_steps = config.logging_steps
    if logging_steps is None:
        logging_steps = max(1, plan.max_steps // CURVES_POINTS)
    arguments = TrainingArguments(
        output_dir=output,
        learning_rate=config.lr or 0.0,
        weight_decay=config.weight_decay or 0.0,
        max_grad_norm=config.max_grad_norm or 0.0,
        per_device_train_batch_size=batch // parts,
        per_device_eval_batch_size=config.eval_batch_size,
        gradient_accumulation_steps=config.gradient_accumulation_steps,
        max_steps=max(1, plan.max_steps),
        eval_strategy="epoch",
        save_strategy="no",
        save_total_limit=2,
        logging_strategy="steps" if logging_steps else "no",
        logging_steps=logging_steps or 1,
        logging_nan_inf_filter=False,
        report_to=[] if config.report_to == "none" else config.report_to.split(","),
        seed=config.seed,
        bf16=precision == "bf16",
        fp16=precision == "fp16",
        use_cpu=device == "cpu",
        label_names=["labels"],
        remove_unused_columns=False,
        disable_tqdm=True,
        dataloader_pin_memory=device == "cuda",
    )
    arguments._n_gpu = min(arguments.n_gpu, 1)  # never DataParallel: it would multiply the batch
    return arguments


def last_checkpoint(folder: Path, world_size: int) -> Path | None:
    """The newest checkpoint that is whole: the Trainer writes its state last, so a kill leaves one without it."""
    found = sorted(folder.glob("checkpoint-*"), key=lambda p: int(p.name.rpartition("-")[2]), reverse=True)
    rng = ["rng_state.pth"] if world_size == 1 else [f"rng_state_{rank}.pth" for rank in range(world_size)]
    for checkpoint in found:
        state = checkpoint / "trainer_state.json"
        with contextlib.suppress(OSError):
            if state.read_text().rstrip().endswith("}") and all((checkpoint / name).is_file() for name in rng):
                return checkpoint
    return None


def set_padding(wanted: str, model: Any, device: str) -> str:
    """Prepare a model for `none` (packed batches), `longest` or `max_length`, and say which it is.

    Raises:
        UsageError: `none` was asked for, but is not verified for this family.
    """
    if device == "cpu":
        use_cpu_dropout(model)
    if wanted == "none" and not can_pack(model):
        raise UsageError(f"padding none is not verified for {model.config.model_type}; take auto or longest")
    if wanted not in ("auto", "none") or not can_pack(model):
        return "longest" if wanted == "auto" else wanted
    use_packing(model)
    return "none"


def _collator(prepared: _Prepared) -> Any:
    if prepared.padding == "none":
        return PackedCollator(prepared.model)
    return DataCollatorWithPadding(prepared.tokenizer, padding=prepared.padding, max_length=prepared.max_length)


def _curves(history: list[dict[str, Any]]) -> dict[str, list[float | None]]:
    """The Trainer's log entries of training -> lists of equal length; a name that was never logged is left out."""
    points = [entry for entry in history if "loss" in entry]
    return {name: [p.get(name) for p in points] for name in CURVES if any(name in p for p in points)}


def _evaluations(history: list[dict[str, Any]], splits: tuple[str, ...]) -> list[dict[str, Any]]:
    """The Trainer's log entries of evaluations -> one entry per evaluated update, all splits together."""
    found: dict[int, dict[str, Any]] = {}
    for logged in history:
        for split in splits:
            prefix = f"eval_{split}_"
            if f"{prefix}runtime" not in logged:
                continue
            entry = found.setdefault(
                logged["step"], {"epoch": logged.get("epoch"), "step": logged["step"], "metrics": {}}
            )
            names = {k: k.removeprefix(prefix) for k in logged if k.startswith(prefix)}
            extra = ("runtime", "samples_per_second", "steps_per_second", "model_preparation_time")
            entry["metrics"] |= {f"{split}/{n}": logged[k] for k, n in names.items() if n not in extra}
    return [found[step] for step in sorted(found)]


def _check_output(folder: Path) -> None:
    """Raise `UsageError` where the folder could not be made or written to; makes nothing itself."""
    existing = next(p for p in (folder, *folder.absolute().parents) if p.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        raise UsageError(f"output {str(folder.parent)!r} cannot be written: {str(existing)!r} is not a writable folder")


@contextlib.contextmanager
def _lock(folder: Path) -> Iterator[None]:
    """Hold the run's folder, so that two processes never write one record; freed by the system after a kill."""
    if int(os.environ.get("RANK", "0")) > 0:
        yield
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / ".lock")
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
def _quiet_libraries() -> Iterator[None]:
    """Silence progress bars of datasets and transformers; the caller shows its own."""
    from transformers.utils import logging

    verbosity = logging.get_verbosity()
    datasets.disable_progress_bars()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        datasets.enable_progress_bars()
        logging.enable_progress_bar()


@contextlib.contextmanager
def _deterministic() -> Iterator[None]:
    """Deterministic kernels where there are any, so that a seed gives the same record bit for bit on one machine."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    before = torch.are_deterministic_algorithms_enabled(), deterministic.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True, warn_only=True)
    deterministic.fill_uninitialized_memory = False  # fills every new tensor: slow, and of no use here
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0])
        deterministic.fill_uninitialized_memory = before[1]
