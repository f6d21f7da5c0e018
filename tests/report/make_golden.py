"""Make the records and the expected report of the golden test.

    python -m tests.report.make_golden

The records are made up (`factory.py`): 2 tasks, 2 optimizers and a matched row, a small search, one diverged run
and one final seed that is missing.
"""

import math
import shutil
from pathlib import Path

from glue_mva.report.build import build_report
from glue_mva.report.results import results
from glue_mva.sweep.config import load_sweep
from glue_mva.sweep.hparams import Hparams
from glue_mva.sweep.protocol import Outcome, cells, known_runs
from tests.report import factory

FOLDER = Path(__file__).parent / "golden"
REPORT = FOLDER / "report"
TEXTS = ("table3.md", "table3.tex", "comparisons.md", "report.md")
TABLES = ("table3.csv", "verdicts.csv", "across.csv", "comparisons.csv", "speed.csv", "cells.csv", "runs.csv",
          "expected_best.csv", "curves.csv")  # fmt: skip


def make_records(runs: Path) -> None:
    """Write the records of the golden sweep, stage by stage."""
    outcomes: dict[str, Outcome] = {}
    for _ in range(3):
        for run in known_runs(cells(load_sweep(FOLDER / "sweep.toml")), outcomes):
            c = run.config
            if run.run_id in outcomes or (c.task, c.optim, c.seed) == ("stsb", "madam", 3):
                continue
            fields = {"lr": c.lr, "weight_decay": c.weight_decay, "seed": c.seed}
            if run.stage == "search" and run.hparams == Hparams(2e-5, 0.2) and c.optim == "adam":
                record = factory.make_record(c.task, c.optim, score=None, status="diverged", points=5, **fields)
                factory.write_run(runs, record)
            else:
                quality = (0.8 if c.optim == "madam" else 0.7) - abs(math.log(run.hparams.lr / 2e-5)) / 10
                factory.write_predicted_run(runs, c.task, c.optim, quality, rows=40, points=5, **fields)
                record = factory.read_back(runs, run.run_id)
            outcomes[run.run_id] = Outcome.of(record)


def make_report(out: Path) -> None:
    """Write the report on the golden records."""
    found = results(FOLDER / "runs", sweep=FOLDER / "sweep.toml", with_paper=True, compare=["MAdam:adam"])
    commands = ["glue-mva sweep sweep.toml", "glue-mva report runs --sweep sweep.toml --with-paper"]
    build_report(found, out, commands=commands, versions={"glue-mva": "0.1.0"})


def main() -> None:
    for name in ("runs", "report"):
        shutil.rmtree(FOLDER / name, ignore_errors=True)
    make_records(FOLDER / "runs")
    make_report(FOLDER / "report")
    for path in REPORT.iterdir():  # figures differ from one matplotlib to the next
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name not in (*TEXTS, *TABLES):
            path.unlink()


if __name__ == "__main__":
    main()
