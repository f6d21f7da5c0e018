"""`run(RunConfig) -> RunRecord`: fine-tune one encoder on one task, once, and store the result."""

import shutil
import traceback
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import DataCollatorWithPadding, PrinterCallback, TrainerCallback, set_seed
from transformers.integrations import TensorBoardCallback

from glue_mva.config.identity import run_id
from glue_mva.config.resolve import ResolvedConfig, resolve
from glue_mva.config.run import RunConfig
from glue_mva.config.schedule import schedule
from glue_mva.data.encode import EncodedSplit, encode
from glue_mva.data.load import TaskData, load_task
from glue_mva.errors import UsageError
from glue_mva.models.dropout import use_cpu_dropout
from glue_mva.models.load import check_vocabulary, compile_encoder, load_model, load_tokenizer, longest_input
from glue_mva.models.memory import reuse_freed_memory
from glue_mva.models.packing import PackedCollator, can_pack, use_packing
from glue_mva.models.precision import ACTIVATIONS, resolve_precision
from glue_mva.record import RECORD_FILE, RecordError, RunRecord, read_record, write_predictions, write_record
from glue_mva.training import environment, results
from glue_mva.training.arguments import device_batch_size, reporters, training_arguments
from glue_mva.training.callbacks import (
    KeepBest,
    StopEarly,
    StopOnDivergence,
    Stopwatch,
    TimedCheckpoint,
    checkpoint_step,
    last_checkpoint,
)
from glue_mva.training.contexts import check_output, deterministic, locked, quiet_libraries
from glue_mva.training.glue_metric import GlueMetric
from glue_mva.training.model_card import write_model_card
from glue_mva.training.trainer import GlueTrainer


def finished_record(config: ResolvedConfig) -> RunRecord | None:
    """The record of this very run, if it is there and its result stands; `None` where `force` is set."""
    path = Path(config.output) / run_id(config) / RECORD_FILE
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
    resolved = resolve(config)
    if (record := finished_record(resolved)) is not None:
        return record
    folder = Path(resolved.output) / run_id(resolved)
    check_output(folder)
    with quiet_libraries(), deterministic():
        prepared = prepare(resolved)
        with locked(folder):
            try:
                return _Run(resolved, folder, prepared).execute(callbacks)
            finally:
                if resolved.compile:  # compiled code and graphs of this model are of no use to the next run
                    torch.compiler.reset()


@dataclass
class Prepared:
    """Everything that can be refused, loaded and checked before anything is written."""

    data: TaskData
    train: EncodedSplit | None
    evaluation: dict[str, EncodedSplit]
    tokenizer: Any
    model: Any
    device: str
    precision: str
    padding: str
    cuda_graphs: bool
    target_scale: float
    max_length: int
    seconds: float


def prepare(config: ResolvedConfig) -> Prepared:
    """Load and check everything that a run needs, and tokenize its data; writes only to the cache.

    Raises:
        UsageError: bad input.
    """
    watch = Stopwatch()
    device = environment.device_type()
    precision = resolve_precision(config.precision, device)
    device_batch_size(config), reporters(config)  # refuse what cannot be had
    data = load_task(config)
    tokenizer = load_tokenizer(config)
    set_seed(config.seed)
    model = load_model(config)
    check_vocabulary(model, tokenizer)
    if device == "cpu":
        reuse_freed_memory()
        use_cpu_dropout(model)
    own_layers = device == "cpu" and not config.compile
    padding = set_padding(config.padding, model, ACTIVATIONS[precision] if own_layers else None)
    few_shapes = padding != "longest" and config.gradient_accumulation_steps == 1
    cuda_graphs = config.compile and device == "cuda" and few_shapes
    if config.compile:
        compile_encoder(model, device, cuda_graphs=cuda_graphs)
    max_length = longest_input(model, config.max_length)
    scale = 1 / data.task.label_range[1] if config.scale_targets and data.task.is_regression else 1.0
    train = encode(data.train, data.task, tokenizer, max_length, scale) if data.train is not None else None
    evaluation = {
        name: encode(split, data.task, tokenizer, max_length, scale) for name, split in data.evaluation.items()
    }
    return Prepared(
        data=data,
        train=train,
        evaluation=evaluation,
        tokenizer=tokenizer,
        model=model,
        device=device,
        precision=precision,
        padding=padding,
        cuda_graphs=cuda_graphs,
        target_scale=scale,
        max_length=max_length,
        seconds=watch.seconds,
    )


class _Run:
    """One run in the making."""

    def __init__(self, config: ResolvedConfig, folder: Path, prepared: Prepared) -> None:
        self.config = config
        self.folder = folder
        self.work = folder / "work"
        self.evaluations = self.work / "evaluations"
        self.prepared = prepared
        self.task = prepared.data.task
        self.schedule = schedule(config, len(prepared.train) if prepared.train is not None else 0)
        self.headline = f"{next(iter(prepared.evaluation))}/{self.task.headline}"
        self.record = RunRecord(
            run_id=folder.name,
            status="failed",
            config=config.model_dump(),
            sources=config.sources,
            schedule=asdict(self.schedule),
            data=prepared.data.info,
            model=environment.describe_model(config.model, prepared.model),
            environment=environment.describe(),
        )

    def execute(self, callbacks: Sequence[TrainerCallback]) -> RunRecord:
        watch = Stopwatch()
        trainer = self._trainer(callbacks)
        writes = trainer.is_world_process_zero()
        checkpoint = last_checkpoint(self.work, trainer.args.world_size) if self.config.resume else None
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
            "resumed_from_step": checkpoint_step(checkpoint) if checkpoint else None,
            "prepare_seconds": round(self.prepared.seconds, 3),
            "total_seconds": round(self.prepared.seconds + watch.seconds, 3),
            "peak_memory_bytes": environment.peak_memory(self.prepared.device),
        }
        if writes:
            self._write(self._predictions() if self.record.epochs else None)
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
            optim_args=config.optim_args | ({"fused": True} if config.fused else {}),
            lr_schedule=self.schedule,
            layer_decay=config.layer_decay,
            decay_all_parameters=config.decay_all_parameters,
            log_dynamics=arguments.logging_strategy == "steps",
            evaluation_folder=self.evaluations,
        )
        trainer.remove_callback(PrinterCallback)
        if "tensorboard" in reporters(config) and trainer.is_world_process_zero():
            from torch.utils.tensorboard import SummaryWriter

            trainer.add_callback(TensorBoardCallback(SummaryWriter(str(self.folder / "tensorboard"))))
        logged_name = f"eval_{self.headline.replace('/', '_')}"
        if config.save_model:
            trainer.add_callback(KeepBest(logged_name, lambda: self._save_model(trainer)))
        if config.early_stopping_patience:
            trainer.add_callback(StopEarly(logged_name, config.early_stopping_patience))
        return trainer

    def _compute_metrics(self, prediction: Any) -> dict[str, float]:
        outputs, labels = self._original_scale(prediction.predictions), self._original_scale(prediction.label_ids)
        if not self.task.is_regression and (labels < 0).all():
            return {}  # a test set without labels
        return GlueMetric(self.task.name).from_outputs(outputs, labels)

    def _original_scale(self, values: np.ndarray) -> np.ndarray:
        """Targets, or predicted targets, as (rows,) on the scale of the data; logits and classes as they are."""
        return values.reshape(len(values)) / self.prepared.target_scale if self.task.is_regression else values

    def _train(self, trainer: GlueTrainer, checkpoint: Path | None) -> None:
        if self.config.num_train_epochs == 0:
            trainer.evaluate()
            return
        watch = Stopwatch()
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        train_seconds = watch.seconds - trainer.eval_seconds
        steps = trainer.state.global_step - (checkpoint_step(checkpoint) if checkpoint else 0)
        rows = min(steps * self.config.train_batch_size, int(trainer.state.epoch * len(self.prepared.train or ())))
        tokens = float(self.prepared.train.lengths.mean()) * rows if self.prepared.train is not None else 0.0
        optimizer = getattr(trainer.optimizer, "optimizer", trainer.optimizer)  # accelerate wraps it
        self.record.execution = {
            "optimizer": type(optimizer).__name__,
            "optimizer_state_bytes": environment.state_bytes(optimizer),
            "train_seconds": round(train_seconds, 3),
            "eval_seconds": round(trainer.eval_seconds, 3),
            "examples_per_second": round(rows / train_seconds, 2),
            "tokens_per_second": round(tokens / train_seconds, 1),
        }

    def _fill(self, trainer: GlueTrainer, divergence: StopOnDivergence) -> None:
        """Scores, curves and predictions, from what the Trainer logged and wrote."""
        record, history = self.record, trainer.state.log_history
        record.curves = results.curves(history)
        record.epochs = results.evaluations(history, tuple(self.prepared.evaluation))
        record.majority = results.majority(self.prepared.data)
        scores = [entry["metrics"][self.headline] for entry in record.epochs if self.headline in entry["metrics"]]
        diverged_at = divergence.diverged_at
        if diverged_at is None and scores and not np.isfinite(scores[-1]):
            diverged_at = record.epochs[-1]["step"]
        if diverged_at is not None:
            record.status, record.error = "diverged", f"the loss was not finite at update {diverged_at}"
        else:
            record.status = "ok"
            if scores:
                record.best_epoch = results.best_evaluation(scores)
                record.score, record.last_score = (round(100 * scores[i], 10) for i in (record.best_epoch, -1))
        record.created = datetime.now(UTC).isoformat(timespec="seconds")

    def _predictions(self) -> dict[str, np.ndarray]:
        steps = {"last": self.record.epochs[-1]["step"]}
        if self.record.best_epoch is not None:
            steps["best"] = self.record.epochs[self.record.best_epoch]["step"]
        arrays = {}
        for split in self.prepared.evaluation:
            for which, step in steps.items():
                outputs, labels = results.load_predictions(self.evaluations, step, split)
                arrays[f"{split}/{which}"] = self._original_scale(outputs)
                arrays[f"{split}/labels"] = self._original_scale(labels)
        return arrays

    def _save_model(self, trainer: GlueTrainer) -> None:
        if trainer.is_world_process_zero():
            target = self.folder / "model"
            trainer.accelerator.unwrap_model(trainer.model).save_pretrained(target)
            self.prepared.tokenizer.save_pretrained(target)

    def _write(self, predictions: dict[str, np.ndarray] | None = None) -> None:
        """The record last: where it is, everything beside it is whole."""
        try:
            if predictions is not None:
                write_predictions(predictions, self.folder)
            if self.config.save_model and (self.folder / "model").is_dir():
                write_model_card(self.record, self.folder / "model")
            write_record(self.record, self.folder)
        except OSError as error:
            raise UsageError(f"cannot write the record in {str(self.folder)!r}: {error.strerror}") from error


def set_padding(wanted: str, model: Any, activations: torch.dtype | None = None) -> str:
    """Prepare a model for `none` (packed batches), `longest` or `max_length`, and say which it is.

    Args:
        activations: see `use_packing`.

    Raises:
        UsageError: `none` was asked for, but is not verified for this family.
    """
    if wanted == "none" and not can_pack(model):
        raise UsageError(f"padding none is not verified for {model.config.model_type}; take auto or longest")
    if wanted not in ("auto", "none") or not can_pack(model):
        return "longest" if wanted == "auto" else wanted
    use_packing(model, activations)
    return "none"


def _collator(prepared: Prepared) -> Any:
    if prepared.padding == "none":
        return PackedCollator(prepared.model, few_sizes=prepared.cuda_graphs)
    return DataCollatorWithPadding(prepared.tokenizer, padding=prepared.padding, max_length=prepared.max_length)
