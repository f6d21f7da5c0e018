"""What must hold whatever the gradients are: special cases, scale, and the claims of the paper's Appendix B."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from glue_mva import LaMAdam, LaProp, MAdam
from glue_mva.optim import maxva

MAXVA = [MAdam, LaMAdam]


def stream(n=40, size=64, seed=0, scale=1.0, loc=0.0):
    generator = torch.Generator().manual_seed(seed)
    return [scale * (torch.randn(size, generator=generator) + loc) for _ in range(n)]


def walk(cls, grads, **kwargs):
    """The final parameter from 0 and the optimizer's state."""
    p = torch.nn.Parameter(torch.zeros_like(grads[0]))
    optimizer = cls([p], **{"lr": 0.01, **kwargs})
    for grad in grads:
        p.grad = grad.clone()
        optimizer.step()
    return p.detach(), optimizer.state[p]


@pytest.mark.parametrize("amsgrad", [False, True])
def test_range_collapsed_to_a_point_is_adam(implementation, amsgrad):
    grads = stream()
    got, _ = walk(MAdam, grads, beta2_min=0.97, beta2_max=0.97, weight_decay=0.1, amsgrad=amsgrad)
    want, _ = walk(torch.optim.AdamW, grads, betas=(0.9, 0.97), weight_decay=0.1, amsgrad=amsgrad)
    torch.testing.assert_close(got, want, rtol=2e-5, atol=2e-7)


@pytest.mark.parametrize("amsgrad", [False, True])
def test_range_collapsed_to_a_point_is_laprop(implementation, amsgrad):
    grads = stream()
    got, _ = walk(LaMAdam, grads, beta2_min=0.97, beta2_max=0.97, weight_decay=0.1, amsgrad=amsgrad)
    want, _ = walk(LaProp, grads, beta2=0.97, weight_decay=0.1, amsgrad=amsgrad)
    torch.testing.assert_close(got, want, rtol=2e-5, atol=2e-7)


@pytest.mark.parametrize("power", [-30, 20])
@pytest.mark.parametrize("cls", [MAdam, LaMAdam, LaProp])
def test_scaling_all_gradients_by_a_power_of_two_changes_nothing(implementation, cls, power):
    plain, _ = walk(cls, stream(loc=1.0), eps=0.0)
    scaled, _ = walk(cls, stream(loc=1.0, scale=2.0**power), eps=0.0)
    assert torch.equal(plain, scaled)


@pytest.mark.parametrize("cls", MAXVA)
def test_weight_sum_rises_from_one_minus_beta2_max_to_one(implementation, cls):
    p = torch.nn.Parameter(torch.zeros(64))
    optimizer = cls([p], beta2_min=0.5, beta2_max=0.9)
    last = torch.zeros(64)
    for t, grad in enumerate(stream(100)):
        p.grad = grad
        optimizer.step()
        w = optimizer.state[p]["weight_sum"]
        assert torch.all(w >= last)
        assert torch.all(w <= 1)
        assert torch.all(w >= 1 - 0.9 ** (t + 1) - 1e-6)
        if t == 0:
            torch.testing.assert_close(w, torch.full((64,), 0.1), rtol=1e-6, atol=0)
        last = w.clone()
    assert torch.all(last > 1 - 1e-4)


@given(d=st.floats(2.0**-60, 2.0**60), s=st.floats(2.0**-60, 2.0**60), w=st.floats(0.001, 0.999))
@settings(deadline=None)
def test_unclipped_beta_lies_between_its_bounds(d, s, w):
    """Appendix B: 1 / (1 + w) <= beta_t <= 1 / (1 - w), above 1 exactly where d < s."""
    args = [torch.tensor([x], dtype=torch.float64) for x in (math.sqrt(d), 0.0, s, w)]
    beta = 1 - maxva.gamma_t(*args, -math.inf, math.inf).item()
    assert 1 / (1 + w) - 1e-12 <= beta <= 1 / (1 - w) + 1e-9 / (1 - w)
    if not math.isclose(d, s, rel_tol=1e-6):
        assert (beta > 1) == (d < s)


def test_second_step_uses_one_over_one_plus_w():
    """s = 0 after the first step, so beta_2 is the same for every coordinate whose gradient changed."""
    grad, mean = torch.randn(50), torch.randn(50)
    gamma = maxva.gamma_t(grad, mean, torch.zeros(50), torch.full((50,), 0.02), 0.0, 1.0)
    torch.testing.assert_close(1 - gamma, torch.full((50,), 1 / 1.02))


@pytest.mark.parametrize("w", [0.02, 0.7, 1.0, None])
def test_degenerate_coordinates(w):
    """d = s = 0: beta_t = beta2_min (claim 4). d = 0 < s: beta_t = beta2_max."""
    weight = None if w is None else torch.tensor([w])
    value = torch.tensor([0.3])
    gamma = maxva.gamma_t(value, value, torch.zeros(1), weight, 1 - 0.98, 1 - 0.5)
    assert gamma.item() == pytest.approx(0.5)
    for s in (1e-3, 1e-20, 1e-30):
        gamma = maxva.gamma_t(value, value, torch.tensor([s]), weight, 1 - 0.98, 1 - 0.5)
        assert gamma.item() == pytest.approx(0.02)


@pytest.mark.parametrize("cls", MAXVA)
def test_rows_never_touched_do_not_move(implementation, cls):
    grads = [grad * (torch.arange(64) % 4 == 0) for grad in stream()]
    theta, state = walk(cls, grads, beta2_max=0.98)
    untouched = torch.arange(64) % 4 != 0
    assert torch.all(theta[untouched] == 0)
    assert torch.all(state["var"][untouched] == 0)
    assert torch.all(theta[~untouched] != 0)


@pytest.mark.parametrize("cls", MAXVA)
def test_constant_gradients_have_no_variance_and_steps_of_lr(implementation, cls):
    grads = [torch.tensor([3e-5, -2.0])] * 20
    theta, state = walk(cls, grads, eps=0.0)
    assert torch.all(state["var"] == 0)
    torch.testing.assert_close(theta, torch.tensor([-0.2, 0.2]), rtol=1e-5, atol=0)


@pytest.mark.parametrize("cls", MAXVA)
@given(
    grads=st.lists(st.lists(st.floats(-1e6, 1e6, width=32), min_size=3, max_size=3), min_size=1, max_size=25),
    ends=st.tuples(st.floats(0.0, 0.999), st.floats(0.0, 0.999)),
    exponent=st.integers(-10, 0),
)
@settings(deadline=None, max_examples=60)
def test_any_stream_keeps_the_state_sound(cls, grads, ends, exponent):
    """s >= 0, w in (0, 1], u within the gradients seen, v no larger than their largest square, theta finite."""
    rows = [torch.tensor(row) * 10.0**exponent for row in grads]
    p = torch.nn.Parameter(torch.zeros(3))
    optimizer = cls([p], beta2_min=min(ends), beta2_max=max(ends))
    for t in range(len(rows)):
        p.grad = rows[t]
        optimizer.step()
        state, seen = optimizer.state[p], torch.stack(rows[: t + 1])
        slack = 1e-5 * seen.abs().max(0).values
        assert torch.all(state["var"] >= 0)
        weight = state.get("weight_sum", torch.ones(3))
        assert torch.all((weight > 0) & (weight <= 1))
        assert torch.all(state["mean"] >= seen.min(0).values - slack)
        assert torch.all(state["mean"] <= seen.max(0).values + slack)
        v = state["var"] + state["mean"] ** 2
        assert torch.all(v <= seen.square().max(0).values * 1.0001 + 1e-37)
        assert torch.isfinite(p).all()


@pytest.mark.parametrize("cls", MAXVA)
def test_dropping_the_weight_changes_nothing_to_speak_of(implementation, cls):
    """From beta2_max^t < 2^-24 on, w is not kept; a float64 run, which keeps it twice as long, agrees."""
    limit = maxva.steps_until_full(0.7)
    assert limit == 47
    assert 0.7**limit < 2.0**-24 < 0.7 ** (limit - 1)
    assert maxva.steps_until_full(0.98) == 824
    grads = stream(70)
    theta, state = walk(cls, grads, beta2_max=0.7)
    assert "weight_sum" not in state
    exact, kept = walk(cls, [grad.double() for grad in grads], beta2_max=0.7)
    assert "weight_sum" in kept
    torch.testing.assert_close(theta.double(), exact, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("cls", MAXVA)
def test_upper_end_of_one_keeps_the_weight_for_good(cls):
    _, state = walk(cls, stream(200), beta2_max=1.0)
    assert torch.all((state["weight_sum"] > 0.1) & (state["weight_sum"] <= 1))


def test_converges_where_adam_does_not():
    """The paper's nonconvex problem (Eq. 11), scaled to a test: 40 copies at once, each with its own draws."""
    torch.manual_seed(0)

    def final(make, steps=15000):
        p = torch.nn.Parameter(torch.full((40,), 2.0))
        optimizer = make([p])
        draws = torch.randint(11, (steps, 40))
        for draw in draws:
            inside = p.detach().clamp(-1, 1)
            p.grad = torch.where(draw == 0, 11 * inside, -inside)
            optimizer.step()
        return (p.detach().abs() < 0.1).float().mean().item()

    assert final(lambda params: MAdam(params, lr=0.5, beta1=0.0, beta2_min=0.5, beta2_max=1.0)) > 0.9
    assert final(lambda params: torch.optim.AdamW(params, lr=0.5, betas=(0.0, 0.9), weight_decay=0.0)) < 0.1
