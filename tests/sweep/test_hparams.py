"""Entries that search further hyperparameters of their optimizer by name: points, order, refusals, and a real run."""

from pathlib import Path

import pytest

from glue_mva.errors import UsageError
from glue_mva.sweep import Hparams, Outcome, SweepConfig, cells, chosen, expand, final_runs, load_sweep
from glue_mva.sweep.engine import InlineEngine
from glue_mva.sweep.launch import launch
from glue_mva.sweep.plan import make_plan
from glue_mva.sweep.protocol import search_runs
from tests.command import call

from .conftest import Notes

GRID = {"tasks": ["rte"], "lr": [1e-5, 2e-5], "weight_decay": 0.1, "final_seeds": 2}
LAMADAM = {"optim": "lamadam", "beta1": [0.95, 0.9], "eps": 1e-12}
KEY = ("rte", "lamadam (eps=1e-12)")


def sweep_of(*rows: object, **values: object) -> SweepConfig:
    return SweepConfig(**{**GRID, **values}, optimizers=list(rows))


def test_a_list_is_searched_and_a_value_is_fixed():
    sweep = sweep_of(LAMADAM)
    runs = expand(sweep)
    points = {(run.config.lr, run.config.optim_args["beta1"], run.config.optim_args["eps"]) for run in runs}
    assert points == {(lr, beta, 1e-12) for lr in (1e-5, 2e-5) for beta in (0.9, 0.95)}
    assert len(runs) == 4 and make_plan(sweep, {}).runs == 4 + 2
    assert {run.config.optim_args["beta2_max"] for run in runs} == {0.98}  # the paper's constant


def test_what_is_searched_is_the_run_that_the_same_arguments_make():
    fixed = [sweep_of({"optim": "lamadam", "name": "x", "optim_args": {"beta1": beta}}) for beta in (0.9, 0.95)]
    searched = sweep_of({"optim": "lamadam", "beta1": [0.9, 0.95]})
    assert {run.run_id for run in expand(searched)} == {run.run_id for sweep in fixed for run in expand(sweep)}
    assert expand(sweep_of({"optim": "adam", "beta1": 0.8}))[0].config.optim_args["betas"] == [0.8, 0.98]


def test_beta1_is_the_first_of_betas():
    runs = expand(sweep_of({"optim": "adam", "beta1": [0.9, 0.8], "beta2": [0.98, 0.99]}))
    found = {tuple(run.config.optim_args["betas"]) for run in runs}
    assert found == {(0.9, 0.98), (0.9, 0.99), (0.8, 0.98), (0.8, 0.99)}
    pairs = expand(sweep_of({"optim": "adam", "betas": [[0.9, 0.98], [0.8, 0.99]]}))
    assert {tuple(run.config.optim_args["betas"]) for run in pairs} == {(0.9, 0.98), (0.8, 0.99)}


def test_the_highest_median_wins_and_a_tie_goes_to_the_smaller_value():
    table = cells(sweep_of(LAMADAM))
    runs = search_runs(table, KEY, {})

    def outcomes(**better: float) -> dict[str, Outcome]:
        return {run.run_id: Outcome("ok", 70.0 + better.get(str(run.hparams.others[0][1]), 0.0)) for run in runs}

    assert chosen(table, KEY, outcomes()) == Hparams(1e-5, 0.1, (("beta1", 0.9),))
    best = outcomes(**{"0.95": 1.0})
    assert chosen(table, KEY, best) == Hparams(1e-5, 0.1, (("beta1", 0.95),))
    assert [run.config.optim_args["beta1"] for run in final_runs(table, KEY, best)] == [0.95, 0.95]


def test_a_matched_row_takes_what_its_base_row_found():
    rows = [{"optim": "adam", "lr": 1e-5, "beta1": [0.9, 0.8]}, {"optim": "madam", "lr": 1e-5},
            {"name": "eta", "optim": "adam", "match_step_size": "madam"}]  # fmt: skip
    table = cells(sweep_of(*rows))
    outcomes = {run.run_id: Outcome("ok", 70.0 - run.hparams.others[0][1])
                for run in search_runs(table, ("rte", "adam"), {})}  # fmt: skip
    for name, size in (("adam", 2e-6), ("madam", 3e-6)):
        outcomes |= {run.run_id: Outcome("ok", 80.0, size) for run in final_runs(table, ("rte", name), outcomes)}
    (found,) = {(run.config.lr, tuple(run.config.optim_args["betas"]))
                for run in final_runs(table, ("rte", "eta"), outcomes)}  # fmt: skip
    assert found == (1.5e-5, (0.8, 0.98))


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"optim": "lamadam", "beta3": [0.9]}, "'beta3': LaMAdam has lr, weight_decay, beta1, beta2_min"),
        ({"optim": "adam", "weight_decy": [0.1]}, "unknown key 'weight_decy': Adam has lr, weight_decay, betas, eps, "
         "amsgrad, beta1, beta2; did you mean 'weight_decay'?"),
        ({"optim": "lamadam", "beta1": []}, "beta1: an empty list leaves nothing to search"),
        ({"optim": "lamadam", "beta1": [0.9, "0.95"]}, "beta1: '0.95' is a text; write the number without quotes"),
        ({"optim": "lamadam", "amsgrad": [True, 0.5]}, "amsgrad: values of different kinds"),
        ({"optim": "lamadam", "beta1": [0.9, float("nan")]}, "beta1: must be a finite number"),
        ({"optim": "adam", "betas": [0.9, 0.98]}, "betas: each value is a list itself, such as [[0.9, 0.98]]"),
        ({"optim": "adam", "beta1": [0.9, 0.8], "betas": [[0.9, 0.98]]}, "beta1: a part of betas, which is given too"),
        ({"optim": "lamadam", "beta1": [0.9, 0.8], "optim_args": {"beta1": 0.9}}, "beta1: given in optim_args too"),
        ({"optim": "adam", "match_step_size": "madam", "beta1": [0.9, 0.8]}, "drop lr, weight_decay, beta1"),
        ({"optim": "lamadm", "beta1": [0.9]}, "unknown optimizer 'lamadm'"),
    ],
)  # fmt: skip
def test_what_cannot_be_searched_is_refused(row: dict, said: str):
    with pytest.raises(UsageError, match=r"^[^\n]+$") as caught:
        sweep_of("madam", row)
    assert said in str(caught.value)


def test_a_search_by_name_runs_and_is_kept(here: Path, tmp_path: Path):
    row = {"optim": "lamadam", "beta1": [0.5, 0.9], "lr": 1e-3}
    changes = {"output": str(tmp_path / "runs"), "tasks": ["rte"], "optimizers": [row], "search_seeds": 1,
               "final_seeds": 1}  # fmt: skip
    notes = Notes()
    progress = launch(load_sweep("sweep.toml", changes), InlineEngine, notes)
    assert progress.is_complete and len(progress.outcomes) == 3
    assert sum("lr 0.001 wd 0.1 beta1 0.5 seed 1001" in note for note in notes.notes) == 1
    assert load_sweep(tmp_path / "runs").optimizers[0].search == {"beta1": [0.5, 0.9]}
    status = call("status", str(tmp_path / "runs"))
    assert "3 of 3 runs done" in status.stdout and "0.001, 0.1, beta1 0." in status.stdout


def test_a_value_that_the_class_refuses_is_told_before_anything_runs(here: Path, tmp_path: Path):
    row = {"optim": "lamadam", "beta1": [0.9, 1.5], "lr": 1e-3}
    sweep = load_sweep("sweep.toml", {"output": str(tmp_path / "runs"), "tasks": ["rte"], "optimizers": [row]})
    with pytest.raises(UsageError, match=r"beta1.*1\.5"):
        launch(sweep, InlineEngine, Notes())
    assert not list((tmp_path / "runs").glob("*/record.json"))


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"optim": "torch.optim:SGD", "foo": [{"a": 1}, {"a": 2}]}, "foo: tables cannot be searched"),
        ({"optim": "adam", "betas": [[0.9, "a"], [0.9, 0.99]]}, "betas: values of different kinds"),
        ({"optim": "adam", "search": 5, "eps": [1e-6, 1e-8]}, "search"),
    ],
)
def test_what_has_no_order_is_refused(entry: dict[str, object], said: str):
    with pytest.raises(UsageError, match=said):
        load_sweep("smoke", {"optimizers": [entry]})
