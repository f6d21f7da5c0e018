"""Kill a sweep's processes while it works. Used by the tests and by `tests/slow/kill_sweeps.py`."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from glue_mva.record import read_record
from glue_mva.sweep import SweepConfig
from glue_mva.sweep.launch import Progress

WORKER = "ray::_execute_in_worker"
HELPERS = ("ray::DashboardAgent", "ray::RuntimeEnvAgent")
"""Ray's own helpers notice within a minute that their node is gone; they hold nothing of ours."""


def results(folder: Path) -> dict[str, dict[str, Any]]:
    """run_id -> what must not depend on engine and kills: status, scores, curves."""
    found = {}
    for path in sorted(folder.glob("*/record.json")):
        record = read_record(path)
        found[record.run_id] = {"status": record.status, "score": record.score, "last_score": record.last_score,
                                "epochs": record.epochs, "curves": record.curves,
                                "config": record.config.model_dump()}  # fmt: skip
    return found


def sweep_process(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    """`glue-mva sweep sweep.toml` in a folder, its lines readable from `stdout`."""
    command = [sys.executable, "-m", "glue_mva", "sweep", "sweep.toml", *arguments]
    return subprocess.Popen(
        command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
        preexec_fn=_listen_to_interrupts,
    )  # fmt: skip


def _listen_to_interrupts() -> None:
    """Shells start background jobs with SIGINT ignored, `nohup` does so with SIGHUP, and children inherit that."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def kill_driver_after(process: subprocess.Popen[str], runs: int, delay: float = 0.0) -> None:
    """Let a sweep finish so many runs, and `delay` seconds later kill its first process; returns when all is gone.

    Raises:
        AssertionError: the sweep ended before, or a process of it outlives the kill by ten minutes.
    """
    assert process.stdout is not None
    seen: list[str] = []
    for line in process.stdout:
        seen.append(line)
        if sum(" seed " in text for text in seen) >= runs:
            break
    else:
        raise AssertionError(f"ended after {''.join(seen)}")
    time.sleep(delay)
    children = psutil.Process(process.pid).children(recursive=True)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()
    _, alive = psutil.wait_procs([c for c in children if _name(c) not in HELPERS], timeout=600)
    assert not alive, [(_name(p), p.status()) for p in alive]


def _name(process: psutil.Process) -> str:
    try:
        return process.name() if process.status() != psutil.STATUS_ZOMBIE else ""
    except psutil.NoSuchProcess:
        return ""


@dataclass
class Saboteur:
    """An observer of `launch` that kills after chosen numbers of finished runs: 'worker' or 'node'."""

    cluster: Any
    """`ray.cluster_utils.Cluster`; its last node is the one that is killed, and a new one takes its place."""
    plan: dict[int, str]
    """Runs finished -> what is killed as soon as so many are."""
    done: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def note(self, message: str, *, important: bool = False) -> None:
        self.notes.append(message)

    def update(self, progress: Progress) -> None:
        due = [moment for moment in sorted(self.plan) if moment <= progress.finished_here]
        if not due or not progress.running:
            return
        target = self.plan[due[0]]
        if self._kill_node() if target == "node" else self._kill_worker():
            self.done.append(target)
            del self.plan[due[0]]

    def _kill_worker(self) -> bool:
        """False where no worker is at work at this moment: it is tried again at the next look. Only workers of this
        process's own cluster: others may be at work on the same machine."""
        for process in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                if process.name().startswith(WORKER[:15]) and process.cmdline()[:1] == [WORKER]:
                    process.kill()
                    return True
        return False

    def _kill_node(self) -> bool:
        node = self.cluster.worker_nodes.copy().pop()
        self.cluster.remove_node(node, allow_graceful=False)
        self.cluster.add_node(num_cpus=1, object_store_memory=80 * 2**20)
        return True


def run_sabotaged(sweep: SweepConfig, plan: dict[int, str]) -> tuple[Progress, Saboteur]:
    """Run a sweep on two local Ray nodes of one core each while a saboteur follows his plan."""
    from ray.cluster_utils import Cluster

    from glue_mva.sweep.engine import RayEngine, Resources
    from glue_mva.sweep.launch import launch

    size = {"num_cpus": 1, "object_store_memory": 80 * 2**20}
    cluster = Cluster(initialize_head=True, head_node_args={**size, "include_dashboard": False})
    try:
        cluster.add_node(**size)
        saboteur = Saboteur(cluster, plan)
        progress = launch(sweep, lambda: RayEngine(Resources(threads=1), cluster.address), saboteur)
    finally:
        cluster.shutdown()
    return progress, saboteur
