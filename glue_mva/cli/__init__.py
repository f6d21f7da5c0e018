"""The command line; the only place that prints. Each command has a module here, which imports what is heavy inside its
function, so that `--help` answers at once."""

import sys

import typer

from glue_mva.errors import UsageError

EXIT_FAILED = 1
"""Something ran and failed: a diverged run, a failed run of a sweep."""
EXIT_REFUSED = 2
"""Bad input: nothing was started, nothing written."""

app = typer.Typer(
    name="glue-mva",
    help="Fine-tune encoders on GLUE with MAdam and LaMAdam, and compare optimizers honestly.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def main() -> None:
    """Entry point of `glue-mva` and `python -m glue_mva`: a user's error becomes one line and exit code 2."""
    try:
        app()
    except UsageError as error:
        print(f"glue-mva: error: {error}", file=sys.stderr)
        sys.exit(EXIT_REFUSED)
