"""The Triton kernel in its interpreter, where the tests of all implementations do not reach."""

import sys

import pytest
import torch

from glue_mva import LaMAdam, LaProp, MAdam
from glue_mva.optim import dispatch, selfcheck
from glue_mva.optim.kernels import cuda


@pytest.fixture
def interpreted(monkeypatch):
    monkeypatch.setattr(cuda, "BLOCK", 64)
    monkeypatch.setattr(dispatch, "choose", lambda group, params: "cuda" if group["fused"] else "for-loop")
    monkeypatch.setattr(selfcheck, "sound", lambda *_: True)


def walk(cls, n=8, **kwargs):
    torch.manual_seed(0)
    shapes = [(30, 11), (7,), (64,), (0,), (65,)]
    params = [torch.nn.Parameter(torch.randn(shape)) for shape in shapes]
    optimizer = cls(params, **kwargs)
    for _ in range(n):
        for p in params:
            p.grad = torch.randn_like(p)
        optimizer.step()
    return params, optimizer


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"capturable": True, "lr": torch.tensor(0.01)},
        {"lr": torch.tensor(0.01, dtype=torch.float64)},
        {"amsgrad": True},
    ],
    ids=str,
)
@pytest.mark.parametrize("cls", [MAdam, LaMAdam, LaProp])
def test_one_launch_over_tensors_of_many_blocks(interpreted, cls, settings, monkeypatch):
    settings = {"lr": 0.01, "weight_decay": 0.1, **settings}
    launches = []
    kernel = cuda._launch
    monkeypatch.setattr(cuda, "_launch", lambda *args: launches.append(1) or kernel(*args))
    got, optimizer = walk(cls, fused=True, **settings)
    want, reference = walk(cls, foreach=False, **settings)
    assert len(launches) == 8
    for p, q in zip(got, want, strict=True):
        torch.testing.assert_close(p, q, rtol=2e-5, atol=2e-6)
        for name, value in reference.state[q].items():
            torch.testing.assert_close(optimizer.state[p][name], value, rtol=2e-5, atol=2e-6)


def test_steps_are_read_from_the_device_only_when_the_weight_may_be_full(interpreted, monkeypatch):
    """Full after 47 steps at 0.7: one look at the first step, one at the 48th."""
    looks = []
    read = torch.Tensor.tolist
    monkeypatch.setattr(torch.Tensor, "tolist", lambda tensor: looks.append(1) or read(tensor))
    _, optimizer = walk(MAdam, n=50, fused=True, beta2_max=0.7)
    assert len(looks) == 2
    assert all("weight_sum" not in state for state in optimizer.state.values())


def test_skipped_steps_put_the_drop_off(interpreted):
    p = torch.nn.Parameter(torch.zeros(3))
    optimizer = MAdam([p], fused=True, beta2_min=0.05, beta2_max=0.1)  # full after 8 steps
    for t in range(20):
        p.grad = torch.randn(3)
        optimizer.found_inf = torch.tensor(2.0 * (t % 2))  # two devices overflowed
        optimizer.step()
        assert ("weight_sum" in optimizer.state[p]) == (t < 15)
    assert optimizer.state[p]["step"] == 10


def test_capturable_keeps_the_weight(interpreted):
    _, optimizer = walk(MAdam, n=12, fused=True, beta2_min=0.05, beta2_max=0.1, capturable=True)
    assert all("weight_sum" in state for state in optimizer.state.values())


def test_without_triton_it_warns_once(monkeypatch):
    monkeypatch.setitem(sys.modules, "triton", None)
    dispatch._has_triton.cache_clear()
    try:
        with pytest.warns(UserWarning, match="needs triton") as seen:
            assert not dispatch._has_triton()
            assert not dispatch._has_triton()
        assert len(seen) == 1
    finally:
        dispatch._has_triton.cache_clear()
