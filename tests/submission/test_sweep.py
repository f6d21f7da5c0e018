"""A whole submission from a sweep over every task, and what a sweep makes of `predict_test`."""

import zipfile
from pathlib import Path

import numpy as np
import pytest

from glue_mva.record import read_record
from glue_mva.report.aggregate import study
from glue_mva.report.load import load_runs
from glue_mva.submission.archive import check_submission, write_submission
from glue_mva.submission.build import build_submission
from glue_mva.submission.files import FILES
from glue_mva.sweep import SweepConfig
from glue_mva.sweep.engine import InlineEngine
from glue_mva.sweep.launch import launch, read_progress
from glue_mva.sweep.protocol import cells
from glue_mva.sweep.unit import MEAN_TOKENS, unit_of
from glue_mva.tasks import TASKS
from tests.sweep.conftest import Notes

OFFICIAL_FILES = {"MNLI-m": "MNLI/test_matched.tsv", "MNLI-mm": "MNLI/test_mismatched.tsv", "AX": "AX/diagnostic.tsv"}


def make_sweep(glue, model, output, **values):
    run = {"data": glue, "model": model, "num_train_epochs": 1.0, "max_length": 48, "max_train_samples": 64,
           "predict_test": True}  # fmt: skip
    fixed = {"tasks": ["rte"], "optimizers": ["lamadam"], "lr": [1e-3], "weight_decay": [0.1], "final_seeds": 1}
    return SweepConfig(**(fixed | {"output": str(output)} | values), run=run)


def make_all(sweep):
    notes = Notes()
    assert launch(sweep, InlineEngine, notes).is_complete
    return notes.notes


@pytest.mark.slow
def test_a_sweep_over_every_task_gives_all_eleven_files(glue, tiny_models, tmp_path):
    tasks = [task for task in TASKS if task != "ax"]
    sweep = make_sweep(glue, tiny_models["bert"], tmp_path / "runs", tasks=tasks)
    make_all(sweep)
    rows = {}
    for name in FILES:
        stem = name.removesuffix(".tsv")
        path = Path(glue) / OFFICIAL_FILES.get(stem, f"{stem}/test.tsv")
        rows[name] = len(path.read_text(encoding="utf-8-sig").splitlines()) - 1
    made = build_submission(study(load_runs([tmp_path / "runs"]), sweep), rows=rows)
    assert not made.missing
    write_submission(made.values, tmp_path / "submission.zip", rows)
    assert check_submission(tmp_path / "submission.zip", rows=rows).problems == []
    with zipfile.ZipFile(tmp_path / "submission.zip") as archive:
        lines = archive.read("AX.tsv").decode().splitlines()
    winner = made.winners["mnli"]
    with np.load(winner.folder / "predictions.npz") as arrays:
        expected = [TASKS["mnli"].labels[i] for i in arrays["ax/best"].argmax(-1)]
    assert lines == ["index\tprediction", *(f"{i}\t{label}" for i, label in enumerate(expected))]


def test_only_final_runs_predict_and_finished_ones_are_made_again(glue, tiny_models, tmp_path):
    sweep = make_sweep(glue, tiny_models["bert"], tmp_path / "runs", lr=[1e-3, 3e-3], final_seeds=2)
    plain = sweep.replace(run=sweep.run | {"predict_test": False})
    make_all(plain)
    before = {path.parent.name: read_record(path) for path in (tmp_path / "runs").glob("*/record.json")}
    untested = set(read_progress(sweep)[0].lacking)
    assert untested == {run_id for run_id, record in before.items() if record.config.seed < 1001} and len(untested) == 2
    assert any("2 finished runs were made without predict_test" in note for note in make_all(sweep))
    after = {run_id: read_record(tmp_path / "runs" / run_id) for run_id in before}
    for run_id, record in after.items():
        assert record.epochs == before[run_id].epochs
        assert (record.data.test_rows == {"test": 24}) == (run_id in untested)
        assert (record == before[run_id]) == (run_id not in untested)
    assert not read_progress(sweep)[0].lacking
    assert all("made again" not in note for note in make_all(sweep)) and make_all(plain) == []


@pytest.mark.parametrize(("task", "rows"), [("rte", 24), ("mnli", 20 + 16 + 24)])
def test_a_plan_counts_the_test_sets(task, rows, glue, tiny_models, tmp_path):

    sweep = make_sweep(glue, tiny_models["bert"], tmp_path, tasks=[task])
    (cell,) = cells(sweep).values()
    plain = cell.any_config.replace(predict_test=False)
    more = unit_of(cell.any_config).evaluated - unit_of(plain).evaluated
    assert more == pytest.approx(rows * min(48, MEAN_TOKENS[task]))
