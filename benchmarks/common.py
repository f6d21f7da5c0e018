"""What the benchmarks of training share: their first options, and the file that they write."""

import argparse
from pathlib import Path

from glue_mva.config.identity import DEMO_MODEL


def make_parser(text: str | None) -> argparse.ArgumentParser:
    """A parser with `--data` and `--model`, whose help is the docstring of the script."""
    parser = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="folder with the official TSV files")
    parser.add_argument("--model", default=DEMO_MODEL)
    return parser


def add_out(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", type=Path, help="also write the table to this file")


def show(title: str, lines: list[str], out: Path | None) -> None:
    """Print a table, and write it to `out` under its title."""
    table = "\n".join([*lines, ""])
    print(table)
    if out:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(f"# {title}\n\n{table}", encoding="utf-8")
