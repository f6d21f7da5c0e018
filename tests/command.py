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
        """Exit code 2 with one line on stderr: ours, or that of the parser of options, below its usage."""
        *before, last = self.stderr.strip().splitlines() or [""]
        ours = not before and last.startswith("glue-mva: error: ")
        of_parser = last.startswith("Error: ") and (
            not before or (len(before) == 3 and before[0].startswith("Usage: "))
        )
        return self.code == 2 and (ours or of_parser)


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
