"""Files that appear whole or not at all, and folders that can be written to."""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from glue_mva.config.identity import digest_files
from glue_mva.errors import UsageError
from glue_mva.files import atomic_write, check_writable
from glue_mva.record import RecordError, read_record
from glue_mva.training.contexts import check_output


def test_a_folder_is_writable_while_others_look_too(tmp_path: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: check_writable(tmp_path / "new", "--output"), range(100)))
    assert list(tmp_path.rglob("*")) == [tmp_path / "new"]


@pytest.fixture
def unreadable(tmp_path: Path) -> Iterator[Path]:
    """A folder that this process may not look into; it is not root meanwhile, who may."""
    folder = tmp_path / "closed"
    folder.mkdir(mode=0)
    if os.geteuid() != 0:
        yield folder
    elif not hasattr(os, "setresuid"):
        pytest.skip("root may read everything, and cannot become another user for a while here")
    else:
        os.setresuid(65534, 65534, 0)
        yield folder
        os.setresuid(0, 0, 0)
    folder.chmod(0o700)


def test_what_lies_in_an_unreadable_folder_is_refused_in_one_line(unreadable: Path) -> None:
    with pytest.raises(RecordError, match=r"record\.json: Permission denied$"):
        read_record(unreadable / "rte-adam-0" / "record.json")
    with pytest.raises(UsageError, match=r"^output .*runs' cannot be written: .* is not a writable folder$"):
        check_output(unreadable / "runs" / "rte-adam-0")


def test_a_folder_is_no_file_to_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in (Path(), tmp_path, Path("..")):
        with pytest.raises(IsADirectoryError), atomic_write(folder):
            raise AssertionError("it was opened")


def test_data_that_may_not_be_read_are_refused_in_one_line(unreadable: Path) -> None:
    with pytest.raises(UsageError, match=r"^.*train\.tsv cannot be read: Permission denied$"):
        digest_files([unreadable / "train.tsv"])
