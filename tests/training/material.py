"""What the tests of runs share: small runs, what of them must not change, and ways to cut them off."""

import json
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer, TrainerCallback
from transformers.trainer_callback import ExportableState

from glue_mva import RunConfig

NOT_THE_RESULT = ("created", "execution", "environment", "config")


def config_of(task, glue, model, output, **values):
    small = {"max_train_samples": 64, "max_eval_samples": 48, "max_length": 48, "num_train_epochs": 1.0, "lr": 1e-3}
    return RunConfig(task=task, data=glue, model=model, output=str(output), **{"optim": "lamadam", **small, **values})


def result(record):
    """What must not change when the same run is made again: all but times, memory and paths."""
    return {k: v for k, v in json.loads(record.to_json()).items() if k not in NOT_THE_RESULT}


def predictions(output, record):
    with np.load(Path(output) / record.run_id / "predictions.npz") as arrays:
        return dict(arrays)


def padded_outputs(folder, path):
    """Outputs of a kept model on a file with the columns `sentence1` and `sentence2`, cut at 48 tokens."""
    rows = [line.split("\t") for line in path.read_text(encoding="utf-8").splitlines()]
    first, second = ([row[rows[0].index(name)] for row in rows[1:]] for name in ("sentence1", "sentence2"))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    batch = tokenizer(first, second, padding=True, truncation=True, max_length=48, return_tensors="pt")
    with torch.inference_mode():
        return AutoModelForSequenceClassification.from_pretrained(folder)(**batch).logits.numpy()


class KillAt(TrainerCallback, ExportableState):
    """Kills the process after an update, or while the checkpoint of that update is being written."""

    def __init__(self, step, writing):
        self.step, self.writing, self.made = step, writing, 0

    def on_step_end(self, args, state, control, **kwargs):
        self.made = state.global_step
        if self.made == self.step and not self.writing:
            os.kill(os.getpid(), signal.SIGKILL)

    def state(self):
        """Asked for by the Trainer when all of a checkpoint but its own state is written."""
        if self.made == self.step:
            os.kill(os.getpid(), signal.SIGKILL)
        return {"args": {}, "attributes": {}}


class CutOffError(Exception):
    pass


class CutOffBefore(TrainerCallback):
    def __init__(self, update: int) -> None:
        self.update = update

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == self.update:
            raise CutOffError
