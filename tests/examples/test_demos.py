"""The examples on made-up data: a whole demo leaves a record and a report, and a trial leaves neither."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"

SHORT = {"image_classification": ["--epochs", "1"], "translation": ["--updates", "12"]}
"""Options for a demo of few updates."""


def start(script: str, out: Path, *words: str) -> str:
    command = [sys.executable, str(EXAMPLES / script), "--demo", "--out", str(out), "--optim", "lamadam", *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def records(out: Path) -> dict[Path, bytes]:
    """Records by path; the tokenizer of the translations is no record."""
    return {path: path.read_bytes() for path in out.rglob("*.json") if not path.name.startswith("tokenizer")}


def test_a_demo_leaves_a_record_and_a_report_and_makes_nothing_twice(tmp_path: Path) -> None:
    start("image_classification.py", tmp_path, "--seeds", "1")
    first = records(tmp_path)
    assert len(first) == 1 and all(json.loads(text) for text in first.values())
    assert any("LaMAdam" in page.read_text() for page in tmp_path.rglob("*.md"))
    start("image_classification.py", tmp_path, "--seeds", "1")
    assert records(tmp_path) == first


@pytest.mark.parametrize("script", ["image_classification.py", "translation.py"])
def test_a_trial_of_three_updates_says_its_speed_and_leaves_no_record(script: str, tmp_path: Path) -> None:
    said = start(script, tmp_path, "--seeds", "1", "--try-updates", "3")
    assert "3 updates" in said and "no record written" in said
    assert not records(tmp_path)


KILLED = """
import os, runs, sys
save = runs.Run._save
def save_and_die(run):
    save(run)
    if run.progress.update == 6:
        os._exit(9)
runs.Run._save = save_and_die
sys.argv[0] = {path!r}
import {script}
sys.exit({script}.main())
"""
"""A script whose process ends, with no chance to clean up, after its checkpoint at update 6."""


@pytest.mark.parametrize("script", ["image_classification", "translation"])
def test_a_run_that_was_killed_goes_on_bit_for_bit(script: str, tmp_path: Path) -> None:
    words = ["--demo", "--optim", "lamadam", "--seeds", "1", "--save-every", "3", *SHORT[script], "--out"]
    killed = [sys.executable, "-c", KILLED.format(script=script, path=script), *words, str(tmp_path / "killed")]
    assert subprocess.run(killed, cwd=EXAMPLES, capture_output=True).returncode == 9
    assert not records(tmp_path)
    for folder in ("killed", "whole"):
        command = [sys.executable, f"{script}.py", *words, str(tmp_path / folder)]
        subprocess.run(command, cwd=EXAMPLES, check=True, capture_output=True)
    found = {path.parts[-3]: json.loads(text) for path, text in records(tmp_path).items()}
    assert found["killed"]["execution"]["resumed_at"] == [6] and found["whole"]["execution"]["resumed_at"] == []
    for part in ("curves", "evaluations", "scores", "settings"):
        assert found["killed"][part] == found["whole"][part]
