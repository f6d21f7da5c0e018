"""Loading a classifier: what the config asks for arrives in the modules of every family."""

import re

import pytest
import torch

from glue_mva import RunConfig
from glue_mva.config.resolve import resolve
from glue_mva.models.load import load_model
from tests.tiny import CONFIGS

ATTENTION = re.compile(r"(attention\.dropout|self\.dropout|attention_dropout|attn\.out_drop)$")
"""Names of the modules that drop attention weights; ModernBERT has one value for these and the output."""


@pytest.mark.parametrize("family", CONFIGS)
def test_dropout_reaches_every_module(family, tiny_models):
    config = resolve(RunConfig(task="rte", optim="adam", model=tiny_models[family], hidden_dropout=0.3,
                               attention_dropout=0.2))  # fmt: skip
    model = load_model(config)
    found = {"head": set(), "attention": set(), "hidden": set()}
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Dropout):
            place = "attention" if ATTENTION.search(name) else "hidden"
            found[place if name.startswith(model.base_model_prefix + ".") else "head"].add(module.p)
    assert found == {"head": {0.0}, "attention": {0.2}, "hidden": {0.3}}
    assert {p.dtype for p in model.parameters()} == {torch.float32}
