"""`glue-mva report`."""

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from glue_mva.report import MARGIN


def report(
    runs: Annotated[list[Path], typer.Argument(metavar="RUNS...", help="Folders of records, as a sweep writes them; a "
                                               "run that lies in several counts once.")],
    out: Annotated[Path | None, typer.Option(help="Folder of the report; by default reports/<name of RUNS>.")] = None,
    sweep: Annotated[str | None, typer.Option(metavar="FILE", help="The sweep's file, or its name: says which runs "
                                              "searched and which are the final seeds. By default the one that the "
                                              "sweep left in RUNS.")] = None,
    baseline: Annotated[str | None, typer.Option(metavar="ROW", help="Compare every row with this one; by default "
                                                 "with Adam, LaMAdam with LaProp.")] = None,
    compare: Annotated[list[str] | None, typer.Option(metavar="A:B", help="A further pair of rows to compare; may be "
                                                      "given several times.")] = None,
    margin: Annotated[float, typer.Option(help="Points of score within which an average difference is none in "
                                          "practice.")] = MARGIN,
    with_paper: Annotated[bool, typer.Option("--with-paper", help="Put the paper's values beneath ours.")] = False,
    where: Annotated[list[str] | None, typer.Option(metavar="KEY=VALUE", help="Only runs whose config has this value; "
                                                    "may be given several times.")] = None,
    assignments: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="What was given to sweep "
                                                          "over its file; may be given several times.")] = None,
    seeds: Annotated[int | None, typer.Option(min=1, help="Final seeds that a cell of the table must have; by default "
                                              "what the sweep asks for.")] = None,
    as_found: Annotated[bool, typer.Option("--as-found", help="Take runs whose settings contradict the sweep's "
                                           "file.")] = False,
) -> None:  # fmt: skip
    """Table 3 with its statistics and figures, from folders of records."""
    from glue_mva.config.run import parse_assignments
    from glue_mva.errors import UsageError
    from glue_mva.report.build import build_report
    from glue_mva.report.results import results
    from glue_mva.report.tables import table3_markdown
    from glue_mva.sweep.config import load_sweep

    if assignments and sweep is None:
        raise UsageError("--set changes the sweep's file: give it with --sweep")
    config = load_sweep(sweep, parse_assignments(assignments or [])) if sweep is not None else None
    target = out if out is not None else Path("reports") / runs[0].resolve().name
    changes = [part for assignment in assignments or [] for part in ("--set", assignment)]
    commands = [shlex.join(["glue-mva", "sweep", sweep, *changes])] if sweep is not None else []
    commands.append(shlex.join(["glue-mva", *sys.argv[1:]]))
    found = results(*runs, sweep=config, where=where or [], seeds=seeds, compare=compare or [], baseline=baseline,
                    margin=margin, with_paper=with_paper, as_found=as_found)  # fmt: skip
    build_report(found, target, commands=commands)
    print(table3_markdown(found.table))
    for pair in found.pairs:
        print(pair.sentence)
    for note in found.notes:
        print(f"note: {note}")
    print(f"{target}/report.html")
