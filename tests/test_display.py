"""What stands on a terminal: foreign text is shown as it is, and the cursor comes back."""

import io

import pytest
from rich.console import Console

from glue_mva.cli.progress import training_progress
from glue_mva.cli.sweep_display import _LiveView, make_console
from glue_mva.tasks import get_task


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
