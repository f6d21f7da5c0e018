"""Sweep files: what they may say, what they are told, and where they are found."""

from pathlib import Path

import pytest

from glue_mva.errors import UsageError
from glue_mva.sweep import SweepConfig, expand, load_sweep, sweep_path
from glue_mva.sweep.config import CONFIGS

ROUTES = [{"match": "embed", "optim": "sgd"}]
PLAIN = {"tasks": ["rte"], "optimizers": ["adam", "madam"]}


def test_three_mistakes_are_listed_at_once():
    with pytest.raises(UsageError) as caught:
        SweepConfig(
            tasks=["rte", "snli"], optimizers=["adam", {"optim": "madam", "optim_args": {"beta3": 1}}], lr=[-1.0]
        )
    message = str(caught.value)
    assert "unknown task 'snli'" in message
    assert "MAdam has no 'beta3'; did you mean 'beta1'?" in message
    assert "lr.0: input should be greater than 0, got -1.0" in message


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"lr": [float("nan")]}, "lr.0"),
        ({"tasks": []}, "tasks"),
        ({"protocl": "grid"}, "unknown key 'protocl'; did you mean 'protocol'?"),
        ({"protocol": "papr"}, "protocol"),
        ({"final_seeds": 0}, "final_seeds"),
        ({"holdout_fraction": 1.0}, "holdout_fraction"),
        ({"run": {"seed": 3}}, "run.seed: a sweep sets it through search_seeds and final_seeds"),
        ({"run": {"force": True}}, "never repeats a finished run"),
        ({"run": {"modle": "x"}}, "unknown key 'modle'; did you mean 'model'?"),
        ({"init_from": {"rte": "mnli"}}, "init_from: rte starts from mnli, which is not among the tasks"),
        ({"init_from": {"rte": "RTE"}}, "init_from: rte from rte is a circle"),
        (
            {"tasks": ["rte", "mrpc", "stsb"], "init_from": {"stsb": "rte", "rte": "mrpc", "mrpc": "rte"}},
            "init_from: rte from mrpc from rte is a circle",
        ),
        ({"init_from": {"snli": "rte"}}, "unknown task 'snli'"),
        ({"init_from": {"rte": "mnly"}}, "init_from.rte: unknown task 'mnly'; did you mean 'mnli'?; or give a model"),
        ({"init_from": {"rte": "a/b", "RTE": "a/c"}}, "init_from: rte is named twice"),
        ({"init_from": {"rte": "a/b"}, "run": {"num_train_epochs": 0}}, "a run without training starts from nowhere"),
        ({"init_from": "mnli"}, "init_from: input should be a valid dictionary, got 'mnli'"),
        ({"optimizers": ["adam", "AdamW"]}, "two entries are named 'adam'"),
        ({"optimizers": ["adam", {"optim": "adam", "match_step_size": "mdam"}]}, "no row 'mdam' to match"),
        ({"optimizers": ["madam", {"optim": "adam", "match_step_size": "madam"}]}, "needs a plain row of adam"),
        ({"optimizers": ["adam", {"optim": "adam", "match_step_size": "adam", "lr": [1e-4]}]}, "nothing to search"),
        ({"optimizers": ["adam", {"optim": "adam", "routes": ROUTES}]}, "an entry with routes needs a name"),
        (
            {"optimizers": [{"name": "x", "optim": "adam", "routes": [{"match": "(", "optim": "sgd"}]}]},
            "optimizers: x: routes, number 1: match '(' is no regular expression",
        ),
        (
            {"optimizers": ["adam", {"name": "y", "optim": "adam", "routes": ROUTES, "match_step_size": "adam"}]},
            "needs a plain row of adam with the same optim_args and routes",
        ),
        ({"run": {"routes": ROUTES}}, "run.routes: a sweep sets it through optimizers[].routes"),
    ],
)
def test_mistakes_are_refused_with_the_key(changes: dict, said: str):
    with pytest.raises(UsageError, match=r"^[^\n]+$") as caught:
        SweepConfig(**{**PLAIN, **changes})
    assert said in str(caught.value)


def test_repeated_values_make_no_repeated_runs():
    sweep = SweepConfig(tasks=["rte", "RTE"], optimizers=["adam"], lr=[1e-5, 0.00001, 2e-5], weight_decay=0.1)
    runs = expand(sweep)
    assert len(runs) == 2
    assert len({run.run_id for run in runs}) == 2


def test_a_row_with_routes_shares_no_run_with_the_plain_one():
    entries = ["adam", {"name": "routed", "optim": "adam", "routes": ROUTES}]
    runs = expand(SweepConfig(tasks=["rte"], optimizers=entries, lr=[1e-5, 2e-5], weight_decay=0.1))
    assert [(run.row, bool(run.config.routes)) for run in runs] == 2 * [("adam", False)] + 2 * [("routed", True)]
    assert len({run.run_id for run in runs}) == 4


def test_rows_that_overlap_share_their_runs():
    low = {"name": "low", "optim": "adam", "lr": [1e-5, 2e-5]}
    high = {"name": "high", "optim": "adam", "lr": [2e-5, 3e-5]}
    runs = expand(SweepConfig(tasks=["rte"], optimizers=[low, high], weight_decay=0.1))
    assert sorted(run.hparams.lr for run in runs) == [1e-5, 2e-5, 3e-5]


@pytest.mark.parametrize("path", sorted(Path(__file__).parents[2].glob("configs/*.toml")), ids=lambda path: path.stem)
def test_shipped_files_load_and_open_with_their_command(path: Path):
    assert expand(load_sweep(path))
    text = path.read_text()
    comment = text[: text.index("\n\n")]
    assert f"glue-mva sweep configs/{path.name}" in comment
    assert all(line.startswith("#") for line in comment.splitlines())


def test_names_resolve_to_shipped_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    assert sweep_path("table3") == sweep_path("configs/table3.toml") == CONFIGS / "table3.toml"
    with pytest.raises(UsageError, match=r"no sweep file 'tabel3'; did you mean 'table3'"):
        sweep_path("tabel3")
    (tmp_path / "table3.toml").write_text("")
    assert sweep_path("table3.toml") == Path("table3.toml")  # a file that lies here goes first


def test_overrides_replace_keys_and_merge_tables():
    sweep = load_sweep("smoke", {"final_seeds": 2, "run": {"max_train_samples": 50}})
    assert sweep.final_seeds == 2
    assert sweep.run["max_train_samples"] == 50
    assert sweep.run["max_length"] == 64
