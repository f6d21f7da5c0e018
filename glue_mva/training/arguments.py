"""`ResolvedConfig` -> Hugging Face's `TrainingArguments`."""

import math
from typing import Any

from transformers import TrainingArguments
from transformers.integrations import get_available_reporting_integrations
from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK

from glue_mva.config.resolve import ResolvedConfig
from glue_mva.config.schedule import Schedule
from glue_mva.errors import UsageError, nearest
from glue_mva.machine import process_place
from glue_mva.training.trackers import TRACKERS

CURVES_POINTS = 40
"""Points of the curves, at most, where `logging_steps` is `auto`."""
BETWEEN_POINTS = 20
"""Updates between two points, at least, where `logging_steps` is `auto`: a point costs part of an update."""


def device_batch_size(config: ResolvedConfig) -> int:
    """Rows of a forward pass: the batch divided among processes and accumulation steps.

    Raises:
        UsageError: it cannot be divided, or the environment names processes that nothing has started.
    """
    processes = process_place()[1]
    batch, accumulation = config.train_batch_size, config.gradient_accumulation_steps
    if batch % (processes * accumulation):
        raise UsageError(
            f"train_batch_size {batch} cannot be divided among {processes} processes x {accumulation} "
            "gradient_accumulation_steps"
        )
    return batch // (processes * accumulation)


def optimizer_arguments(config: ResolvedConfig) -> dict[str, Any]:
    """Keyword arguments of the optimizer, with those that say how it is carried out."""
    return config.optim_args | ({"fused": True} if config.fused else {})


def reporters(config: ResolvedConfig) -> list[str]:
    """Names of the integrations that a run reports to.

    Raises:
        UsageError: one is unknown or not installed.
    """
    wanted = [name.strip() for name in config.report_to.split(",") if name.strip() not in ("", "none")]
    available = get_available_reporting_integrations()
    if missing := [name for name in wanted if name not in available]:
        name = missing[0]
        if name in INTEGRATION_TO_CALLBACK:
            raise UsageError(f"report_to {name!r} is not installed: pip install {name}")
        raise UsageError(f"unknown report_to {name!r}{nearest(name, INTEGRATION_TO_CALLBACK)}")
    return wanted


def training_arguments(
    config: ResolvedConfig, plan: Schedule, output: str, precision: str, device: str
) -> TrainingArguments:
    """Hugging Face's arguments for a run."""
    # Without curves, too, the loss is looked at: divergence is seen, and checkpoints are written, at logged updates.
    fewest = min(max(BETWEEN_POINTS, math.ceil(plan.max_steps / CURVES_POINTS)), max(1, plan.max_steps))
    every = fewest if config.logging_steps == "auto" else config.logging_steps or fewest
    arguments = TrainingArguments(
        output_dir=output,
        learning_rate=config.lr,
        weight_decay=config.weight_decay,
        lr_scheduler_type=config.lr_scheduler,
        max_grad_norm=config.max_grad_norm,
        per_device_train_batch_size=device_batch_size(config),
        per_device_eval_batch_size=config.eval_batch_size,
        gradient_accumulation_steps=config.gradient_accumulation_steps,
        max_steps=max(1, plan.max_steps),
        eval_strategy="epoch",
        save_strategy="no",
        save_total_limit=2,
        logging_strategy="steps",
        logging_steps=every,
        logging_nan_inf_filter=False,
        report_to=[name for name in reporters(config) if name not in ("tensorboard", *TRACKERS)],
        seed=config.seed,
        bf16=precision == "bf16",
        fp16=precision == "fp16",
        use_cpu=device == "cpu",
        label_names=["labels"],
        remove_unused_columns=False,
        disable_tqdm=True,
        dataloader_pin_memory=device == "cuda",
    )
    arguments.mixed_precision = precision.replace("fp32", "no")  # not what ACCELERATE_MIXED_PRECISION says
    arguments._n_gpu = min(arguments.n_gpu, 1)  # never DataParallel: it would multiply the batch
    return arguments
