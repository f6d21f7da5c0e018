"""The report: all parts computed, then all files written."""

import os
import platform
import tempfile
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import pandas as pd

from glue_mva.errors import UsageError
from glue_mva.report import page, tables
from glue_mva.report.drawing import draw_all, drawings, is_figure
from glue_mva.report.html import to_html
from glue_mva.report.results import Results

FIGURES = "figures"
PROGRAMS = ("glue-mva", "numpy", "pandas", "scipy", "statsmodels", "matplotlib")


def build_report(
    found: Results, out: Path, *, commands: Sequence[str] = (), versions: dict[str, str] | None = None
) -> page.Page:
    """Write the report into `out`, replacing an older report there.

    Args:
        commands: command lines to print on the page.
        versions: what made the page; by default the installed programs.

    Returns:
        What was written, for printing.

    Raises:
        UsageError: `out` is a file or cannot be written; nothing is written.
    """
    if out.exists() and not out.is_dir():
        raise UsageError(f"--out {out}: is a file; name a folder")
    result = page.Page(found, commands, versions if versions is not None else installed())
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        scratch = tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name[:40]}.")
        if out.exists() and not os.access(out, os.W_OK | os.X_OK):
            raise PermissionError(13, "Permission denied")
    except OSError as error:
        raise UsageError(f"--out {out}: cannot be written: {error.strerror}") from None
    with scratch as name:
        try:
            _write(result, Path(name))
            _replace(Path(name), out)
        except OSError as error:
            raise UsageError(f"--out {out}: cannot be written: {error.strerror}") from error
    return result


def installed() -> dict[str, str]:
    """Versions of the programs that make the page."""
    return {"Python": platform.python_version()} | {name: version(name) for name in PROGRAMS}


def _write(result: page.Page, out: Path) -> None:
    found = result.found
    for name in ("runs", "cells", "comparisons", "verdicts", "across", "speed", "curves", "expected_best"):
        _write_csv(getattr(found, name), out / f"{name}.csv")
    (out / FIGURES).mkdir()
    figures, lost = draw_all(drawings(found), out / FIGURES)
    result.figures |= figures
    found.made.notes += lost
    texts = {
        "table3.md": tables.table3_markdown(found.table),
        "table3.csv": tables.table3_csv(found.table),
        "table3.tex": tables.table3_latex(found.table),
        "comparisons.md": "# Comparisons\n\n" + page.comparisons_markdown(found.pairs),
        "report.md": page.page_markdown(result),
    }
    texts["report.html"] = to_html(texts["report.md"], result.title, out / FIGURES, result.figures)
    for name, text in texts.items():
        (out / name).write_text(text, encoding="utf-8")


def _write_csv(frame: pd.DataFrame, path: Path) -> None:
    frame.to_csv(path, index=False, float_format="%.8g")


def _replace(new: Path, out: Path) -> None:
    """Move the files of a finished report over those of an older one; other files in `out` stay."""
    (out / FIGURES).mkdir(parents=True, exist_ok=True)
    for old in (out / FIGURES).iterdir():
        if is_figure(old.name):
            old.unlink()
    for path in sorted((new / FIGURES).iterdir()):
        path.replace(out / FIGURES / path.name)
    (new / FIGURES).rmdir()
    for path in sorted(new.iterdir()):
        path.replace(out / path.name)
