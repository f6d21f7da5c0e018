"""Input that nobody should give and somebody will: one line and exit code 2, nothing written, no traceback."""

import os
import re
from pathlib import Path

import pytest

from glue_mva.cli import run as run_commands
from glue_mva.config.run import RunConfig
from glue_mva.sweep.config import SweepConfig, load_sweep
from tests.command import call

RUN = ("run", "--task", "rte", "--optim", "adam", "--data", "nowhere")
SMALL = ("--repeats", "2", "--steps", "2")
LONG = "m" * 5000
DEEP = "[" * 3000
CASES = {  # what is typed, and what the error says of it
    "an argument that is a value and a table": (
        (*RUN, "--set", "optim_args=5", "--set", "optim_args.eps=1"),
        "optim_args is given a value too",
    ),
    "a date for an optimizer": ((*RUN, "--set", "optim_args.eps=2020-01-01"), "optim_args.eps: a date is no value"),
    "an infinite eps": ((*RUN, "--set", "optim_args.eps=inf"), "optim_args.eps: must be a finite number, got inf"),
    "nobody's home": ((*RUN, "--data", "~nosuch/x"), "'~nosuch/x' is no path"),
    "a long model": ((*RUN, "--model", LONG), "mmm...' is no path: File name too long"),
    "a long output": ((*RUN, "--output", LONG), "mmm...' is no path: File name too long"),
    "NUL in a path": ((*RUN, "--output", "a\0b"), "'a\\x00b' is no path"),
    "NUL in a model": ((*RUN, "--model", "a\0b"), "'a\\x00b' is no path"),
    "half a surrogate": ((*RUN, "--data", "\udcff"), "data folder '\\udcff' is not there"),
    "a table for a number": ((*RUN, "--set", "lr.a=1"), "lr: input should be a valid number"),
    "a key of no field": ((*RUN, "--set", "betas=0.9"), "unknown key 'betas'"),
    "a deep list": ((*RUN, "--set", f"lr={DEEP}"), "lr: input should be a valid number"),
    "a number of 5,000 digits": ((*RUN, "--lr", "1" * 5000), "lr: input should be a valid number"),
    "epochs without end": ((*RUN, "--num-train-epochs", "1e308"), "num_train_epochs: input should be less"),
    "a batch of 2^63": ((*RUN, "--train-batch-size", str(2**63)), "train_batch_size: input should be less"),
    "an evaluation batch of 2^63": ((*RUN, "--eval-batch-size", str(2**63)), "eval_batch_size: input should be less"),
    "updates without epochs": (
        (*RUN, "--num-train-epochs", "0", "--max-steps", "5"),
        "max_steps 5: with num_train",
    ),
    "a start in nobody's home": ((*RUN, "--init-from", "~nosuch/x"), "'~nosuch/x' is no path"),
    "a start of a long name": ((*RUN, "--init-from", LONG), "mmm...' is no path: File name too long"),
    "a task in nobody's home": (("run", "--task", "~nosuch/x.toml", "--optim", "adam"), "'~nosuch/x.toml' is no path"),
    "a sweep with a key self": (("plan", "self.toml"), "unknown key 'self'"),
    "texts of three tokens": ((*RUN, "--max-length", "3"), "max_length: input should be greater than or equal to 4"),
    "a folder for a file": ((*RUN, "--config", "/"), "/: Is a directory"),
    "a sweep whose run is a number": (("plan", "five.toml"), "five.toml: run: input should be"),
    "a sweep whose run is a number, and a field of it": (("plan", "five.toml", "--model", "x"), "run = 5 is no table"),
    "a sweep of deep lists": (("plan", "deep.toml"), "deep.toml: not a TOML file"),
    "a sweep that is no text": (("plan", "bytes.toml"), "bytes.toml: not a TOML file"),
    "keys of a list": (("plan", "good.toml", "--set", "tasks.x=1"), "tasks = ['rte'] is no table"),
    "keys of a number": (("plan", "good.toml", "--set", "lr.a=1"), "lr.0: input should be a valid number"),
    "a long name of a sweep": (("plan", LONG), "mmm...' is no path: File name too long"),
    "a sweep into a file": (("sweep", "good.toml", "--output", "file/x"), "cannot write to 'file/x'"),
    "a learning rate that overflows": (
        ("simulate", "nonconvex", "--lr", "1e308", *SMALL),
        "--lr must be a positive number up to 1e+06",
    ),
    "a curvature that overflows": (
        ("simulate", "nqm", "--h2", "1e200", *SMALL),
        "--h2 must be a positive number up to 1e+06",
    ),
    "more repeats than memory": (("simulate", "nonconvex", "--repeats", "99999999999"), "'--repeats'"),
    "a seed of 2^70": (("simulate", "nqm", "--seed", str(2**70), *SMALL), "'--seed'"),
    "simulations into a file": (("simulate", "nqm", "--out", "file", *SMALL), "cannot write to 'file'"),
    "simulations into a system folder": (
        ("simulate", "nonconvex", "--out", "/proc/x", *SMALL),
        "cannot write to '/proc/x'",
    ),
    "a report of a long name": (("report", LONG), "mmm...: File name too long"),
    "a report of NUL": (("report", "a\0b"), "'RUNS...': Value error, embedded null byte"),
    "a prediction of NUL": (("predict", "nowhere", "a\0b"), "'a\\x00b': embedded null byte"),
}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    sweep = 'tasks = ["rte"]\noptimizers = ["adam"]\n'
    Path("good.toml").write_text(sweep)
    Path("five.toml").write_text(sweep + "run = 5\n")
    Path("deep.toml").write_text(f"tasks = {DEEP}")
    Path("self.toml").write_text(f"self = 1\n{sweep}")
    Path("bytes.toml").write_bytes(b"\xff\xfe")
    Path("file").write_text("")
    return tmp_path


@pytest.mark.parametrize(("words", "said"), CASES.values(), ids=CASES)
def test_it_is_refused_in_one_line(words: tuple[str, ...], said: str, here: Path) -> None:
    before = sorted(here.iterdir())
    done = call(*words)
    assert done.refused_in_one_line and said in done.stderr, done
    assert sorted(here.iterdir()) == before


def test_what_nobody_foresaw_is_one_line_and_a_log(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(here))
    monkeypatch.setattr("tempfile.tempdir", None)

    def broken(*args: object) -> None:
        raise RuntimeError("first line\nsecond line")

    monkeypatch.setattr(run_commands, "_execute", broken)
    words = ("run", "--task", "rte", "--optim", "adam")
    done = call(*words)
    assert done.code == 1
    (found,) = re.findall(r"^glue-mva: error: RuntimeError: first line \(the traceback is in (.+);", done.stderr)
    assert "second line" in Path(found).read_text() and Path(found).read_text().startswith("Traceback")
    with pytest.raises(RuntimeError, match="second line"):
        call(*words, "--debug")


def test_a_home_is_written_out_wherever_the_output_is_named(here: Path) -> None:
    home = os.path.expanduser("~")  # noqa: PTH111
    assert RunConfig(task="rte", optim="adam", output="~/x").output == f"{home}/x"
    Path("home.toml").write_text('output = "~/x"\ntasks = ["rte"]\noptimizers = ["adam"]\n')
    assert load_sweep("home.toml").output == SweepConfig(tasks="rte", optimizers="adam", output="~/x").output
    assert load_sweep("home.toml").output == f"{home}/x"
