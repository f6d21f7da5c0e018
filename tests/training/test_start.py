"""Runs that start from a fine-tuned model."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForSequenceClassification

from glue_mva import RunConfig, run
from glue_mva.config.identity import run_id
from glue_mva.config.resolve import resolve
from glue_mva.errors import UsageError
from glue_mva.training.prepare import prepare


@pytest.fixture(scope="module")
def made(tmp_path_factory, tiny_models, glue):
    """`made(task, ...)`: a run of two updates with a tiny model."""
    output = tmp_path_factory.mktemp("runs")

    def make(task: str, **values):
        config = {"model": tiny_models["bert"], "data": glue, "output": str(output), "max_steps": 2, "max_length": 32,
                  "max_train_samples": 32, "max_eval_samples": 16, "lr": 1e-3, "optim": "adam"}  # fmt: skip
        return RunConfig(task=task, **{**config, **values})

    return make


@pytest.fixture(scope="module")
def mnli(made) -> Path:
    config = made("mnli", save_model=True)
    return Path(config.output) / run(config).run_id


def head(model) -> torch.Tensor:
    return model.classifier.weight.detach()


def test_the_encoder_is_the_fine_tuned_one_and_the_head_the_one_that_would_have_been_drawn(made, mnli):
    fine_tuned = AutoModelForSequenceClassification.from_pretrained(mnli / "model")
    plain, started = prepare(resolve(made("rte"))), prepare(resolve(made("rte", init_from=str(mnli))))
    encoder = started.model.base_model.state_dict()
    for name, value in fine_tuned.base_model.state_dict().items():
        assert torch.equal(encoder[name], value), name
    assert not torch.equal(encoder["encoder.layer.0.output.dense.weight"],
                           plain.model.base_model.state_dict()["encoder.layer.0.output.dense.weight"])  # fmt: skip
    assert torch.equal(head(started.model), head(plain.model)) and started.start.kept_head is False
    assert started.model.config.id2label == {0: "entailment", 1: "not_entailment"}


def test_a_head_for_the_same_classes_is_kept(made, mnli):
    started = prepare(resolve(made("mnli", init_from=str(mnli / "model"))))
    fine_tuned = AutoModelForSequenceClassification.from_pretrained(mnli / "model")
    assert torch.equal(head(started.model), head(fine_tuned)) and started.start.kept_head is True


def test_the_record_says_where_it_started(made, mnli):
    record = run(made("rte", init_from=str(mnli)))
    assert record.config.init_from == str(mnli) and record.model.kept_head is False
    assert record.model.start.startswith("sha256:") and record.model.digest != record.model.start
    assert run(made("rte")).model.start is None


def test_the_identity_is_that_of_the_weights_and_the_classes(made, mnli, tmp_path):
    def id_of(**values) -> str:
        return run_id(resolve(made("rte", **values)))

    started = id_of(init_from=str(mnli))
    shutil.copytree(mnli / "model", tmp_path / "copy")
    assert started != id_of() and started == id_of(init_from=str(mnli / "model")) == id_of(
        init_from=str(tmp_path / "copy")
    )
    settings = json.loads((tmp_path / "copy" / "config.json").read_text())
    (tmp_path / "copy" / "config.json").write_text(json.dumps({**settings, "id2label": {"0": "a", "1": "b", "2": "c"}}))
    assert started != id_of(init_from=str(tmp_path / "copy"))
    other = made("mnli", save_model=True, seed=7)
    assert started != id_of(init_from=str(Path(other.output) / run(other).run_id))


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"init_from": "PLAIN"}, "kept no weights: `glue-mva export` makes them, or save_model = true"),
        ({"init_from": "./nowhere"}, "model folder './nowhere' is not there"),
        ({"init_from": "ENCODER"}, "is no fine-tuned classifier"),
        ({"init_from": "RUN", "model": "ELECTRA"}, "is a BertForSequenceClassification, the model a Electra"),
        ({"init_from": "RUN", "num_train_epochs": 0}, "init_from: a run without training starts from nowhere"),
        ({"init_from": "BIGGER"}, "does not fit the model: size mismatch for"),
        ({"init_from": "SWAPPED"}, "these are not the weights of the run's record; remove it, or name it itself"),
        ({"init_from": "OLDER"}, "kept no weights: `glue-mva export` makes them, or save_model = true"),
    ],
)
def test_what_cannot_be_started_from_is_refused(values, said, made, mnli, tiny_models, tmp_path):
    plain = tmp_path / "plain"
    plain.mkdir()
    record = json.loads((mnli / "record.json").read_text())
    (plain / "record.json").write_text(json.dumps(record))
    from transformers import BertForSequenceClassification

    config = AutoModelForSequenceClassification.from_pretrained(mnli / "model").config
    config.intermediate_size *= 2
    shutil.copytree(mnli / "model", tmp_path / "bigger")
    BertForSequenceClassification(config).save_pretrained(tmp_path / "bigger")
    names = {"PLAIN": str(plain), "ENCODER": tiny_models["bert"], "RUN": str(mnli), "ELECTRA": tiny_models["electra"],
             "BIGGER": str(tmp_path / "bigger"), "SWAPPED": str(tmp_path / "swapped"),
             "OLDER": str(tmp_path / "older")}  # fmt: skip
    shutil.copytree(tmp_path / "bigger", tmp_path / "swapped" / "model")
    shutil.copy(mnli / "record.json", tmp_path / "swapped")
    shutil.copytree(mnli / "model", tmp_path / "older" / "model")  # of a run that was made again without it
    (tmp_path / "older" / "record.json").write_text(json.dumps({**record, "weights": None}))
    with pytest.raises(UsageError) as error:
        prepare(resolve(made("rte", **{key: names.get(value, value) for key, value in values.items()})))
    assert said in str(error.value) and "\n" not in str(error.value)


def test_a_report_takes_one_start_for_a_row_and_none_beside_others(made, mnli, tmp_path):
    from glue_mva import results

    starts = {"a": "", "b": str(mnli)}
    for name, start in starts.items():
        for seed in (1, 2):
            run(made("rte", init_from=start, seed=seed, output=str(tmp_path / name)))
    assert len(results(tmp_path / "b").runs) == 2
    with pytest.raises(UsageError, match="RTE: runs with and without init_from cannot stand in one table"):
        results(tmp_path / "a", tmp_path / "b")
    other = made("mnli", save_model=True, seed=7)
    run(made("rte", init_from=str(Path(other.output) / run(other).run_id), seed=3, output=str(tmp_path / "b")))
    with pytest.raises(UsageError, match=r"RTE, adam: runs from 2 different models \(init_from\)"):
        results(tmp_path / "b")
