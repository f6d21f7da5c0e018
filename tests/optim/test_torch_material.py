"""The checks of torch's own optimizer tests, on torch's own list of AdamW's settings, fed with our classes."""

import copy
import io

import pytest
import torch
from torch.testing._internal.common_optimizers import optim_error_inputs_func_adamw, optim_inputs_func_adamw

from glue_mva import LaMAdam, LaProp, MAdam

CLASSES = [MAdam, LaMAdam, LaProp]
INPUTS = [case for case in optim_inputs_func_adamw("cpu", torch.float32) if "fused" not in case.kwargs]


def translate(cls, kwargs):
    """AdamW's keyword arguments as ours; decays given as tensors are not part of our interface."""
    kwargs = {"lr": 1e-3, **kwargs}
    beta1, beta2 = map(float, kwargs.pop("betas", (0.9, 0.999)))
    second = {"beta2": beta2} if cls is LaProp else {"beta2_min": min(0.5, beta2), "beta2_max": beta2}
    return {**kwargs, "beta1": beta1, **second}


pytestmark = [
    pytest.mark.parametrize("cls", CLASSES),
]
each_input = pytest.mark.parametrize("case", INPUTS, ids=lambda case: case.desc)


def model():
    torch.manual_seed(1)
    return torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Sigmoid(), torch.nn.Linear(3, 1), torch.nn.Sigmoid())


def train(cls, kwargs, n=7, state=None):
    net = model()
    optimizer = cls(net.parameters(), **kwargs)
    if state is not None:
        optimizer.load_state_dict(state)
    inputs = torch.tensor([0.1, 0.2, 0.3, 0.4, 0.5, 0.6]).reshape(3, 2)
    for _ in range(n):
        optimizer.zero_grad()
        net(inputs).sum().backward()
        optimizer.step()
    return net, optimizer


@each_input
@pytest.mark.parametrize("flag", ["foreach", "fused"])
def test_matches_forloop(cls, case, flag):
    kwargs = translate(cls, case.kwargs)
    loop, loop_optimizer = train(cls, {**kwargs, "foreach": False})
    fast, fast_optimizer = train(cls, {**kwargs, flag: True})
    for p, q in zip(loop.parameters(), fast.parameters(), strict=True):
        torch.testing.assert_close(p, q)
        for name, value in loop_optimizer.state[p].items():
            torch.testing.assert_close(value, fast_optimizer.state[q][name])


@each_input
def test_step_is_noop_when_params_have_no_grad(cls, case):
    net = model()
    before = copy.deepcopy(list(net.parameters()))
    cls(net.parameters(), **translate(cls, case.kwargs)).step()
    assert all(torch.equal(p, q) for p, q in zip(net.parameters(), before, strict=True))


@each_input
def test_step_on_zero_gradients_only_decays(cls, case):
    kwargs = translate(cls, case.kwargs)
    p = torch.nn.Parameter(torch.randn(4))
    decayed = p.detach() * (1 - float(kwargs["lr"]) * kwargs.get("weight_decay", 0.0))
    p.grad = torch.zeros(4)
    cls([p], **kwargs).step()
    torch.testing.assert_close(p.detach(), decayed)


@each_input
def test_save_load_equality_with_weights_only(cls, case):
    _, optimizer = train(cls, translate(cls, case.kwargs))
    buffer = io.BytesIO()
    torch.save(optimizer.state_dict(), buffer)
    buffer.seek(0)
    loaded = torch.load(buffer, weights_only=True)
    assert str(loaded) == str(optimizer.state_dict())


@each_input
def test_deepcopy_of_a_state_dict_is_deterministic(cls, case):
    kwargs = translate(cls, case.kwargs)
    _, optimizer = train(cls, kwargs)
    state = optimizer.state_dict()
    first, _ = train(cls, kwargs, state=copy.deepcopy(state))
    second, _ = train(cls, kwargs, state=copy.deepcopy(state))
    assert all(torch.equal(p, q) for p, q in zip(first.parameters(), second.parameters(), strict=True))


@each_input
def test_complex_2d(cls, case):
    kwargs = translate(cls, case.kwargs)
    z = torch.nn.Parameter(torch.randn(10, 5, dtype=torch.complex64))
    pairs = torch.nn.Parameter(torch.view_as_real(z.detach()).clone())
    optimizers = cls([z], **copy.deepcopy(kwargs)), cls([pairs], **copy.deepcopy(kwargs))
    for _ in range(3):
        z.grad = torch.randn_like(z)
        pairs.grad = torch.view_as_real(z.grad).clone()
        for optimizer in optimizers:
            optimizer.step()
    torch.testing.assert_close(torch.view_as_real(z), pairs)


def test_errors(cls):
    """Every refusal of AdamW's that applies: same type or a subclass of it."""
    checked = 0
    for error in optim_error_inputs_func_adamw("cpu", torch.float32):
        case = error.optimizer_error_input
        tensor_betas = any(isinstance(x, torch.Tensor) for x in case.kwargs.get("betas", ()))
        if tensor_betas or "lr as a Tensor is not supported" in error.error_regex:  # which ours does support
            continue
        params = case.params if case.params is not None else [torch.nn.Parameter(torch.zeros(1))]
        expect = pytest.warns if issubclass(error.error_type, Warning) else pytest.raises
        with expect(error.error_type):
            cls(params, **translate(cls, case.kwargs))
        checked += 1
    assert checked >= 5


def test_non_empty_state_and_printing(cls):
    _, optimizer = train(cls, {})
    assert all(len(state) > 0 for state in optimizer.state.values())
    assert "Parameter Group 0" in repr(optimizer)


def test_named_parameters_keep_their_names(cls):
    net = model()
    optimizer = cls(net.named_parameters())
    assert optimizer.state_dict()["param_groups"][0]["param_names"] == [name for name, _ in net.named_parameters()]
