"""The code in docs/optimizers.md runs as printed."""

import re
from pathlib import Path

import torch
from transformers import Trainer, TrainingArguments

from glue_mva import MAdam

TEXT = (Path(__file__).parents[2] / "docs" / "optimizers.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)


class Line(torch.nn.Module):
    """A straight line through points, with the loss that Trainer asks for."""

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)

    def forward(self, x, labels):
        return {"loss": (self.layer(x) - labels).square().mean()}


def arguments(folder, **values):
    """The arguments as printed, for a short run on a CPU that writes nothing."""
    short = {"max_steps": 3, "report_to": [], "save_strategy": "no", "use_cpu": True, "disable_tqdm": True}
    return TrainingArguments(folder, **{**values, **short})


def test_examples_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = Line()
    before = model.layer.weight.item()
    data = [{"x": torch.tensor([float(i)]), "labels": torch.tensor([2.0 * i])} for i in range(8)]
    names = {"model": model, "data": data, "TrainingArguments": arguments, "Trainer": Trainer}
    plain, with_trainer = BLOCKS
    exec(plain, names)
    assert isinstance(names["optimizer"], MAdam)
    exec(with_trainer, names)
    names["trainer"].train()
    decayed, biases = names["trainer"].optimizer.param_groups
    assert (decayed["beta2_max"], decayed["eps"], decayed["weight_decay"]) == (0.98, 1e-6, 0.1)
    assert biases["weight_decay"] == 0.0
    assert type(names["trainer"].optimizer.optimizer) is MAdam
    assert model.layer.weight.item() != before
