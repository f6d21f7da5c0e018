"""Average step size and statistics of beta_t against the scalar reference and against what the step really did."""

import numpy as np
import pytest
import torch

from glue_mva import LaMAdam, LaProp, MAdam
from glue_mva.optim import diagnostics
from glue_mva.optim.diagnostics import average_step_size, beta_statistics
from tests.optim.reference import trajectory

GRADS = np.random.default_rng(1).standard_normal((30, 8)).astype(np.float32)


@pytest.mark.parametrize("amsgrad", [False, True])
@pytest.mark.parametrize("cls", [MAdam, LaMAdam, LaProp])
def test_against_the_reference(cls, amsgrad, monkeypatch):
    monkeypatch.setattr(diagnostics, "_PIECE", 3)
    betas = {"beta2": 0.9} if cls is LaProp else {"beta2_min": 0.5, "beta2_max": 0.9}
    p, q = torch.nn.Parameter(torch.ones(2, 3)), torch.nn.Parameter(torch.ones(2))
    optimizer = cls([p, q], lr=1e-3, eps=1e-6, weight_decay=0.3, amsgrad=amsgrad, **betas)
    runs = [
        trajectory(cls.__name__.lower(), GRADS[:, i].astype(float), 1e-3, 1.0, beta2_max=0.9, amsgrad=amsgrad)
        for i in range(8)
    ]
    for t, row in enumerate(GRADS):
        p.grad, q.grad = torch.from_numpy(row[:6]).reshape(2, 3), torch.from_numpy(row[6:])
        statistics = beta_statistics(optimizer)
        optimizer.step()
        step = np.mean([abs(run["step"][t]) for run in runs])
        assert average_step_size(optimizer).item() == pytest.approx(step, rel=1e-5)
        if cls is LaProp:
            assert statistics is None
            continue
        beta = np.array([run["beta"][t] for run in runs])
        assert statistics["beta_mean"].item() == pytest.approx(beta.mean(), abs=1e-5)
        assert statistics["beta_at_min"].item() == pytest.approx(np.mean(beta <= 0.5 + 1e-9))
        assert statistics["beta_at_max"].item() == pytest.approx(np.mean(beta >= 0.9 - 1e-9))


@pytest.mark.parametrize("amsgrad", [False, True])
def test_adamw_moves_by_its_average_step_size(amsgrad):
    p = torch.nn.Parameter(torch.zeros(50))
    optimizer = torch.optim.AdamW([p], lr=1e-2, weight_decay=0.0, amsgrad=amsgrad)
    for seed in range(4):
        before = p.detach().clone()
        p.grad = torch.randn(50, generator=torch.Generator().manual_seed(seed))
        optimizer.step()
        assert average_step_size(optimizer).item() == pytest.approx((p - before).abs().mean().item(), rel=1e-4)


def test_other_optimizers_and_missing_state_give_none():
    p = torch.nn.Parameter(torch.zeros(3))
    assert average_step_size(torch.optim.SGD([p], lr=0.1)) is None
    assert beta_statistics(torch.optim.AdamW([p])) is None
    assert average_step_size(MAdam([p])) is None
    assert beta_statistics(MAdam([p])) is None


@pytest.mark.parametrize("how", ["argument", "attribute"])
def test_loss_scale_is_taken_out(how):
    p = torch.nn.Parameter(torch.zeros(50))
    optimizer = MAdam([p])
    p.grad = torch.randn(50)
    optimizer.step()
    p.grad = torch.randn(50)
    plain = beta_statistics(optimizer)
    p.grad *= 1024.0
    scale = torch.tensor(1024.0)
    if how == "attribute":
        optimizer.grad_scale = scale
    scaled = beta_statistics(optimizer, scale if how == "argument" else None)
    assert scaled == plain


@pytest.mark.parametrize("cls", [MAdam, LaMAdam, LaProp])
def test_nothing_is_changed(cls):
    p = torch.nn.Parameter(torch.zeros(5))
    optimizer = cls([p])
    p.grad = torch.randn(5)
    optimizer.step()
    before = {name: value.clone() for name, value in optimizer.state[p].items()}
    beta_statistics(optimizer)
    average_step_size(optimizer)
    assert all(torch.equal(value, optimizer.state[p][name]) for name, value in before.items())
