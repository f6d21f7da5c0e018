"""Reports on sweeps that search further hyperparameters by name."""

from pathlib import Path

import pandas as pd
import pytest

from glue_mva.report.build import build_report
from glue_mva.report.columns import TAKEN, column
from glue_mva.report.load import load_runs
from glue_mva.report.results import Results, results
from glue_mva.report.selection import selection_markdown
from glue_mva.sweep.config import SweepConfig
from glue_mva.sweep.kept import keep_sweep
from glue_mva.sweep.protocol import Outcome, cells, known_runs
from tests.report.factory import make_record, write_run
from tests.report.make_golden import FOLDER, REPORT


def written(folder: Path, *rows: object, **values: object) -> Results:
    """The report on a finished sweep in which lower lr and beta1 score higher."""
    grid = {"tasks": ["rte"], "lr": [1e-5, 2e-5], "weight_decay": 0.1, "final_seeds": 2, "output": str(folder)}
    sweep = SweepConfig(**{**grid, **values}, optimizers=list(rows))
    outcomes: dict[str, Outcome] = {}
    folder.mkdir()
    for _ in range(2):
        for run in known_runs(cells(sweep), outcomes):
            if run.run_id not in outcomes:
                c, beta = run.config, dict(run.hparams.others).get("beta1", 0.9)
                worse = sum(value for value in c.optim_args.values() if value in (100, 200)) / 1000
                score = 80.0 - 1e5 * c.lr - 10 * beta - c.seed / 1e4 - worse
                record = make_record(c.task, c.optim, lr=c.lr, weight_decay=c.weight_decay, seed=c.seed,
                                     optim_args=c.optim_args, score=score)  # fmt: skip
                write_run(folder, record)
                outcomes[run.run_id] = Outcome.of(record)
    keep_sweep(sweep)
    return results(folder)


LAMADAM = {"optim": "lamadam", "beta1": [0.8, 0.9, 0.95]}


def test_tables_name_the_values(tmp_path: Path) -> None:
    made = written(tmp_path / "runs", "adam", LAMADAM)
    cells = made.cells.set_index(["row", "stage"])
    assert list(made.cells.columns[:8]) == [
        "task",
        "row",
        "stage",
        "optim",
        "lr",
        "weight_decay",
        "beta1",
        "optim_args",
    ]
    final = made.cells[made.cells["stage"] == "final"].set_index("row")["beta1"]
    assert final["lamadam"] == 0.8 and pd.isna(final["adam"])
    assert cells.loc[("lamadam", "search"), "chosen"].sum() == 1 and len(cells.loc["lamadam"]) == 2 * 3 + 1
    runs = made.runs.groupby(["row", "stage"])["beta1"].apply(lambda values: sorted(set(values.dropna())))
    assert (
        runs["lamadam", "search"] == [0.8, 0.9, 0.95]
        and runs["lamadam", "final"] == [0.8]
        and not runs["adam", "final"]
    )
    assert len(made.table.rows) == 2 and not any(entry.reason for entry in made.table.entries.values())


def test_the_selection_counts_every_point_and_warns_of_each_edge(tmp_path: Path) -> None:
    made = written(tmp_path / "runs", "adam", LAMADAM)
    adam, lamadam = made.searches
    assert (len(adam.points), len(lamadam.points)) == (2, 6)
    assert lamadam.edges == ["lr is the lowest", "beta1 is the lowest"] and adam.edges == ["lr is the lowest"]
    text = selection_markdown(made.searches)
    assert "| lr | Weight decay | beta1 |" in text and "| RTE | LaMAdam | 6 | 1e-5 | 0.1 | 0.8 |" in text
    assert "| RTE | Adam | 2 | 1e-5 | 0.1 | - |" in text


@pytest.mark.parametrize(
    ("row", "values", "figure", "said"),
    [
        ({"lr": 1e-5}, {}, "search", "the one hyperparameter"),
        ({}, {}, "heatmap", "two hyperparameters"),
        ({}, {"weight_decay": [0.1, 0.2]}, "heatmap", "where more than two were searched, the best over the others"),
    ],
)
def test_figures_say_what_they_show(tmp_path: Path, row: dict, values: dict, figure: str, said: str) -> None:
    page = build_report(written(tmp_path / "runs", {**LAMADAM, **row}, **values), tmp_path / "report")
    assert said in page.figures[figure] and (tmp_path / "report" / "figures" / f"{figure}.png").is_file()
    assert not [note for note in page.found.notes if "could not be drawn" in note]
    assert "beta1" in (tmp_path / "report" / "report.md").read_text()
    assert set(pd.read_csv(tmp_path / "report" / "runs.csv")["beta1"]) == {0.8, 0.9, 0.95}


def test_values_that_are_no_numbers(tmp_path: Path) -> None:
    row = {"optim": "adam", "betas": [[0.9, 0.98], [0.8, 0.99]], "amsgrad": [True, False], "lr": 1e-5}
    made = written(tmp_path / "runs", row)
    page = build_report(made, tmp_path / "report")
    assert "heatmap" in page.figures and made.searches[0].edges == []
    assert r"| 1e-5 | 0.1 | \[0.8, 0.99\] | false |" in selection_markdown(made.searches)


@pytest.mark.parametrize("name", [*sorted(TAKEN - {"lr", "weight_decay"}), "rank", "mode"])
def test_an_argument_with_the_name_of_a_column_of_the_report(tmp_path: Path, name: str) -> None:
    """Columns, points and scores are those of the same search under any other name."""
    mine = {"optim": "m:Mine", "search": {name: [100, 200]}, "lr": 1e-5, "name": "mine"}
    made = written(tmp_path / "runs", "adam", mine)
    own = column(name)
    assert own == (f"optim_args.{name}" if name in TAKEN else name)
    cells, runs, search = made.cells, made.runs, made.searches[1]
    assert cells.columns.is_unique and runs.columns.is_unique
    of_mine = cells[cells["row"] == "mine"]
    assert list(of_mine["stage"]) == ["final", "search", "search"] and list(of_mine[own]) == [100, 100, 200]
    assert list(of_mine["chosen"]) == [True, True, False] and list(of_mine["runs"]) == [2, 1, 1]
    assert sorted(runs.loc[runs["row"] == "mine", own]) == [100] * 3 + [200]
    assert search.hparams == ["lr", "weight_decay", own] and list(search.points[own]) == [100, 200]
    assert list(search.points["median"]) == pytest.approx([69.7999, 69.6999])
    assert search.search_score == pytest.approx(69.7999) and search.edges == [f"{own} is the lowest"]
    assert f"| 1e-5 | 0.1 | 100 | {search.search_score:.2f} |" in selection_markdown(made.searches)
    assert made.table.entries["rte", "mine"].reason is None


def test_a_report_with_such_an_argument(tmp_path: Path) -> None:
    mine = {"optim": "m:Mine", "search": {"score": [100, 200], "median": [100, 200]}, "lr": 1e-5, "name": "mine"}
    page = build_report(written(tmp_path / "runs", "adam", mine), tmp_path / "report")
    assert {"search", "heatmap"} <= set(page.figures)
    text = (tmp_path / "report" / "report.md").read_text()
    assert r"| optim_args.score | optim_args.median |" in text.replace("\\", "")


def test_all_columns_of_the_tables_are_taken() -> None:
    made = results(FOLDER / "runs", sweep=FOLDER / "sweep.toml")
    read = {name: set(pd.read_csv(REPORT / name, nrows=0)) for name in ("runs.csv", "cells.csv")}
    found = set(load_runs([FOLDER / "runs"]).table) | set(made.made.members) | set(read["runs.csv"] | read["cells.csv"])
    points = made.searches[0].points.columns
    assert {name for name in found | set(points) if "/" not in name} == TAKEN


def test_strings_in_one_row_and_numbers_in_another(tmp_path: Path) -> None:
    values = {"words": ["a", "b"], "numbers": [1, 2]}
    mine = [{"optim": "m:Mine", "search": {"mode": v}, "lr": 1e-5, "name": name} for name, v in values.items()]
    found = written(tmp_path / "runs", "adam", *mine)
    build_report(found, tmp_path / "report")
    searched = found.cells[found.cells["stage"] == "search"].groupby("row")["mode"].agg(list)
    assert searched["words"] == ["a", "b"] and searched["numbers"] == [1, 2]
