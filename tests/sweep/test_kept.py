"""The file that a sweep leaves in its folder: what it says, and what several of them say together."""

import json
import os
import shutil
from pathlib import Path

import pytest

from glue_mva.errors import UsageError
from glue_mva.sweep import SweepConfig, load_sweep
from glue_mva.sweep.config import SWEEP_FILE
from glue_mva.sweep.kept import keep_sweep, kept_sweep, together

PLAIN = {"tasks": ["rte"], "optimizers": ["adam", "madam"], "lr": [1e-5, 2e-5]}


def sweep_in(folder: Path, **values: object) -> SweepConfig:
    return SweepConfig(**{**PLAIN, **values}, output=str(folder))


def test_a_sweep_is_read_back_as_it_was_wherever_its_folder_goes(tmp_path: Path) -> None:
    matched = {"name": "eta", "optim": "adam", "match_step_size": "madam"}
    own = {"optim": "madam", "optim_args": {"beta2_min": 0.4}, "lr": 3e-5, "name": "mine"}
    sweep = sweep_in(tmp_path / "runs", optimizers=["adam", "madam", own, matched], protocol="heldout", final_seeds=3,
                     run={"num_train_epochs": 2, "data": "here"})  # fmt: skip
    keep_sweep(sweep)
    assert kept_sweep([tmp_path]) == kept_sweep([tmp_path / "runs"]) == sweep
    shutil.move(tmp_path / "runs", tmp_path / "moved")
    moved = sweep.replace(output=str(tmp_path / "moved"))
    assert load_sweep(tmp_path / "moved") == moved
    assert load_sweep(str(tmp_path / "moved"), {"final_seeds": 5}) == moved.replace(final_seeds=5)
    assert str(tmp_path) not in (tmp_path / "moved" / SWEEP_FILE).read_text()


def test_launches_by_parts_are_kept_as_the_whole(tmp_path: Path) -> None:
    keep_sweep(sweep_in(tmp_path))
    assert not keep_sweep(sweep_in(tmp_path, tasks=["sst2"], run={"save_model": True, "data": "elsewhere"}))
    keep_sweep(sweep_in(tmp_path, optimizers=["laprop"], run={"recipe": "paper"}))
    kept = kept_sweep([tmp_path])
    assert kept is not None
    assert kept.tasks == ["rte", "sst2"] and [row.name for row in kept.optimizers] == ["adam", "madam", "laprop"]


def test_a_folder_named_like_a_sweep_that_is_shipped_keeps_its_own(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("table3").mkdir()
    keep_sweep(load_sweep("table3", {"tasks": ["rte"], "output": "table3"}))
    assert kept_sweep([Path("table3")]).tasks == ["rte"]


def test_own_tasks_are_kept_with_what_their_files_said(tmp_path: Path) -> None:
    own = 'name = "kept-reviews"\ntext = ["text"]\nlabel = "mood"\nlabels = ["bad", "good"]\n'
    (tmp_path / "own.toml").write_text(f'{own}[files]\ntrain = "train.csv"\nvalidation = "dev.csv"\n')
    sweep = sweep_in(tmp_path / "runs", tasks=[str(tmp_path / "own.toml")])
    keep_sweep(sweep)
    (tmp_path / "own.toml").unlink()
    assert kept_sweep([tmp_path]) == sweep
    assert together(sweep_in(tmp_path), sweep).tasks == ["rte", "kept-reviews"]


@pytest.mark.parametrize("change", [{"lr": [1e-5]}, {"final_seeds": 2}, {"run": {"num_train_epochs": 1}},
                                    {"optimizers": [{"optim": "madam", "lr": 1e-4}]}])  # fmt: skip
def test_of_other_sweeps_in_one_folder_the_latest_counts(tmp_path: Path, change: dict) -> None:
    assert keep_sweep(sweep_in(tmp_path)) == ""
    said = keep_sweep(sweep_in(tmp_path, **change))
    (key,) = change
    assert said.startswith("sweeps that differ in ") and key in said
    assert kept_sweep([tmp_path]) == sweep_in(tmp_path, **change)
    assert keep_sweep(sweep_in(tmp_path, **change)) == ""


def test_folders_with_parts_of_one_sweep_are_one_and_others_are_told(tmp_path: Path) -> None:
    keep_sweep(sweep_in(tmp_path / "a"))
    keep_sweep(sweep_in(tmp_path / "b", tasks=["sst2"]))
    both = kept_sweep([tmp_path / "b", tmp_path / "a"])
    assert both is not None and sorted(both.tasks) == ["rte", "sst2"]
    keep_sweep(sweep_in(tmp_path / "b", final_seeds=2, run={"max_length": 64}))
    with pytest.raises(
        UsageError, match=r"a, .*b: sweeps that differ in final_seeds \(4, 2\), run.max_length \(None, 64"
    ):
        kept_sweep([tmp_path])
    with pytest.raises(UsageError, match=r"differ in optimizers.madam"):
        together(sweep_in(tmp_path), sweep_in(tmp_path, optimizers=[{"optim": "madam", "lr": 1e-4}]))


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "[" * 100_000, " " * 2**21 + "{}"])
def test_a_damaged_file_is_named_and_the_next_launch_replaces_it(tmp_path: Path, text: str) -> None:
    (tmp_path / SWEEP_FILE).write_text(text)
    with pytest.raises(UsageError, match=r"sweep\.json: not the file of a sweep: it is damaged"):
        kept_sweep([tmp_path])
    assert "it is damaged" in keep_sweep(sweep_in(tmp_path))
    assert kept_sweep([tmp_path]) == sweep_in(tmp_path)


def test_a_file_with_unknown_or_bad_values_is_refused_with_the_key(tmp_path: Path) -> None:
    keep_sweep(sweep_in(tmp_path))
    values = json.loads((tmp_path / SWEEP_FILE).read_text())
    (tmp_path / SWEEP_FILE).write_text(json.dumps({**values, "tasks": ["snli"], "protocl": 1}))
    with pytest.raises(
        UsageError, match=r"sweep\.json: .*unknown key 'protocl'.*unknown task 'snli'|unknown task 'snli'"
    ):
        load_sweep(tmp_path)


def test_a_folder_without_one_and_what_is_no_file(tmp_path: Path) -> None:
    assert kept_sweep([tmp_path]) is None
    os.mkfifo(tmp_path / SWEEP_FILE)
    assert kept_sweep([tmp_path]) is None
    with pytest.raises(UsageError, match=r"no sweep\.json in this folder"):
        load_sweep(tmp_path)
