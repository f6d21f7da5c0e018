"""Matched rows, which wait for two others: what a plan makes of that, and what is said of those that never come."""

from pathlib import Path

import pytest

from glue_mva.cli.sweep_display import summary
from glue_mva.cli.sweep_options import changed
from glue_mva.sweep import SweepConfig, cells
from glue_mva.sweep.launch import read_progress
from glue_mva.sweep.plan import Machines, make_plan
from glue_mva.sweep.view import rows
from tests.report.factory import make_record, write_run

MATCHED = {"name": "eta", "optim": "adam", "match_step_size": "madam"}


def sweep_in(folder: Path, **changes: object) -> SweepConfig:
    values = {"tasks": ["rte"], "optimizers": ["adam", "madam", MATCHED], "lr": 1e-5, "weight_decay": 0.1,
              "final_seeds": 2, "output": str(folder)}  # fmt: skip
    return SweepConfig(**{**values, **changes})


@pytest.mark.parametrize("without", ["madam", "adam"])
def test_a_row_that_can_never_be_matched_is_told(without: str, tmp_path: Path):
    """The final runs of one of the two have no curves, and so no step size; they are finished and stay as they are."""
    for optim in ("adam", "madam"):
        for seed in (1, 2):
            record = make_record("rte", optim, lr=1e-5, weight_decay=0.1, seed=seed, curves=optim != without)
            write_run(tmp_path, record)
    progress, _ = read_progress(sweep_in(tmp_path))
    assert progress.stuck == {("rte", "eta"): "no final run of madam or of adam has a step size"}
    assert not progress.is_complete and "rte eta cannot start: no final run of madam or" in summary(progress)


def test_a_row_that_still_waits_is_not_stuck(tmp_path: Path):
    write_run(tmp_path, make_record("rte", "adam", lr=1e-5, weight_decay=0.1, seed=1))
    assert read_progress(sweep_in(tmp_path))[0].stuck == {}


def test_a_matched_row_comes_after_the_two_that_it_waits_for(tmp_path: Path):
    """One final run after another, however many machines there are; under `grid` its runs are counted too."""
    plan = make_plan(sweep_in(tmp_path, final_seeds=1), {}, Machines(24, 1), 1000.0)
    assert plan.wall_seconds == pytest.approx(2 * plan.lines[0].seconds)
    grid = read_progress(sweep_in(tmp_path, protocol="grid", lr=[1e-5, 2e-5]))[0]
    assert {row.name: row.total for row in rows(grid)} == {"adam": 4, "madam": 4, "eta": 2}


def test_another_name_of_an_optimizer_is_its_row(tmp_path: Path):
    entry = {"optim": "adam", "lr": [1e-4, 2e-4], "optim_args": {"eps": 1e-7}}
    sweep = sweep_in(tmp_path, optimizers=[entry, "madam"])
    (kept,) = changed(sweep, {"optimizers": ["AdamW"]}).optimizers
    assert (kept.name, kept.lr, kept.optim_args) == ("adam (eps=1e-07)", [1e-4, 2e-4], {"eps": 1e-7})
    other = changed(sweep, {"optimizers": ["torch.optim:SGD"]})
    assert list(cells(other)) == [("rte", other.optimizers[0].name)] and other.optimizers[0].optim == "torch.optim:SGD"
