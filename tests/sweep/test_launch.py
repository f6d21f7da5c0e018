"""Launching a sweep in this process: what runs, what does not, and what happens to bad records and failed runs."""

import errno
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest
import torch
from filelock import FileLock

from glue_mva.errors import UsageError
from glue_mva.optim.registry import get_optimizer
from glue_mva.record import LOCK_FILE, read_record
from glue_mva.report.results import results
from glue_mva.report.selection import selection_markdown
from glue_mva.sweep import SweepConfig, final_runs, known_runs, load_sweep
from glue_mva.sweep.engine import InlineEngine, _enter
from glue_mva.sweep.launch import launch, more_parts, read_progress
from glue_mva.sweep.protocol import cells
from glue_mva.sweep.store import LOG_FILE, is_active, only_sweep, write_failed
from glue_mva.sweep.view import rows
from glue_mva.sweep.worker import execute, trouble_of
from tests.processes import command, forked

from .conftest import Notes


def no_engine() -> Any:
    raise AssertionError("an engine was started")


def one_run(here: Path, tmp_path: Path, **changes: Any) -> SweepConfig:
    """A sweep of a single run; `changes` go over it."""
    values = {"tasks": ["rte"], "optimizers": ["adam"], "lr": 1e-3, "weight_decay": 0.1, "final_seeds": 1}
    return load_sweep("sweep.toml", {"output": str(tmp_path / "runs"), **values, **changes})


@pytest.fixture
def copied(finished: Path, sweep: SweepConfig) -> SweepConfig:
    """A finished sweep in a folder of its own."""
    shutil.copytree(finished, sweep.output)
    return sweep


def test_search_then_final_runs(finished: Path, here: Path):
    progress, problems = read_progress(load_sweep("sweep.toml"))
    assert not problems
    assert not progress.failed
    assert len(list(finished.glob("*/record.json"))) == 2 * 2 * 2 * 2 + 2 * 2 * 2  # searched, then final
    for key in progress.table:
        for run in final_runs(progress.table, key, progress.outcomes):
            record = read_record(finished / run.run_id)
            assert record.status == "ok"
            assert record.config.seed in (1, 2)
    assert not list(finished.glob("*/work"))


def test_a_finished_sweep_starts_nothing(copied: SweepConfig):
    before = {p: p.stat().st_mtime_ns for p in Path(copied.output).glob("*/record.json")}
    assert launch(copied, no_engine, Notes()).is_complete
    assert {p: p.stat().st_mtime_ns for p in Path(copied.output).glob("*/record.json")} == before


def test_a_search_goes_on_beyond_its_grid_and_the_report_says_so(here: Path, tmp_path: Path):
    values = {"lr": [1e-3, 1e30], "search_seeds": 1}  # one diverges, so the other is better, and at an end
    first = launch(one_run(here, tmp_path, **values), InlineEngine, Notes())
    assert [first.outcomes[run.run_id].status for run in first.known()] == ["ok", "diverged", "ok"]
    sweep = one_run(here, tmp_path, **values, extend_lr=1)
    notes = Notes()
    progress = launch(sweep, InlineEngine, notes)
    assert any("of no other: sweeps that differ in extend_lr (0, 1)" in note for note in notes.notes)
    *searched, final = progress.known()
    added = 1e-36
    assert [run.hparams.lr for run in searched] == [1e-3, 1e30, added]
    scores = [progress.outcomes[run.run_id].value for run in searched]
    assert final.hparams.lr == (1e-3 if scores[0] > scores[2] else added)
    assert progress.finished_here == (1 if final.hparams.lr == 1e-3 else 2)  # what was there is not made again
    assert progress.is_complete and launch(sweep, no_engine, Notes()).is_complete
    found = results(sweep.output)
    assert found.searches[0].added == [added]
    said = selection_markdown(found.searches)
    assert "that were added beyond an end of the grid, and are left out of the expected best" in said
    assert "runs:\n\n- RTE, Adam: 1e-36\n" in said
    assert "the search went on beyond it, by at most 1 rate." in found.table.caption


def test_a_run_that_was_cut_off_goes_on_from_its_checkpoint(here: Path, tmp_path: Path):
    """With the next launch of the sweep, which says so to every run."""
    often = {"num_train_epochs": 4.0, "logging_steps": 1, "checkpoint_minutes": 0.0}
    sweep = one_run(here, tmp_path, optimizers=["tests.sweep.faulty:Interrupted"], weight_decay=0.0, run=often)
    with pytest.raises(KeyboardInterrupt):
        launch(sweep, InlineEngine, Notes())
    (run,) = launch(sweep, InlineEngine, Notes()).known()
    record = read_record(Path(sweep.output) / run.run_id)
    assert record.status == "ok" and record.execution.resumed_from_step == 7


def test_the_longest_run_starts_first(here: Path, tmp_path: Path):
    """Whatever the order in the file: RTE's texts are longer than MRPC's."""
    notes = Notes()
    sweep = one_run(here, tmp_path, tasks=["mrpc", "rte"], run={"max_length": 64})
    assert launch(sweep, InlineEngine, notes).is_complete
    assert [note.split()[0] for note in notes.notes if " seed " in note] == ["rte", "mrpc"]


def test_a_sweep_can_wait_for_another_one(tmp_path: Path):
    """For longer than the second after which it is refused where it is not to wait."""
    begun, ended = Event(), Event()

    def be_at_work() -> None:
        with only_sweep(tmp_path):
            begun.set()
            time.sleep(1.5)
            ended.set()

    other = Thread(target=be_at_work)
    other.start()
    begun.wait()
    with only_sweep(tmp_path, wait=True):
        assert ended.is_set()
    other.join()


def test_folders_of_two_machines_are_copied_together(finished: Path, sweep: SweepConfig, tmp_path: Path):
    folders = sorted(p for p in finished.iterdir() if p.is_dir())
    for number, folder in enumerate(folders):
        shutil.copytree(folder, tmp_path / str(number % 2) / folder.name)
    for half in ("0", "1"):
        shutil.copytree(tmp_path / half, sweep.output, dirs_exist_ok=True)
    assert launch(sweep, no_engine, Notes()).is_complete


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda text: text[: len(text) // 2], "not whole JSON"),
        (lambda text: "", "empty (0 bytes)"),
        (lambda text: text.replace('"schema_version": 2', '"schema_version": 0'), "schema version 0"),
        (lambda text: text.replace('"run_id": "', '"run_id": "other-'), "is the record of run other-"),
    ],
)
def test_a_record_that_cannot_be_used_is_set_aside_and_made_again(copied: SweepConfig, spoil: Any, said: str):
    path = sorted(Path(copied.output).glob("*/record.json"))[3]
    good = read_record(path)
    path.write_text(spoil(path.read_text()))
    spoiled = path.read_text()
    notes = Notes()
    launch(copied, InlineEngine, notes)
    named = [note for note in notes.notes if said in note]
    assert len(named) == 1
    assert path.parent.name in named[0]
    assert (path.parent / "record.unusable-1.json").read_text() == spoiled
    again = read_record(path)
    assert (again.score, again.curves, again.epochs) == (good.score, good.curves, good.epochs)


def test_leftover_checkpoints_of_finished_runs_are_removed(copied: SweepConfig):
    folder = next(p for p in Path(copied.output).iterdir() if p.is_dir())
    (folder / "work" / "checkpoint-2").mkdir(parents=True)
    launch(copied, no_engine, Notes())
    assert not (folder / "work").exists()


def test_a_run_that_fails_leaves_record_and_log_and_the_sweep_goes_on(here: Path, tmp_path: Path):
    sweep = one_run(here, tmp_path, optimizers=["tests.sweep.faulty:Broken", "adam"], weight_decay=0.0)
    notes = Notes()
    progress = launch(sweep, InlineEngine, notes)
    (run_id, error), = progress.failed.items()  # fmt: skip
    assert "no such step" in error
    assert read_record(Path(sweep.output) / run_id).status == "failed"
    assert "no such step" in (Path(sweep.output) / run_id / LOG_FILE).read_text()
    assert [row.done for row in rows(progress)] == [0, 1]
    assert [row.failed for row in rows(progress)] == [1, 0]
    assert run_id in launch(sweep, InlineEngine, notes).failed  # tried again by the next launch


def test_divergence_is_a_result_and_never_retried(here: Path, tmp_path: Path):
    sweep = one_run(here, tmp_path, optimizers=["torch.optim:SGD"], lr=1e30)
    progress = launch(sweep, InlineEngine, Notes())
    assert [row.diverged for row in rows(progress)] == [1]
    assert not progress.failed
    assert [row.best for row in rows(progress)] == [None]
    launch(sweep, no_engine, Notes())


def test_out_of_memory_is_retried_once_with_smaller_parts_of_the_same_batch(
    here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    optimizers = ["tests.sweep.faulty:Hungry", "tests.sweep.faulty:Starved"]
    sweep = one_run(here, tmp_path, optimizers=optimizers, weight_decay=0.0)
    notes = Notes()
    progress = launch(sweep, InlineEngine, notes)
    hungry, starved = (run for run in known_runs(progress.table, {}))
    record = read_record(Path(sweep.output) / hungry.run_id)
    assert record.status == "ok"
    assert record.execution.gradient_accumulation_steps == 4
    assert record.config.train_batch_size == 16
    assert "out of memory" in progress.failed[starved.run_id]
    assert len((here / "starved.attempts").read_text()) == 2


@pytest.mark.parametrize(
    ("error", "trouble"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB"), "memory"),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), "memory"),
        (
            RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to"),
            "memory",
        ),
        (MemoryError(), "memory"),
        (OSError(errno.ENOSPC, "No space left on device"), "storage"),
        (RuntimeError("CUDA error: device-side assert triggered"), "other"),
    ],
)
def test_the_kind_of_an_error_is_seen_through_what_was_raised_from_it(error: Exception, trouble: str):
    later = ValueError("the run failed")
    later.__cause__ = error
    assert trouble_of(error) == trouble_of(later) == trouble


@pytest.mark.parametrize(("batch", "parts", "expected"), [(16, 1, 4), (32, 4, 16), (6, 1, 6), (2, 1, 2), (25, 1, 5)])
def test_parts_divide_the_batch(batch: int, parts: int, expected: int):
    sweep = SweepConfig(tasks=["rte"], optimizers=["adam"], run={"train_batch_size": batch})
    config = cells(sweep)["rte", "adam"].any_config.replace(gradient_accumulation_steps=parts)
    assert more_parts(config) == expected


def test_every_row_is_built_for_the_model_before_the_first_run(here: Path, tmp_path: Path):
    wrong = {"name": "wrong", "optim": "lamadam", "optim_args": {"beta2_min": 1.5}}
    sweep = one_run(here, tmp_path, optimizers=["adam", "torch.optim:Muon", wrong, "tests.sweep.faulty:Broken"])
    said = r"Muon cannot be built .*2D parameters.*; invalid beta2_min: 1\.5.*; Broken: .* raises RuntimeError: no such"
    with pytest.raises(UsageError, match=said):
        launch(sweep, InlineEngine, Notes())
    assert not list(Path(sweep.output).glob("*/record.json"))


def test_runs_of_another_version_of_an_optimizer_are_made_anew(
    here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.syspath_prepend(str(tmp_path))
    sweep = one_run(here, tmp_path, optimizers=["changing:Mine"])
    said = []
    for version in (1, 2):
        (tmp_path / "changing.py").write_text(f"import torch\nclass Mine(torch.optim.SGD): a = {version}\n")
        monkeypatch.setattr("glue_mva.optim.source._imported", {})  # as in a new process
        monkeypatch.delitem(sys.modules, "changing", raising=False)
        notes = Notes()
        assert launch(sweep, InlineEngine, notes).is_complete
        said.append([note for note in notes.notes if "another version" in note])
    assert said == [[], ["Mine: 1 runs were made by another version of it, and are run anew"]]
    assert len(list(Path(sweep.output).glob("*/record.json"))) == 2


def test_a_worker_finds_optimizers_in_the_folder_of_the_sweep(tmp_path: Path):
    (tmp_path / "in_the_folder.py").write_text("import torch\nclass Mine(torch.optim.SGD): pass\n")
    done = forked(print_class, [tmp_path, "in_the_folder:Mine"], "/")
    assert done.stdout == "Mine\n", done.stderr


def print_class() -> None:
    """As a worker of Ray: the class that the second word names, in the folder that the first word names."""
    folder, optim = sys.argv
    _enter(folder, 1)
    print(get_optimizer(optim).cls.__name__)


def test_data_and_model_problems_are_all_listed_before_anything_runs(here: Path, tmp_path: Path):
    sweep = one_run(here, tmp_path, tasks=["rte", "cola", "sst2"])
    with pytest.raises(UsageError, match=r"no data for cola .*; no data for sst2 "):
        launch(sweep, InlineEngine, Notes())
    assert not list(Path(sweep.output).glob("*/"))


def test_an_unwritable_folder_is_refused(here: Path, tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match=r"cannot write to .*Not a directory"):
        launch(one_run(here, tmp_path, output=str(tmp_path / "file" / "runs")), no_engine, Notes())


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is read-only for root")
def test_a_read_only_folder_is_refused(here: Path, tmp_path: Path):
    (tmp_path / "runs").mkdir(mode=0o555)
    with pytest.raises(UsageError, match="Permission denied"):
        launch(one_run(here, tmp_path), no_engine, Notes())


def test_a_second_sweep_in_the_same_folder_is_told(here: Path, tmp_path: Path):
    sweep = one_run(here, tmp_path)
    Path(sweep.output).mkdir()
    code = (
        "import sys, time, filelock; lock = filelock.FileLock(sys.argv[1]); lock.acquire();"
        "print(1, flush=True); time.sleep(60)"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", code, str(Path(sweep.output) / LOCK_FILE)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout is not None
        holder.stdout.readline()
        assert is_active(Path(sweep.output))
        with pytest.raises(UsageError, match=r"another sweep is at work .*--wait"):
            launch(sweep, no_engine, Notes())
    finally:
        holder.kill()
        holder.wait()
    assert not is_active(Path(sweep.output))  # the lock went with the killed process
    with FileLock(Path(sweep.output) / LOCK_FILE, timeout=0):
        pass


def test_a_full_disk_stops_the_sweep_and_a_later_launch_completes_it(here: Path, tmp_path: Path):
    """The system's limit on the size of a file stands for the full disk: writes end in the same way, in an OSError."""
    sweep = one_run(here, tmp_path, final_seeds=3)
    whole = launch(load_sweep("sweep.toml", {**sweep.model_dump(), "output": str(tmp_path / "whole")}), InlineEngine,
                   Notes())  # fmt: skip
    words = ["sweep.toml", "--engine", "inline", "--output", sweep.output, "--tasks", "rte", "--optimizers", "adam",
             "--final-seeds", "3", "--set", "lr=1e-3"]  # fmt: skip
    done = command(here, "sweep", *words, largest_file=2048)
    assert done.returncode == 1, done.stderr
    assert "nothing more can be written" in done.stderr
    assert all(read_record(path).status == "failed" for path in Path(sweep.output).glob("*/record.json"))
    assert sum("failed" in line for line in done.stdout.splitlines()) <= 2  # it stops, and does not fail one by one
    assert launch(sweep, InlineEngine, Notes()).outcomes.keys() == whole.outcomes.keys()


@pytest.mark.slow
def test_a_file_system_without_room_stops_the_sweep_and_with_room_it_goes_on(here: Path, tmp_path: Path):
    """A real one of 120 kB, where the system lets this user mount one; a record of these runs has 5 kB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=120k", "tmpfs", str(disk)], capture_output=True)
    if mounted.returncode:
        pytest.skip("may not mount a file system")
    words = ["sweep.toml", "--engine", "inline", "--output", str(disk / "runs")]
    try:
        done = command(here, "sweep", *words)
        assert done.returncode == 1 and "No space left on device" in done.stderr.splitlines()[0]
        assert "nothing more can be written" in done.stderr and "Traceback" not in done.stderr
        kept = {path: path.read_bytes() for path in disk.glob("runs/*/record.json")}
        assert 1 < len(kept) < 24 and all(read_record(path).status == "ok" for path in kept)
        subprocess.run(["mount", "-o", "remount,size=4m", str(disk)], check=True)
        done = command(here, "sweep", *words)
        assert done.returncode == 0 and "24 of 24 runs done" in done.stdout, done.stderr
        assert {path: path.read_bytes() for path in kept} == kept
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_a_checkpoint_without_room_stops_the_sweep(here: Path, tmp_path: Path):
    """safetensors and torch say it in errors of their own. The limit lets through all but weights (36 kB here)."""
    sweep = one_run(here, tmp_path, final_seeds=2)
    words = ["sweep.toml", "--engine", "inline", "--output", sweep.output, "--tasks", "rte", "--optimizers", "adam",
             "--final-seeds", "2", "--set", "lr=1e-3", "--checkpoint-minutes", "0", "--logging-steps", "1"]  # fmt: skip
    done = command(here, "sweep", *words, largest_file=24_000)
    assert done.returncode == 1, done.stderr
    assert "nothing more can be written" in done.stderr and "File too large" in done.stderr
    (path,) = Path(sweep.output).glob("*/record.json")  # the second run was not started
    assert read_record(path).status == "failed" and "File too large" in (read_record(path).error or "")
    assert not list(path.parent.glob("work/checkpoint-*"))


def test_the_record_of_a_failed_run_is_of_its_latest_attempt(here: Path, tmp_path: Path):
    """Of one that was refused before it could write a record, too."""
    sweep = one_run(here, tmp_path, optimizers=["tests.sweep.faulty:Broken"], weight_decay=0.0)
    (run,) = known_runs(cells(sweep), {})
    finished = execute(run.config, run.run_id)
    record = read_record(Path(sweep.output) / run.run_id)
    assert "no such step" in (finished.outcome.error or "") and "no such step" in (record.error or "")
    assert record.data is not None  # all that the run itself knew
    finished = execute(run.config.replace(data="nowhere"), run.run_id)
    assert "no such step" not in (finished.outcome.error or "no such step")
    assert read_record(Path(sweep.output) / run.run_id).error == finished.outcome.error


def test_a_run_made_again_for_its_test_predictions_fails_without_a_loss(here: Path, tmp_path: Path):
    """`launch` forces it; the result that stands is neither overwritten nor taken for the new one."""
    sweep = one_run(here, tmp_path)
    (run,) = launch(sweep, InlineEngine, Notes()).known()
    stored = (Path(sweep.output) / run.run_id / "record.json").read_bytes()
    finished = execute(run.config.replace(force=True, data="nowhere"), run.run_id)
    assert finished.outcome.status == "failed" and finished.outcome.error
    assert (Path(sweep.output) / run.run_id / "record.json").read_bytes() == stored
    write_failed(run.config, run.run_id, "the worker died")
    assert (Path(sweep.output) / run.run_id / "record.json").read_bytes() == stored
    assert read_record(Path(sweep.output) / run.run_id / "failure.json").error == "the worker died"
