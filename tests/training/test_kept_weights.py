"""The weights that a run keeps are those of the best epoch in its record, wherever it was cut off and resumed."""

import errno
import json
import os
from pathlib import Path

import numpy as np
import pytest
from transformers import TrainerCallback

from glue_mva import run
from glue_mva.config.identity import run_id, weights_digest
from glue_mva.config.resolve import resolve
from glue_mva.training import runner
from tests.training.material import CutOffBefore, CutOffError, config_of, padded_outputs, predictions

METRIC = "eval_validation_accuracy"
THREE_EPOCHS = {"num_train_epochs": 3.0, "precision": "fp32", "checkpoint_minutes": 0.0, "logging_steps": 1}
"""Of 4 updates, with a checkpoint after every one but those at which an epoch ends."""


class Scores(TrainerCallback):
    """Puts other scores in the place of those that were reached, by update: a device that rounds in another way."""

    def __init__(self, scores):
        self.scores = scores

    def on_evaluate(self, args, state, control, metrics, **kwargs):
        if METRIC in metrics:
            state.log_history[-1][METRIC] = metrics[METRIC] = self.scores[state.global_step]


def kept_step(folder):
    return json.loads((folder / "model" / "config.json").read_text())["glue_mva"]["step"]


def test_a_better_evaluation_that_the_resumed_run_does_not_reach(glue, tiny_models, tmp_path):
    """The best at the checkpoint is of update 4. After it, update 8 was better, and is not when it is made again."""
    config = config_of("rte", glue, tiny_models["bert"], tmp_path, save_model=True, predict_test=True, **THREE_EPOCHS)
    with pytest.raises(CutOffError):
        run(config, [Scores({4: 0.5, 8: 0.9}), CutOffBefore(8)])
    work = tmp_path / run_id(resolve(config)) / "work"
    assert {path.name for path in work.glob("model-*")} == {"model-4", "model-8"}
    record = run(config.replace(resume=True), [Scores({4: 0.5, 8: 0.1, 12: 0.2})])
    assert (record.execution.resumed_from_step, record.best.step) == (7, 4)
    folder = tmp_path / record.run_id
    assert kept_step(folder) == 4 and weights_digest(folder / "model") == record.weights
    logits = padded_outputs(folder / "model", Path(glue) / "RTE" / "test.tsv")
    np.testing.assert_allclose(predictions(tmp_path, record)["test/best"], logits, atol=1e-5)
    assert not work.exists()


def test_there_are_two_sets_of_weights_at_most(glue, tiny_models, tmp_path):
    """That of the last checkpoint and the best; here, without a checkpoint in between, of 3 better ones."""
    found = []

    class Look(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            control.should_save = state.global_step == 5
            found.append(sorted(path.name for path in Path(args.output_dir).glob("model-*")))

    values = {**THREE_EPOCHS, "num_train_epochs": 5.0, "checkpoint_minutes": 60.0, "save_model": True}
    scores = {4: 0.1, 8: 0.2, 12: 0.3, 16: 0.2, 20: 0.1}
    record = run(config_of("rte", glue, tiny_models["bert"], tmp_path, **values), [Scores(scores), Look()])
    assert found[3::4] == [[], ["model-4"], ["model-4", "model-8"], ["model-12", "model-4"], ["model-12", "model-4"]]
    assert record.best.step == kept_step(tmp_path / record.run_id) == 12


@pytest.mark.parametrize("missing", ["never kept", "moved already"])
def test_a_checkpoint_whose_best_weights_are_not_there_is_passed_over(
    missing, glue, tiny_models, tmp_path, monkeypatch
):
    """The run was begun without `save_model`, or ended by a full disk after its weights had their place, before its
    record had."""
    config = config_of("rte", glue, tiny_models["bert"], tmp_path, save_model=True, **THREE_EPOCHS)
    scores = Scores({4: 0.5, 8: 0.1, 12: 0.2})
    if missing == "never kept":
        with pytest.raises(CutOffError):
            run(config.replace(save_model=False), [scores, CutOffBefore(11)])
    else:
        with monkeypatch.context() as patched, pytest.raises(OSError, match="No space left"):
            patched.setattr(runner, "write_record", full_disk)
            run(config, [scores])
    record = run(config.replace(resume=True), [scores])
    assert record.execution.resumed_from_step is None
    assert record.best.step == kept_step(tmp_path / record.run_id) == 4
    assert weights_digest(tmp_path / record.run_id / "model") == record.weights


def full_disk(record, folder):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
