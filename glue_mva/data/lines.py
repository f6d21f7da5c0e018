"""Lines and columns of a text file in UTF-8, for everything that is read as one. Never quoted: a tab is a column, a
line feed is a row. Imports nothing of weight."""

from collections.abc import Iterator

from glue_mva.errors import UsageError


def lines_of(source: str, content: bytes) -> list[str]:
    """The lines of a file, with or without byte-order mark, carriage returns and a line break at the end.

    Raises:
        UsageError: not UTF-8, or empty; names the byte.
    """
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(f"{source}: not UTF-8 at byte {error.start}") from None
    lines = text.replace("\r\n", "\n").removesuffix("\n").split("\n")
    if lines == [""]:
        raise UsageError(f"{source}: empty")
    return lines


def header_of(source: str, line: str) -> list[str]:
    """Names of the columns.

    Raises:
        UsageError: one is there twice.
    """
    return unique(source, line.split("\t"))


def unique(source: str, names: list[str]) -> list[str]:
    """The same names of columns.

    Raises:
        UsageError: one is there twice.
    """
    if twice := [name for name in names if names.count(name) > 1]:
        raise UsageError(f"{source}: column {twice[0]!r} is there twice")
    return names


def fields_of(
    source: str, lines: list[str], columns: int, first: int, broken: list[int] | None = None
) -> Iterator[tuple[int, list[str]]]:
    """(number of the line, its fields) line by line, where the first line has number `first`.

    Args:
        broken: takes the numbers of the lines with too few columns, which are then passed over and not refused.

    Raises:
        UsageError: a line has another number of columns; names it.
    """
    for number, line in enumerate(lines, start=first):
        fields = line.split("\t")
        if broken is not None and len(fields) < columns:
            broken.append(number)
            continue
        if len(fields) != columns:
            raise UsageError(f"{source}, line {number}: {len(fields)} columns where {columns} belong")
        yield number, fields
