"""Layer-wise learning rates, the shapes of the schedule, and early stopping."""

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForSequenceClassification, TrainerControl, TrainerState

from glue_mva import RunConfig, run
from glue_mva.training.callbacks import StopEarly
from glue_mva.training.groups import count_layers, depth, parameter_groups


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("bert.encoder.layer.1.output.dense.weight", 2),
        ("layers.1.mlp.Wo.weight", 2),  # of a bare encoder
        ("distilbert.transformer.layer.0.ffn.lin1.bias", 1),
        ("roberta.embeddings.LayerNorm.weight", 0),
        ("classifier.out_proj.weight", 3),
    ],
)
def test_the_depth_of_a_parameter(name: str, expected: int) -> None:
    assert depth(name, 2) == expected


@pytest.mark.parametrize("family", ["bert", "roberta", "distilbert", "electra", "deberta-v2", "modernbert"])
def test_learning_rates_fall_by_the_layer(tiny_models, family: str) -> None:
    """Two layers: the head at lr, the second layer at lr / 2, the first at lr / 4, the embeddings at lr / 8."""
    model = AutoModelForSequenceClassification.from_pretrained(tiny_models[family])
    named = list(model.named_parameters())
    names = {id(p): name for name, p in named}
    biases = {name for name in names.values() if name.endswith("bias")}
    assert count_layers(named) == 2
    groups = parameter_groups(named, 1.0, 0.5, 0.1, set(names.values()) - biases, 2)
    rates = {names[id(p)]: group["lr"] for group in groups for p in group["params"]}
    decays = {names[id(p)]: group["weight_decay"] for group in groups for p in group["params"]}
    assert rates.keys() == set(names.values())
    for name, rate in rates.items():
        layer = next((int(part) for part in name.split(".") if part.isdigit()), None)
        assert rate == (0.25 * 2**layer if layer is not None else 0.125 if "embed" in name else 1.0), name
        assert decays[name] == (0.0 if name in biases else 0.1)


def history(values: list[float]) -> TrainerState:
    return TrainerState(log_history=[{"eval_validation_accuracy": value} for value in values])


@pytest.mark.parametrize(
    ("values", "stops"),
    [([0.5], False), ([0.5, 0.4], False), ([0.5, 0.5], False), ([0.5, 0.4, 0.5], True), ([0.5, 0.4, 0.6], False)],
)
def test_stops_after_evaluations_without_a_better_one(values: list[float], stops: bool) -> None:
    control, metric = TrainerControl(), "eval_validation_accuracy"
    StopEarly(metric, 2).on_evaluate(None, history(values), control, metrics={metric: values[-1]})
    assert control.should_training_stop == stops
    StopEarly(metric, 1).on_evaluate(None, history([0.5, 0.4]), control, metrics={"eval_other_accuracy": 1.0})
    assert control.should_training_stop == stops  # another split's evaluation decides nothing


def test_a_run_stops_early_with_its_own_schedule_and_rates(tiny_models, tmp_path: Path) -> None:
    """Two evaluations of a model that cannot change are equal: patience 1 ends the run there."""
    given = {"task": "qnli", "optim": "adam", "data": "demo", "model": tiny_models["bert"], "max_train_samples": 64,
             "max_eval_samples": 32, "num_train_epochs": 4.0, "max_length": 32, "lr": 1e-12, "train_batch_size": 16,
             "output": str(tmp_path), "logging_steps": 1, "warmup_ratio": 0.0}  # fmt: skip
    stopped = run(RunConfig(**given, early_stopping_patience=1, layer_decay=0.5, lr_scheduler="constant"))
    assert [entry.epoch for entry in stopped.epochs] == [1.0, 2.0] and stopped.status == "ok"
    assert (stopped.updates, stopped.schedule.max_steps) == (8, 16)
    assert set(stopped.curves["learning_rate"]) == {1e-12}
    whole = run(RunConfig(**given, lr_scheduler="cosine"))
    assert len(whole.epochs) == 4 and whole.run_id != stopped.run_id
    rates = torch.tensor(whole.curves["learning_rate"]) / 1e-12
    expected = 0.5 * (1 + torch.cos(torch.pi * torch.arange(16) / 16))
    torch.testing.assert_close(rates, expected, atol=1e-6, rtol=0)
    assert json.loads((tmp_path / stopped.run_id / "record.json").read_text())["config"]["early_stopping_patience"] == 1
