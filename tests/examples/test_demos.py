"""The examples on made-up data: a few updates, a record each, and nothing made twice."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.mark.parametrize("script", ["image_classification.py", "translation.py"])
def test_a_demo_of_three_updates_leaves_a_record_and_makes_nothing_twice(script: str, tmp_path: Path) -> None:
    command = [sys.executable, str(EXAMPLES / script), "--demo", "--out", str(tmp_path), "--optim", "lamadam"]
    subprocess.run([*command, "--seeds", "1", "--try-updates", "3"], check=True, capture_output=True, timeout=300)
    (path,) = tmp_path.rglob("*.json")
    first = path.read_bytes()
    assert json.loads(first)
    subprocess.run([*command, "--seeds", "1", "--try-updates", "3"], check=True, capture_output=True, timeout=300)
    assert path.read_bytes() == first
