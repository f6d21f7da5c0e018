"""The command line inside this process: what it prints, and its exit code."""

import contextlib
import io
import sys
from dataclasses import dataclass
from unittest import mock

from glue_mva.cli import main


@dataclass
class Done:
    code: int
    stdout: str
    stderr: str

    @property
    def refused_in_one_line(self) -> bool:
        """Exit code 2 with one line on stderr, ours or that of the parser of options, and nothing on stdout."""
        last = self.stderr.strip().splitlines()[-1:]
        lines = 1 if last and last[0].startswith("glue-mva: error: ") else 4  # the parser says the usage first
        return self.code == 2 and len(self.stderr.strip().splitlines()) <= lines and "Traceback" not in self.stderr


def call(*words: str) -> Done:
    """`glue-mva WORDS...`. What is no exit (a traceback) is raised."""
    stdout, stderr = io.StringIO(), io.StringIO()
    with (
        mock.patch.object(sys, "argv", ["glue-mva", *words]),
        contextlib.redirect_stdout(stdout),
        contextlib.redirect_stderr(stderr),
    ):
        try:
            main()
            code = 0
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
    return Done(code, stdout.getvalue(), stderr.getvalue())
