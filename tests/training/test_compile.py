"""Runs whose encoder is compiled: the same results, and refusals where it cannot be."""

import shutil

import numpy as np
import pytest
import torch
from transformers import TrainerCallback

from glue_mva import run
from glue_mva.config.identity import run_id
from glue_mva.config.resolve import resolve
from glue_mva.errors import UsageError
from tests.training.material import config_of


class CompiledGraphs(TrainerCallback):
    """Graphs that torch.compile has made so far in this process, after each update."""

    def __init__(self):
        self.counts = []

    def on_step_end(self, *args, **kwargs):
        self.counts.append(torch._dynamo.utils.counters["stats"]["unique_graphs"])


@pytest.mark.skipif(not shutil.which("g++"), reason="torch.compile on a CPU needs a C++ compiler")
@pytest.mark.slow
def test_a_compiled_run_without_dropout_is_the_same_run(glue, tiny_models, tmp_path):
    """Same run_id, losses and scores up to rounding; batches of other sizes are not compiled anew."""
    quiet = {"hidden_dropout": 0.0, "attention_dropout": 0.0, "precision": "fp32", "logging_steps": 1}
    quiet |= {"max_train_samples": 192, "train_batch_size": 16}
    plain, compiled = (
        config_of("cola", glue, tiny_models["bert"], tmp_path / name, **quiet, compile=name == "compiled")
        for name in ("plain", "compiled")
    )
    assert run_id(resolve(plain)) == run_id(resolve(compiled))
    expected = run(plain)
    torch.compiler.reset()
    torch._dynamo.utils.counters.clear()
    graphs = CompiledGraphs()
    got = run(compiled, [graphs])
    assert len(graphs.counts) == 12 and graphs.counts[0] > 0
    assert graphs.counts[1] == graphs.counts[-1]
    np.testing.assert_allclose(got.curves["loss"], expected.curves["loss"], rtol=1e-4)
    assert got.score == expected.score


def test_compiling_without_a_compiler_is_refused(glue, tiny_models, tmp_path, monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(UsageError, match=r"needs a C\+\+ compiler \(no-such-compiler is not there\)"):
        run(config_of("cola", glue, tiny_models["bert"], tmp_path, compile=True))


def test_a_family_that_cannot_be_compiled_is_refused(glue, tiny_models, tmp_path):
    with pytest.raises(UsageError, match="modernbert"):
        run(config_of("cola", glue, tiny_models["modernbert"], tmp_path, compile=True))
    assert not list(tmp_path.iterdir())
