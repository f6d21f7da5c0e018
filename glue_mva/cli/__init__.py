"""The command line; the only place that prints. Each command has a module here, which imports what is heavy inside its
function, so that `--help` answers at once."""

import contextlib
import os
import sys
import tempfile
import traceback
from pathlib import Path
from typing import Annotated

import typer

from glue_mva.cli import run as run_commands
from glue_mva.cli.doctor import doctor
from glue_mva.cli.exit_codes import EXIT_FAILED, EXIT_REFUSED
from glue_mva.cli.export import export
from glue_mva.cli.optimizers import optimizers
from glue_mva.cli.predict import predict
from glue_mva.cli.report import report
from glue_mva.cli.simulate import app as simulate_app
from glue_mva.cli.submit import submit
from glue_mva.cli.sweep import plan, status, sweep
from glue_mva.errors import UsageError, kind_and_line, one_line

__all__ = ["EXIT_FAILED", "EXIT_REFUSED", "app", "main"]

app = typer.Typer(
    name="glue-mva",
    help="Fine-tune encoders on GLUE with MAdam and LaMAdam, and compare optimizers over tasks and seeds.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
DEBUG = "--debug"


@app.callback()
def everywhere(
    debug: Annotated[
        bool, typer.Option(DEBUG, help="Show the traceback of an unforeseen error; may stand anywhere.")
    ] = False,
) -> None:
    pass  # `main` looks for it


app.command()(run_commands.run)
app.command()(run_commands.recipes)
app.command()(run_commands.tasks)
app.command()(optimizers)
app.command()(doctor)
app.command()(sweep)
app.command()(plan)
app.command()(status)
app.command()(report)
app.command()(submit)
app.command()(export)
app.command()(predict)
app.add_typer(simulate_app, name="simulate")


def main() -> None:
    """Entry point of `glue-mva` and `python -m glue_mva`: a user's error becomes one line and exit code 2, any other
    error one line and exit code 1."""
    arguments = [word for word in sys.argv[1:] if word != DEBUG]
    try:
        if str(Path.cwd()) not in sys.path and "" not in sys.path:  # as with python -m: an optimizer may lie here
            sys.path.append(str(Path.cwd()))
        app(arguments)
    except UsageError as error:
        _say(str(error))
        sys.exit(EXIT_REFUSED)
    except Exception as error:
        if len(arguments) < len(sys.argv) - 1:
            raise
        _say(f"{kind_and_line(error)} ({_keep_traceback()}; {DEBUG} shows it)")
        sys.exit(EXIT_FAILED)


def _say(error: str) -> None:
    print(f"glue-mva: error: {one_line(error)}", file=sys.stderr)


def _keep_traceback() -> str:
    """Write the traceback of the error at hand to a file; says where."""
    with contextlib.suppress(OSError):
        descriptor, path = tempfile.mkstemp(prefix="glue-mva-", suffix=".log")
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(traceback.format_exc().encode("utf-8", "backslashreplace"))
        return f"the traceback is in {path}"
    return "its traceback could not be written"
