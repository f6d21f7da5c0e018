"""Names of the files of a run, files that appear whole or not at all, and what the system says where they cannot be
written."""

import contextlib
import errno
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from glue_mva.errors import UsageError, shortened

RECORD_FILE = "record.json"
MODEL_FOLDER = "model"
WORK_FOLDER = "work"

STORAGE_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG)
"""What the system says where nothing more can be written, whoever tries."""


def expanded(path: str) -> str:
    """A path with its `~` written out, whether there is such a file or not.

    Raises:
        ValueError: the system takes no such path; one line.
    """
    try:
        found = Path(path).expanduser()
        with contextlib.suppress(FileNotFoundError, NotADirectoryError, PermissionError):
            os.lstat(found)
    except (OSError, RuntimeError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise ValueError(f"{shortened(path)!r} is no path: {reason}") from None
    return str(found)


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[IO[bytes]]:
    """Open a file for writing that appears under its name only when it is whole and on disk; else nothing changes."""
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    try:
        with scratch.open("xb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        scratch.replace(path)
    except BaseException:
        scratch.unlink(missing_ok=True)
        raise


def check_writable(folder: Path, option: str) -> None:
    """Refuse a folder that nothing can be written to; makes it where it is not there.

    Args:
        option: of the command line that names the folder.

    Raises:
        UsageError: names the folder and the system's reason.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as stream:
            stream.write(b"x")
    except OSError as error:
        raise UsageError(f"cannot write to {str(folder)!r}: {error.strerror}; take another {option}") from None


@contextlib.contextmanager
def storage_errors(folder: Path, size: int) -> Iterator[None]:
    """Within it, whatever a library raises where there is no room becomes the `OSError` that the system gives.

    safetensors and torch have errors of their own for a full disk. So the file system is asked for as much.

    Args:
        size: bytes that are to be written.
    """
    try:
        yield
    except OSError:
        raise
    except Exception as error:
        if (trouble := _no_room(folder, size)) is not None:
            raise trouble from error
        raise


def _no_room(folder: Path, size: int) -> OSError | None:
    try:
        if not hasattr(os, "posix_fallocate"):
            enough = shutil.disk_usage(folder).free >= size
            return None if enough else OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))
        with tempfile.TemporaryFile(dir=folder) as stream:
            os.posix_fallocate(stream.fileno(), 0, max(1, size))
    except OSError as error:
        if error.errno in STORAGE_ERRORS:
            return OSError(error.errno, os.strerror(error.errno), str(folder))
    return None
