"""Files that appear whole or not at all, and folders that can be written to."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from glue_mva.files import check_writable


def test_a_folder_is_writable_while_others_look_too(tmp_path: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: check_writable(tmp_path / "new", "--output"), range(100)))
    assert list(tmp_path.rglob("*")) == [tmp_path / "new"]
