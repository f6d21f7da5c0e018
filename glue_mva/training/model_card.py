"""The model card of a fine-tuned model: what it is, its score, and the command that made it."""

import json
import shlex
from pathlib import Path
from typing import Any

from glue_mva.config.identity import DEMO_MODEL, EXECUTION_FIELDS
from glue_mva.config.recipes import FIELDS
from glue_mva.config.resolve import resolve
from glue_mva.config.run import RunConfig
from glue_mva.record import RunRecord

_CARD = """---
library_name: transformers
pipeline_tag: text-classification
{base}tags: [glue, {task}, glue-mva]
---

# {model} fine-tuned on {title} with {optimizer}

| split | metric | value |
|---|---|---|
{rows}

Values are those of the best of {epochs} epochs by {headline} on {evaluated}, on which that epoch was chosen.{partial}

Made by glue-mva {version} with

    {command}

To label texts: `glue-mva predict THIS_FOLDER FILE`, or the pipeline `text-classification` of transformers.{scale}

Run `{run_id}`; learning rate {lr:g}, weight decay {weight_decay:g}, batch {train_batch_size}, seed {seed}.
"""

SCALE = " The model itself answers with the score divided by {:g}; `glue-mva predict` multiplies."
PARTIAL = "\nThe data were partial: the scores are not those of the full task."


def write_model_card(record: RunRecord, folder: Path) -> Path:
    """Write `README.md` for the model of a record into `folder`."""
    config, task = record.config, record.config.task_spec
    local = config.model == DEMO_MODEL or Path(config.model).expanduser().is_dir()  # no name on the Hub
    best = record.best.metrics if record.best is not None else {}
    lines = [f"| {split} | {name} | {_shown(found[name])} |" for split, found in best.items() for name in task.metrics]
    text = _CARD.format(
        title=task.title,
        optimizer=config.optim_spec.label,
        rows="\n".join(lines),
        epochs=len(record.epochs),
        headline=task.headline,
        evaluated="held-out training rows" if record.data is not None and record.data.holdout else "the dev set",
        partial=PARTIAL if record.data is not None and record.data.partial else "",
        scale=SCALE.format(task.label_range[1]) if task.is_regression and config.scale_targets else "",
        base="" if local else f"base_model: {json.dumps(config.model)}\n",
        version=record.environment.get("glue_mva"),
        command=command_line(record),
        run_id=record.run_id,
        **{k: getattr(config, k) for k in ("model", "task", "lr", "weight_decay", "train_batch_size", "seed")},
    )
    path = folder / "README.md"
    path.write_text(text, encoding="utf-8")
    return path


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def command_line(record: RunRecord) -> str:
    """The command that repeats a run: the values that were given, and every other that its recipe does not give."""
    config = record.config
    words: dict[str, Any] = {"task": config.task, "optim": config.optim, "model": config.model, "data": config.data,
             "recipe": config.recipe}  # fmt: skip
    given = {key for key, origin in config.sources.items() if origin == "given"} | {"seed", "num_train_epochs"}
    needed = {
        name: getattr(config, name) for name in given & {*FIELDS, "seed"}
    }  # a recipe has not all of an own task's
    usual = resolve(RunConfig(**words, own_task=config.own_task, **needed))
    elsewhere = {*words, *EXECUTION_FIELDS, "optim_args", "own_task"}
    names = [name for name in RunConfig.model_fields if name not in elsewhere]
    values = {name: getattr(config, name) for name in names
              if name in given or getattr(config, name) != getattr(usual, name)}  # fmt: skip
    values |= {f"optim_args.{key}": value for key, value in config.optim_args.items()
               if f"optim_args.{key}" in given or usual.optim_args.get(key, ...) != value}  # fmt: skip
    words |= {"task": f"{config.task}.toml"} if config.own_task else {}
    options = [word for name, value in words.items() for word in (f"--{name}", value)]
    settings = [word for name, value in values.items() for word in ("--set", f"{name}={json.dumps(value)}")]
    return shlex.join(["glue-mva", "run", *options, *settings])
