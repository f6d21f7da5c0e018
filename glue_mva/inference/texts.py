"""Texts to label, as plain text, TSV, CSV or JSON lines; and the same with predictions. Imports no torch.

A file is read and checked whole before anything is predicted, so a bad line costs no work and leaves no half output.
"""

import csv
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from glue_mva.config import own_task
from glue_mva.data.lines import fields_of, lines_of
from glue_mva.data.tables import READERS, Rows
from glue_mva.errors import UsageError
from glue_mva.tasks import GLUE, TASKS

FORMATS = ("text", *READERS)
SUFFIXES = {suffix: kind for suffix, kind in own_task.FORMATS.items() if kind in READERS}
"""Suffix -> format; every other file is plain text."""

PLAIN = (("sentence",), ("sentence1", "sentence2"))
"""Names that the columns of plain text get: one text, or two with a tab between them."""

_GLUE_COLUMNS = [names for task in GLUE for names in (TASKS[task].text, TASKS[task].tsv_text)]
TEXT_COLUMNS: list[tuple[str, ...]] = sorted(
    dict.fromkeys([("text", "text_pair"), ("text",), *_GLUE_COLUMNS]), key=len, reverse=True
)
"""Columns that are taken for the texts where none are named: pairs first, then single texts."""

PREDICTION = "prediction"
PROBABILITY = "probability"
"""Columns of the output: `prediction`, and `probability_<label>` (TSV, CSV) or `probabilities` (JSON lines)."""


@dataclass(frozen=True)
class Texts:
    """Rows to label."""

    rows: list[dict[str, Any]]
    """As they were read, by column."""
    columns: tuple[str, ...]
    """One or two columns that hold the texts."""
    source: str
    """Name for messages."""

    def __len__(self) -> int:
        return len(self.rows)

    def column(self, index: int) -> list[str]:
        """(rows,) texts of the first or second text column."""
        return [row[self.columns[index]] for row in self.rows]


def format_of(path: str, wanted: str | None) -> str:
    """Format of a file: what is wanted, or what its suffix says.

    Raises:
        UsageError: no such format.
    """
    if wanted is not None and wanted not in FORMATS:
        raise UsageError(f"unknown format {wanted!r}; known: {', '.join(FORMATS)}")
    return wanted or SUFFIXES.get(Path(path).suffix.lower(), "text")


@dataclass(frozen=True)
class Table:
    """What a file holds, before it is known which columns are texts."""

    rows: list[dict[str, Any]]
    lines: list[int]
    """(rows,) line of the file that each row begins in, from 1."""
    source: str

    def texts(self, columns: Sequence[str] | None = None, trained: Sequence[str] = ()) -> Texts:
        """The rows with the columns that hold their texts.

        Args:
            columns: one or two columns; by default the first of `trained` and `TEXT_COLUMNS` that are all there.
            trained: the columns of the task that the model was trained on.

        Raises:
            UsageError: an empty text, or no such column; names the line.
        """
        names = _text_columns(self.source, list(self.rows[0]), columns, tuple(trained))
        for number, row in zip(self.lines, self.rows, strict=True):
            for name in names:
                value = row.get(name)
                if not isinstance(value, str) or not value.strip():
                    shown = "" if value is None else f" but {json.dumps(value)[:40]}"
                    raise UsageError(f"{self.source}, line {number}: no text in {name!r}{shown}")
        return Texts(self.rows, names, self.source)


def read_table(source: str, content: bytes, kind: str) -> Table:
    """The rows of a file's content.

    Args:
        source: name for messages.
        kind: one of `FORMATS`.

    Raises:
        UsageError: not UTF-8, empty or malformed; names the line.
    """
    rows, lines = READERS[kind](source, content) if kind != "text" else _read_plain(source, content)
    if not rows:
        raise UsageError(f"{source}: no rows below the header")
    return Table(rows, lines, source)


def _read_plain(source: str, content: bytes) -> Rows:
    lines = lines_of(source, content)
    if (wanted := lines[0].count("\t") + 1) > len(PLAIN):
        raise UsageError(f"{source}, line 1: {wanted} columns; plain text has one text a line, or two with a tab "
                         "between them (--format tsv reads a table with a header)")  # fmt: skip
    fields = list(fields_of(source, lines, wanted, 1))
    return [dict(zip(PLAIN[wanted - 1], row, strict=True)) for _, row in fields], [number for number, _ in fields]


def _text_columns(
    source: str, present: list[str], wanted: Sequence[str] | None, trained: tuple[str, ...]
) -> tuple[str, ...]:
    if wanted is None:
        known = [trained, *TEXT_COLUMNS] if trained else TEXT_COLUMNS
        found = next((names for names in known if set(names) <= set(present)), None)
        if found is None:
            raise UsageError(f"{source}: no column of texts among {', '.join(present)}; name one or two with --columns")
        return found
    if not 1 <= len(wanted) <= 2:
        raise UsageError(f"--columns {','.join(wanted)}: give one or two")
    if missing := [name for name in wanted if name not in present]:
        raise UsageError(f"{source}: no column {missing[0]!r}; found {', '.join(present)}")
    return tuple(wanted)


class Writer:
    """Writes rows with their predictions, block by block, in UTF-8.

    Args:
        kind: `tsv`, `csv` or `jsonl`.
        labels: names of the classes; empty for a regression.

    Raises:
        UsageError: rows that this format cannot hold, or that have such a column already; nothing was written.
    """

    def __init__(self, stream: IO[bytes], kind: str, texts: Texts, labels: Sequence[str]) -> None:
        self.stream, self.kind, self.labels = stream, kind, list(labels)
        self.names = list(texts.rows[0])
        added = [PREDICTION, *(f"{PROBABILITY}_{label}" for label in labels)]
        if kind == "jsonl":
            added = [PREDICTION, "probabilities"] if labels else [PREDICTION]
        for row in texts.rows:
            if clash := [name for name in added if name in row]:
                raise UsageError(f"{texts.source}: has a column {clash[0]!r} already")
        if kind != "jsonl":
            self._check_cells(texts)
            self._put(self._joined([*self.names, *added]))

    def _check_cells(self, texts: Texts) -> None:
        for number, row in enumerate(texts.rows, start=1):
            if list(row) != self.names:
                raise UsageError(f"{texts.source}, row {number}: other keys than in row 1, which a table cannot hold; "
                                 "take --to jsonl")  # fmt: skip
            if self.kind == "tsv" and any(c in _cell(value) for value in (*row, *row.values()) for c in "\t\n\r"):
                raise UsageError(f"{texts.source}, row {number}: a tab or line break inside a value, which TSV cannot "
                                 "hold; take --to jsonl")  # fmt: skip

    def write(self, rows: Sequence[dict[str, Any]], outputs: np.ndarray) -> None:
        """Args: outputs: (rows, classes) probabilities, or (rows,) predicted targets of a regression."""
        for row, output in zip(rows, outputs, strict=True):
            self._put(self._line(row, output))

    def _put(self, line: str) -> None:
        self.stream.write(f"{line}\n".encode())

    def _line(self, row: dict[str, Any], output: np.ndarray) -> str:
        prediction: Any = self.labels[int(output.argmax())] if self.labels else round(float(output), 6)
        probabilities = [round(float(p), 6) for p in output] if self.labels else []
        if self.kind != "jsonl":
            numbers = [f"{p:.6f}" for p in probabilities]
            return self._joined([*(_cell(row[name]) for name in self.names), str(prediction), *numbers])
        added = {"probabilities": dict(zip(self.labels, probabilities, strict=True))} if self.labels else {}
        return json.dumps({**row, PREDICTION: prediction, **added}, ensure_ascii=False)

    def _joined(self, cells: list[str]) -> str:
        if self.kind == "tsv":
            return "\t".join(cells)
        line = io.StringIO()
        # Pythons before 3.11.9 quote line ends only if they are those of the writer.
        csv.writer(line, lineterminator="\r\n").writerow(cells)
        return line.getvalue().removesuffix("\r\n")


def _cell(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def blocks(texts: Texts, size: int) -> Iterator[Texts]:
    """The rows in their order, so many at a time."""
    for start in range(0, len(texts), size):
        yield Texts(texts.rows[start : start + size], texts.columns, texts.source)
