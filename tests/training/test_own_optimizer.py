"""Runs with an optimizer that is not of the registry: refused before anything is written, and never taken for another
version of themselves."""

import logging
import sys
from pathlib import Path

import pytest

from glue_mva import RunConfig, UsageError, run
from glue_mva.record import read_record
from tests.training.material import config_of

SOURCE = """
import torch
class Mine(torch.optim.SGD):
    SCALE = {scale}
    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    p.grad.mul_(self.SCALE)
        return super().step(closure)
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Writes `own_optimizer.py`, importable, and forgets an older one as a new process would."""
    monkeypatch.setattr("glue_mva.optim.source._imported", {})
    folder = tmp_path / "code"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def write(text: str) -> str:
        sys.modules.pop("own_optimizer", None)
        sys.path_importer_cache.pop(str(folder), None)
        (folder / "own_optimizer.py").write_text(text)
        monkeypatch.setattr("glue_mva.optim.source._imported", {})
        return "own_optimizer:Mine"

    yield write
    sys.modules.pop("own_optimizer", None)


def test_another_version_is_run_anew_and_says_so(module, glue, tiny_models, tmp_path, caplog):
    def make(scale: int, **values) -> object:
        optim = module(SOURCE.format(scale=scale))
        return run(config_of("rte", glue, tiny_models["bert"], tmp_path / "runs", optim=optim, lr=0.1, **values))

    first = make(1)
    assert make(1).created == first.created  # the same version: its record stands
    with caplog.at_level(logging.WARNING, logger="glue_mva"):
        second = make(50)
    assert f"{first.run_id} was made by another version of own_optimizer:Mine: run anew" in caplog.text
    assert second.run_id != first.run_id and second.curves["loss"] != first.curves["loss"]
    assert len({first.optimizer_source, second.optimizer_source}) == 2
    assert read_record(tmp_path / "runs" / first.run_id).optimizer_source == first.optimizer_source
    caplog.clear()
    with caplog.at_level(logging.WARNING, logger="glue_mva"):
        make(50, seed=7)  # no run of this seed by another version
    assert "another version" not in caplog.text


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"optim": "torch.optim:Nope"}, "no class 'Nope'"),
        ({"optim": "os:system"}, "no optimizer"),
        ({"optim": "torch.optim:Optimizer.step"}, "no optimizer"),
        ({"optim": "lamadam", "optim_args": {"beta2_min": 1.5}}, "beta2_min: 1.5"),
        ({"optim": "adam", "optim_args": {"betas": 0.9}}, "betas=0.9"),
        ({"optim": "torch.optim:Muon"}, "2D parameters"),
        ({"optim": "torch.optim:LBFGS"}, "closure"),
        ({"optim": "torch.optim:SGD", "optim_args": {"nothing": 1}}, "nothing"),
        ({"optim": "no_such_module:X"}, "no_such_module"),
    ],
)
def test_what_cannot_be_built_is_refused_before_anything_is_written(values, words, glue, tiny_models, tmp_path):
    with pytest.raises(UsageError, match=words) as error:
        run(config_of("rte", glue, tiny_models["bert"], tmp_path / "runs", **values))
    assert "\n" not in str(error.value) and not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("import sys; sys.exit(0)", "it raises SystemExit: 0"),
        ("raise KeyError('x')", "it raises KeyError"),
        ("def f(:", "it raises SyntaxError"),
        ("import torch\ndef Mine(*args, **kwargs): raise RuntimeError('called')", "no optimizer"),
        ("import torch\nclass Mine(torch.optim.SGD):\n def __init__(self, *a, **k): raise SystemExit(0)", "SystemExit"),
        (
            "import torch\nclass Mine(torch.optim.SGD):\n def step(self, closure=None): raise OSError('no', 'step')",
            "Mine: what its weight decay does cannot be seen, since its step raises OSError",
        ),
    ],
)
def test_a_module_that_is_broken_is_refused(module, text, words, glue, tiny_models, tmp_path):
    with pytest.raises(UsageError, match=words):
        run(config_of("rte", glue, tiny_models["bert"], tmp_path / "runs", optim=module(text)))
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("name", [":Foo", "..x:Foo", "./my.py:Foo", "m:", "a b:C", "torch.optim:AdamW/../../../evil"])
def test_a_path_that_names_no_class_is_refused(name):
    with pytest.raises(UsageError, match=r"write it as pkg\.module:Class"):
        RunConfig(task="rte", optim=name)


def test_a_dot_in_place_of_the_colon_is_seen():
    with pytest.raises(UsageError, match=r"did you mean 'torch\.optim:RAdam'"):
        RunConfig(task="rte", optim="torch.optim.RAdam")


def test_a_class_without_a_file_is_refused():
    code = {"__name__": "typed_in_a_notebook"}
    exec("import torch\nclass Typed(torch.optim.SGD): pass", code)
    with pytest.raises(UsageError, match="write it into a module"):
        RunConfig(task="rte", optim=code["Typed"])


@pytest.mark.parametrize(("optim", "expected"), [("sgd", "trainer"), ("torch.optim:NAdam", "class")])
def test_the_record_says_who_decays(optim, expected, glue, tiny_models, tmp_path):
    record = run(config_of("rte", glue, tiny_models["bert"], tmp_path, optim=optim, weight_decay=0.1))
    assert record.execution.weight_decay == expected
