"""Real sweeps on Ray: the same records as inline, whatever is killed."""

import os
import shutil
from pathlib import Path

import psutil
import pytest

from glue_mva.record import read_record
from glue_mva.sweep import load_sweep
from glue_mva.sweep.engine import RayEngine, Resources
from glue_mva.sweep.launch import launch, read_progress
from glue_mva.sweep.protocol import cells, known_runs
from glue_mva.sweep.store import LOG_FILE, is_active

from .conftest import Notes
from .kills import kill_driver_after, results, run_sabotaged, sweep_process

pytestmark = pytest.mark.slow


def test_a_killed_sweep_goes_on_and_ends_with_the_records_of_an_uninterrupted_one(
    finished: Path, here: Path, tmp_path: Path
):
    (here / "killed").mkdir()
    process = sweep_process(here, "--output", "killed/runs")
    kill_driver_after(process, runs=3)
    assert not is_active(here / "killed" / "runs")
    kept = {path: path.read_bytes() for path in (here / "killed" / "runs").glob("*/record.json")}
    assert kept

    process = sweep_process(here, "--output", "killed/runs")
    output, _ = process.communicate(timeout=600)
    assert process.returncode == 0, output
    assert "24 of 24 runs done" in output
    assert {path: path.read_bytes() for path in kept} == kept
    assert output.count(" seed ") == 24 - len(kept)  # nothing twice
    assert without_output(results(here / "killed" / "runs")) == without_output(results(finished))
    shutil.rmtree(here / "killed")


def test_dead_workers_and_nodes_are_replaced_and_nothing_changes(
    finished: Path, here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    sweep = load_sweep("sweep.toml", {"output": str(tmp_path / "runs")})
    progress, saboteur = run_sabotaged(sweep, {2: "worker", 6: "node", 11: "worker"})
    assert saboteur.done == ["worker", "node", "worker"]
    assert progress.is_complete
    assert not progress.failed
    assert without_output(results(tmp_path / "runs")) == without_output(results(finished))


def test_a_run_that_always_kills_its_worker_fails_after_two_retries_and_the_sweep_goes_on(
    here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    changes = {"optimizers": ["tests.sweep.faulty:Doomed", "adam"], "lr": 1e-3, "final_seeds": 1, "tasks": ["rte"],
               "weight_decay": 0.0}  # fmt: skip
    sweep = load_sweep("sweep.toml", {"output": str(tmp_path / "runs"), **changes})
    notes = Notes()
    progress = launch(sweep, lambda: RayEngine(Resources(threads=2)), notes)
    ((run_id, error),) = progress.failed.items()
    assert "the worker died" in error
    assert len((here / "doomed.attempts").read_text()) == 3
    assert (tmp_path / "runs" / run_id / LOG_FILE).read_text().count("about to die") == 3
    (run_of_adam,) = progress.outcomes
    assert read_record(tmp_path / "runs" / run_of_adam).execution.threads == 2  # the worker's share, whatever ours is
    assert read_progress(sweep)[0].failed == {run_id: error}  # the driver wrote the record


def test_closing_ends_what_is_under_way_on_a_cluster_too(here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    changes = {"optimizers": ["tests.sweep.faulty:Endless"], "lr": 1e-3, "final_seeds": 1, "tasks": ["rte"],
               "weight_decay": 0.0}  # fmt: skip
    (run,) = known_runs(cells(load_sweep("sweep.toml", {"output": str(tmp_path / "runs"), **changes})), {})
    os.mkfifo(here / "endless")
    cluster = Cluster(initialize_head=True, head_node_args={
        "num_cpus": 1, "object_store_memory": 80 * 2**20, "include_dashboard": False})  # fmt: skip
    try:
        engine = RayEngine(Resources(threads=1), cluster.address)
        engine.submit(run.config, run.run_id)
        worker = psutil.Process(int((here / "endless").read_text()))
        engine.close()
        worker.wait(timeout=600)
    finally:
        cluster.shutdown()


def test_on_cards_every_run_has_a_process_of_its_own(here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """CUDA reads once per process which card is its own, and Ray says it anew for every run. The cards are made up."""
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    changes = {"optimizers": ["tests.sweep.faulty:Telling"], "lr": 1e-3, "final_seeds": 5, "tasks": ["rte"],
               "weight_decay": 0.0}  # fmt: skip
    sweep = load_sweep("sweep.toml", {"output": str(tmp_path / "runs"), **changes})
    cluster = Cluster(initialize_head=True, head_node_args={
        "num_cpus": 2, "num_gpus": 2, "object_store_memory": 80 * 2**20, "include_dashboard": False})  # fmt: skip
    try:
        progress = launch(sweep, lambda: RayEngine(Resources(threads=1), cluster.address), notes := Notes())
    finally:
        cluster.shutdown()
    assert progress.is_complete and notes.most_running == 2
    places = [line.split() for line in (here / "telling.places").read_text().splitlines()]
    assert len({process for process, _ in places}) == len(places) == 5
    assert {card for _, card in places} == {"0", "1"}


def without_output(found: dict) -> dict:
    for result in found.values():
        result["config"] = {key: value for key, value in result["config"].items() if key != "output"}
    return found
