"""What a record says besides its score: warnings, verdicts on fast paths, and a command that repeats the run."""

import logging
import shlex

import datasets
import numpy as np
import pytest
import torch
from transformers.utils import logging as logs
from typer.testing import CliRunner

from glue_mva import UsageError, checks, run
from glue_mva.cli import app
from glue_mva.cli import run as run_commands
from glue_mva.config.identity import run_id
from glue_mva.config.resolve import resolve
from glue_mva.models import memory
from glue_mva.record import CONSTANT, RunRecord
from glue_mva.tasks import TASKS
from glue_mva.training import environment, prepare, results
from glue_mva.training.contexts import deterministic, quiet_libraries
from glue_mva.training.model_card import command_line
from glue_mva.training.trainer import GlueTrainer
from tests.training.material import config_of, result


def test_constant_predictions_are_warned_of(glue, tiny_models, tmp_path):
    """At lr 10 the loss blows up and stays finite."""
    blown = run(config_of("rte", glue, tiny_models["bert"], tmp_path, optim="adam", lr=10.0))
    assert blown.status == "ok" and blown.warnings == [CONSTANT]


@pytest.mark.parametrize(
    ("task", "outputs", "expected"),
    [
        ("rte", [[0.1, 0.2], [-3.0, 5.0]], True),
        ("rte", [[0.1, 0.2], [6.0, 5.0]], False),
        ("rte", [[0.1, 0.2]], False),
        ("stsb", [2.5, 2.504, 2.501], True),
        ("stsb", [2.5, 2.6], False),
    ],
)
def test_what_counts_as_constant(task, outputs, expected):
    assert results.is_constant(np.array(outputs), TASKS[task]) is expected


def texts_with_unknown(folder, known, unknown):
    """CoLA with sentences of so many words that the vocabulary has, and so many letters that it has not (Ethiopic)."""
    text = " ".join(["the"] * known + ["\N{ETHIOPIC SYLLABLE HA}"] * unknown)
    (folder / "CoLA").mkdir(parents=True)
    for name in ("train", "dev"):
        (folder / "CoLA" / f"{name}.tsv").write_text("".join(f"x\t{k % 2}\t\t{text}\n" for k in range(16)))
    return folder


def test_unknown_tokens_are_warned_of(tiny_models, tmp_path, caplog):
    """From more than 5 % of the tokens of a text on; those that begin and end it do not count."""
    with caplog.at_level(logging.WARNING, logger="glue_mva"):
        for known, unknown in ((19, 1), (18, 2)):
            folder = texts_with_unknown(tmp_path / f"{unknown}", known, unknown)
            record = run(config_of("cola", str(folder), tiny_models["bert"], tmp_path))
            said = [text for text in record.warnings if "tokens" in text]
            if unknown == 1:
                assert said == [] and "of the tokens" not in caplog.text
    assert said == ["the tokenizer does not know 10% of the tokens: is it the model's own, and of this language?"]
    assert said[0] in caplog.text


def test_without_curves_divergence_still_ends_a_run_and_checkpoints_are_written(glue, tiny_models, tmp_path):
    values = {"logging_steps": 0, "num_train_epochs": 20.0, "precision": "fp32"}
    record = run(config_of("rte", glue, tiny_models["bert"], tmp_path, optim="torch.optim:SGD", lr=1e30, **values))
    assert record.status == "diverged" and record.curves == {}
    assert int(record.error.rpartition(" ")[2]) < record.schedule.max_steps / 2


def test_the_verdicts_on_fast_paths_are_in_the_record(glue, tiny_models, tmp_path, monkeypatch):
    monkeypatch.setattr(checks, "_verdicts", {})  # of the tests before it
    record = run(config_of("rte", glue, tiny_models["bert"], tmp_path / "sound"))
    asked = record.execution.checks
    assert any(name.startswith("packing") for name in asked) and any(name.startswith("optimizer") for name in asked)
    assert all(verdict.ok and verdict.difference is not None for verdict in asked.values())
    known = dict(checks._verdicts)
    wrong = checks.Verdict(False, float("inf"), 0.1, "logits differ")
    monkeypatch.setattr(checks, "_verdicts", known | {name: wrong for name in known if name.startswith("packing")})
    record = run(config_of("rte", glue, tiny_models["bert"], tmp_path / "broken"))
    asked_again = record.execution.checks
    refused = {name for name, verdict in asked_again.items() if not verdict.ok}
    assert refused == {name for name in asked if name.startswith("packing")} < asked_again.keys()
    assert all(asked_again[name].detail == "logits differ" for name in refused)
    assert all(asked_again[name].difference is None for name in refused)  # infinity is no JSON


def test_the_size_of_evaluation_batches_changes_nothing(glue, tiny_models, tmp_path):
    """Nor the masks of dropout in the epoch after an evaluation."""
    values = {"num_train_epochs": 3.0, "hidden_dropout": 0.1, "logging_steps": 1}
    one, other = (run(config_of("rte", glue, tiny_models["bert"], tmp_path / str(size), eval_batch_size=size, **values))
                  for size in (8, 64))  # fmt: skip
    assert one.run_id == other.run_id and one.execution.padding == "none"
    assert one.curves == other.curves and one.score == other.score


def test_mixed_precision_from_the_environment_changes_nothing(glue, tiny_models, tmp_path, monkeypatch):
    def make(name: str) -> dict:
        config = config_of("rte", glue, tiny_models["bert"], tmp_path / name, precision="fp32", logging_steps=1)
        return result(run(config))

    plain = make("plain")
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    assert make("environment") == plain


def test_a_run_from_python_leaves_malloc_alone(glue, tiny_models, tmp_path, monkeypatch):
    monkeypatch.setattr(memory.ctypes, "CDLL", lambda *args: pytest.fail("malloc was changed"))
    checks_before = prepare.prepare(resolve(config_of("rte", glue, tiny_models["bert"], tmp_path, padding="longest")))
    assert checks_before.padding == "longest"


def test_memory_on_a_cpu_is_that_of_the_first_run_of_a_process(monkeypatch):
    monkeypatch.setattr(environment, "_runs", 0)
    environment.begin_measuring_memory("cpu")
    assert environment.peak_memory("cpu") > 2**20
    environment.begin_measuring_memory("cpu")
    assert environment.peak_memory("cpu") is None


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"optim": "torch.optim:SGD", "optim_args": {"momentum": 0.9, "nesterov": True}, "lr": 1e-3},
        {"optim": "adam", "optim_args": {"betas": [0.8, 0.9]}, "max_steps": 7, "num_train_epochs": 3.0},
        {"max_train_samples": 100, "max_eval_samples": 50, "holdout_fraction": 0.2, "holdout_seed": 3},
        {"precision": "fp32", "padding": "longest", "layer_decay": 0.9, "early_stopping_patience": 2, "seed": 7},
        {"recipe": "hf", "decay_all_parameters": True, "hidden_dropout": 0.2, "classifier_dropout": "checkpoint"},
        {"model": "a folder/with 'quotes'", "lr_scheduler": "cosine", "num_train_epochs": 0.0},
        {"optim": "lamadam", "optim_args": {"beta2_min": 0.25, "amsgrad": True}, "weight_decay": 0.0},
    ],
)
def test_the_model_cards_command_is_the_same_run(values, glue, monkeypatch):
    config = resolve(config_of("rte", glue, "someone/some-model", "runs", **values)) if "model" not in values else (
        resolve(config_of("rte", glue, values["model"], "runs", **{k: v for k, v in values.items() if k != "model"}))
    )  # fmt: skip
    record = RunRecord(run_id=run_id(config), status="failed", config=config)
    parsed = []
    monkeypatch.setattr(run_commands, "_execute", parsed.append)
    done = CliRunner().invoke(app, shlex.split(command_line(record))[1:], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert run_id(parsed[0]) == record.run_id


def test_the_trainer_takes_a_loss_and_refuses_a_second_optimizer(monkeypatch):
    with pytest.raises(UsageError, match="optimizer_cls_and_kwargs"):
        GlueTrainer(optim="adam", optimizer_cls_and_kwargs=(object, {}))


@pytest.mark.parametrize("bars", [True, False])
def test_progress_bars_are_given_back_as_they_were(bars):
    """As far as `quiet_libraries` goes, nothing of a caller's settings is changed for good."""
    (datasets.enable_progress_bars if bars else datasets.disable_progress_bars)()
    (logs.enable_progress_bar if bars else logs.disable_progress_bar)()
    try:
        with quiet_libraries():
            assert datasets.are_progress_bars_disabled() and not logs.is_progress_bar_enabled()
        assert (datasets.are_progress_bars_disabled(), logs.is_progress_bar_enabled()) == (not bars, bars)
    finally:
        datasets.enable_progress_bars()
        logs.enable_progress_bar()


def test_a_run_gives_back_the_callers_determinism():
    for mode in (0, 1, 2):
        torch.set_deterministic_debug_mode(mode)
        try:
            with deterministic():
                assert torch.get_deterministic_debug_mode() == 1
            assert torch.get_deterministic_debug_mode() == mode
        finally:
            torch.set_deterministic_debug_mode(0)
