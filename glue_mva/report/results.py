"""`results(folder)`: the numbers of a report as pandas tables, for notebooks and for the report itself. No torch."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from glue_mva.errors import UsageError
from glue_mva.report.across import Across, across, across_table
from glue_mva.report.aggregate import Row, Study, study
from glue_mva.report.comparisons import Pair, compare, comparison_table, verdict_table
from glue_mva.report.curves import curve_table
from glue_mva.report.frames import cell_table, run_table
from glue_mva.report.load import check_folders, load_runs
from glue_mva.report.pairs import find_row, parse_pairs
from glue_mva.report.selection import Selection, best_of_table, selections
from glue_mva.report.speed import Reach, reaches, speed_table
from glue_mva.report.tables import Table3, body, table3, table3_latex, table3_markdown
from glue_mva.report.verdicts import MARGIN
from glue_mva.sweep.config import SweepConfig, load_sweep
from glue_mva.sweep.kept import kept_sweep


class PrintedTable(pd.DataFrame):
    """Table 3 as printed: one line per method, one column per task, texts like `80.15 (.64)`.

    `to_latex()` and `to_markdown()` without arguments give it as the report has it, with caption and notes; with any
    argument they are pandas' own.
    """

    _metadata = ["_table"]  # noqa: RUF012 - pandas' way to keep an attribute
    _table: Table3

    @classmethod
    def of(cls, table: Table3) -> "PrintedTable":
        lines = [[str(text) for text in line] for line, _ in body(table)]
        frame = cls([line[1:] for line in lines], index=pd.Index([line[0] for line in lines], name="Method"),
                    columns=table.headings)  # fmt: skip
        frame._table = table
        return frame

    def to_latex(self, *args: Any, **options: Any) -> str:  # type: ignore[override]
        if args or options:
            return super().to_latex(*args, **options)
        return table3_latex(self._table)

    def to_markdown(self, *args: Any, **options: Any) -> str:  # type: ignore[override]
        if args or options:
            return super().to_markdown(*args, **options)
        return table3_markdown(self._table)


class Results:
    """All numbers of a report, each table computed when it is asked for; `docs/report.md` defines the columns.
    Scores are metric x 100."""

    def __init__(self, made: Study, pairs: Sequence[tuple[Row, Row]], baseline: Row | None = None,
                 margin: float = MARGIN, *, with_paper: bool = False) -> None:  # fmt: skip
        self.made = made
        self.margin = margin
        self.with_paper = with_paper
        self._baseline = baseline
        self._pairs = pairs

    @property
    def runs(self) -> pd.DataFrame:
        """One line per run, as `runs.csv`."""
        return run_table(self.made)

    @cached_property
    def cells(self) -> pd.DataFrame:
        """One line per task, row, stage and point, as `cells.csv`."""
        return cell_table(self.made)

    @property
    def table3(self) -> PrintedTable:
        """Table 3 as printed, as `table3.csv`; `.to_latex()` and `.to_markdown()` as in the report."""
        return PrintedTable.of(self.table)

    @property
    def comparisons(self) -> pd.DataFrame:
        """One line per pair of rows and task, as `comparisons.csv`."""
        return comparison_table(self.pairs)

    @property
    def verdicts(self) -> pd.DataFrame:
        """One line per pair of rows, over all tasks, as `verdicts.csv`."""
        return verdict_table(self.pairs)

    @property
    def across(self) -> pd.DataFrame:
        """One line per row, over all tasks: mean and interquartile mean with intervals, and rank, as `across.csv`."""
        return across_table(self.averages)

    @property
    def speed(self) -> pd.DataFrame:
        """One line per task and row: updates and seconds to its baseline's best median dev score, as `speed.csv`."""
        return speed_table(self.reaches)

    @cached_property
    def curves(self) -> pd.DataFrame:
        """One line per task, row, curve and update: mean and range over the final seeds, as `curves.csv`."""
        return curve_table(self.made)

    @property
    def expected_best(self) -> pd.DataFrame:
        """One line per task, row and number of search runs: their expected best score, as `expected_best.csv`."""
        return best_of_table(self.searches)

    @property
    def notes(self) -> list[str]:
        """What was left out or mixed, and what a damaged file cost."""
        self.pairs  # noqa: B018 - comparing reads the predictions, and notes what it could not read
        return self.made.every_note

    # What the tables are made of.

    @cached_property
    def table(self) -> Table3:
        return table3(self.made, with_paper=self.with_paper)

    @cached_property
    def pairs(self) -> list[Pair]:
        return compare(self.made, self._pairs, self.margin)

    @cached_property
    def averages(self) -> Across:
        return across(self.made)

    @cached_property
    def reaches(self) -> list[Reach]:
        return reaches(self.made, self._baseline)

    @cached_property
    def searches(self) -> list[Selection]:
        return selections(self.made)

    def __repr__(self) -> str:
        tasks, rows = len(self.made.tasks), len(self.made.rows)
        return f"Results({len(self.made.runs.table)} runs, {tasks} tasks, {rows} rows)"


def results(
    *folders: str | Path,
    sweep: str | Path | SweepConfig | None = None,
    where: Sequence[str] = (),
    seeds: int | None = None,
    compare: Sequence[str] = (),
    baseline: str | None = None,
    margin: float = MARGIN,
    with_paper: bool = False,
    as_found: bool = False,
) -> Results:
    """The numbers of the report on the records below one or several folders; a run that lies in several counts once.

    Args:
        sweep: the sweep, its file or its name: says which runs searched and which are final. By default the file that
            the sweep left in its folder.
        where: conditions on the runs' configs, `key=value`.
        seeds: final seeds that a cell must have; by default the sweep's.
        compare: further pairs of rows, `A:B`.
        baseline: the row that every other is compared with; by default Adam, and LaProp for LaMAdam.
        margin: points of score within which an average difference is none in practice.
        with_paper: show the paper's values, whatever model and data the runs have.
        as_found: take runs whose settings contradict the sweep's file.

    Raises:
        UsageError: no records, runs that cannot stand in one table, or a bad argument.
    """
    if not margin >= 0:
        raise UsageError(f"--margin {margin}: must be 0 or more")
    paths = [Path(folder) for folder in folders]
    check_folders(paths)
    given = load_sweep(sweep) if isinstance(sweep, str | Path) else sweep or kept_sweep(paths)
    runs = load_runs(paths, where)  # after it: what the sweep says of own tasks counts, not what an older record says
    made = study(runs, given, seeds, as_found=as_found)
    pairs = parse_pairs(compare, made.rows, baseline)
    base = find_row(baseline, made.rows) if baseline is not None else None
    return Results(made, pairs, base, margin, with_paper=with_paper)
