"""The optimizers alone: what importing them loads, and what a new state tensor costs."""

import contextlib
import os
import re
import shutil
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, packages_distributions, requires
from pathlib import Path

import glue_mva

PACKAGE = Path(glue_mva.__file__).parent

USE = """
import torch
from glue_mva import LaMAdam, LaProp, MAdam
from glue_mva.optim.dynamics import StepProbe
import glue_mva.optim
for cls in (MAdam, LaMAdam, LaProp):
    for flags in ({}, {"foreach": False}, {"foreach": True}, {"fused": True}):
        p = torch.nn.Parameter(torch.ones(4))
        optimizer = cls([p], **flags)
        probe = StepProbe(optimizer, lambda: True)
        p.grad = torch.ones(4)
        optimizer.step()
        optimizer.load_state_dict(optimizer.state_dict())
        assert probe.read()["step_size"] > 0
"""

HIDE = """
import sys
from importlib.machinery import PathFinder
class Hiding(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] in HIDDEN else super().find_spec(name, path, target)
sys.meta_path[sys.meta_path.index(PathFinder)] = Hiding
"""


def closure(name):
    """The distributions that one needs, itself included."""
    found, queue = set(), [name]
    while queue:
        name = re.split(r"[ ;<>=!~\[(]", queue.pop())[0].lower().replace("_", "-")
        if name not in found:
            found.add(name)
            with contextlib.suppress(PackageNotFoundError):  # for another platform
                queue += [line for line in requires(name) or [] if "extra ==" not in line]
    return found


def test_the_optimizers_need_torch_and_numpy_and_nothing_else(tmp_path):
    """All implementations and the diagnostics, where no other package can be found."""
    allowed = closure("torch") | {"numpy", "glue-mva"}
    owners = packages_distributions().items()
    hidden = {module for module, names in owners if not {n.lower().replace("_", "-") for n in names} & allowed}
    assert {"pydantic", "transformers", "datasets", "scipy", "pandas", "rich"} <= hidden
    code = f"HIDDEN = {hidden}\n{HIDE}\n{USE}"
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "XDG_CACHE_HOME": str(tmp_path)})


WALK = """
import os
os.environ["TRITON_INTERPRET"] = "1"
import torch
from glue_mva import LaMAdam, LaProp, MAdam
from glue_mva.optim import dispatch, selfcheck
selfcheck.sound = lambda *_: True
for cls in (MAdam, LaMAdam, LaProp):
    for amsgrad in (False, True):
        for name in dispatch.ALL:
            dispatch.choose = lambda group, params: name
            torch.manual_seed(0)
            p = torch.nn.Parameter(torch.randn(40))
            optimizer = cls([p], lr=0.1, amsgrad=amsgrad, weight_decay=0.1)
            for _ in range(3):
                p.grad = torch.randn(40)
                optimizer.step()
            print(cls.__name__, amsgrad, p.tolist())
"""


def test_a_new_state_tensor_is_one_field(tmp_path):
    """With a field more, and the others in another order, every implementation computes what it did."""
    shutil.copytree(PACKAGE, tmp_path / "glue_mva", ignore=shutil.ignore_patterns("__pycache__", "configs", "demo"))
    state = tmp_path / "glue_mva" / "optim" / "state.py"
    text = state.read_text()
    moved = "    var: Tensor = _NOT_KEPT\n"
    assert text.count(moved) == 1 and text.count("    mean: Tensor = _NOT_KEPT\n") == 1
    text = text.replace(moved, "")
    text = text.replace(
        "    mean: Tensor = _NOT_KEPT\n", f"    new: Tensor = _NOT_KEPT\n{moved}    mean: Tensor = _NOT_KEPT\n"
    )
    env = {**os.environ, "XDG_CACHE_HOME": str(tmp_path), "CUDA_VISIBLE_DEVICES": ""}
    outputs = []
    for changed in (False, True):
        if changed:
            state.write_text(text)
        done = subprocess.run([sys.executable, "-c", WALK], cwd=tmp_path, env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        outputs.append(done.stdout)
    assert outputs[0] == outputs[1]
    assert len(list(tmp_path.glob("glue-mva/*.so"))) == 2  # a library for each layout
