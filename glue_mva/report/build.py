"""The report: all parts computed, then all files written."""

import platform
import shutil
import tempfile
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd

from glue_mva.report import comparisons, page, plots, tables
from glue_mva.report.aggregate import cell_table, run_table, study
from glue_mva.report.drawing import draw_all, drawings
from glue_mva.report.load import check_comparable, load_runs
from glue_mva.report.selection import selections
from glue_mva.sweep.config import SweepConfig

FIGURES = "figures"
PROGRAMS = ("glue-mva", "numpy", "pandas", "scipy", "statsmodels", "matplotlib")


def build_report(
    folder: Path,
    out: Path,
    *,
    sweep: SweepConfig | None = None,
    with_paper: bool = False,
    compare: Sequence[str] = (),
    where: Sequence[str] = (),
    seeds: int | None = None,
    commands: Sequence[str] = (),
    versions: dict[str, str] | None = None,
) -> page.Page:
    """Write the report on the records below `folder` into `out`, replacing an older report there.

    Args:
        sweep: says which runs belong to which row; without it, every run is both search and candidate.
        with_paper: put the paper's values under ours.
        compare: further pairs, `A:B`.
        where: `key=value` conditions on the runs' configs.
        seeds: final seeds that a cell must have.
        commands: command lines to print on the page.
        versions: what made the page; by default the installed programs.

    Returns:
        What was written, for printing.

    Raises:
        UsageError: nothing to report on, runs that cannot stand in one table, or a bad argument; nothing is written.
    """
    made = study(load_runs(folder, where), sweep, seeds)
    made.notes += check_comparable(made.runs.keep(np.isin(made.runs.table.index, made.members["run_id"])))
    pairs = [comparisons.compare(made, pair) for pair in comparisons.parse_pairs(compare, made)]
    searches = selections(made)
    result = page.Page(
        title=f"Report on {folder.name}",
        made=made,
        cells=cell_table(made),
        table=tables.table3(made, with_paper=with_paper),
        pairs=pairs,
        searches=searches,
        commands=commands,
        versions=versions if versions is not None else installed(),
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as name:
        _write(result, Path(name))
        _replace(Path(name), out)
    return result


def installed() -> dict[str, str]:
    """Versions of the programs that make the page."""
    return {"Python": platform.python_version()} | {name: version(name) for name in PROGRAMS}


def _write(result: page.Page, out: Path) -> None:
    (out / FIGURES).mkdir()
    found = drawings(result.made, result.searches, with_paper=result.table.with_paper)
    result.figures |= draw_all(found, out / FIGURES)
    (out / "table3.md").write_text(tables.table3_markdown(result.table), encoding="utf-8")
    (out / "table3.csv").write_text(tables.table3_csv(result.table), encoding="utf-8")
    (out / "table3.tex").write_text(tables.table3_tex(result.table), encoding="utf-8")
    (out / "comparisons.md").write_text(
        "# Comparisons\n\n" + tables.comparisons_markdown(result.pairs), encoding="utf-8")  # fmt: skip
    _write_csv(comparisons.comparison_table(result.pairs), out / "comparisons.csv")
    _write_csv(result.cells, out / "cells.csv")
    _write_csv(run_table(result.made), out / "runs.csv")
    _write_csv(plots.best_of_table(result.searches), out / "expected_best.csv")
    text = page.markdown(result)
    (out / "report.md").write_text(text, encoding="utf-8")
    (out / "report.html").write_text(page.to_html(text, result.title, out), encoding="utf-8")


def _write_csv(frame: pd.DataFrame, path: Path) -> None:
    frame.to_csv(path, index=False, float_format="%.8g")


def _replace(new: Path, out: Path) -> None:
    """Move the files of a finished report over those of an older one; other files in `out` stay."""
    out.mkdir(exist_ok=True)
    shutil.rmtree(out / FIGURES, ignore_errors=True)
    for path in sorted(new.iterdir()):
        path.replace(out / path.name)
