"""Every implementation against the paper's equations: a scalar reference, and stored float64 trajectories."""

from pathlib import Path

import numpy as np
import pytest
import torch

from glue_mva import LaMAdam, LaProp, MAdam
from glue_mva.optim import dispatch, maxva
from tests.optim.reference import trajectory

GOLDEN = np.load(Path(__file__).parents[1] / "data" / "golden" / "maxva.npz")
STREAMS = ["normal_1e-4", "normal_1e-8", "heavy_tail", "embedding_rows", "mean_over_std_1000"]
OPTIMIZERS = {"madam": (MAdam, 1e-6), "lamadam": (LaMAdam, 1e-15)}


def run(name, stream, dtype, theta0, steps=240):
    """Final theta, the worst error of beta, and the state, stepped on a golden stream."""
    cls, eps = OPTIMIZERS[name]
    grads, lr = torch.from_numpy(GOLDEN[f"{stream}/grads"]), GOLDEN[f"{stream}/lr"]
    p = torch.nn.Parameter(torch.as_tensor(theta0, dtype=dtype))
    optimizer = cls([p], lr=1.0, beta1=0.9, beta2_min=0.5, beta2_max=0.98, eps=eps, weight_decay=0.1)
    worst = 0.0
    for t in range(steps):
        optimizer.param_groups[0]["lr"] = float(lr[t])
        p.grad = grads[t].to(dtype)
        if t:
            state = optimizer.state[p]
            gamma = maxva.gamma_t(p.grad, state["mean"], state["var"], state["weight_sum"], 1 - 0.98, 1 - 0.5)
            worst = max(worst, np.abs(1 - gamma.double().numpy() - GOLDEN[f"{stream}/{name}/beta"][t]).max())
        optimizer.step()
    return p.detach().double().numpy(), worst, optimizer.state[p]


@pytest.mark.parametrize("stream", STREAMS)
@pytest.mark.parametrize("name", ["madam", "lamadam"])
def test_float32_within_what_float32_can_reach(implementation, name, stream):
    lr, gold = GOLDEN[f"{stream}/lr"], GOLDEN[f"{stream}/{name}/theta"]
    # Triton's interpreter is slow; the tolerance on the ill-conditioned stream is one for the whole path
    steps = 60 if implementation == "cuda" and stream != "mean_over_std_1000" else 240
    theta, worst, state = run(name, stream, torch.float32, np.zeros(24), steps)
    # The gradients do not depend on theta, so theta0 enters only through its own decay: take it out of the golden path.
    decayed = np.cumprod(1 - 0.1 * lr)[:, None] * GOLDEN[f"{stream}/theta0"]
    expected = np.vstack([np.zeros(24), gold - decayed])
    expected = expected[: steps + 1]
    path = np.abs(np.diff(expected, axis=0)).sum(0)
    assert worst < (3e-4 if stream == "mean_over_std_1000" else 1e-5)
    assert np.all(np.abs(theta - expected[-1]) <= 2e-6 * path + 1e-12)
    assert np.abs(state["weight_sum"].numpy() - GOLDEN[f"{stream}/{name}/w"][steps - 1]).max() < 1e-6


@pytest.mark.parametrize("stream", STREAMS)
@pytest.mark.parametrize("name", ["madam", "lamadam"])
@pytest.mark.parametrize("foreach", [False, True])
def test_float64_is_exact(name, stream, foreach, monkeypatch):
    monkeypatch.setattr(dispatch, "choose", lambda group, params: "foreach" if foreach else "for-loop")
    theta, worst, state = run(name, stream, torch.float64, GOLDEN[f"{stream}/theta0"])
    assert worst < 1e-12
    np.testing.assert_allclose(theta, GOLDEN[f"{stream}/{name}/theta"][-1], rtol=0, atol=1e-15)
    np.testing.assert_allclose(state["mean"], GOLDEN[f"{stream}/{name}/u"][-1], rtol=1e-9, atol=1e-300)
    np.testing.assert_allclose(state["var"], GOLDEN[f"{stream}/{name}/var"][-1], rtol=1e-9, atol=1e-300)


@pytest.mark.parametrize("stream", ["heavy_tail", "mean_over_std_1000"])
@pytest.mark.parametrize("name", ["madam", "lamadam"])
def test_reference_reproduces_the_golden_trajectories(name, stream):
    eps = OPTIMIZERS[name][1]
    for i in range(3):
        got = trajectory(
            name,
            GOLDEN[f"{stream}/grads"][:, i].astype(float),
            GOLDEN[f"{stream}/lr"],
            float(GOLDEN[f"{stream}/theta0"][i]),
            eps=eps,
            weight_decay=0.1,
        )
        np.testing.assert_allclose(got["beta"], GOLDEN[f"{stream}/{name}/beta"][:, i], atol=1e-12)
        np.testing.assert_allclose(got["theta"], GOLDEN[f"{stream}/{name}/theta"][:, i], atol=1e-15)


@pytest.mark.parametrize("amsgrad", [False, True])
@pytest.mark.parametrize("cls", [MAdam, LaMAdam, LaProp])
def test_every_variant_against_the_reference(implementation, cls, amsgrad):
    rng = np.random.default_rng(0)
    grads = rng.standard_normal((60, 6)).astype(np.float32) * [1e-3, 1e-3, 1.0, 1e-6, 0.0, 1e-2]
    grads[30:, 1] = 0.0  # a coordinate that falls silent
    settings = {"beta1": 0.8, "eps": 1e-7, "weight_decay": 0.01, "amsgrad": amsgrad}
    betas = {"beta2": 0.95} if cls is LaProp else {"beta2_min": 0.6, "beta2_max": 0.95}
    p = torch.nn.Parameter(torch.zeros(6))
    optimizer = cls([p], lr=1e-2, **settings, **betas)
    for g in grads:
        p.grad = torch.from_numpy(g.astype(np.float32))
        optimizer.step()
    for i in range(6):
        reference = trajectory(
            cls.__name__.lower(),
            grads[:, i].astype(np.float32).astype(float),
            1e-2,
            0.0,
            beta2_min=0.6,
            beta2_max=0.95,
            **settings,
        )
        path = np.abs(reference["step"]).sum()
        assert abs(p[i].item() - reference["theta"][-1]) <= 5e-6 * path


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("cls", [MAdam, LaMAdam, LaProp])
def test_16_bit_parameters_have_float32_state_and_arithmetic(implementation, cls, dtype):
    """One step from a rounded parameter is the float32 step, rounded once; the state is that of a float32 parameter."""
    torch.manual_seed(0)
    low = torch.nn.Parameter(torch.randn(500).to(dtype))
    high = torch.nn.Parameter(low.detach().float())
    optimizers = cls([low], lr=0.1), cls([high], lr=0.1)
    for _ in range(5):
        low.grad = torch.randn(500).to(dtype)
        high.grad = low.grad.float()
        high.data = low.detach().float()
        for optimizer in optimizers:
            optimizer.step()
        ulp = torch.finfo(dtype).eps * high.detach().abs()
        # Triton's interpreter truncates where the hardware rounds
        assert torch.all((low.float() - high).abs() <= ulp * (1 if implementation == "cuda" else 0.5) + 1e-7)
        for key, value in optimizers[0].state[low].items():
            assert value.dtype == torch.float32
            assert torch.equal(value, optimizers[1].state[high][key])
