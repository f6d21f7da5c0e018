"""`glue-mva` and scripts as a user types them, in processes of their own.

None loads torch and transformers: all are forked from a server that has done so, and nothing else.
"""

import multiprocessing
import os
import resource
import runpy
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PROCESSES = multiprocessing.get_context("forkserver")
LOADED = [
    "glue_mva.cli",
    "glue_mva.training.runner",
    "glue_mva.inference.classifier",
    "glue_mva.sweep",
    "glue_mva.report",
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


def script(path: Path, *words: object, before: Callable[[], None] | None = None) -> Done:
    """`python PATH WORDS` from the folder that the script lies in; `before` is called first."""
    return forked(_script, [path, *words], path.parent, before)


def forked(target: Callable[..., None], words: list[object], folder: Path | str, *arguments: Any,
           environment: dict[str, str] | None = None) -> Done:  # fmt: skip
    """`target(*arguments)` in a new process that has `words` as its `sys.argv`."""
    with tempfile.TemporaryDirectory() as said_in:
        place = [str(word) for word in words], str(folder), {**os.environ, **(environment or {})}, said_in
        process = PROCESSES.Process(target=_enter, args=(*place, target, *arguments))
        process.start()
        process.join()
        assert process.exitcode is not None
        said = [(Path(said_in) / name).read_text(encoding="utf-8") for name in ("stdout", "stderr")]
        return Done(process.exitcode, *said)


def _enter(words: list[str], folder: str, environment: dict[str, str], said_in: str, target: Any, *more: Any) -> None:
    for number, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(os.open(f"{said_in}/{name}", os.O_WRONLY | os.O_CREAT), number)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    sys.argv = words
    target(*more)


def _command(largest_file: int | None) -> None:
    if largest_file is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))
    from glue_mva.cli import main

    main()


def _script(before: Callable[[], None] | None) -> None:
    sys.path.insert(0, str(Path.cwd()))
    if before:
        before()
    runpy.run_path(sys.argv[0], run_name="__main__")
