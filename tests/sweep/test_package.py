"""The wheel holds the sweep files, so that `glue-mva sweep table3` works wherever it is installed."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def test_the_wheel_ships_every_config_and_finds_it_by_name(tmp_path: Path):
    pytest.importorskip("setuptools", minversion="77")
    for name in ("glue_mva", "configs"):
        shutil.copytree(ROOT / name, tmp_path / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for name in ("README.md", "LICENSE"):
        (tmp_path / name).touch()
    build = "import setuptools.build_meta as b; b.build_wheel('.')"
    done = subprocess.run([sys.executable, "-c", build], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    installed = tmp_path / "installed"
    zipfile.ZipFile(wheel).extractall(installed)
    shipped = {path.name: path.read_text() for path in (installed / "glue_mva" / "configs").iterdir()}
    assert shipped == {path.name: path.read_text() for path in (ROOT / "configs").glob("*.toml")}
    look = "from glue_mva.sweep import load_sweep, sweep_path; load_sweep('table3'); print(sweep_path('table3'))"
    found = subprocess.run([sys.executable, "-c", look], cwd=installed, capture_output=True, text=True, timeout=60)
    assert found.stdout.strip() == str(installed / "glue_mva" / "configs" / "table3.toml")
