"""The examples on made-up data: a whole demo leaves a record and a report, and a trial leaves neither."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


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
