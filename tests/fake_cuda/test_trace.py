"""Whole training steps for a GPU, traced without one: wrong arguments, shapes, dtypes and devices show, not values."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from glue_mva import LaProp, MAdam
from glue_mva.models.packing import FAMILIES

pytestmark = [
    pytest.mark.skipif(torch.version.cuda is not None, reason="this build of torch has devices of its own"),
    pytest.mark.skipif(not shutil.which("g++"), reason="the fake device is compiled with g++"),
]
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def trace(tmp_path_factory):
    """Function: what to trace -> what the process printed."""
    library = tmp_path_factory.mktemp("guard") / "guard.so"
    home = Path(torch.__file__).parent
    command = ["g++", "-std=c++20", "-shared", "-fPIC", f"-I{home / 'include'}", Path(__file__).with_name("guard.cpp")]
    libraries = [f"-L{home / 'lib'}", "-lc10", "-ltorch_cpu", f"-Wl,-rpath,{home / 'lib'}"]
    subprocess.run([*command, "-o", library, *libraries], check=True)

    def run(what):
        words = [sys.executable, "-m", "tests.fake_cuda.trace", str(library), what]
        done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run


def test_optimizers(trace):
    """State on the device and in float32, step counts where the flags put them, and nothing read back in between."""
    cases = trace("optimizers")
    assert len({case["class"] for case in cases}) == 4 and len(cases) == 56
    for case in cases:
        assert case["param"] == f"{case['dtype'].removeprefix('torch.')} on cuda:0", case
        if case["class"] == "AdamW":
            continue  # torch's, whose state has the dtype of its parameter
        settings, state = case["settings"], dict(case["state"])
        assert state.pop("step") == f"float32 on {'cuda:0' if settings.get('capturable') else 'cpu'}", case
        cls = LaProp if case["class"] == "LaProp" else MAdam
        expected = {*cls.state_names, *(["max_second"] if settings.get("amsgrad") else [])}
        assert state == dict.fromkeys(expected, "float32 on cuda:0"), case
        assert case["measured"] == ["float32 on cuda:0"] * (1 if cls is LaProp else 4), case


@pytest.mark.slow
def test_models(trace):
    """Padded in every precision, packed in half precision by FlashAttention in both layers."""
    dtypes = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
    seen = set()
    for case in trace("models"):
        dtype = f"{dtypes[case['precision']]} on cuda:0"
        assert case["logits"] == dtype and case["rows"] == 5, case
        assert case["loss"] == "float32 on cuda:0", case
        assert case["grads"] == case["params"] == ["float32 on cuda:0"] and not case["without"], case
        assert case["flash"] == ([dtype] * 2 if case["packed"] else []), case
        seen.add((case["family"], case["precision"], case["packed"]))
    padded = {(family, precision, False) for family in FAMILIES for precision in dtypes}
    assert seen == padded | {(family, precision, True) for family in FAMILIES for precision in ("bf16", "fp16")}
