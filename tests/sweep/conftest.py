"""The material that the sweep tests share: made once per session."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from glue_mva.sweep import SweepConfig, load_sweep
from glue_mva.sweep.engine import InlineEngine
from glue_mva.sweep.launch import Progress, launch

from .material import make_material


class Notes:
    """An observer that keeps what it is told."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.most_running = 0

    def note(self, message: str, *, important: bool = False) -> None:
        self.notes.append(message)

    def update(self, progress: Progress) -> None:
        self.most_running = max(self.most_running, len(progress.running))


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """As in a Ray worker of one core: another number of threads adds up in another order."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


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


@pytest.fixture(scope="session")
def finished(material: Path) -> Path:
    """The records of the whole sweep, made inline and never killed, on one thread as in a Ray worker of one core:
    another number of threads adds up in another order."""
    before, threads = Path.cwd(), torch.get_num_threads()
    os.chdir(material)
    torch.set_num_threads(1)
    try:
        progress = launch(load_sweep("sweep.toml"), InlineEngine, Notes())
    finally:
        os.chdir(before)
        torch.set_num_threads(threads)
    assert progress.is_complete
    return material / "runs"
