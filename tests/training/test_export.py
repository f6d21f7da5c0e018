"""The exported model is the best final run's, from its kept weights or from the same run made again."""

import inspect
import json
import shutil
from pathlib import Path
from unittest.mock import create_autospec

import numpy as np
import pytest
import torch
import typer
from huggingface_hub import HfApi
from transformers import TrainerCallback
from typer.testing import CliRunner

from glue_mva import run
from glue_mva.cli import app
from glue_mva.cli.export import _compare, _push
from glue_mva.errors import UsageError
from glue_mva.inference.classifier import Classifier
from glue_mva.record import lacking, read_record
from glue_mva.training.export import _largest_difference, make_again
from glue_mva.training.model_card import write_model_card
from tests.report.factory import make_record
from tests.training.material import config_of


def call(*words):
    return CliRunner().invoke(app, ["export", *(str(word) for word in words)])


def files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def runs(glue, tiny_models, tmp_path_factory):
    """Three seeds of RTE that kept nothing; their data lie in a folder of their own."""
    place = tmp_path_factory.mktemp("export")
    shutil.copytree(Path(glue) / "RTE", place / "glue" / "RTE")
    for seed in (1, 2, 3):
        run(config_of("rte", str(place / "glue"), tiny_models["bert"], place / "runs", seed=seed, precision="fp32"))
    return place / "runs"


def best_of(runs):
    records = [read_record(path) for path in sorted(runs.glob("*/record.json"))]
    return max(records, key=lambda record: (record.score, -record.config.seed))


def test_kept_weights_are_copied(glue, tiny_models, tmp_path):
    for seed in (1, 2):
        run(config_of("rte", glue, tiny_models["bert"], tmp_path / "runs", seed=seed, save_model=True))
    done = call(tmp_path / "runs", "--out", tmp_path / "model")
    assert done.exit_code == 0, done.output
    best = best_of(tmp_path / "runs")
    assert f"dev score {best.score:.2f}, the best of 2 final runs: {best.run_id}" in done.output
    assert files(tmp_path / "model") == files(tmp_path / "runs" / best.run_id / "model")
    assert {"README.md", "config.json", "model.safetensors", "tokenizer.json"} <= files(tmp_path / "model").keys()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "runs"]


def test_a_run_that_kept_nothing_is_made_again_bit_for_bit(runs, glue, tmp_path):
    before = {path: path.read_bytes() for path in runs.rglob("*") if path.is_file()}
    done = call(runs, "--task", "rte", "--row", "lamadam", "--out", tmp_path / "model")
    assert done.exit_code == 0, done.output
    assert "the same score and every dev output, bit for bit" in done.output
    assert {path: path.read_bytes() for path in runs.rglob("*") if path.is_file()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    best = best_of(runs)
    classifier = Classifier(str(tmp_path / "model"), precision="fp32")
    assert (classifier.task, classifier.max_length) == ("rte", 48)
    rows = [line.split("\t") for line in (Path(glue) / "RTE" / "dev.tsv").read_text(encoding="utf-8").splitlines()[1:]]
    chosen = np.sort(np.random.default_rng(0).choice(len(rows), size=48, replace=False))  # as max_eval_samples draws
    texts = ([rows[i][column] for i in chosen] for column in (1, 2))
    with np.load(runs / best.run_id / "predictions.npz") as arrays:
        logits = arrays["validation/best"]
    expected = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    np.testing.assert_allclose(classifier.predict(classifier.tokenize(*texts)), expected, atol=1e-5)


def test_another_score_is_refused_but_not_lost(runs, tmp_path):
    shutil.copytree(runs, tmp_path / "runs")
    best = best_of(runs)
    path = tmp_path / "runs" / best.run_id / "record.json"
    values = json.loads(path.read_text())
    path.write_text(json.dumps(values | {"score": best.score + 5}))
    refused = call(tmp_path / "runs", "--out", tmp_path / "model")
    said = str(refused.exception)
    assert isinstance(refused.exception, UsageError) and "\n" not in said
    assert f"made again, the run scored {best.score:.2f}; its record says {best.score + 5:.2f}" in said
    assert not (tmp_path / "model").exists()
    made = read_record(tmp_path / "model.run" / best.run_id).created
    done = call(tmp_path / "runs", "--out", tmp_path / "model", "--allow-other-score")
    assert done.exit_code == 0 and "note: made again" in done.output
    assert "training" not in done.output.partition("made again")[2]  # what was made is not made a second time
    assert f"{best.score / 100:.4f}" in (tmp_path / "model" / "README.md").read_text()
    assert made and not (tmp_path / "model.run").exists()


@pytest.mark.parametrize("damage", ["empty", "cut off", "zeros within"])
def test_damaged_predictions_are_not_compared(damage, tmp_path, capsys):
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        np.savez_compressed(tmp_path / name / "predictions.npz", **{"validation/best": np.ones(3)})
    assert _largest_difference(tmp_path / "one", tmp_path / "other") == 0
    path = tmp_path / "one" / "predictions.npz"
    whole = path.read_bytes()
    damaged = {"empty": b"", "cut off": whole[:40], "zeros within": whole[:69] + bytes(20) + whole[89:]}
    path.write_bytes(damaged[damage])
    difference = _largest_difference(tmp_path / "one", tmp_path / "other")
    record = make_record("rte", "adam")
    _compare(record, record, difference, tmp_path, False)
    assert "the same score; its dev outputs cannot be read" in capsys.readouterr().out


@pytest.mark.parametrize(("holdout", "said"), [(False, "accuracy on the dev set"), (True, "on held-out training rows")])
def test_the_card_says_which_rows_chose_the_epoch(holdout, said, tmp_path):
    record = make_record("rte", "adam")
    held = record.model_copy(update={"data": record.data.model_copy(update={"holdout": holdout})})
    assert f"{said}, on which that epoch was chosen" in write_model_card(held, tmp_path).read_text()


def test_a_run_is_made_again_on_as_many_threads(runs, tmp_path):
    """Another number of them adds up in another order."""
    best = best_of(runs)
    seen = []

    class Look(TrainerCallback):
        def on_train_begin(self, *args, **kwargs):
            seen.append(torch.get_num_threads())

    record = best.model_copy(update={"execution": best.execution.model_copy(update={"threads": 3})})
    before = torch.get_num_threads()
    make_again(record, runs / best.run_id, tmp_path, callbacks=[Look()])
    assert seen == [3] and torch.get_num_threads() == before


def test_what_lies_where_the_run_would_be_made_again_stays(runs, tmp_path):
    (tmp_path / "model.run").mkdir()
    (tmp_path / "model.run" / "mine.txt").write_text("mine")
    refused = call(runs, "--out", tmp_path / "model")
    assert isinstance(refused.exception, UsageError) and "holds something else" in str(refused.exception)
    assert (tmp_path / "model.run" / "mine.txt").read_text() == "mine" and not (tmp_path / "model").exists()


def test_runs_that_lie_where_another_would_be_made_again_are_never_removed(runs, glue, tiny_models, tmp_path):
    """OUT.run is a place of the command's own only where the command made it."""
    kept = tmp_path / "kept.run"
    run(config_of("rte", glue, tiny_models["bert"], kept, save_model=True))
    before = {path: path.read_bytes() for path in kept.rglob("*") if path.is_file()}
    assert call(kept, "--out", tmp_path / "kept").exit_code == 0
    assert {path: path.read_bytes() for path in kept.rglob("*") if path.is_file()} == before
    best = best_of(runs)
    shutil.copytree(runs / best.run_id, tmp_path / "single.run" / best.run_id)
    refused = call(tmp_path / "single.run", "--out", tmp_path / "single")
    assert isinstance(refused.exception, UsageError) and "holds something else" in str(refused.exception)
    assert read_record(tmp_path / "single.run" / best.run_id) == best


def test_the_card_names_a_base_model_of_the_hub_only_and_shows_what_there_is(tiny_models, tmp_path):
    record = make_record("rte", "adam")
    assert 'base_model: "' + record.config.model + '"' in write_model_card(record, tmp_path).read_text()
    local = record.model_copy(update={"config": record.config.replace(model=tiny_models["bert"])})
    assert "base_model" not in write_model_card(local, tmp_path).read_text()
    best = record.best.model_copy(update={"metrics": {"validation": {"accuracy": None}}})
    infinite = record.model_copy(update={"epochs": [best], "best_epoch": 0})
    assert "| validation | accuracy | - |" in write_model_card(infinite, tmp_path).read_text()


def test_weights_of_an_earlier_record_do_not_pass_for_kept_ones(glue, tiny_models, tmp_path):
    config = config_of("rte", glue, tiny_models["bert"], tmp_path)
    run(config.replace(save_model=True))
    record = run(config.replace(force=True))
    folder = tmp_path / record.run_id
    assert record.weights is None and (folder / "model").is_dir()
    assert lacking(record, folder, predict_test=False, save_model=True) == ["save_model"]
    with pytest.raises(UsageError, match="was made without save_model"):
        run(config.replace(save_model=True))


def test_data_may_move_but_not_change(runs, tmp_path):
    shutil.copytree(runs, tmp_path / "runs")
    for path in (tmp_path / "runs").glob("*/record.json"):
        values = json.loads(path.read_text())
        values["config"]["data"] = "./gone"
        path.write_text(json.dumps(values))
    moved = tmp_path / "glue"
    shutil.copytree(runs.parent / "glue", moved)
    refused = call(tmp_path / "runs", "--out", tmp_path / "model")
    assert isinstance(refused.exception, UsageError) and "cannot be made again" in str(refused.exception)
    done = call(tmp_path / "runs", "--out", tmp_path / "model", "--data", moved)
    assert done.exit_code == 0 and "bit for bit" in done.output
    with (moved / "RTE" / "train.tsv").open("a") as stream:
        stream.write("999\tA\tB\tentailment\n")
    changed = call(tmp_path / "runs", "--out", tmp_path / "other", "--data", moved)
    assert isinstance(changed.exception, UsageError) and "is not what it was" in str(changed.exception)
    assert not (tmp_path / "other").exists()


def test_weights_that_are_not_those_of_the_record_are_refused(glue, tiny_models, tmp_path):
    record = run(config_of("rte", glue, tiny_models["bert"], tmp_path / "runs", save_model=True))
    (weights,) = (tmp_path / "runs" / record.run_id / "model").glob("*.safetensors")
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    done = call(tmp_path / "runs", "--out", tmp_path / "model")
    assert isinstance(done.exception, UsageError) and "not the weights of the run's record" in str(done.exception)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["RUNS", "--out", "RUNS"], "is there already"),
        (["nowhere", "--out", "OUT"], "nowhere: no such folder"),
        (["RUNS", "--out", "OUT", "--task", "mnli"], "no finished final run of MNLI"),
        (["RUNS", "--out", "OUT", "--row", "adam"], "no row 'adam'"),
        (["RUNS", "--out", "OUT", "--push", "a/b/c"], "--push 'a/b/c': Repo id must be"),
        (["RUNS", "--out", "OUT", "--push", "a/b"], "--push: the Hub cannot be reached"),
    ],
)
def test_bad_input(words, said, runs, tmp_path):
    names = {"RUNS": runs, "OUT": tmp_path / "model"}
    done = call(*(names.get(word, word) for word in words))
    assert isinstance(done.exception, UsageError) and said in str(done.exception)
    assert "\n" not in str(done.exception) and not list(tmp_path.iterdir())


def test_an_upload_that_fails_leaves_the_model(tmp_path, capsys):
    """Against the signatures of the real client; there is no Hub to upload to."""
    api = create_autospec(HfApi, instance=True)
    api.create_repo.return_value.repo_id = "me/name"
    _push(api, "me/name", tmp_path)
    inspect.signature(HfApi.upload_folder).bind(None, **api.upload_folder.call_args.kwargs)
    assert api.upload_folder.call_args.kwargs["folder_path"] == tmp_path
    api.upload_folder.side_effect = OSError("connection lost\nand more")
    with pytest.raises(typer.Exit) as done:
        _push(api, "me/name", tmp_path)
    assert done.value.exit_code == 1
    assert f"not uploaded: connection lost; to try again: hf upload me/name {tmp_path}" in capsys.readouterr().err
