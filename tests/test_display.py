"""What stands on a terminal: foreign text is shown as it is, and the cursor comes back."""

import io

import pytest
from rich.console import Console

from glue_mva.cli.progress import show_result, training_progress
from glue_mva.cli.sweep_display import _LiveView, make_console
from glue_mva.tasks import get_task
from tests.report.factory import make_record


def test_text_that_looks_like_markup_is_shown_as_it_is():
    """The error of a failed run may hold a path in brackets, or torch's `[enforce fail at ...]`."""
    said = "failed: [/data/runs] [enforce fail at alloc_cpu.cpp:127]"
    console = make_console()
    with console.capture() as shown:
        view = _LiveView(console)
        view.note(said, important=True)
        view.stop()
    assert said in shown.get()


def test_a_bar_is_taken_down_however_training_ends(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True)
    with pytest.raises(KeyboardInterrupt), training_progress(console, get_task("rte")) as (progress,):
        progress.bar.start()
        assert "\x1b[?25l" in stream.getvalue()  # hides the cursor
        raise KeyboardInterrupt
    assert stream.getvalue().rindex("\x1b[?25h") > stream.getvalue().rindex("\x1b[?25l")


@pytest.mark.parametrize(
    ("changes", "shown"),
    [
        ({}, True),
        ({"lr": 1e-5}, True),
        ({"optim": "sgd"}, False),
        ({"recipe": "hf"}, False),
        ({"num_train_epochs": 1.0}, False),
        ({"optim_args": {"beta2_min": 0.9}}, False),
        ({"holdout_fraction": 0.1}, False),
        ({"partial": True}, False),
        ({"model": "other/model"}, False),
    ],
)
def test_the_papers_median_stands_beside_runs_like_the_papers_only(changes, shown):
    record = make_record(**{"optim": "madam", **changes})
    console = Console(file=io.StringIO(), width=200)
    show_result(console, record, record.config)
    assert ("the paper's median over 4 seeds: 79.60" in console.file.getvalue()) == shown
