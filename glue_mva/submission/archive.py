"""Write and check the zip of a GLUE submission."""

import io
import zipfile
import zlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from glue_mva.errors import UsageError
from glue_mva.files import atomic_write
from glue_mva.submission.files import FILES, TestFile, problem_of, to_text

LARGEST_FILE = 2**26
"""Bytes of one file that are unpacked; the longest of a right submission has about 2^22."""
_DATE = (1980, 1, 1, 0, 0, 0)
"""Of every file in the zip: the same predictions give the same bytes."""


@dataclass
class Check:
    """What a zip holds, and what is wrong with it."""

    problems: list[str] = field(default_factory=list)
    """One line each; empty for a zip that the server takes."""
    counts: dict[str, Counter[str]] = field(default_factory=dict)
    """File name -> value -> rows, of the files without a problem."""


def official_rows() -> dict[str, int]:
    """File name -> official number of rows."""
    return {file.name: file.rows for file in FILES.values()}


def write_submission(values: Mapping[str, list[str]], path: Path, rows: Mapping[str, int] | None = None) -> None:
    """Write a zip of these files, each a name of `FILES` and its values; appears whole or not at all.

    Args:
        rows: file name -> rows that it must have, where they are not the official ones.

    Raises:
        UsageError: what was made does not pass `check_submission` (missing files are allowed), or cannot be written.
    """
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name in FILES:
            if name in values:
                entry = zipfile.ZipInfo(name, _DATE)
                entry.external_attr = 0o644 << 16
                archive.writestr(entry, to_text(values[name]), zipfile.ZIP_DEFLATED)
    if problems := check_submission(packed, partial=True, rows=rows).problems:
        raise UsageError("; ".join(problems))
    try:
        with atomic_write(path) as stream:
            stream.write(packed.getvalue())
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}") from None


def check_submission(
    source: Path | io.BytesIO, *, partial: bool = False, rows: Mapping[str, int] | None = None
) -> Check:
    """Say whether the GLUE server would take a zip: its files, their format, their values and their rows.

    Args:
        partial: files may be missing.
        rows: file name -> rows that it must have, where they are not the official ones.

    Raises:
        UsageError: no such file, or no zip.
    """
    try:
        with zipfile.ZipFile(source) as archive:
            return _check(archive, partial, rows or official_rows())
    except OSError as error:
        raise UsageError(f"{source}: {error.strerror}") from None
    except zipfile.BadZipFile:
        raise UsageError(f"{source}: not a zip file, or a damaged one") from None


def _check(archive: zipfile.ZipFile, partial: bool, rows: Mapping[str, int]) -> Check:
    check = Check()
    names = archive.namelist()
    for name, times in Counter(names).items():
        if name not in FILES:
            inside = Path(name).name in FILES
            check.problems.append(f"{name!r}: {'inside a folder; the zip is flat' if inside else 'no file of GLUE'}")
        elif times > 1:
            check.problems.append(f"{name}: there {times} times")
    missing = [name for name in FILES if name not in names]
    if missing and not partial:
        check.problems.append(f"missing: {', '.join(missing)}")
    for name, file in FILES.items():
        if names.count(name) == 1:
            _check_file(check, archive, file, rows[name])
    return check


def _check_file(check: Check, archive: zipfile.ZipFile, file: TestFile, rows: int) -> None:
    if (size := archive.getinfo(file.name).file_size) > LARGEST_FILE:
        check.problems.append(f"{file.name}: {size:,} bytes, too many for {rows:,} rows")
        return
    try:
        content = archive.read(file.name)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, OSError) as error:
        check.problems.append(f"{file.name}: cannot be unpacked: {error}")
        return
    if (problem := problem_of(file, content, rows)) is not None:
        check.problems.append(f"{file.name}, {problem}" if problem.startswith("line ") else f"{file.name}: {problem}")
        return
    check.counts[file.name] = Counter(line.partition("\t")[2] for line in content.decode().split("\n")[1:-1])
