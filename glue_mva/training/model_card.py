"""The model card of a fine-tuned model: what it is, its score, and the command that made it."""

from pathlib import Path

from glue_mva.config.resolve import ResolvedConfig
from glue_mva.optim.registry import get_optimizer
from glue_mva.record import RunRecord
from glue_mva.tasks import get_task

_CARD = """---
library_name: transformers
pipeline_tag: text-classification
base_model: {model}
tags: [glue, {task}, glue-mva]
---

# {model} fine-tuned on {title} with {optimizer}

| split | metric | value |
|---|---|---|
{rows}

Values are those of the best of {epochs} epochs by {headline} on the dev set, on which that epoch was chosen.{partial}

Made by glue-mva {version} with

    {command}

To label texts: `glue-mva predict THIS_FOLDER FILE`, or the pipeline `text-classification` of transformers.{scale}

Run `{run_id}`; learning rate {lr:g}, weight decay {weight_decay:g}, batch {train_batch_size}, seed {seed}.
"""

SCALE = " The model itself answers with the score divided by {:g}; `glue-mva predict` multiplies."
PARTIAL = "\nThe data were partial: the scores are not those of the full task."


def write_model_card(record: RunRecord, folder: Path) -> Path:
    """Write `README.md` for the model of a record into `folder`."""
    config, task = record.config, get_task(record.config.task)
    best = record.best.metrics if record.best is not None else {}
    lines = [f"| {split} | {name} | {values[name]:.4f} |" for split, values in best.items() for name in task.metrics]
    text = _CARD.format(
        title=task.title,
        optimizer=get_optimizer(config.optim).label,
        rows="\n".join(lines),
        epochs=len(record.epochs),
        headline=task.headline,
        partial=PARTIAL if record.data is not None and record.data.partial else "",
        scale=SCALE.format(task.label_range[1]) if task.is_regression and config.scale_targets else "",
        version=record.environment.get("glue_mva"),
        command=command_line(record),
        run_id=record.run_id,
        **{k: getattr(config, k) for k in ("model", "task", "lr", "weight_decay", "train_batch_size", "seed")},
    )
    path = folder / "README.md"
    path.write_text(text, encoding="utf-8")
    return path


def command_line(record: RunRecord) -> str:
    """The command that repeats a run, with every value that was given."""
    config = record.config
    words = ["glue-mva run", f"--task {config.task}", f"--optim {config.optim}", f"--model {config.model}"]
    words += [f"--data {config.data}", f"--recipe {config.recipe}", f"--seed {config.seed}"]
    given = [key for key, origin in config.sources.items() if origin == "given"]
    words += [f"--set {key}={_value(config, key)}" for key in given]
    return " ".join(words)


def _value(config: ResolvedConfig, key: str) -> object:
    table, _, name = key.rpartition(".")
    value = config.optim_args[name] if table else getattr(config, key)
    return str(value).lower() if isinstance(value, bool) else value
