"""Write the help texts of all commands into docs/cli.md.

python tools/build_cli_docs.py
"""

import os
from pathlib import Path

os.environ |= {"COLUMNS": "100", "TERM": "dumb", "NO_COLOR": "1"}

import typer
from typer.testing import CliRunner

from glue_mva.cli import app

PAGE = Path(__file__).parents[1] / "docs" / "cli.md"


def help_page() -> str:
    """Markdown with the help text of every command."""
    parts = ["# Commands\n\nWritten by `python tools/build_cli_docs.py`.\n"]
    for words in commands(typer.main.get_command(app)):
        text = CliRunner().invoke(app, [*words, "--help"], prog_name="glue-mva", terminal_width=100).output
        title = " ".join(["glue-mva", *words])
        lines = "\n".join(line.rstrip() for line in text.strip().splitlines())
        parts.append(f"## {title}\n\n```\n{lines}\n```\n")
    return "\n".join(parts)


def commands(command, words=()):
    """Every command and group, as the words that a user types."""
    yield words
    for name, child in getattr(command, "commands", {}).items():
        yield from commands(child, (*words, name))


if __name__ == "__main__":
    PAGE.write_text(help_page(), encoding="utf-8")
