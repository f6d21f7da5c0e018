"""`glue-mva` as a user types it, in a process of its own that need not load torch and transformers first: it is forked
from a server that has loaded them and done nothing else."""

import multiprocessing
import os
import resource
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(
    [
        "glue_mva.cli",
        "glue_mva.training.runner",
        "glue_mva.inference.classifier",
        "glue_mva.report",
        "matplotlib.pyplot",
    ]
)


@dataclass(frozen=True)
class Done:
    """How a command ended, as `subprocess.CompletedProcess` says it."""

    returncode: int
    stdout: str
    stderr: str


def command(folder: Path | str, *words: object, largest_file: int | None = None, **environment: str) -> Done:
    """`glue-mva WORDS` with a folder as working directory, and with more in the environment.

    `largest_file`: bytes after which the system refuses to write more to a file.
    What libraries read from the environment when they are loaded is as it was when the server started.
    """
    with tempfile.TemporaryDirectory() as said_in:
        arguments = [str(word) for word in words], str(folder), {**os.environ, **environment}, said_in, largest_file
        process = PROCESSES.Process(target=_main, args=arguments)
        process.start()
        process.join()
        assert process.exitcode is not None
        said = [(Path(said_in) / name).read_text(encoding="utf-8") for name in ("stdout", "stderr")]
        return Done(process.exitcode, *said)


def _main(words: list[str], folder: str, environment: dict[str, str], said_in: str, largest_file: int | None) -> None:
    for number, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(os.open(f"{said_in}/{name}", os.O_WRONLY | os.O_CREAT), number)
    if largest_file is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    sys.argv = ["glue-mva", *words]
    from glue_mva.cli import main

    main()
