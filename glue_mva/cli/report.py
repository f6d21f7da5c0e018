"""`glue-mva report`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from glue_mva.cli.options import SweepFile, Where, typed_command
from glue_mva.cli.sweep_options import changed, overrides, same_options
from glue_mva.report import MARGIN

if TYPE_CHECKING:
    from glue_mva.sweep.config import SweepConfig


@same_options
def report(
    sweep_fields: dict[str, Any],
    run_fields: dict[str, Any],
    runs: Annotated[list[Path], typer.Argument(metavar="RUNS...", help="Folders of records, as a sweep writes them; a "
                                               "run that lies in several counts once.")],
    out: Annotated[Path | None, typer.Option(help="Folder of the report; by default reports/<name of RUNS>.")] = None,
    sweep: SweepFile = None,
    baseline: Annotated[str | None, typer.Option(metavar="ROW", help="Compare every row with this one; by default "
                                                 "with Adam, LaMAdam with LaProp.")] = None,
    compare: Annotated[list[str] | None, typer.Option(metavar="A:B", help="A further pair of rows to compare; may be "
                                                      "given several times.")] = None,
    margin: Annotated[float, typer.Option(help="Points of score within which an average difference is none in "
                                          "practice.")] = MARGIN,
    with_paper: Annotated[bool, typer.Option("--with-paper", help="Put the paper's values beneath ours.")] = False,
    where: Where = None,
    seeds: Annotated[int | None, typer.Option(min=1, help="Final seeds that a cell of the table must have; by default "
                                              "what the sweep asks for.")] = None,
    as_found: Annotated[bool, typer.Option("--as-found", help="Take runs whose settings contradict the sweep's "
                                           "file.")] = False,
    assignments: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="What was given to sweep "
                                                          "over its file; may be given several times.")] = None,
) -> None:  # fmt: skip
    """Table 3 with its statistics and figures, from folders of records.

    A sweep leaves its file in its folder, so that nothing need be said of it. With --sweep, what was given to `sweep`
    over that file is given here in the same words: the options from --tasks on, and those of the runs' fields.
    """
    from glue_mva.report.build import build_report
    from glue_mva.report.results import results
    from glue_mva.report.tables import table3_markdown
    from glue_mva.report.verdicts import decided_first

    given = overrides(assignments, sweep_fields, run_fields)
    found = results(*runs, sweep=_changed(runs, sweep, given) if given else sweep, where=where or [], seeds=seeds,
                    compare=compare or [], baseline=baseline, margin=margin, with_paper=with_paper,
                    as_found=as_found)  # fmt: skip
    target = out if out is not None else Path("reports") / runs[0].resolve().name
    build_report(found, target, commands=[typed_command()])
    print(table3_markdown(found.table))
    for pair in decided_first(found.pairs):
        print(pair.sentence)
    for note in found.notes:
        print(f"note: {note}")
    print(f"{target}/report.html")


def _changed(runs: list[Path], sweep: str | None, given: dict[str, Any]) -> "SweepConfig":
    """The sweep of these runs with the command line's values over it."""
    from glue_mva.errors import UsageError
    from glue_mva.sweep.kept import kept_sweep

    if (base := sweep or kept_sweep(runs)) is None:
        raise UsageError("no sweep left its file in RUNS: what was given over it is given with --sweep FILE")
    return changed(base, given)
