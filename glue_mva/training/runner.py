"""`run(RunConfig) -> RunRecord`: fine-tune one encoder on one task, once, and store the result."""

import logging
import shutil
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import PrinterCallback, TrainerCallback

from glue_mva import checks, paper
from glue_mva.config.identity import Identity, identity, weights_digest
from glue_mva.config.resolve import ResolvedConfig, resolve
from glue_mva.config.run import RunConfig
from glue_mva.config.schedule import schedule
from glue_mva.errors import UsageError, kind_and_line
from glue_mva.files import WORK_FOLDER
from glue_mva.machine import process_place
from glue_mva.models.vocabulary import CompactVocabulary, can_compact
from glue_mva.optim.diagnostics import state_bytes
from glue_mva.record import (
    CONSTANT,
    MODEL_FOLDER,
    RECORD_FILE,
    Evaluation,
    Execution,
    Headline,
    RecordError,
    RunRecord,
    lacking,
    of_other_source,
    read_own,
    set_aside,
    write_failure,
    write_predictions,
    write_record,
)
from glue_mva.training import environment, results
from glue_mva.training.arguments import training_arguments
from glue_mva.training.callbacks import (
    KeepBest,
    StopEarly,
    StopOnDivergence,
    Stopwatch,
    TimedCheckpoint,
    drop_after,
    last_checkpoint,
    step_of,
)
from glue_mva.training.contexts import check_output, deterministic, locked, quiet_libraries
from glue_mva.training.glue_metric import GlueMetric
from glue_mva.training.kept import keep, kept_folder, restore
from glue_mva.training.model_card import write_model_card
from glue_mva.training.prepare import Prepared, collator, prepare
from glue_mva.training.trackers import TRACKERS, MLflow, Wandb
from glue_mva.training.trainer import GlueTrainer

log = logging.getLogger(__name__)


def finished_record(config: ResolvedConfig, folder: Path) -> RunRecord | None:
    """The record of a run in its folder, if it is there and its result stands; `None` where `force` is set.

    Raises:
        UsageError: the run ended well, but without the weights or test predictions that are wanted now.
    """
    if config.force:
        return None
    try:
        record = read_own(folder)
    except RecordError:
        return None
    if lacks := lacking(record, folder, predict_test=config.predict_test, save_model=config.save_model):
        raise UsageError(f"{folder}: this run is finished, but was made without {' and '.join(lacks)}; --force "
                         "(force = true) makes it again")  # fmt: skip
    return record if record.is_finished else None


def run(config: RunConfig, callbacks: Sequence[TrainerCallback] = ()) -> RunRecord:
    """Fine-tune and evaluate as the config says, and write `OUTPUT/<run_id>/record.json` and `predictions.npz`.

    Fields left at `None` take the recipe's values. A finished record of the same run is returned as it is (unless
    `force`; it stands until the new run has ended). Under `accelerate launch` every process returns the record and the
    first one writes it.

    Args:
        callbacks: further callbacks of the Trainer, for progress and the like.

    Raises:
        UsageError: bad input; nothing was written.
        OSError: the result could not be written; checkpoints stand.
        Exception: whatever stopped the training; a record with status `failed` was written, as `failure.json` where a
            result stands.
    """
    resolved = resolve(config)
    determined = identity(resolved)
    folder = Path(resolved.output) / determined.run_id
    if (record := finished_record(resolved, folder)) is not None:
        return record
    check_output(folder)
    for older in of_other_source(folder.parent, [determined]).values():
        log.warning("%s was made by another version of %s: run anew", older, resolved.optim)
    with quiet_libraries(), deterministic(), checks.collected() as asked:
        prepared = prepare(resolved)
        with locked(folder):
            alone = process_place()[1] == 1  # the processes of one run could disagree about what they find now
            if alone and (record := finished_record(resolved, folder)) is not None:
                return record  # another process made it meanwhile
            keep_what_is_no_result(folder)
            try:
                return _Run(resolved, determined, folder, prepared, asked).execute(callbacks)
            finally:
                if resolved.compile:  # compiled code and graphs of this model are of no use to the next run
                    torch.compiler.reset()


def keep_what_is_no_result(folder: Path) -> None:
    """Set a record aside that is damaged or another run's, before the new one takes its name."""
    try:
        read_own(folder)
    except RecordError as error:
        if (folder / RECORD_FILE).exists() and process_place()[0] == 0:
            log.warning("%s; set aside as %s", error, set_aside(folder).name)


class _Run:
    """One run in the making."""

    def __init__(self, config: ResolvedConfig, determined: Identity, folder: Path, prepared: Prepared,
                 asked: Mapping[str, checks.Verdict]) -> None:  # fmt: skip
        self.config = config
        self.asked = asked
        """Verdicts on the fast paths that were asked for so far."""
        self.trackers: list[Wandb | MLflow] = []
        self.folder = folder
        self.work = folder / WORK_FOLDER
        self.evaluations = self.work / "evaluations"
        self.prepared = prepared
        self.task = prepared.data.task
        self.schedule = schedule(config, len(prepared.train) if prepared.train is not None else 0)
        self.headline = Headline(split=next(iter(prepared.evaluation)), metric=self.task.headline)
        self.logged_name = results.logged_name(self.headline.split, self.headline.metric)
        self.kept_by = self.logged_name if config.save_model or prepared.test else None
        """Under which name the metric is logged by which the best weights are kept; `None` where none are."""
        self.known: dict[str, Any] = {
            "run_id": determined.run_id,
            "config": config,
            "headline": self.headline,
            "schedule": self.schedule,
            "data": prepared.data.info,
            "model": environment.describe_model(config.model, determined.model_digest, prepared.model, prepared.start),
            "environment": environment.describe(),
            "optimizer_source": determined.optimizer_source,
        }
        """What the record holds however training ends."""
        self.vocabulary = self._compact_vocabulary()

    def _compact_vocabulary(self) -> CompactVocabulary | None:
        """Leave out of training what needs none. Only for optimizers known to treat every weight by itself, and not
        where a loss scale may skip updates, which the rows that are left out would have to know of."""
        prepared = self.prepared
        config = self.config
        by_itself = config.optim in paper.BEST_HPARAMS and not config.routes and config.layer_decay == 1
        known = by_itself and prepared.precision != "fp16"
        if prepared.train is None or self.config.num_train_epochs == 0 or not known or not can_compact(prepared.model):
            return None
        splits = [prepared.train, *prepared.evaluation.values()]
        tokens = (split.columns["input_ids"] for split in splits)
        return CompactVocabulary(prepared.model, tokens, keep_rest=self.kept_by is not None)

    def execute(self, callbacks: Sequence[TrainerCallback]) -> RunRecord:
        watch = Stopwatch()
        trainer = self._trainer(callbacks)
        writes = trainer.is_world_process_zero()
        checkpoint = last_checkpoint(self.work, trainer.args.world_size, self.kept_by) if self.config.resume else None
        if writes:
            drop_after(self.work, checkpoint)
        divergence = StopOnDivergence()
        trainer.add_callback(divergence)
        environment.begin_measuring_memory(self.prepared.device)
        try:
            trained = self._train(trainer, checkpoint)
            result = self._result(trainer, divergence)
            tested = self._predict_test(trainer, result)
            execution = self._execution(trainer, checkpoint, watch, trained)
            record = RunRecord(**self.known, **result, execution=execution)
            if writes and (model := self._kept_model(record)) is not None:
                record = record.model_copy(update={"weights": weights_digest(model)})
        except BaseException as error:
            if writes and not isinstance(error, KeyboardInterrupt):
                said = "".join(traceback.format_exception_only(error)).strip()
                try:
                    write_failure(RunRecord(status="failed", error=said, **self.known), self.folder)
                except OSError as lost:
                    log.warning("the failure could not be written to %s: %s", self.folder, lost.strerror)
            self._close_trackers(ok=False)
            raise
        ok = False
        try:
            if writes:
                self._write(record, self._predictions(record) | tested)
                shutil.rmtree(self.work, ignore_errors=True)
            ok = record.status == "ok"
        finally:
            self._close_trackers(ok=ok)
        return record

    def _begin_trackers(self, trainer: GlueTrainer) -> None:
        """Before anything is computed: one that cannot begin is a bad setting."""
        try:
            for tracker in self.trackers:
                trainer.add_callback(tracker)
                tracker.setup(trainer.args, trainer.state, trainer.model)
        except UsageError:
            self._close_trackers(ok=False)
            raise

    def _close_trackers(self, *, ok: bool) -> None:
        """What goes wrong there costs the run nothing."""
        for tracker in self.trackers:
            try:
                tracker.close(ok=ok)
            except Exception as error:
                log.warning("a tracker of report_to could not end its run: %s", kind_and_line(error))

    def _trainer(self, callbacks: Sequence[TrainerCallback]) -> GlueTrainer:
        config, prepared = self.config, self.prepared
        arguments = training_arguments(config, prepared, self.schedule, str(self.work))
        trainer = GlueTrainer(
            model=prepared.model,
            args=arguments,
            train_dataset=prepared.train,
            eval_dataset=prepared.evaluation,
            data_collator=collator(prepared),
            compute_metrics=self._compute_metrics,
            callbacks=[TimedCheckpoint(config.checkpoint_minutes), *callbacks],
            optim=config.optim,
            optim_args=config.optimizer_arguments,
            routes=config.routes,
            lr_schedule=self.schedule,
            layer_decay=config.layer_decay,
            decay_all_parameters=config.decay_all_parameters,
            log_dynamics=config.logging_steps != 0,
            evaluation_folder=self.evaluations,
        )
        trainer.remove_callback(PrinterCallback)
        if config.num_train_epochs and "tensorboard" in prepared.reporters and trainer.is_world_process_zero():
            from glue_mva.training.tensorboard import Board  # needs the package, which few have

            trainer.add_callback(Board(self.folder, config, self.headline))
        if trainer.is_world_process_zero():
            self.trackers = [
                TRACKERS[name](config, self.folder.name) for name in prepared.reporters if name in TRACKERS
            ]
        self._begin_trackers(trainer)
        if self.kept_by:
            trainer.add_callback(KeepBest(self.kept_by, self.work, lambda to: self._keep_model(trainer, to)))
        if config.early_stopping_patience:
            trainer.add_callback(StopEarly(self.logged_name, config.early_stopping_patience))
        return trainer

    def _compute_metrics(self, prediction: Any) -> dict[str, float]:
        outputs, labels = self._original_scale(prediction.predictions), self._original_scale(prediction.label_ids)
        found = {results.IS_CONSTANT: float(results.is_constant(outputs, self.task))}
        if not self.task.is_regression and (labels < 0).all():
            return found  # a test set without labels
        return found | GlueMetric(self.task.name).from_outputs(outputs, labels)

    def _original_scale(self, values: np.ndarray) -> np.ndarray:
        """Targets, or predicted targets, as (rows,) on the scale of the data; logits and classes as they are."""
        return values.reshape(len(values)) / self.prepared.target_scale if self.task.is_regression else values

    def _train(self, trainer: GlueTrainer, checkpoint: Path | None) -> dict[str, Any]:
        """Train, or only evaluate; returns what the training adds to the record's `execution`."""
        if self.config.num_train_epochs == 0:
            trainer.evaluate()
            return dict.fromkeys(
                ("optimizer", "kernel", "trained_parameters", "optimizer_state_bytes", "train_seconds",
                 "examples_per_second", "tokens_per_second")
            )  # fmt: skip
        watch = Stopwatch()
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        seconds = watch.seconds - trainer.eval_seconds
        steps = trainer.state.global_step - (step_of(checkpoint) if checkpoint else 0)
        rows = min(steps * self.config.train_batch_size, int(trainer.state.epoch * len(self.prepared.train or ())))
        tokens = float(self.prepared.train.lengths.mean()) * rows if self.prepared.train is not None else 0.0
        optimizer: Any = getattr(trainer.optimizer, "optimizer", trainer.optimizer)  # accelerate wraps it
        return {
            "optimizer": type(optimizer).__name__,
            "trained_parameters": sum(p.numel() for p in self.prepared.model.parameters() if p.requires_grad),
            "kernel": environment.kernel_of(optimizer),
            "optimizer_state_bytes": state_bytes(optimizer),
            "routes": results.routes_taken(trainer.parts),
            "train_seconds": round(seconds, 3),
            "examples_per_second": round(rows / seconds, 2),
            "tokens_per_second": round(tokens / seconds, 1),
        }

    def _execution(
        self, trainer: GlueTrainer, checkpoint: Path | None, watch: Stopwatch, trained: dict[str, Any]
    ) -> Execution:
        prepared = self.prepared
        return Execution(
            device=environment.device_name(prepared.device),
            device_type=prepared.device,
            precision=prepared.precision,
            padding=prepared.padding,
            eval_seconds=round(trainer.eval_seconds, 3),
            prepare_seconds=round(prepared.seconds, 3),
            total_seconds=round(prepared.seconds + watch.seconds, 3),
            world_size=trainer.args.world_size,
            threads=torch.get_num_threads(),
            gradient_accumulation_steps=self.config.gradient_accumulation_steps,
            max_length=prepared.max_length,
            resumed_from_step=step_of(checkpoint) if checkpoint else None,
            peak_memory_bytes=environment.peak_memory(prepared.device),
            weight_decay=trainer.decayed_by,
            checks={name: results.check_result(verdict) for name, verdict in sorted(self.asked.items())},
            **trained,
        )

    def _result(self, trainer: GlueTrainer, divergence: StopOnDivergence) -> dict[str, Any]:
        """What the Trainer logged, as fields of the record."""
        history = trainer.state.log_history
        epochs = results.evaluations(history, list(self.prepared.evaluation), self.task.metrics)
        result: dict[str, Any] = {"status": "ok"}
        scores = [e.metrics[self.headline.split].get(self.headline.metric) for e in epochs]
        labelled = any(self.headline.metric in e.metrics[self.headline.split] for e in epochs)
        if divergence.diverged_at is not None:
            result = {"status": "diverged", "error": f"the loss was not finite at update {divergence.diverged_at}"}
        elif labelled and scores[-1] is None:
            result = {"status": "diverged", "error": f"the score was not finite at update {epochs[-1].step}"}
        elif labelled:
            best = results.best_evaluation(scores)
            result |= {"best_epoch": best, "score": _score(scores[best]), "last_score": _score(scores[-1])}
        warnings = [*self.prepared.warnings]
        trained = result["status"] == "ok" and self.config.num_train_epochs
        if trained and results.ends_constant(history, self.headline.split):
            warnings.append(CONSTANT)
        result |= {"epochs": epochs, "majority": results.majority(self.prepared.data), "warnings": warnings}
        return result | {"curves": results.curves(history) if self.config.logging_steps != 0 else {}}

    def _predictions(self, record: RunRecord) -> dict[str, np.ndarray]:
        """Outputs of the best and the last epoch, as `write_predictions` takes them; none without an evaluation."""
        kept: dict[str, Evaluation] = {"last": record.epochs[-1]} if record.epochs else {}
        if record.best is not None:
            kept["best"] = record.best
        arrays = {}
        for split in self.prepared.evaluation:
            for which, evaluation in kept.items():
                outputs, labels = results.load_predictions(self.evaluations, evaluation.step, split)
                arrays[f"{split}/{which}"] = self._original_scale(outputs)
                arrays[f"{split}/labels"] = self._original_scale(labels)
        return arrays

    def _kept_model(self, record: RunRecord) -> Path | None:
        """The weights of the best epoch, where the run is to keep them and has one."""
        if not self.config.save_model or record.best is None:
            return None
        return kept_folder(self.work, record.best.step)

    def _keep_model(self, trainer: GlueTrainer, folder: Path) -> None:
        if trainer.is_world_process_zero():
            prepared, model = self.prepared, trainer.accelerator.unwrap_model(trainer.model)
            settings = {"task": self.task.name, "text": list(self.task.text), "max_length": prepared.max_length}
            settings |= {"target_scale": prepared.target_scale} if self.task.is_regression else {}
            step, state = trainer.state.global_step, None
            if self.vocabulary is not None:
                state = self.vocabulary.whole_state(model, trainer.lr_scheduler, step)
            keep(model, prepared.tokenizer, folder, state=state, step=step, settings=settings)

    def _predict_test(self, trainer: GlueTrainer, result: dict[str, Any]) -> dict[str, np.ndarray]:
        """Outputs of the best epoch on every test set; of a diverged run, none."""
        if not self.prepared.test or result.get("best_epoch") is None:
            return {}
        trainer.accelerator.wait_for_everyone()  # the first process writes the weights
        model = trainer.accelerator.unwrap_model(trainer.model)
        restore(model, kept_folder(self.work, result["epochs"][result["best_epoch"]].step))
        found = {}
        for name, rows in self.prepared.test.items():
            outputs = trainer.predict(rows, metric_key_prefix=name).predictions  # type: ignore[arg-type]
            found[f"{name}/best"] = self._original_scale(np.asarray(outputs))
        return found

    def _write(self, record: RunRecord, predictions: dict[str, np.ndarray]) -> None:
        """The record last: where it is, everything beside it is whole."""
        if predictions:
            write_predictions(predictions, self.folder)
        if (model := self._kept_model(record)) is not None:
            write_model_card(record, model)
            shutil.rmtree(self.folder / MODEL_FOLDER, ignore_errors=True)
            model.rename(self.folder / MODEL_FOLDER)
        write_record(record, self.folder)


def _score(value: float | None) -> float | None:
    return None if value is None else round(100 * value, 10)
