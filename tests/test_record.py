"""Records: what is written is what is read, and what somebody else wrote is right or refused."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from glue_mva.config.resolve import resolve
from glue_mva.config.run import RunConfig
from glue_mva.record import RecordError, RunRecord, read_record, write_record
from tests.report.factory import make_record


def test_a_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    record = make_record("stsb", "lamadam", seed=3)
    write_record(record, tmp_path)
    assert read_record(tmp_path) == read_record(str(tmp_path)) == read_record(tmp_path / "record.json") == record
    stored = json.loads((tmp_path / "record.json").read_text())
    assert stored["headline"] == {"split": "validation", "metric": "pearson"}
    assert stored["epochs"][2]["metrics"]["validation"]["pearson"] == pytest.approx(0.75)


def test_a_field_that_is_added_later_leaves_older_records_readable(tmp_path: Path) -> None:
    """One with a neutral default, as `config.run.neutral` asks for: here the record lacks one."""
    write_record(make_record(), tmp_path)
    stored = json.loads((tmp_path / "record.json").read_text())
    del stored["config"]["holdout_fraction"]
    (tmp_path / "record.json").write_text(json.dumps(stored))
    assert read_record(tmp_path).config.holdout_fraction == 0.0


HOSTILE: dict[str, tuple[Any, str]] = {
    "score a word": ({"score": "99"}, "score: "),
    "score infinite": ({"score": float("inf")}, "score: "),
    "score NaN": ({"score": float("nan")}, "score: "),
    "config empty": ({"config": {}}, "task, optim, lr"),
    "config a number": ({"config": 5}, "config: "),
    "no such epoch": ({"best_epoch": 99}, "best_epoch 99 of 4 epochs"),
    "negative epoch": ({"best_epoch": -1}, "best_epoch"),
    "epochs no list": ({"epochs": {"a": 1}}, "epochs: "),
    "data null": ({"data": None}, "has data"),
    "no such status": ({"status": "great"}, "status: "),
    "no folder name": ({"run_id": "../evil"}, "run_id: "),
    "unknown key": ({"note": "x"}, "unknown key 'note'"),
    "no time": ({"created": "yesterday"}, "isoformat"),
    "curves of two lengths": ({"curves": {"step": [1.0], "loss": []}}, "curves of different lengths"),
    "curves of words": ({"curves": {"step": ["<script>"]}}, "curves.step.0"),
    "a device that is a table": ({"execution": {"device": {}}}, "execution.device"),
    "another version": ({"schema_version": 1}, "schema version 1, this program reads 2"),
    "a version that is a word": ({"schema_version": "two"}, "schema_version"),
}


@pytest.mark.parametrize(("changes", "said"), HOSTILE.values(), ids=HOSTILE)
def test_a_record_of_wrong_types_is_refused_by_name(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    stored = json.loads(make_record().to_json()) | changes
    path = tmp_path / "record.json"
    path.write_text(json.dumps(stored))
    with pytest.raises(RecordError, match=r"^[^\n]+$") as refused:
        read_record(path)
    assert str(refused.value).startswith(str(path)) and said in str(refused.value)


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("task", "rtee", "unknown task 'rtee'"),
        ("optim", "madm", "unknown optimizer 'madm'"),
        ("lr", None, "config.lr"),
        ("lr", float("nan"), "lr"),
        ("sources", {"lr": 5}, "sources.lr"),
    ],
)
def test_a_config_that_no_run_has_is_refused(tmp_path: Path, field: str, value: Any, said: str) -> None:
    stored = json.loads(make_record().to_json())
    stored["config"][field] = value
    (tmp_path / "record.json").write_text(json.dumps(stored))
    with pytest.raises(RecordError, match=r"^[^\n]+$") as refused:
        read_record(tmp_path)
    assert said.removeprefix("config.") in str(refused.value)


@pytest.mark.parametrize("text", ["", "{", "[]", "5", "null", "[" * 200_000, '{"a":' * 200_000, "\0", "\ufeff{}"])
def test_what_is_no_record_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "record.json").write_text(text)
    with pytest.raises(RecordError, match=r"^[^\n]+$"):
        read_record(tmp_path)


def test_a_pipe_in_place_of_a_record_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "record.json")
    with pytest.raises(RecordError, match="no file of a record's size"):
        read_record(tmp_path)


def test_a_finished_record_cannot_be_made_before_all_is_known() -> None:
    config = resolve(RunConfig(task="rte", optim="adam"))
    with pytest.raises(ValueError, match="has headline, schedule, data, model, execution"):
        RunRecord(run_id="x", status="ok", config=config)
    assert not RunRecord(run_id="x", status="failed", config=config).is_finished


def test_updates_are_those_that_were_made():
    """Of a run that diverged before its first evaluation, as far as its curves go."""
    assert make_record("rte", score=70.0).updates == 40
    diverged = make_record("rte", score=None, status="diverged")
    curves = {name: values[:7] for name, values in diverged.curves.items()}
    assert diverged.model_copy(update={"curves": curves}).updates == int(curves["step"][-1]) < 40
    assert diverged.model_copy(update={"curves": {}}).updates is None
