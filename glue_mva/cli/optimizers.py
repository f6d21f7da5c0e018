"""`glue-mva optimizers`: what there is to compare."""

from typing import Annotated

import typer

from glue_mva.tasks import get_task


def optimizers(
    task: Annotated[str, typer.Option(help="Task whose recipe values are shown.")] = "rte",
    recipe: Annotated[str, typer.Option(help="Recipe whose values are shown: see `glue-mva recipes`.")] = "paper",
) -> None:
    """List the optimizers by name: their default learning rate and decay, what a config may set, and their memory."""
    from rich.console import Console
    from rich.table import Table

    from glue_mva.config.recipes import RECIPES
    from glue_mva.errors import UsageError, nearest
    from glue_mva.optim.diagnostics import state_bytes_of
    from glue_mva.optim.registry import OPTIMIZERS

    if recipe not in RECIPES:
        raise UsageError(f"unknown recipe {recipe!r}{nearest(recipe, RECIPES)}")
    of_task = get_task(task)
    console = Console()
    table = Table("name", "lr", "decay", "schedule", "state", "from", title=f"{of_task.title}, recipe {recipe}")
    arguments = Table("name", "optim_args (= default)")
    for spec in OPTIMIZERS.values():
        values = RECIPES[recipe].for_run(of_task, spec)
        known = [f"{name}={spec.constants[name]}" if name in spec.constants else name for name in spec.hparams]
        state = state_bytes_of(spec)
        table.add_row(
            spec.name, f"{values['lr'][0]:g}", f"{values['weight_decay'][0]:g}", str(values["lr_scheduler"][0]),
            "-" if state is None else f"{state:.1f}", spec.origin,
        )  # fmt: skip
        arguments.add_row(spec.name, ", ".join(known))
    console.print(table, arguments)
    console.print(
        "state: bytes per parameter of a 512 x 512 matrix, measured after one step; - where the package is missing "
        "(pip install 'glue-mva\\[rivals]').\n"
        "Any other class: --optim pkg.module:Class. It may have any keyword arguments (--set optim_args.NAME=VALUE), "
        "takes Adam's lr, decay and schedule unless they are given, its step size is measured as the mean change of "
        "the parameters, and `report` compares it with Adam.",
        soft_wrap=True, highlight=False,
    )  # fmt: skip
