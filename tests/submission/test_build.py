"""Which runs a submission is made of, and what is refused; records and predictions made up."""

import numpy as np
import pytest
from typer.testing import CliRunner

from glue_mva.cli import app
from glue_mva.errors import UsageError
from glue_mva.record import PREDICTIONS_FILE, write_predictions
from glue_mva.report.aggregate import study
from glue_mva.report.load import load_runs
from glue_mva.report.winner import winner
from glue_mva.submission.archive import check_submission, write_submission
from glue_mva.submission.build import build_submission
from glue_mva.submission.files import FILES
from glue_mva.tasks import TASKS
from tests.report.factory import make_record, write_run

ROWS = {name: 3 + index for index, name in enumerate(FILES)}
"""File -> rows of its test set, a few and all different."""


def write_tested_run(runs, task, optim, score, *, rows=ROWS, seed=1, **config):
    """A finished run whose test predictions are class `seed % classes` in every row (the seed itself for STS-B)."""
    folder = write_run(runs, make_record(task, optim, score=score, seed=seed, **config))
    classes = TASKS[task].num_labels
    write_predictions(
        {
            f"{file.stored_as}/best": np.full(rows[name], float(seed))
            if task == "stsb"
            else np.tile(np.eye(classes)[seed % classes], (rows[name], 1))
            for name, file in FILES.items()
            if file.trained_as == task
        },
        folder,
    )
    return folder


def read_study(runs):
    return study(load_runs([runs]), None)


@pytest.fixture
def runs(tmp_path):
    """Every task with two optimizers and two seeds; the best run is LaMAdam's seed 2, but Adam's seed 1 on CoLA."""
    for task in TASKS:
        if task != "ax":
            for optim, scores in (("adam", (60.0, 61.0)), ("lamadam", (59.0, 75.0))):
                for seed, score in enumerate(scores, start=1):
                    lifted = 90.0 if (task, optim, seed) == ("cola", "adam", 1) else score
                    write_tested_run(tmp_path / "runs", task, optim, lifted, seed=seed)
    return tmp_path / "runs"


def test_the_best_final_run_of_each_task_is_submitted(runs, tmp_path):
    made = build_submission(read_study(runs), rows=ROWS)
    assert not made.missing and {name: len(v) for name, v in made.values.items()} == ROWS
    chosen = {task: (c.row, c.seed, c.score, c.among) for task, c in made.winners.items()}
    assert chosen == dict.fromkeys(set(TASKS) - {"ax"}, ("LaMAdam", 2, 75.0, 4)) | {"cola": ("Adam", 1, 90.0, 4)}
    assert set(made.values["CoLA.tsv"]) == {"1"} and set(made.values["SST-2.tsv"]) == {"0"}
    assert set(made.values["STS-B.tsv"]) == {"2.000"} and set(made.values["AX.tsv"]) == {"contradiction"}
    write_submission(made.values, tmp_path / "x.zip", ROWS)
    assert check_submission(tmp_path / "x.zip", rows=ROWS).problems == []
    only = build_submission(read_study(runs), row="adam", rows=ROWS)
    assert {(c.row, c.seed) for task, c in only.winners.items() if task != "cola"} == {("Adam", 2)}
    with pytest.raises(UsageError, match=r"no row 'lamdam'.*did you mean 'lamadam'"):
        winner(read_study(runs), "rte", "lamdam")


def test_a_diverged_run_is_never_chosen_and_equal_scores_go_to_the_first(tmp_path):
    for seed, status in ((1, "ok"), (2, "ok"), (3, "diverged")):
        write_tested_run(tmp_path, "rte", "adam", 70.0, seed=seed, status=status)
    assert (best := winner(read_study(tmp_path), "rte")) and (best.seed, best.among) == (1, 2)
    assert winner(read_study(tmp_path), "mnli") is None


def test_what_is_missing_is_said_with_its_way_out(runs, tmp_path):
    for folder in runs.glob("mnli-*"):
        (folder / "record.json").unlink()
    for folder in runs.glob("rte-lamadam-*"):
        write_predictions({"validation/best": np.zeros((2, 2))}, folder)
    for folder in runs.glob("qnli-lamadam-*"):
        (folder / PREDICTIONS_FILE).write_bytes(b"PK\x03\x04 not whole")
    for folder in runs.glob("qqp-lamadam-*"):
        write_predictions({"test/best": np.full((ROWS["QQP.tsv"], 2), np.nan)}, folder)
    made = build_submission(read_study(runs), majority=["WNLI"], rows={**ROWS, "SST-2.tsv": 99})
    assert set(made.missing) == {"MNLI-m.tsv", "MNLI-mm.tsv", "AX.tsv", "RTE.tsv", "QNLI.tsv", "QQP.tsv", "SST-2.tsv"}
    said = made.reasons()
    assert "MNLI-m.tsv, MNLI-mm.tsv, AX.tsv: no finished final run of MNLI" in said
    again = f"run {made.winners['rte'].run_id} again with --predict-test --force"
    assert f"RTE.tsv: no test predictions: {again}" in said
    assert "predictions.npz cannot be read" in said and "QQP.tsv: outputs that are not finite" in said
    assert f"SST-2.tsv: {ROWS['SST-2.tsv']} rows where 99 belong" in said
    assert made.constant == ["wnli"] and made.values["WNLI.tsv"] == ["0"] * ROWS["WNLI.tsv"]


def test_the_command_refuses_writes_a_part_and_fills_wnli(tmp_path):
    official = {name: file.rows for name, file in FILES.items()}
    for seed, score in ((1, 70.0), (2, 71.0)):
        write_tested_run(tmp_path / "runs", "rte", "lamadam", score, seed=seed, rows=official)
    write_tested_run(tmp_path / "runs", "wnli", "lamadam", 56.3, seed=1, rows=official)
    words = ["submit", str(tmp_path / "runs"), "--out", str(tmp_path / "x.zip")]
    refused = CliRunner().invoke(app, words)
    assert isinstance(refused.exception, UsageError) and not (tmp_path / "x.zip").exists()
    assert "CoLA.tsv: no finished final run of CoLA" in str(refused.exception)
    assert str(refused.exception).endswith("--partial writes the rest")
    done = CliRunner().invoke(app, [*words, "--partial", "--majority", "wnli"], env={"COLUMNS": "200"})
    assert done.exit_code == 0 and "2 of 11 files" in done.output
    rte = next(line for line in done.output.splitlines() if line.startswith("│ RTE.tsv"))
    assert [cell.strip() for cell in rte.split("│")[2:7]] == ["3,000", "LaMAdam", "71.00", "2", "2"]
    wnli = next(line for line in done.output.splitlines() if line.startswith("│ WNLI.tsv"))
    assert "majority" in wnli and "every row not_entailment" in wnli
    assert check_submission(tmp_path / "x.zip", partial=True).counts == {
        "RTE.tsv": {"entailment": 3000}, "WNLI.tsv": {"0": 146}}  # fmt: skip


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "give the folder RUNS"),
        (["RUNS", "--check", "x.zip"], "not both"),
        (["nowhere"], "no such folder"),
        (["RUNS", "--majority", "mnli"], "--majority mnli: its most frequent class is not known here"),
        (["RUNS", "--majority", "nli"], "unknown task 'nli'"),
        (["RUNS", "--row", "sgd"], "no row 'sgd'"),
        (["--check", "nowhere.zip"], "nowhere.zip: No such file"),
        (["RUNS", "--partial"], "not a whole submission"),
    ],
)
def test_bad_input(words, said, tmp_path):
    write_run(tmp_path / "runs", make_record("rte", "adam"))
    words = [str(tmp_path / "runs") if word == "RUNS" else word for word in words]
    done = CliRunner().invoke(app, ["submit", *words])
    assert isinstance(done.exception, UsageError) and said in str(done.exception)
    assert "\n" not in str(done.exception)
