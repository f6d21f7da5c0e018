"""`glue-mva run`, `recipes` and `tasks`."""

import gc
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from glue_mva.cli.exit_codes import EXIT_FAILED
from glue_mva.config.identity import DEMO_MODEL, run_id
from glue_mva.config.resolve import ResolvedConfig, resolve
from glue_mva.config.run import RunConfig, parse_assignments, read_toml
from glue_mva.errors import UsageError, nearest
from glue_mva.tasks import DEMO_TASK, TASKS, get_task

DEMO = {"task": DEMO_TASK, "optim": "lamadam", "data": "demo", "model": DEMO_MODEL, "lr": 1e-4, "num_train_epochs": 2.0,
        "train_batch_size": 16, "max_length": 128}  # fmt: skip
"""What `--demo` stands for where nothing else is given: about two minutes on two cores."""


def run(
    task: Annotated[str | None, typer.Option(help=f"GLUE task: {', '.join(TASKS)}.")] = None,
    optim: Annotated[str | None, typer.Option(help="adam, laprop, madam, lamadam, or pkg.module:Class.")] = None,
    model: Annotated[str | None, typer.Option(help="Hub name or folder. [default: FacebookAI/roberta-base]")] = None,
    data: Annotated[str | None, typer.Option(help="hub, demo, or a folder. [default: hub]")] = None,
    demo: Annotated[bool, typer.Option("--demo", help="Small encoder, built-in data, no network.")] = False,
    recipe: Annotated[str | None, typer.Option(help="paper or hf; see `glue-mva recipes`. [default: paper]")] = None,
    lr: Annotated[float | None, typer.Option(help="Peak learning rate. [default: the recipe's]")] = None,
    weight_decay: Annotated[float | None, typer.Option(help="Decoupled. [default: the recipe's]")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of head, row order and dropout. [default: 42]")] = None,
    num_train_epochs: Annotated[float | None, typer.Option(help="Passes over the training rows.")] = None,
    max_steps: Annotated[int | None, typer.Option(help="Optimizer updates; goes over the epochs.")] = None,
    max_train_samples: Annotated[int | None, typer.Option(help="Train on this many rows.")] = None,
    precision: Annotated[str | None, typer.Option(help="auto, fp32, bf16 or fp16. [default: auto]")] = None,
    output: Annotated[str | None, typer.Option(help="Folder of records. [default: runs]")] = None,
    save_model: Annotated[bool, typer.Option("--save-model", help="Keep the weights of the best epoch.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the last checkpoint.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Run again though a finished record is there.")] = False,
    report_to: Annotated[str | None, typer.Option(help="tensorboard, wandb, ... [default: none]")] = None,
    config: Annotated[Path | None, typer.Option(help="TOML file with any of these and more.")] = None,
    assignments: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Any field of RunConfig; may be repeated.")
    ] = None,
) -> None:
    """Fine-tune one encoder on one GLUE task, and write OUTPUT/<run_id>/record.json.

    What is not given comes from the recipe; the command says which values it took and from where.
    """
    options = {
        "task": task, "optim": optim, "model": model, "data": data, "recipe": recipe, "lr": lr,
        "weight_decay": weight_decay, "seed": seed, "num_train_epochs": num_train_epochs, "max_steps": max_steps,
        "max_train_samples": max_train_samples, "precision": precision, "output": output, "report_to": report_to,
        "save_model": save_model or None, "resume": resume or None, "force": force or None,
    }  # fmt: skip
    from_file = read_config_file(config) if config else {}
    set_values = _known_fields(parse_assignments(assignments or []), "--set")
    given = {**from_file, **set_values, **{k: v for k, v in options.items() if v is not None}}
    if demo:
        given = {**DEMO, **given}
    for key in ("task", "optim"):
        if key not in given:
            raise UsageError(f"give --{key} (or --demo, or --config FILE with {key} in it)")
    _execute(resolve(RunConfig(**given)))


def read_config_file(path: Path) -> dict[str, Any]:
    """Fields of `RunConfig` from a TOML file.

    Raises:
        UsageError: no such file, not TOML, or a key that is no field; names file, key and the nearest field.
    """
    return _known_fields(read_toml(path), str(path))


def _known_fields(values: dict[str, Any], source: str) -> dict[str, Any]:
    for key in values:
        if key not in RunConfig.model_fields:
            raise UsageError(f"{source}: unknown key {key!r}{nearest(key, RunConfig.model_fields)}")
    return values


def _execute(config: ResolvedConfig) -> None:
    if "OMP_WAIT_POLICY" not in os.environ:  # threads that spin for long make two runs on one machine crawl
        os.environ.setdefault("GOMP_SPINCOUNT", "2000")
    from rich.console import Console

    console = Console(soft_wrap=True)
    is_first = _is_first_process()
    if is_first:
        _show_values(console, config)
    from glue_mva.cli.progress import RunProgress, show_result, show_warnings
    from glue_mva.training.runner import finished_record
    from glue_mva.training.runner import run as run_config

    done = finished_record(config)
    if done is not None and is_first:
        console.print(f"This run is finished ({done.created}); its record stands. --force runs it again.")
    with show_warnings(console if is_first else None):
        record = done or run_config(config, callbacks=[RunProgress(console, config.task)] if is_first else [])
    _leave_process_group()
    if is_first:
        show_result(console, record, config)
    if record.status != "ok":
        print(f"glue-mva: the run {record.status}: {record.error}", file=sys.stderr)
        raise typer.Exit(EXIT_FAILED)


def _leave_process_group() -> None:
    """End the process group of `accelerate launch` while the interpreter is whole.

    Threads of gloo and NCCL that let go of a tensor while the interpreter shuts down abort the process, and a run that
    is written down would end with an exit code of failure. The threads end with the last reference to the group, and
    the Trainer's reference cycles hold some.
    """
    import torch.distributed as dist

    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()
        gc.collect()


def _is_first_process() -> bool:
    return os.environ.get("RANK", "0") == "0"


def _show_values(console: Any, config: ResolvedConfig) -> None:
    """The values that were not given, grouped by where they came from."""
    console.print(f"{run_id(config)}: {get_task(config.task).title} with {config.optim}, {config.model}")
    origins: dict[str, list[str]] = {}
    for key, origin in config.sources.items():
        table, _, name = key.rpartition(".")
        value = config.optim_args[name] if table else getattr(config, key)
        origins.setdefault(origin, []).append(f"{name} {_shown(value)}")
    for origin, values in origins.items():
        console.print(f"  {origin}: {', '.join(values)}", highlight=False)


def recipes(
    task: Annotated[str, typer.Option(help="Task whose values are shown.")] = "rte",
    optim: Annotated[str, typer.Option(help="Optimizer whose values are shown.")] = "lamadam",
) -> None:
    """Show the recipes side by side, and where they differ."""
    from rich.console import Console
    from rich.table import Table

    from glue_mva.config.recipes import RECIPES
    from glue_mva.optim.registry import get_optimizer

    task, optim = get_task(task).name, get_optimizer(optim).name
    columns = {name: recipe.for_run(task, optim) for name, recipe in RECIPES.items()}
    table = Table("field", *columns, "", title=f"{get_task(task).title}, {optim}")
    for key in dict.fromkeys(key for values in columns.values() for key in values):
        shown = [_shown(values[key][0]) for values in columns.values()]
        table.add_row(key, *shown, "differs" if len(set(shown)) > 1 else "")
    console = Console()
    console.print(table)
    for name, recipe in RECIPES.items():
        console.print(f"{name}: {recipe.title}", highlight=False)


def _shown(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value).lower() if isinstance(value, bool) else str(value)


def tasks() -> None:
    """List the GLUE tasks: metrics, official sizes, and where the data would come from."""
    from rich.console import Console
    from rich.table import Table

    table = Table("task", "title", "classes", "metrics (headline first)", "train", "dev", "folder with --data DIR")
    for task in TASKS.values():
        dev = " + ".join(f"{task.rows[split]:,}" for split in task.eval_splits) or "-"
        classes = "regression" if task.is_regression else str(task.num_labels)
        train = f"{task.rows['train']:,}" if "train" in task.rows else "-"
        table.add_row(task.name, task.title, classes, ", ".join(task.metrics), train, dev, f"DIR/{task.folder}")
    Console().print(table)
    print("From the Hub: nyu-mll/glue. Without a network: --demo (an excerpt of QNLI).")
