"""`ResolvedConfig` -> Hugging Face's `TrainingArguments`."""

import math

from transformers import TrainingArguments

from glue_mva.config.resolve import ResolvedConfig
from glue_mva.config.schedule import Schedule
from glue_mva.training.prepare import Prepared
from glue_mva.training.trackers import TRACKERS

CURVES_POINTS = 40
"""Points of the curves, at most, where `logging_steps` is `auto`."""
BETWEEN_POINTS = 20
"""Updates between two points, at least, where `logging_steps` is `auto`: a point costs part of an update."""


def training_arguments(config: ResolvedConfig, prepared: Prepared, plan: Schedule, output: str) -> TrainingArguments:
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
        per_device_train_batch_size=prepared.device_batch_size,
        per_device_eval_batch_size=config.eval_batch_size,
        gradient_accumulation_steps=config.gradient_accumulation_steps,
        max_steps=max(1, plan.max_steps),
        eval_strategy="epoch",
        save_strategy="no",
        save_total_limit=2,
        logging_strategy="steps",
        logging_steps=every,
        logging_nan_inf_filter=False,
        report_to=[name for name in prepared.reporters if name not in ("tensorboard", *TRACKERS)],
        seed=config.seed,
        bf16=prepared.precision == "bf16",
        fp16=prepared.precision == "fp16",
        use_cpu=prepared.device == "cpu",
        label_names=["labels"],
        remove_unused_columns=False,
        disable_tqdm=True,
        dataloader_pin_memory=prepared.device == "cuda",
        accelerator_config={"non_blocking": prepared.device == "cuda"},
    )
    arguments.mixed_precision = prepared.precision.replace("fp32", "no")  # not what ACCELERATE_MIXED_PRECISION says
    return arguments
