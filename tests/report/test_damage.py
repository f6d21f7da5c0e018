"""What is damaged in a record or beside it costs what is computed from it, and nothing else."""

import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from glue_mva.report.build import build_report
from glue_mva.report.results import Results, results
from tests.report.factory import make_record, write_predicted_run


def arrays(**changes: np.ndarray) -> bytes:
    stream = io.BytesIO()
    labels = np.arange(200) % 2
    np.savez(stream, **{"validation/labels": labels, "validation/best": np.zeros((200, 2)), **changes})
    return stream.getvalue()


def without_best() -> bytes:
    stream = io.BytesIO()
    np.savez(stream, **{"validation/labels": np.arange(200) % 2})
    return stream.getvalue()


DAMAGE = {
    "empty": b"",
    "garbage": b"garbage",
    "truncated": arrays()[:-100],
    "a pickle": arrays(**{"validation/best": np.array([{}] * 200, dtype=object)}),
    "words": arrays(**{"validation/best": np.array(["x"] * 200)}),
    "other rows": arrays(**{"validation/labels": np.ones(200, int)}),
    "fewer outputs": arrays(**{"validation/best": np.zeros((100, 2))}),
    "no finite outputs": arrays(**{"validation/best": np.full((200, 2), np.nan)}),
    "no outputs": without_best(),
    "missing": None,
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Results]:
    """One of six runs whose predictions are whole, and what a report says of them."""
    runs = tmp_path_factory.mktemp("whole")
    for optim, quality in (("adam", 1.0), ("lamadam", 1.2)):
        for seed in (1, 2, 3):
            run = write_predicted_run(runs, "rte", optim, quality, seed=seed)
    found = results(runs)
    assert not any("interval over rows" in note for note in found.notes)
    return run, found


@pytest.mark.parametrize("content", DAMAGE.values(), ids=DAMAGE)
def test_predictions_cost_an_interval_and_no_report(
    content: bytes | None, whole: tuple[Path, Results], tmp_path: Path
) -> None:
    run, of_whole = whole
    shutil.copytree(run.parent, tmp_path / "runs")
    path = tmp_path / "runs" / run.name / "predictions.npz"
    path.unlink() if content is None else path.write_bytes(content)
    found = results(tmp_path / "runs")
    (note,) = (note for note in found.notes if "no interval over rows" in note)
    assert run.name in note and len(note.splitlines()) == 1
    assert found.table.entries.keys() == of_whole.table.entries.keys()


def test_the_page_says_so(tmp_path: Path) -> None:
    for optim in ("adam", "lamadam"):
        for seed in (1, 2):
            run = write_predicted_run(tmp_path / "runs", "rte", optim, 1.0, seed=seed)
    (run / "predictions.npz").write_bytes(b"")
    build_report(results(tmp_path / "runs"), tmp_path / "report")
    assert "no interval over rows" in (tmp_path / "report" / "report.md").read_text()


def test_a_record_without_the_official_number_of_rows_is_reported_without_it(tmp_path: Path) -> None:
    stored = json.loads(make_record("rte", "adam", partial=True).to_json())
    del stored["data"]["official_rows"]["validation"]
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "record.json").write_text(json.dumps(stored))
    found = results(tmp_path)
    (row,) = found.runs.to_dict("records")
    assert row["score"] == 75.0 and row["official_train_rows"] == 2490
    assert "official_dev_rows" not in row
    assert "Partial data: RTE (277 dev rows)." in found.table.caption
