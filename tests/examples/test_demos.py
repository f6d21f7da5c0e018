"""The examples on made-up data: a whole demo leaves a record and a report, and a trial leaves neither."""

import importlib
import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.processes import Done, script

EXAMPLES = Path(__file__).parents[2] / "examples"

SHORT = {"image_classification.py": ["--epochs", "1"], "translation.py": ["--updates", "12"]}
"""Options for a demo of few updates."""


def start(name: str, out: Path, *words: str, **options: Any) -> Done:
    return script(EXAMPLES / name, "--demo", "--out", out, "--optim", "lamadam", "--seeds", "1", *words, **options)


def records(out: Path) -> dict[Path, bytes]:
    """Records by path; the tokenizer of the translations is no record."""
    return {path: path.read_bytes() for path in out.rglob("*.json") if not path.name.startswith("tokenizer")}


def test_a_demo_leaves_a_record_and_a_report_and_makes_nothing_twice(tmp_path: Path) -> None:
    assert start("image_classification.py", tmp_path).returncode == 0
    first = records(tmp_path)
    assert len(first) == 1 and all(json.loads(text) for text in first.values())
    (record,) = map(json.loads, first.values())
    assert record["settings"]["preset"] == "demo" and record["rows"] == {"train": 1400, "test": 397}
    assert record["optimizer"]["class"] == "LaMAdam" and record["optimizer"]["eps"] == 1e-15
    assert len(record["curves"]["beta_mean"]) == len(record["curves"]["step_size"]) == 126
    execution = record["execution"]
    assert (
        execution["wall_seconds"] > execution["update_seconds"] > 0 and execution["speed_unit"] == "images per second"
    )
    assert {"device", "source", "commit", "torch"} <= execution["starts"][0].keys()
    assert any("LaMAdam" in page.read_text() for page in tmp_path.rglob("*.md"))
    assert start("image_classification.py", tmp_path).returncode == 0
    assert records(tmp_path) == first


@pytest.mark.parametrize("name", SHORT)
def test_a_trial_of_three_updates_says_its_speed_and_leaves_no_record(name: str, tmp_path: Path) -> None:
    done = start(name, tmp_path, "--try-updates", "3")
    assert done.returncode == 0, done.stderr
    assert "3 updates" in done.stdout and "no record written" in done.stdout
    assert not records(tmp_path)


def test_a_run_whose_steps_are_infinite_leaves_a_record_and_the_next_ones_are_trained(tmp_path: Path) -> None:
    words = ["--demo", "--out", tmp_path, "--optim", "laprop", "--epochs", "1", "--weight-decay", "0", "--seeds", "1"]
    words += ["--hold-out", "0.1", "--lr", "3e38", "1e-3"]
    done = script(EXAMPLES / "image_classification.py", *words)
    assert done.returncode == 0, done.stderr
    found = {record["settings"]["lr"]: record for record in map(json.loads, records(tmp_path).values())}
    assert found[3e38]["status"] == "diverged" and "step size is nan at update 1" in found[3e38]["error"]
    assert found[3e38]["curves"]["loss"] == [] and found[1e-3]["status"] == "ok"
    assert "Diverged: LaProp lr 3e+38 seed 1" in done.stdout


def die_after_the_checkpoint_at_update_6() -> None:
    """The process ends there, with no chance to clean up."""
    runs = importlib.import_module("runs")
    save = runs.Run._save

    def save_and_die(run: Any) -> None:
        save(run)
        if run.progress.update == 6:
            os._exit(9)

    runs.Run._save = save_and_die


@pytest.mark.parametrize("name", ["image_classification.py", pytest.param("translation.py", marks=pytest.mark.slow)])
def test_a_run_that_was_killed_goes_on_bit_for_bit(name: str, tmp_path: Path) -> None:
    words = ["--save-every", "3", *SHORT[name]]
    assert start(name, tmp_path / "killed", *words, before=die_after_the_checkpoint_at_update_6).returncode == 9
    assert not records(tmp_path)
    for folder in ("killed", "whole"):
        done = start(name, tmp_path / folder, *words)
        assert done.returncode == 0, done.stderr
    found = {path.parts[-3]: json.loads(text) for path, text in records(tmp_path).items()}
    starts = {name: [start["update"] for start in record["execution"]["starts"]] for name, record in found.items()}
    assert starts == {"killed": [0, 6], "whole": [0]}
    for part in ("curves", "evaluations", "scores", "settings"):
        assert found["killed"][part] == found["whole"][part]
