"""A run that is cut off at any update, the ends of epochs among them, and resumed: the same curves and scores."""

from pathlib import Path
from typing import Any

import pytest
from transformers import TrainerCallback

from glue_mva import RunConfig
from glue_mva.training.runner import run
from tests.training.material import CutOffBefore, CutOffError


def test_resuming_after_any_update_changes_nothing(here: Path, tmp_path: Path):
    values = {
        "task": "rte", "optim": "lamadam", "model": "roberta", "data": "data", "num_train_epochs": 3.0,
        "max_length": 32, "train_batch_size": 16, "warmup_ratio": 0.1, "lr": 1e-3, "checkpoint_minutes": 0.0,
        "logging_steps": 1,
    }  # fmt: skip
    whole = run(RunConfig(**values, output=str(tmp_path / "whole")))
    steps = whole.schedule.max_steps
    per_epoch = whole.schedule.steps_per_epoch
    assert (steps, per_epoch) == (9, 3)
    for update in (2, per_epoch, per_epoch + 1, 2 * per_epoch, steps - 1):
        output = str(tmp_path / str(update))
        with pytest.raises(CutOffError):
            run(RunConfig(**values, output=output), callbacks=[CutOffBefore(update)])
        resumed = run(RunConfig(**values, output=output, resume=True))
        assert 0 < resumed.execution.resumed_from_step <= update
        assert (resumed.epochs, resumed.curves, resumed.score) == (whole.epochs, whole.curves, whole.score)


class CutOffAtTheEnd(TrainerCallback):
    """After the last update, before its evaluation."""

    def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == state.max_steps:
            raise CutOffError


@pytest.mark.parametrize("length", [{"max_steps": 2}, {"max_steps": 4}, {"num_train_epochs": 1.4}])
def test_a_run_that_ends_inside_an_epoch_makes_no_update_too_many(here: Path, tmp_path: Path, length: dict[str, Any]):
    """Cut off after its last update and resumed. (A checkpoint written there would be gone on from.)"""
    values = {
        "task": "rte", "optim": "lamadam", "model": "roberta", "data": "data", "max_length": 32, "train_batch_size": 16,
        "warmup_ratio": 0.1, "lr": 1e-3, "checkpoint_minutes": 0.0, "logging_steps": 1, **length,
    }  # fmt: skip
    whole = run(RunConfig(**values, output=str(tmp_path / "whole")))
    assert whole.epochs[-1].step == whole.schedule.max_steps
    with pytest.raises(CutOffError):
        run(RunConfig(**values, output=str(tmp_path / "cut")), callbacks=[CutOffAtTheEnd()])
    resumed = run(RunConfig(**values, output=str(tmp_path / "cut"), resume=True))
    assert 0 < resumed.execution.resumed_from_step < whole.schedule.max_steps
    assert (resumed.epochs, resumed.curves, resumed.score) == (whole.epochs, whole.curves, whole.score)
