"""`glue-mva run`, `recipes` and `tasks`."""

import contextlib
import gc
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from glue_mva.cli.exit_codes import EXIT_FAILED
from glue_mva.cli.options import Assignments, with_fields
from glue_mva.config.base import merged, read_toml
from glue_mva.config.identity import DEMO_MODEL, run_id
from glue_mva.config.recipes import RECIPES
from glue_mva.config.resolve import ResolvedConfig, resolve
from glue_mva.config.run import RunConfig, parse_assignments
from glue_mva.errors import UsageError, nearest
from glue_mva.machine import process_place, shorten_waits
from glue_mva.optim.registry import OPTIMIZERS, get_optimizer
from glue_mva.tasks import DEMO_TASK, GLUE, TASKS, get_task

DEMO = {"task": DEMO_TASK, "optim": "lamadam", "data": "demo", "model": DEMO_MODEL, "lr": 1e-4, "num_train_epochs": 2.0,
        "train_batch_size": 16, "max_length": 128}  # fmt: skip
"""What `--demo` stands for where nothing else is given: about two minutes on two cores."""


def _defaults() -> dict[str, str]:
    """What stands for a field that is not given, for the help."""
    fields = {name: info.default for name, info in RunConfig.model_fields.items() if not info.is_required()}
    own = {name: str(value) for name, value in fields.items() if value not in (None, False)}
    return dict.fromkeys(RECIPES["paper"].for_run(TASKS["rte"], OPTIMIZERS["adam"]), "the recipe's") | own


@with_fields(RunConfig, defaults=_defaults())
def run(
    given: dict[str, Any],
    demo: Annotated[bool, typer.Option("--demo", help="Small encoder, built-in data, no network.")] = False,
    config: Annotated[Path | None, typer.Option(metavar="FILE", help="TOML file with any of these fields.")] = None,
    assignments: Assignments = None,
) -> None:
    """Fine-tune one encoder on one GLUE task or one of your own, and write OUTPUT/<run_id>/record.json.

    What is not given comes from the recipe; the command says which values it took and from where.
    """
    from_file = read_config_file(config) if config else {}
    set_values = _known_fields(parse_assignments(assignments or []), "--set")
    values = {**merged({**(DEMO if demo else {}), **from_file}, set_values), **given}
    for key in ("task", "optim"):
        if key not in values:
            raise UsageError(f"give --{key} (or --demo, or --config FILE with {key} in it)")
    _execute(resolve(RunConfig(**values)))


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
    shorten_waits(os.environ)
    from rich.console import Console

    console = Console(soft_wrap=True, markup=False)
    is_first = _is_first_process()
    name = run_id(config)
    if is_first:
        _show_values(console, name, config)
    from glue_mva.cli.progress import show_result, training_progress
    from glue_mva.training.contexts import keep_freed_memory
    from glue_mva.training.runner import finished_record
    from glue_mva.training.runner import run as run_config

    keep_freed_memory()
    done = finished_record(config, Path(config.output) / name)
    if done is not None and is_first:
        console.print(f"This run is finished ({done.created}); its record stands. --force runs it again.")
    with contextlib.ExitStack() as stack:
        callbacks = stack.enter_context(training_progress(console, config.task_spec)) if is_first else []
        record = done or run_config(config, callbacks=callbacks)
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
    return process_place()[0] == 0


def _show_values(console: Any, name: str, config: ResolvedConfig) -> None:
    """What is run, and the values that were not given, grouped by where they came from."""
    borrowed = not config.optim_spec.is_known and config.sources["lr"] != "given"
    warning = f"; lr {_shown(config.lr)} is Adam's, not searched for this optimizer" if borrowed else ""
    console.print(f"{name}: {config.task_spec.title} with {config.optim}, {config.model}{warning}")
    origins: dict[str, list[str]] = {}
    for key, origin in config.sources.items():
        table, _, field = key.rpartition(".")
        value = config.optim_args[field] if table else getattr(config, key)
        origins.setdefault(origin, []).append(f"{field} {_shown(value)}")
    for origin, values in origins.items():
        console.print(f"  {origin}: {', '.join(values)}", highlight=False)
    for route in config.routes:
        rest = [f"{name} {_shown(value)}" for name, value in route["optim_args"].items()]
        rest = [f"{name} {_shown(route[name])}" for name in ("lr", "weight_decay") if name in route] + rest
        console.print(f"  route {route['match']}: {', '.join([route['optim'], *rest])}", highlight=False, markup=False)


def recipes(
    task: Annotated[str, typer.Option(help="Task whose values are shown.")] = "rte",
    optim: Annotated[str, typer.Option(help="Optimizer whose values are shown.")] = "lamadam",
) -> None:
    """Show the recipes side by side, and where they differ."""
    from rich.console import Console
    from rich.table import Table

    of_task, of_optim = get_task(task), get_optimizer(optim)
    columns = {name: recipe.for_run(of_task, of_optim) for name, recipe in RECIPES.items()}
    table = Table("field", *columns, "", title=f"{of_task.title}, {of_optim.name}")
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
    for task in (TASKS[name] for name in GLUE):
        dev = " + ".join(f"{task.rows[split]:,}" for split in task.eval_splits) or "-"
        classes = "regression" if task.is_regression else str(task.num_labels)
        train = f"{task.rows['train']:,}" if "train" in task.rows else "-"
        table.add_row(task.name, task.title, classes, ", ".join(task.metrics), train, dev, f"DIR/{task.folder}")
    Console().print(table)
    print("From the Hub: nyu-mll/glue. Without a network: --demo (an excerpt of QNLI). Your own: --task FILE.toml.")
