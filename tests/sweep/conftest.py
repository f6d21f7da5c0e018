"""The material that the sweep tests share: made once per session."""

from pathlib import Path

import pytest

from glue_mva.sweep import SweepConfig, load_sweep

from .material import make_material


@pytest.fixture(scope="session")
def material(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_material(tmp_path_factory.mktemp("sweep"))


@pytest.fixture
def here(material: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The material as the working directory, as a user would start from it."""
    monkeypatch.chdir(material)
    return material


@pytest.fixture
def sweep(here: Path, tmp_path: Path) -> SweepConfig:
    """The whole sweep, into an output folder of its own."""
    return load_sweep("sweep.toml", {"output": str(tmp_path / "runs")})
