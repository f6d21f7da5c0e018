"""What a user of torch.optim takes for granted, one test each."""

import pytest
import torch
from torch.optim.lr_scheduler import LambdaLR

from glue_mva import LaProp, UsageError
from tests.optim.stepping import CLASSES, parameters, steps

pytestmark = pytest.mark.parametrize("cls", CLASSES)


def test_param_groups_use_their_own_settings(cls, implementation):
    (a, b), (c,), (d,) = parameters((3,), (3,)), parameters((3,)), parameters((3,))
    b.data.copy_(a.data)
    d.data.copy_(c.data)
    together = cls([{"params": [a], "lr": 0.1, "weight_decay": 0.5}, {"params": [b], "beta1": 0.0}], lr=0.01)
    alone = cls([c], lr=0.1, weight_decay=0.5), cls([d], lr=0.01, beta1=0.0)
    for seed in range(3):
        for p in (a, b, c, d):
            p.grad = torch.full((3,), 0.3 + seed)
        for optimizer in (together, *alone):
            optimizer.step()
    assert torch.equal(a, c)
    assert torch.equal(b, d)
    assert not torch.equal(a, b)


def test_closure_runs_with_gradients_and_its_loss_is_returned(cls):
    (p,) = parameters((2,))
    optimizer = cls([p])

    def closure():
        optimizer.zero_grad()
        loss = (p * p).sum()
        loss.backward()
        return loss

    expected = (p * p).sum().item()
    assert optimizer.step(closure).item() == expected
    assert optimizer.state[p]["step"] == 1


def test_maximize_is_minimize_of_the_negated_gradient(cls, implementation):
    (up,), (down,) = parameters((40,)), parameters((40,))
    ascent, descent = cls([up], lr=0.1, maximize=True), cls([down], lr=0.1)
    for seed in range(4):
        grad = torch.randn(40, generator=torch.Generator().manual_seed(seed))
        up.grad, down.grad = grad.clone(), -grad
        ascent.step()
        descent.step()
        assert torch.equal(up.grad, grad)
    assert torch.equal(up, down)


def test_parameters_without_gradient_are_left_alone(cls, implementation):
    p, q = parameters((3,), (3,))
    before = q.detach().clone()
    optimizer = cls([p, q], lr=0.1, weight_decay=0.1)
    steps(optimizer, [p])
    assert torch.equal(q, before)
    assert q not in optimizer.state


def test_sparse_gradients_are_refused(cls):
    embedding = torch.nn.Embedding(5, 2, sparse=True)
    embedding(torch.tensor([1])).sum().backward()
    with pytest.raises(RuntimeError, match=f"{cls.__name__} does not support sparse gradients"):
        cls(embedding.parameters()).step()


@pytest.mark.parametrize(
    ("name", "value"),
    [("lr", -1.0), ("lr", float("nan")), ("eps", -1e-9), ("weight_decay", -0.1), ("beta1", 1.0), ("beta1", -0.1)],
)
def test_bad_hyperparameters_are_refused_by_value(cls, name, value):
    (p,) = parameters((1,))
    with pytest.raises(UsageError, match=f"invalid {name}: {value}"):
        cls([p], **{name: value})
    with pytest.raises(UsageError, match=f"invalid {name}: {value}"):
        cls([{"params": [p], name: value}])


def test_bad_second_decay_is_refused(cls):
    bad = [{"beta2": 1.0}] if cls is LaProp else [{"beta2_max": 1.1}, {"beta2_min": 1.0}, {"beta2_min": 0.9999}]
    for settings in bad:
        name, value = next(iter(settings.items()))
        with pytest.raises(UsageError, match=f"invalid {name}: {value}"):
            cls(parameters((1,)), **settings)


def test_foreach_and_fused_together_are_refused(cls):
    with pytest.raises(RuntimeError, match="cannot be `True` together"):
        cls(parameters((1,)), foreach=True, fused=True)


def test_zero_size_and_scalar_parameters(cls, implementation):
    empty, scalar = parameters((0, 3), ())
    optimizer = cls([empty, scalar], lr=0.1)
    before = scalar.item()
    steps(optimizer, [empty, scalar])
    assert scalar.item() != before
    assert optimizer.state[empty]["step"] == 3


@pytest.mark.parametrize("layout", ["transposed", "channels_last", "strided", "strided gradient", "expanded gradient"])
def test_non_contiguous_parameters(cls, implementation, layout):
    plain = torch.nn.Parameter(torch.randn(4, 6, 5, 3, generator=torch.Generator().manual_seed(1)))
    data = plain.detach().clone()
    if layout == "transposed":
        data = data.transpose(0, 3).contiguous().transpose(0, 3)
    elif layout == "channels_last":
        data = data.to(memory_format=torch.channels_last)
    elif layout == "strided":
        data = torch.stack([data, data], -1)[..., 0]
    odd = torch.nn.Parameter(data)
    optimizers = cls([plain], lr=0.1), cls([odd], lr=0.1)
    for seed in range(3):
        grad = torch.randn(4, 6, 5, 3, generator=torch.Generator().manual_seed(seed))
        if layout == "expanded gradient":
            grad = grad[:1].expand(4, 6, 5, 3)
        plain.grad = grad.contiguous()
        odd.grad = torch.stack([grad, grad], -1)[..., 0] if layout == "strided gradient" else grad
        for optimizer in optimizers:
            optimizer.step()
    torch.testing.assert_close(odd, plain, rtol=1e-6, atol=1e-7)


def test_complex_parameters_are_pairs_of_real_ones(cls, implementation):
    (real,) = parameters((5, 2))
    z = torch.nn.Parameter(torch.view_as_complex(real.detach().clone()))
    optimizers = cls([real], lr=0.1), cls([z], lr=0.1)
    for seed in range(3):
        real.grad = torch.randn(5, 2, generator=torch.Generator().manual_seed(seed))
        z.grad = torch.view_as_complex(real.grad.clone())
        for optimizer in optimizers:
            optimizer.step()
    assert torch.equal(torch.view_as_real(z), real)


def test_lr_as_a_tensor(cls, implementation):
    (p,), (q,) = parameters((9,)), parameters((9,))
    lr = torch.tensor(0.1)
    optimizers = cls([p], lr=lr), cls([q], lr=0.1)
    for optimizer, x in zip(optimizers, (p, q), strict=True):
        steps(optimizer, [x])
    lr.mul_(0.5)
    optimizers[1].param_groups[0]["lr"] = 0.05
    for optimizer, x in zip(optimizers, (p, q), strict=True):
        steps(optimizer, [x], seed=1)
    torch.testing.assert_close(p, q, rtol=1e-6, atol=1e-7)
    with pytest.raises(UsageError, match="invalid lr: a tensor of 2 elements"):
        cls([p], lr=torch.ones(2))


@pytest.mark.parametrize("foreach", [False, True])
def test_capturable_keeps_numbers_in_tensors(cls, foreach):
    """On a CPU there is no graph to capture; the arithmetic on tensors is what a graph would hold."""
    (p,), (q,) = parameters((9,)), parameters((9,))
    captured, plain = cls([p], lr=torch.tensor(0.1), capturable=True, foreach=foreach), cls([q], lr=0.1)
    steps(captured, [p], 30)
    steps(plain, [q], 30)
    torch.testing.assert_close(p, q, rtol=1e-5, atol=1e-6)


def test_grad_scaler_with_fused(cls, implementation):
    """`grad_scale` divides the gradient; `found_inf` skips the step, its count included."""
    (p,), (q,) = parameters((9,)), parameters((9,))
    scaled, plain = cls([p], lr=0.1, fused=True), cls([q], lr=0.1)
    assert scaled._step_supports_amp_scaling
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    for seed in range(4):
        grad = torch.randn(9, generator=torch.Generator().manual_seed(seed))
        q.grad = grad.clone()
        before = p.detach().clone()
        scaler.scale((p * grad).sum()).backward()
        if seed == 2:
            p.grad[0] = float("inf")
        scaler.step(scaled)
        if seed == 2:
            assert torch.equal(p, before)
        else:
            plain.step()
        scaler.update(1024.0)
        scaled.zero_grad()
    assert scaled.state[p]["step"] == 3
    torch.testing.assert_close(p, q, rtol=1e-6, atol=1e-7)


def test_grad_scaler_without_fused(cls):
    (p,), (q,) = parameters((9,)), parameters((9,))
    scaled, plain = cls([p], lr=0.1), cls([q], lr=0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    scaler.scale((p * 3).sum()).backward()
    q.grad = torch.full((9,), 3.0)
    scaler.step(scaled)
    plain.step()
    assert torch.equal(p, q)


def test_add_param_group_starts_its_own_count(cls, implementation):
    p, q = parameters((3,), (3,))
    (fresh,) = parameters((3,))
    fresh.data.copy_(q.data)
    optimizer, alone = cls([p], lr=0.1), cls([fresh], lr=0.1)
    steps(optimizer, [p])
    optimizer.add_param_group({"params": [q]})
    steps(optimizer, [q], seed=5)
    steps(alone, [fresh], seed=5)
    assert torch.equal(q, fresh)
    with pytest.raises(UsageError, match="invalid lr: -1"):
        optimizer.add_param_group({"params": parameters((1,)), "lr": -1})


def test_freezing_and_unfreezing_keeps_state_and_count(cls, implementation):
    (p,), (q,) = parameters((5,)), parameters((5,))
    (other,) = parameters((5,))
    interrupted, steady = cls([p, other], lr=0.1), cls([q], lr=0.1)
    steps(interrupted, [p])
    p.grad = None
    steps(interrupted, [other], 4)
    other.grad = None
    steps(interrupted, [p], seed=1)
    steps(steady, [q])
    steps(steady, [q], seed=1)
    assert torch.equal(p, q)
    assert interrupted.state[p]["step"] == 6


def test_learning_rate_zero_at_the_first_step(cls, implementation):
    """As a linear warmup has it: the state moves on, the parameter stays."""
    (p,) = parameters((5,))
    before = p.detach().clone()
    optimizer = cls([p], lr=0.1, weight_decay=0.1)
    scheduler = LambdaLR(optimizer, lambda step: min(step / 2, 1.0))
    steps(optimizer, [p], 1)
    assert torch.equal(p, before)
    scheduler.step()
    steps(optimizer, [p], 1, seed=1)
    assert torch.isfinite(p).all()
    assert not torch.equal(p, before)


def test_gradient_of_zero_everywhere_stays_finite(cls, implementation):
    (p,) = parameters((5,))
    before = p.detach().clone()
    optimizer = cls([p], lr=0.1)
    for _ in range(5):
        p.grad = torch.zeros(5)
        optimizer.step()
    assert torch.equal(p, before)


def test_nan_gradients_show(cls, implementation):
    """A diverged run must look diverged."""
    (p,) = parameters((5,))
    optimizer = cls([p], lr=0.1)
    steps(optimizer, [p])
    p.grad = torch.full((5,), float("nan"))
    optimizer.step()
    assert torch.isnan(p).all()


def test_torch_compile_around_the_step(cls):
    (p,), (q,) = parameters((6, 7)), parameters((6, 7))
    compiled, plain = cls([p], lr=0.1, weight_decay=0.1), cls([q], lr=0.1, weight_decay=0.1)
    step = torch.compile(compiled.step, backend="aot_eager")
    for seed in range(4):
        for x in (p, q):
            x.grad = torch.randn(6, 7, generator=torch.Generator().manual_seed(seed))
        step()
        plain.step()
    torch.testing.assert_close(p, q, rtol=1e-5, atol=1e-6)
    assert compiled.state[p]["step"] == 4


def test_profiler_and_step_hooks(cls):
    (p,) = parameters((2,))
    optimizer = cls([p])
    calls = []
    optimizer.register_step_pre_hook(lambda *_: calls.append("before"))
    optimizer.register_step_post_hook(lambda *_: calls.append("after"))
    steps(optimizer, [p], 1)
    assert calls == ["before", "after"]
    assert cls.__name__ in repr(optimizer)
