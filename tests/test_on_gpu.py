"""On a real card, and skipped where there is none: `python -m pytest -m cuda tests/test_on_gpu.py`. Not together with
the tests of the optimizers, which have Triton interpret its kernels on the CPU."""

import os

import pytest
import torch
from transformers import AutoModelForSequenceClassification

from glue_mva import LaMAdam, LaProp, MAdam, RunConfig, run
from glue_mva.models.selfcheck import packing_is_sound

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]


def test_triton_compiles_here():
    assert os.environ.get("TRITON_INTERPRET", "0") == "0"


def stepped(cls: type[torch.optim.Optimizer], **flags: bool) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    parameters = [torch.nn.Parameter(torch.randn(n, generator=generator).cuda()) for n in (1, 1000, 70000)]
    optimizer = cls(parameters, lr=1e-2, **flags)  # type: ignore[call-arg]
    for _ in range(5):
        for p in parameters:
            p.grad = torch.randn(p.shape, generator=generator).cuda()
        optimizer.step()
    return [p.detach() for p in parameters]


@pytest.mark.parametrize("flags", [{"foreach": True}, {"fused": True}], ids=["foreach", "Triton"])
@pytest.mark.parametrize("cls", [MAdam, LaMAdam, LaProp])
def test_the_implementations_agree(cls, flags):
    for got, expected in zip(stepped(cls, **flags), stepped(cls, foreach=False), strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("family", ["bert", "roberta"])
def test_packed_training_is_padded_training(family, tiny_models):
    model = AutoModelForSequenceClassification.from_pretrained(tiny_models[family])
    assert packing_is_sound(model, torch.device("cuda"), "bf16", own_layers=False)


@pytest.mark.parametrize("values", [{}, {"padding": "none", "precision": "bf16"}, {"fused": True}])
def test_a_run(values, tiny_models, tmp_path):
    record = run(RunConfig(task="qnli", optim="lamadam", data="demo", model=tiny_models["roberta"], max_steps=20,
                           max_train_samples=200, max_eval_samples=100, output=str(tmp_path), **values))  # fmt: skip
    assert record.status == "ok" and record.execution.device_type == "cuda"
    assert record.curves["loss"][-1] is not None
