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


def test_examples_run(tmp_path):
    model = Line()
    before = model.layer.weight.item()
    data = [{"x": torch.tensor([float(i)]), "labels": torch.tensor([2.0 * i])} for i in range(8)]
    args = TrainingArguments(str(tmp_path), max_steps=3, report_to=[], save_strategy="no", use_cpu=True)
    names = {"model": model, "data": data, "args": args, "Trainer": Trainer}
    plain, with_trainer = BLOCKS
    exec(plain, names)
    assert isinstance(names["optimizer"], MAdam)
    exec(f"trainer = {with_trainer}", names)
    names["trainer"].train()
    group = names["trainer"].optimizer.param_groups[0]
    assert (group["beta2_max"], group["eps"]) == (0.98, 1e-6)
    assert type(names["trainer"].optimizer.optimizer) is MAdam
    assert model.layer.weight.item() != before
