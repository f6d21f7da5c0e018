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
CASES = {
    "an argument that is a value and a table": (*RUN, "--set", "optim_args=5", "--set", "optim_args.eps=1"),
    "a date for an optimizer": (*RUN, "--set", "optim_args.eps=2020-01-01"),
    "an infinite eps": (*RUN, "--set", "optim_args.eps=inf"),
    "nobody's home": (*RUN, "--data", "~nosuch/x"),
    "a long model": (*RUN, "--model", LONG),
    "a long output": (*RUN, "--output", LONG),
    "NUL in a path": (*RUN, "--output", "a\0b"),
    "NUL in a model": (*RUN, "--model", "a\0b"),
    "half a surrogate": (*RUN, "--data", "\udcff"),
    "a table for a number": (*RUN, "--set", "lr.a=1"),
    "a key of no field": (*RUN, "--set", "betas=0.9"),
    "a deep list": (*RUN, "--set", f"lr={DEEP}"),
    "a number of 5,000 digits": (*RUN, "--lr", "1" * 5000),
    "epochs without end": (*RUN, "--num-train-epochs", "1e308"),
    "a batch of 2^63": (*RUN, "--train-batch-size", str(2**63)),
    "an evaluation batch of 2^63": (*RUN, "--eval-batch-size", str(2**63)),
    "texts of three tokens": (*RUN, "--max-length", "3"),
    "a folder for a file": (*RUN, "--config", "/"),
    "a sweep whose run is a number": ("plan", "five.toml"),
    "a sweep whose run is a number, and a field of it": ("plan", "five.toml", "--model", "x"),
    "a sweep of deep lists": ("plan", "deep.toml"),
    "a sweep that is no text": ("plan", "bytes.toml"),
    "keys of a list": ("plan", "good.toml", "--set", "tasks.x=1"),
    "keys of a number": ("plan", "good.toml", "--set", "lr.a=1"),
    "a long name of a sweep": ("plan", LONG),
    "a sweep into a file": ("sweep", "good.toml", "--output", "file/x"),
    "a learning rate that overflows": ("simulate", "nonconvex", "--lr", "1e308", *SMALL),
    "a curvature that overflows": ("simulate", "nqm", "--h2", "1e200", *SMALL),
    "more repeats than memory": ("simulate", "nonconvex", "--repeats", "99999999999"),
    "a seed of 2^70": ("simulate", "nqm", "--seed", str(2**70), *SMALL),
    "simulations into a file": ("simulate", "nqm", "--out", "file", *SMALL),
    "simulations into a system folder": ("simulate", "nonconvex", "--out", "/proc/x", *SMALL),
    "a report of a long name": ("report", LONG),
    "a report of NUL": ("report", "a\0b"),
    "a prediction of NUL": ("predict", "nowhere", "a\0b"),
}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    sweep = 'tasks = ["rte"]\noptimizers = ["adam"]\n'
    Path("good.toml").write_text(sweep)
    Path("five.toml").write_text(sweep + "run = 5\n")
    Path("deep.toml").write_text(f"tasks = {DEEP}")
    Path("bytes.toml").write_bytes(b"\xff\xfe")
    Path("file").write_text("")
    return tmp_path


@pytest.mark.parametrize("words", CASES.values(), ids=CASES)
def test_it_is_refused_in_one_line(words: tuple[str, ...], here: Path) -> None:
    before = sorted(here.iterdir())
    done = call(*words)
    assert done.refused_in_one_line, done
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
