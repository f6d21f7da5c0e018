"""`glue-mva` and scripts as a user types them, in processes of their own.

None loads torch and transformers: all are forked from a server that has done so, and nothing else.
"""

import gc
import multiprocessing
import os
import resource
import runpy
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, TextIO

PROCESSES = multiprocessing.get_context("forkserver")
LOADED = [
    "glue_mva.cli",
    "glue_mva.training.runner",
    "glue_mva.inference.classifier",
    "glue_mva.sweep.launch",
    "glue_mva.report.build",
    "glue_mva.simulate.page",  # and with it matplotlib, which reports load when they draw
]
PROCESSES.set_forkserver_preload(LOADED)


@dataclass(frozen=True)
class Done:
    """How a program ended, as `subprocess.CompletedProcess` says it."""

    returncode: int
    stdout: str
    stderr: str


def command(folder: Path | str, *words: object, largest_file: int | None = None, **environment: str) -> Done:
    """`glue-mva WORDS` with a folder as working directory, and with more in the environment.

    What libraries read from the environment when they are loaded is as it was when the server started.
    `largest_file`: bytes after which the system refuses to write more to a file.
    """
    return forked(_command, ["glue-mva", *words], folder, largest_file, environment={"COLUMNS": "200", **environment})


@dataclass(frozen=True)
class Running:
    """`glue-mva` at work."""

    process: BaseProcess
    stdout: TextIO
    """What it prints, line by line as it comes."""

    def wait(self, timeout: float) -> int | None:
        """Its exit code; `None` where it still works after so many seconds."""
        self.process.join(timeout)
        return self.process.exitcode


@contextmanager
def running(folder: Path | str, *words: object, stderr: Path | None = None) -> Iterator[Running]:
    """`glue-mva WORDS` in a session of its own, listening to interrupts as one that was typed.

    `stderr`: file for it; by default it goes where stdout goes.
    """
    with tempfile.TemporaryDirectory() as said_in:
        reader, writer = PROCESSES.Pipe(duplex=False)
        process = _start(_listening, ["glue-mva", *words], folder, said_in, writer, stderr)
        writer.close()
        with os.fdopen(os.dup(reader.fileno()), encoding="utf-8") as stdout:
            reader.close()
            yield Running(process, stdout)


def script(path: Path, *words: object, before: Callable[[], None] | None = None) -> Done:
    """`python PATH WORDS` from the folder that the script lies in; `before` is called first."""
    return forked(_script, [path, *words], path.parent, before)


def forked(target: Callable[..., None], words: list[object], folder: Path | str, *arguments: Any,
           environment: dict[str, str] | None = None) -> Done:  # fmt: skip
    """`target(*arguments)` in a new process that has `words` as its `sys.argv`."""
    with tempfile.TemporaryDirectory() as said_in:
        process = _start(target, words, folder, said_in, *arguments, environment=environment)
        process.join()
        assert process.exitcode is not None
        said = [(Path(said_in) / name).read_text(encoding="utf-8") for name in ("stdout", "stderr")]
        return Done(process.exitcode, *said)


def _start(target: Callable[..., None], words: list[object], folder: Path | str, said_in: str, *arguments: Any,
           environment: dict[str, str] | None = None) -> BaseProcess:  # fmt: skip
    place = [str(word) for word in words], str(folder), {**os.environ, **(environment or {})}, said_in
    process = PROCESSES.Process(target=_enter, args=(*place, target, *arguments))
    process.start()
    return process


def _enter(words: list[str], folder: str, environment: dict[str, str], said_in: str, target: Any, *more: Any) -> None:
    for number, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(os.open(f"{said_in}/{name}", os.O_WRONLY | os.O_CREAT), number)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    gc.freeze()  # as in `tests.conftest`
    sys.argv = words
    target(*more)


def _command(largest_file: int | None) -> None:
    if largest_file is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))
    from glue_mva.cli import main

    main()


def _listening(writer: Connection, stderr: Path | None) -> None:
    os.dup2(writer.fileno(), 1)
    os.dup2(writer.fileno() if stderr is None else os.open(stderr, os.O_WRONLY | os.O_CREAT), 2)
    writer.close()
    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it, and so do children
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # as for nohup's
    _command(None)


def _script(before: Callable[[], None] | None) -> None:
    sys.path.insert(0, str(Path.cwd()))
    if before:
        before()
    runpy.run_path(sys.argv[0], run_name="__main__")
