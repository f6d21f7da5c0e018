"""The commands as a user types them: exit codes, what they print, Ctrl-C, status from another process."""

import os
import re
import shutil
import signal
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import psutil
import pytest

from glue_mva.cli.sweep import _termination_as_interrupt
from glue_mva.errors import UsageError
from glue_mva.record import read_record
from glue_mva.sweep import SweepConfig, expand, load_sweep
from glue_mva.sweep.engine import RayEngine, Resources, interrupts_held
from glue_mva.sweep.launch import read_progress
from glue_mva.sweep.plan import Machines, make_plan
from glue_mva.sweep.protocol import cells
from glue_mva.sweep.store import LOG_FILE
from glue_mva.sweep.unit import unit_of
from tests.processes import Done, command, running
from tests.report.factory import make_execution, make_record, write_run


def test_refused_with_two_and_one_line(here: Path):
    done = command(here, "sweep", "sweep.toml", "--tasks", "rte,snli", "--output", "never", "--set", "lr=-1")
    assert done.returncode == 2
    assert "unknown task 'snli'" in done.stderr
    assert "lr.0" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (here / "never").exists()
    for arguments in (("--engine", "rya"), ("--set", "bogus=1"), ("--engine", "inline", "--address", "x:1")):
        assert command(here, "sweep", "sweep.toml", "--output", "never", *arguments).returncode == 2
    done = command(here, "sweep", "sweep.toml", "--engine", "inline", "--threads-per-run", "2", "--runs-per-gpu", "2")
    assert done.returncode == 2 and "--runs-per-gpu and --threads-per-run: only with --engine ray" in done.stderr


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


def test_the_folder_says_which_sweep_filled_it(finished: Path, here: Path, tmp_path: Path):
    shutil.copytree(finished, tmp_path / "moved")
    for words in (["status"], ["plan"], ["sweep", "--engine", "inline"]):
        done = command(here, *words, str(tmp_path / "moved"))
        assert done.returncode == 0, done.stderr
        assert "24 of 24 runs done" in done.stdout or "24 runs, 24 done" in done.stdout
        assert "other records" not in done.stdout
    assert load_sweep(tmp_path / "moved").replace(output="runs") == load_sweep("sweep.toml")
    elsewhere = command(tmp_path, "status", "moved")  # no data and no model there, so no run can be told by them
    assert "0 of 24 runs done" in elsewhere.stdout and "24 other records lie here" in elsewhere.stdout


def test_the_report_of_a_folder_needs_no_more_and_takes_the_words_given_to_sweep(
    finished: Path, here: Path, tmp_path: Path
):
    def report(*words: str) -> Done:
        return command(here, "report", str(finished), "--out", str(tmp_path / "out"), *words)

    plain = report()
    assert plain.returncode == 0, plain.stderr
    assert "over 2 seeds" in plain.stdout and "selected on the same dev set, with other seeds" in plain.stdout
    assert "note:" not in plain.stdout
    assert report("--sweep", "sweep.toml").stdout == plain.stdout
    fewer = report("--sweep", "sweep.toml", "--final-seeds", "1", "--tasks", "rte", "--num-train-epochs", "1")
    assert fewer.returncode == 0 and "over 1 seed." in fewer.stdout and "MRPC" not in fewer.stdout
    assert report("--final-seeds", "1", "--tasks", "rte").stdout.splitlines()[0] == fewer.stdout.splitlines()[0]
    for words, said in (
        (["--sweep", "sweep.toml", "--num-train-epochs", "2"], "24 runs were made with other settings than the "),
        (["--tasks", "rte", "--num-train-epochs", "2"], "file names: num_train_epochs = 1.0 (file: 2.0); give"),
        (["--set", "final_sedes=2"], "--set: unknown key 'final_sedes'"),
        (["--where", "optm=adam"], "--where optm=adam: no such key of a run"),
        (["--where", "optim"], "--where 'optim': write it as key=value"),
    ):
        done = report(*words)
        assert done.returncode == 2 and said in done.stderr and done.stderr.count("\n") == 1
    as_found = ("--num-train-epochs", "2", "--as-found")
    assert report("--sweep", "sweep.toml", "--tasks", "rte", *as_found).returncode == 0


def test_weights_that_a_finished_sweep_did_not_keep(finished: Path, here: Path, tmp_path: Path):
    """Never passed off as done: said beforehand, and made again by a launch, of the final runs only."""
    shutil.copytree(finished, tmp_path / "runs")
    words = ["sweep.toml", "--output", str(tmp_path / "runs"), "--tasks", "rte", "--optimizers", "adam", "--save-model"]
    said = "2 finished runs were made without save_model"
    planned, looked = command(here, "plan", *words), command(here, "status", *words)
    assert said in planned.stderr and "6 runs, 4 done" in planned.stdout
    assert said in looked.stdout and "4 of 6 runs done" in looked.stdout
    made = command(here, "sweep", *words, "--engine", "inline")
    assert made.returncode == 0 and f"{said}: made again" in made.stdout and "6 of 6 runs done" in made.stdout
    assert len(list((tmp_path / "runs").glob("*/model"))) == 2
    assert command(here, "sweep", *words, "--engine", "inline").stdout.count("made again") == 0


class Refused(BaseHTTPRequestHandler):
    """What a web server says to whom it does not understand."""


@pytest.mark.parametrize(
    ("speaks", "said"), [(False, "no answer within 0.1 seconds"), (True, "something else listens")]
)
def test_an_address_where_something_else_listens_is_refused(monkeypatch: pytest.MonkeyPatch, speaks: bool, said: str):
    monkeypatch.setattr("glue_mva.sweep.engine.CONNECT_SECONDS", 30 if speaks else 0.1)
    with HTTPServer(("127.0.0.1", 0), Refused) as server:  # silent as long as it is not told to serve
        if speaks:
            Thread(target=server.handle_request, daemon=True).start()
        with pytest.raises(UsageError, match=f"no Ray cluster at '127.0.0.1:{server.server_port}': {said}"):
            RayEngine(Resources(threads=1), f"127.0.0.1:{server.server_port}")


@pytest.mark.parametrize(
    ("number", "engine", "send"),
    [
        (signal.SIGINT, "inline", os.kill),
        (signal.SIGTERM, "inline", os.kill),
        (signal.SIGHUP, "inline", os.kill),
        pytest.param(signal.SIGTERM, "ray", os.kill, marks=pytest.mark.slow),
        pytest.param(signal.SIGHUP, "ray", os.kill, marks=pytest.mark.slow),
        pytest.param(signal.SIGHUP, "ray", os.killpg, marks=pytest.mark.slow),  # as a terminal that is closed
    ],
)
def test_an_interrupt_stops_cleanly_and_says_how_to_go_on(
    here: Path, tmp_path: Path, number: int, engine: str, send: Callable[[int, int], None]
):
    words = ["sweep.toml", "--engine", engine, "--output", tmp_path / "runs", "--final-seeds", "100"]
    with running(here, "sweep", *words) as sweep:
        pid = sweep.process.pid
        assert pid is not None
        for line in sweep.stdout:
            if " seed " in line:
                break
        children = psutil.Process(pid).children(recursive=True)
        send(pid, number)
        output = sweep.stdout.read()
        assert sweep.wait(600) == 130, output
    _, alive = psutil.wait_procs(children, timeout=600)
    assert not alive
    assert f"To go on: glue-mva sweep sweep.toml --engine {engine}" in output
    assert "Traceback" not in output
    progress, problems = read_progress(load_sweep("sweep.toml", {"output": str(tmp_path / "runs")}))
    assert len(progress.outcomes) >= 1
    assert not problems


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupt_in_the_middle_of_a_call_of_ray_waits_for_its_end(number: int):
    def interrupt(number: int, frame: Any):
        raise KeyboardInterrupt

    before, reached = signal.signal(number, interrupt), []
    try:
        with pytest.raises(KeyboardInterrupt), interrupts_held():
            signal.raise_signal(number)
            signal.raise_signal(number)
            reached.append(number)
        assert reached == [number]
        assert signal.getsignal(number) is interrupt
    finally:
        signal.signal(number, before)


@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_second_kill_does_not_cut_the_clearing_up_short(first: int):
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, signal.default_int_handler) for number in numbers}
    try:
        with _termination_as_interrupt() as was_interrupted:
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(first)
            signal.raise_signal(signal.SIGTERM)
            signal.raise_signal(signal.SIGHUP)
            assert was_interrupted()
        assert {signal.getsignal(number) for number in numbers} == {signal.default_int_handler}
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def test_under_nohup_a_closed_terminal_is_nothing():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with _termination_as_interrupt() as was_interrupted:
            signal.raise_signal(signal.SIGHUP)
            assert not was_interrupted()
    finally:
        signal.signal(signal.SIGHUP, before)


def test_an_interrupt_that_python_loses_stops_the_sweep_after_the_run(here: Path, tmp_path: Path):
    words = ["sweep.toml", "--engine", "inline", "--output", tmp_path / "runs", "--optimizers",
             "tests.sweep.faulty:Stopping", "--set", "weight_decay=0"]  # fmt: skip
    done = command(here, "sweep", *words)
    assert done.returncode == 130
    assert "To go on: glue-mva sweep sweep.toml" in done.stderr
    (path,) = (tmp_path / "runs").glob("*/record.json")
    assert read_record(path).status == "ok" and "Exception ignored" in (path.parent / LOG_FILE).read_text()


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


def test_runs_that_share_a_gpu_are_planned_to_share_the_speed_of_the_records(tmp_path: Path):
    sweep = SweepConfig(tasks=["rte"], optimizers=["adam"], lr=1e-5, weight_decay=0.1, output=str(tmp_path))
    record = make_record("rte", "adam", lr=1e-5, weight_decay=0.1, seed=1)
    gpu = make_execution(1, device="NVIDIA H200", device_type="cuda")
    write_run(tmp_path, record.model_copy(update={"execution": gpu}))
    alone, shared = (make_plan(sweep, {}, Machines(1, n)) for n in (1, 2))
    assert alone.speed.basis == "from 1 records of FacebookAI/roberta-base on NVIDIA H200"
    assert shared.speed.basis == f"{alone.speed.basis}, divided among 2 runs"
    assert shared.lines[-1].seconds == pytest.approx(2 * alone.lines[-1].seconds)
    assert shared.speed.tokens_per_second == pytest.approx(alone.speed.tokens_per_second / 2)
    assert shared.wall_seconds == pytest.approx(alone.wall_seconds)


def test_plan_says_hours_on_gpus_and_where_data_are_partial(tmp_path: Path):
    """By name, from a folder without the repository's files."""
    assert (
        "partial data: QNLI (64 of 104,743 training rows, 64 of 5,463 dev rows)"
        in command(tmp_path, "plan", "smoke").stdout
    )
    done = command(tmp_path, "plan", "table3", "--gpus", "8", "--runs-per-gpu", "2", "--tokens-per-second", "5000")
    assert done.returncode == 0
    assert "partial data" not in done.stdout and "5,000 tokens/s in each run, as given" in done.stdout
    assert re.search(r"wall time left: about [\d,.]+ h on 8 GPUs, 2 runs on each", done.stdout)
    assert command(tmp_path, "plan", "table3", "--runs-per-gpu", "2").returncode == 2


def test_wall_time_is_the_sum_over_slots_and_at_least_the_longest_chain():
    sweep = SweepConfig(tasks=["rte", "sst2"], optimizers=["adam"], lr=[1e-5, 2e-5], weight_decay=0.1, final_seeds=1)
    plan = make_plan(sweep, {}, Machines(1), 1000.0)
    each = {line.task: line.seconds for line in plan.lines}
    assert plan.wall_seconds == pytest.approx(3 * each["rte"] + 3 * each["sst2"])
    assert make_plan(sweep, {}, Machines(2, 8), 1000.0).wall_seconds == pytest.approx(2 * each["sst2"])
    halved = make_plan(sweep, {}, Machines(1, 2)).speed.tokens_per_second
    assert halved == make_plan(sweep, {}, Machines(1)).speed.tokens_per_second / 2


def test_plan_counts_the_rows_of_the_demo():
    sweep = SweepConfig(tasks=["qnli"], optimizers=["adam"], lr=1e-5, weight_decay=0.1,
                        run={"data": "demo", "num_train_epochs": 1.0, "recipe": "hf"})  # fmt: skip
    plan = make_plan(sweep, {})
    assert plan.lines[0].unit.examples == 2000
    assert plan.partial == ["QNLI (2,000 of 104,743 training rows, 800 of 5,463 dev rows)"]


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
