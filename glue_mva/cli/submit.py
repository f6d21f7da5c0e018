"""`glue-mva submit`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from glue_mva.cli.exit_codes import EXIT_FAILED
from glue_mva.cli.options import RowName, SweepFile, Where
from glue_mva.errors import UsageError

if TYPE_CHECKING:
    from glue_mva.submission.archive import Check
    from glue_mva.submission.build import Submission


def submit(
    runs: Annotated[list[Path] | None, typer.Argument(metavar="RUNS...", help="Folders of records made with "
                                                      "predict_test = true.")] = None,
    out: Annotated[Path, typer.Option(help="The zip.")] = Path("submission.zip"),
    row: RowName = None,
    sweep: SweepFile = None,
    where: Where = None,
    majority: Annotated[list[str] | None, typer.Option(metavar="TASK", help="Fill this task with its most frequent "
                                                       "class; may be given several times.")] = None,
    partial: Annotated[bool, typer.Option("--partial", help="Go on without the files that are missing.")] = False,
    check: Annotated[Path | None, typer.Option(metavar="ZIP", help="Only check this zip, whoever made it.")] = None,
) -> None:  # fmt: skip
    """Write the zip that the GLUE server takes, or check one.

    Per task, the final run with the best dev score predicts the test set; the table says which. The zip is checked
    before it is written: file names, header, order, values, rows. --check exits with 1 where the server would refuse.
    """
    if check is not None:
        if runs:
            raise UsageError("give RUNS to write a submission, or --check ZIP to check one, not both")
        _check(check, partial)
        return
    if not runs:
        raise UsageError("give the folder RUNS of a sweep, or --check ZIP")
    from glue_mva.report.results import results
    from glue_mva.submission.archive import write_submission
    from glue_mva.submission.build import build_submission

    made = results(*runs, sweep=sweep, where=where or []).made
    submission = build_submission(made, row=row, majority=majority or [])
    if submission.missing and (not partial or not submission.values):
        hint = "" if partial else "; --partial writes the rest"
        raise UsageError(f"not a whole submission: {submission.reasons()}{hint}")
    write_submission(submission.values, out)
    _show(submission)
    for note in made.every_note:
        print(f"note: {note}")
    print(f"{out}: {len(submission.values)} of {len(submission.values) + len(submission.missing)} files")


def _show(submission: "Submission") -> None:
    """One line per file: the run that predicted it, and how that run was chosen."""
    from rich.console import Console
    from rich.table import Column, Table

    from glue_mva.submission.files import FILES, MAJORITY_CLASS

    table = Table("file", "rows", "method", "dev score", "seed", "of", Column("run", overflow="fold"))
    for file in FILES.values():
        task = file.trained_as
        if file.name not in submission.values:
            table.add_row(file.name, "-", "missing", "", "", "", submission.missing[file.name])
            continue
        rows = f"{len(submission.values[file.name]):,}"
        if task in submission.constant:
            table.add_row(file.name, rows, "majority", "", "", "", f"every row {MAJORITY_CLASS[task]}")
            continue
        run = submission.winners[task]
        score = f"{run.score:.2f}{'*' if run.partial else ''}"
        table.add_row(file.name, rows, run.row, score, str(run.seed), str(run.among), run.run_id)
    Console(soft_wrap=True, markup=False).print(table)
    print("dev score: headline metric x 100, the best of so many final runs; that choice flatters its own score")
    if any(run.partial for run in submission.winners.values()):
        print("* trained or scored on a part of the official rows")


def _check(path: Path, partial: bool) -> None:
    """Print what a zip holds and what is wrong with it; exit code 1 where something is."""
    from glue_mva.submission.archive import check_submission

    check = check_submission(path, partial=partial)
    _show_check(check)
    for problem in check.problems:
        print(f"wrong: {problem}")
    if check.problems:
        raise typer.Exit(EXIT_FAILED)
    print(f"{path}: {len(check.counts)} files, as the GLUE server takes them")


def _show_check(check: "Check") -> None:
    from rich.console import Console
    from rich.table import Table

    from glue_mva.submission.files import FILES

    table = Table("file", "rows", "values")
    for name, counts in check.counts.items():
        rows = counts.total()
        if FILES[name].values:
            values = ", ".join(f"{value} {100 * counts[value] / rows:.1f} %" for value in FILES[name].values)
        else:
            numbers = [float(value) for value in counts]
            mean = sum(float(value) * times for value, times in counts.items()) / rows
            values = f"{min(numbers):g} to {max(numbers):g}, mean {mean:.3f}"
        table.add_row(name, f"{rows:,}", values)
    Console(soft_wrap=True, markup=False).print(table)
