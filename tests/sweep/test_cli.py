"""The commands as a user types them: exit codes, what they print, Ctrl-C, status from another process."""

import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from glue_mva.sweep import SweepConfig, expand, load_sweep
from glue_mva.sweep.launch import read_progress
from glue_mva.sweep.plan import make_plan, unit_of
from glue_mva.sweep.protocol import cells

from .kills import sweep_process


def command(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "glue_mva", *arguments], cwd=folder, capture_output=True, text=True, timeout=120
    )


def test_refused_with_two_and_one_line(here: Path):
    done = command(here, "sweep", "sweep.toml", "--tasks", "rte,snli", "--output", "never", "--set", "lr=-1")
    assert done.returncode == 2
    assert "unknown task 'snli'" in done.stderr
    assert "lr.0" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (here / "never").exists()
    for arguments in (("--engine", "rya"), ("--set", "bogus=1"), ("--engine", "inline", "--address", "x:1")):
        assert command(here, "sweep", "sweep.toml", "--output", "never", *arguments).returncode == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--threads-per-run", "99999"), "threads_per_run 99999: no machine here has more than"),
        (("--address", "127.0.0.1:1"), "no Ray cluster at '127.0.0.1:1': "),
        (("--address", "ray://127.0.0.1:1"), "no Ray cluster at 'ray://127.0.0.1:1': "),
        (("--address", "somewhere"), "no Ray cluster at 'somewhere': "),
    ],
)
def test_what_ray_would_wait_for_is_refused(here: Path, arguments: tuple[str, ...], said: str):
    done = command(here, "sweep", "sweep.toml", "--output", "refused", *arguments)
    assert done.returncode == 2
    assert said in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


def test_a_finished_sweep_ends_with_zero_without_ray(finished: Path, here: Path):
    done = command(here, "sweep", "sweep.toml", "--address", "nowhere:1")  # would fail if Ray were started
    assert done.returncode == 0
    assert "24 of 24 runs done" in done.stdout


def test_status_counts_and_names_the_best(finished: Path, here: Path):
    done = command(here, "status", "sweep.toml")
    assert done.returncode == 0
    assert "no sweep is at work" in done.stdout
    assert len(re.findall(r"6/6 .* \d\d\.\d\d .*0.00[13], 0.1 ", done.stdout)) == 4


def test_status_names_failed_and_unusable_runs_with_one(finished: Path, here: Path, tmp_path: Path):
    shutil.copytree(finished, tmp_path / "runs")
    searched = [run.run_id for run in expand(load_sweep("sweep.toml"))]  # final runs are known only once these are done
    first, second = (tmp_path / "runs" / run_id / "record.json" for run_id in searched[:2])
    first.write_text(first.read_text().replace('"status": "ok"', '"status": "failed"'))
    second.write_text("")
    done = command(here, "status", "sweep.toml", "--output", str(tmp_path / "runs"))
    assert done.returncode == 1
    assert f"{first.parent.name}: failed" in done.stdout
    assert f"{second.parent.name}: " in done.stdout
    assert second.read_text() == ""  # only looked at


@pytest.mark.parametrize(
    ("number", "engine"),
    [(signal.SIGINT, "inline"), (signal.SIGTERM, "inline"), (signal.SIGHUP, "inline"), (signal.SIGTERM, "ray")],
)
def test_an_interrupt_stops_cleanly_and_says_how_to_go_on(here: Path, tmp_path: Path, number: int, engine: str):
    process = sweep_process(here, "--engine", engine, "--output", str(tmp_path / "runs"))
    assert process.stdout is not None
    for line in process.stdout:
        if " seed " in line:
            break
    children = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(number)
    output = process.stdout.read()
    assert process.wait(timeout=60) == 130
    _, alive = psutil.wait_procs(children, timeout=30)
    assert not alive
    assert f"To go on: glue-mva sweep sweep.toml --engine {engine}" in output
    assert "Traceback" not in output
    progress, problems = read_progress(load_sweep("sweep.toml", {"output": str(tmp_path / "runs")}))
    assert len(progress.outcomes) >= 1
    assert not problems


def test_plan_counts_runs_and_updates(finished: Path, here: Path):
    sweep = load_sweep("sweep.toml")
    plan = make_plan(sweep, read_progress(sweep)[0].outcomes)
    assert (plan.runs, plan.done) == (24, 24)
    assert plan.seconds_left == 0
    assert plan.speed.measured
    shown = command(here, "plan", "sweep.toml", "--output", "elsewhere")
    assert shown.returncode == 0
    assert "24 runs, 0 done" in shown.stdout
    assert "assumed, not measured" in shown.stdout
    assert "--protocol fixed would save" in shown.stdout
    assert not (here / "elsewhere").exists()


def test_plan_of_the_papers_table_matches_the_papers_updates():
    """Tasks whose 10 epochs the paper trains in full; RTE stops after the epochs (1,560 of 2,036 updates)."""
    table = cells(load_sweep("table3"))
    units = {task: unit_of(table[task, "adam"].any_config) for task in ("sst2", "mrpc", "cola", "stsb", "rte")}
    assert {task: unit.updates for task, unit in units.items()} == {
        "sst2": 20935, "mrpc": 2296, "cola": 5336, "stsb": 3598, "rte": 1560,
    }  # fmt: skip


def test_plan_counts_rows_of_a_folder_and_honours_limits(here: Path):
    def unit(**run: object):
        config = SweepConfig(tasks=["rte"], optimizers=["adam"], run={"data": "data", "recipe": "hf", **run})
        return unit_of(cells(config)["rte", "adam"].any_config)

    assert unit().updates == 3 * 6  # 48 rows, batches of 8, 3 epochs
    assert unit().eval_rows == 32
    assert unit(max_train_samples=20).updates == 3 * 3
    assert unit(max_eval_samples=5).eval_rows == 5
