"""Rows of a text file that is a table: TSV, CSV or JSON lines. A malformed line stops with file and line number.

TSV is never quoted, as GLUE's is not; CSV is quoted as RFC 4180 has it, and a quoted value may run over several lines.
"""

import csv
import io
import json
from typing import Any

from glue_mva.data.lines import fields_of, header_of, lines_of, unique
from glue_mva.errors import UsageError

Rows = tuple[list[dict[str, Any]], list[int]]
"""(rows by column, line of the file at which each begins, from 1)."""


def read_tsv(source: str, content: bytes) -> Rows:
    """Raises: UsageError: not UTF-8, empty, a column that is there twice, or a line with another number of columns."""
    first, *lines = lines_of(source, content)
    names = header_of(source, first)
    rows = [dict(zip(names, fields, strict=True)) for _, fields in fields_of(source, lines, len(names), 2)]
    return rows, list(range(2, len(rows) + 2))


def read_csv(source: str, content: bytes) -> Rows:
    """Raises: UsageError: as for TSV, or quotation marks that do not match."""
    reader = csv.reader(io.StringIO("\n".join(lines_of(source, content)), newline=""), strict=True)
    rows: list[dict[str, Any]] = []
    numbers: list[int] = []
    line = 1
    try:
        names = unique(source, next(reader))
        line = reader.line_num + 1
        for fields in reader:
            if len(fields) != len(names):
                raise UsageError(f"{source}, line {line}: {len(fields)} columns where {len(names)} belong")
            rows.append(dict(zip(names, fields, strict=True)))
            numbers.append(line)
            line = reader.line_num + 1
    except csv.Error as error:
        raise UsageError(f"{source}, line {line}: {error}") from None
    return rows, numbers


def read_jsonl(source: str, content: bytes) -> Rows:
    """Raises: UsageError: not UTF-8, empty, or a line that is no JSON object."""
    rows = []
    for number, line in enumerate(lines_of(source, content), start=1):
        try:
            row = json.loads(line)
            json.dumps(row, ensure_ascii=False).encode()  # a lone half of a surrogate pair is no text
        except (ValueError, RecursionError):
            row = None
        if not isinstance(row, dict):
            raise UsageError(f"{source}, line {number}: not a JSON object")
        rows.append(row)
    return rows, list(range(1, len(rows) + 1))


READERS = {"tsv": read_tsv, "csv": read_csv, "jsonl": read_jsonl}
"""Format -> its reader: (name for messages, content) -> rows and their lines."""
