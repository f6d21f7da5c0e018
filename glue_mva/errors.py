"""The error that a user can fix. The command line prints it as one line and exits with 2; Python callers catch it."""

from collections.abc import Iterable
from difflib import get_close_matches

LONGEST_SHOWN = 100
"""Characters of a bad value that a message repeats."""


def one_line(text: str) -> str:
    """A text as one line that any terminal can show: line feeds as spaces, other characters that are not printed as
    escapes."""
    return "".join(c if c.isprintable() else " " if c == "\n" else repr(c)[1:-1] for c in text)


class UsageError(ValueError):
    """Bad input: the message is one line that names the value and the way out."""

    def __init__(self, message: str) -> None:
        super().__init__(one_line(message))


def first_line(error: BaseException) -> str:
    """The first line of what an error says, or its type where it says nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def kind_and_line(error: BaseException) -> str:
    """`ValueError: no such step`: the type of an error and the first line of what it says, if it says anything."""
    said = str(error).strip().splitlines()[:1]
    return ": ".join([type(error).__name__, *said])


def shortened(text: str) -> str:
    """What a message repeats of a value: its first `LONGEST_SHOWN` characters."""
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}..."


def nearest(word: str, known: Iterable[str]) -> str:
    """`"; did you mean 'x'?"` for the closest known word, or the list of known words where none is close."""
    known = list(known)
    match = get_close_matches(word.lower(), known, n=1, cutoff=0.6)
    return f"; did you mean {match[0]!r}?" if match else f"; known: {', '.join(known)}"
