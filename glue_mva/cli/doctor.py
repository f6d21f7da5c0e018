"""`glue-mva doctor`."""

import json
import logging
from typing import Annotated

import typer

from glue_mva.cli.exit_codes import EXIT_FAILED


def doctor(as_json: Annotated[bool, typer.Option("--json", help="Print it all as JSON.")] = False) -> None:
    """Show what this machine can do, and check that every fast path is right on it. A bug report starts with this.

    Each path is compared with the plain one on small tensors: optimizer kernels with the for-loop, packed training with
    padded. Exit code 1: something that should work here does not; runs take the plain path in its place.
    """
    logging.getLogger("glue_mva").addHandler(logging.NullHandler())  # what it would warn of is shown below
    from glue_mva.training.doctor import examine

    found = examine()
    if as_json:
        print(json.dumps(found.to_dict(), indent=2))
    else:
        from rich.console import Console
        from rich.table import Table

        console = Console(highlight=False, soft_wrap=True, markup=False)
        console.print("  ".join(f"{name} {version}" for name, version in found.versions.items() if version))
        memory = f", {found.memory_gb} GB of memory" if found.memory_gb else ""
        console.print(
            f"device {found.device}: {'; '.join(found.devices)}; {found.cores} cores for this process{memory}"
        )
        for name, answer in found.tools.items():
            console.print(f"{name}: {answer}")
        for folder, free in found.free_gb.items():
            console.print(f"{free} GB free in {folder}")
        table = Table("", "auto takes", "because", title="What runs take here")
        for name, choice in found.auto.items():
            table.add_row(name, choice.taken, choice.reason)
        console.print(table)
        table = Table("fast path", "verdict", "difference", "allowed", title="Compared with the plain path")
        for name, verdict in found.checks.items():
            numbers = ("-" if x is None else f"{x:.1e}" for x in (verdict.difference, verdict.tolerance))
            table.add_row(name, "right" if verdict.ok else "wrong: not taken", *numbers)
        console.print(table)
        for name, rate in found.rates.items():
            console.print(f"{name}: {rate:.1f}")
        for problem in found.problems:
            console.print(f"Problem: {problem}")
    if found.problems:
        raise typer.Exit(EXIT_FAILED)
