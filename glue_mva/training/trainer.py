"""`GlueTrainer`: a Hugging Face Trainer with any optimizer, the recipe's schedule, and curves of what it does."""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.optim.lr_scheduler import LRScheduler
from transformers import Trainer, TrainingArguments
from transformers.optimization import get_scheduler

from glue_mva.config.schedule import Schedule
from glue_mva.errors import UsageError
from glue_mva.files import atomic_write, storage_errors
from glue_mva.optim.decay import Rule
from glue_mva.optim.diagnostics import state_bytes
from glue_mva.optim.dynamics import StepProbe
from glue_mva.optim.registry import get_optimizer
from glue_mva.training.callbacks import Stopwatch, checkpoint_folder
from glue_mva.training.groups import OptimizerMaker, Part


class GlueTrainer(Trainer):
    """Trainer for sequence classification and regression with the optimizers of the paper, or any other.

    Works like `transformers.Trainer`; the learning rate and weight decay are those of `TrainingArguments`. The loss is
    computed in float32 and averaged over the rows of an update, however they are divided among devices and
    accumulation steps, unless a `compute_loss_func` is given. Weight decay is decoupled, whatever the class makes of it
    (`optim.decay`).

    Args:
        optim: name of the registry (`glue-mva optimizers` lists them), `pkg.module:Class`, or a class.
        optim_args: its keyword arguments; for a name of the registry they go over the paper's GLUE constants.
        routes: parameters for other optimizers, each with the fields of `config.run.Route`.
        lr_schedule: warmup and decay, of the kind `TrainingArguments.lr_scheduler_type`, that may end elsewhere than
            training does; `None` leaves the counts to `TrainingArguments` too.
        layer_decay: factor on the learning rate for each layer further from the head.
        decay_all_parameters: weight decay on biases and normalisation weights too, as in the paper.
        log_dynamics: with the training loss, log `step_size` (the paper's average step size) and, for MaxVA
            optimizers, `beta_mean`, `beta_at_min` and `beta_at_max`. Costs nothing between two logged updates.
        evaluation_folder: write the predictions of every evaluation there, as `<step>-<split>.npz`.

    Raises:
        UsageError: no such optimizer, or one that refuses its arguments or the model's parameters, or whose step fails
            where its weight decay is looked at.
    """

    def __init__(
        self,
        *args: Any,
        optim: str | type[torch.optim.Optimizer] = "lamadam",
        optim_args: Mapping[str, Any] | None = None,
        routes: Sequence[Mapping[str, Any]] = (),
        lr_schedule: Schedule | None = None,
        layer_decay: float = 1.0,
        decay_all_parameters: bool = False,
        log_dynamics: bool = True,
        evaluation_folder: Path | None = None,
        **kwargs: Any,
    ) -> None:
        if kwargs.get("optimizer_cls_and_kwargs") is not None:
            raise UsageError("GlueTrainer takes a class as optim and its arguments as optim_args, not as "
                             "optimizer_cls_and_kwargs")  # fmt: skip
        self._maker = OptimizerMaker(get_optimizer(optim), optim_args or {}, routes)
        self.lr_schedule = lr_schedule
        self.layer_decay = layer_decay
        self.decay_all_parameters = decay_all_parameters
        self.log_dynamics = log_dynamics
        self.evaluation_folder = evaluation_folder
        self.eval_seconds = 0.0
        self._probe: StepProbe | None = None
        self.decayed_by: Rule | None = None
        """Who decays the weights that no route takes; known when the optimizer is there."""
        for given in (*args, *kwargs.values()):
            if isinstance(given, TrainingArguments):
                given._n_gpu = min(given.n_gpu, 1)  # never DataParallel: it would multiply the batch, and the loss
                if given.label_smoothing_factor and kwargs.get("compute_loss_func") is None:
                    raise UsageError(f"label_smoothing_factor {given.label_smoothing_factor}: GlueTrainer's own loss "
                                     "has none; give a compute_loss_func")  # fmt: skip
        super().__init__(*args, **{**kwargs, "compute_loss_func": kwargs.get("compute_loss_func") or mean_loss})
        self.model_accepts_loss_kwargs = False  # the loss is ours, whatever the model's forward would accept

    @property
    def parts(self) -> Sequence[Part]:
        """What each optimizer takes: the row's own first, then those of the routes; known when `decayed_by` is."""
        return self._maker.parts

    def get_decay_parameter_names(self, model: torch.nn.Module) -> list[str]:
        if self.decay_all_parameters:
            return [name for name, _ in model.named_parameters()]
        return super().get_decay_parameter_names(model)

    def create_optimizer(self, model: torch.nn.Module | None = None) -> torch.optim.Optimizer:
        network = model or self.model
        if self.optimizer is None and network is not None:
            self.optimizer = self._maker.build(
                network, lr=self.args.learning_rate, layer_decay=self.layer_decay, weight_decay=self.args.weight_decay,
                decayed=set(self.get_decay_parameter_names(network)),
            )  # fmt: skip
            self.decayed_by = self._maker.settle_decay(self.optimizer)
            self._probe = None
        optimizer = super().create_optimizer(model)
        if self.log_dynamics and self._probe is None:
            own_decay = any(part.decayed_by == "own" for part in self.parts)
            self._probe = StepProbe(optimizer, self._next_step_is_logged, own_decay=own_decay)
        return optimizer

    def create_scheduler(self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None) -> LRScheduler:
        if self.lr_schedule is None or self.lr_scheduler is not None:
            return super().create_scheduler(num_training_steps, optimizer)
        plan = self.lr_schedule
        stepped = optimizer or self.create_optimizer()
        self.lr_scheduler = get_scheduler(self.args.lr_scheduler_type, stepped, plan.warmup_steps, plan.total_steps)
        self._created_lr_scheduler = True  # so that a second training begins with a new one
        return self.lr_scheduler

    def _get_grad_norm(self, model: torch.nn.Module, grad_norm: Any = None) -> Any:
        return grad_norm  # the Trainer would compute it at every update, to log it, even where nothing is clipped

    def _next_step_is_logged(self) -> bool:
        if self.args.logging_strategy != "steps":
            return False
        step = self.state.global_step + 1
        return step % self.state.logging_steps == 0 or (step == 1 and self.args.logging_first_step)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if "loss" in logs and self._probe is not None:
            logs.update(self._probe.read())
        super().log(logs, start_time)

    def _save_checkpoint(self, model: torch.nn.Module, trial: Any) -> None:
        output, optimizer = Path(str(self.args.output_dir)), self.optimizer
        size = sum(p.numel() * p.element_size() for p in model.parameters())
        size += state_bytes(getattr(optimizer, "optimizer", optimizer)) if optimizer is not None else 0
        try:
            with storage_errors(output, size):
                super()._save_checkpoint(model, trial)
        except Exception:  # half a checkpoint is of no use, and a full disk has no room for it
            shutil.rmtree(checkpoint_folder(output, self.state.global_step), ignore_errors=True)
            raise

    def evaluation_loop(self, *args: Any, metric_key_prefix: str = "eval", **kwargs: Any) -> Any:
        watch = Stopwatch()
        output = super().evaluation_loop(*args, **{**kwargs, "metric_key_prefix": metric_key_prefix})
        if self.evaluation_folder is not None and self.is_world_process_zero():
            split = metric_key_prefix.removeprefix("eval_")
            path = self.evaluation_folder / f"{self.state.global_step}-{split}.npz"
            with atomic_write(path) as stream:
                np.savez(stream, predictions=np.asarray(output.predictions), labels=np.asarray(output.label_ids))
        self.eval_seconds += watch.seconds
        return output


def mean_loss(outputs: Any, labels: Tensor, num_items_in_batch: Tensor | int | None = None) -> Tensor:
    """Mean over the rows of an update: cross entropy, or squared error where labels are real numbers; in float32.

    Args:
        outputs: model output with `logits` (rows, classes) or (rows, 1).
        labels: (rows,) class numbers, -1 for a row without a label, or targets.
        num_items_in_batch: rows of the whole update, over accumulation steps and devices; `None` means these rows.
    """
    logits = outputs["logits"].float()
    if labels.is_floating_point():
        total = torch.nn.functional.mse_loss(logits.reshape(labels.shape), labels.float(), reduction="sum")
    else:
        total = torch.nn.functional.cross_entropy(logits, labels, ignore_index=-1, reduction="sum")
    return total / (labels.numel() if num_items_in_batch is None else num_items_in_batch)
