"""The compiled layers against torch's own operations."""

import copy

import numpy as np
import pytest
import torch
from torch.nn.functional import gelu, layer_norm
from transformers import AutoModelForSequenceClassification

from glue_mva.models import kernels
from glue_mva.models.attention import PackedLayout
from glue_mva.models.kernels import Dropout, Heads, Kernels
from glue_mva.models.packing import PackedCollator, use_packing
from tests.models.material import reference_attention, rows_of

LENGTHS = [5, 40, 33, 7, 130, 64, 12, 1]
"""One block of queries, exactly one, more than one; less than a vector of keys and more."""
HEADS = 3


def packed_heads(size, *, first_only):
    """Random queries, keys and values of `LENGTHS`, as views of one tensor, and six rows that belong to no sequence."""
    total = sum(LENGTHS) + 6
    layout = PackedLayout.of(np.array(LENGTHS), total, torch.device("cpu"))
    qkv = torch.randn(total, 3 * HEADS * size)
    query, key, value = qkv.split(HEADS * size, 1)
    if first_only:
        query = torch.randn(len(LENGTHS), HEADS * size)
    return Heads(query, key, value, layout, HEADS, first_only=first_only)


def expected_attention(x):
    query, key, value = (
        t.detach().double().unflatten(1, (HEADS, -1)).requires_grad_() for t in (x.query, x.key, x.value)
    )
    if x.first_only:
        whole = torch.zeros_like(key).index_copy(0, x.layout.starts.long(), query)
        out = reference_attention(whole, key, value, LENGTHS, 0.3)[x.layout.starts]
    else:
        out = reference_attention(query, key, value, LENGTHS, 0.3)
    return out.flatten(1), (query, key, value)


@pytest.mark.parametrize("first_only", [False, True])
@pytest.mark.parametrize("size", [8, 32, 40])
def test_attention_and_its_gradient(size, first_only):
    torch.manual_seed(0)
    x, none, k = packed_heads(size, first_only=first_only), Dropout(0, 0.0), Kernels(torch.float32)
    expected, inputs = expected_attention(x)
    out, log_sum = k.attention(x, 0.3, none)
    torch.testing.assert_close(out.double(), expected, atol=1e-5, rtol=1e-5)
    weight = torch.randn_like(out)
    gradients = torch.autograd.grad((expected * weight).sum(), inputs)
    into = Heads(*(torch.zeros_like(t) for t in (x.query, x.key, x.value)), x.layout, HEADS, first_only=first_only)
    k.attention_backward(x, into, weight, log_sum, 0.3, none)
    for ours, theirs in zip((into.query, into.key, into.value), gradients, strict=True):
        torch.testing.assert_close(ours.double(), theirs.flatten(1), atol=2e-5, rtol=1e-4)


def test_attention_dropout_is_unbiased_and_differentiates_its_own_mask():
    torch.manual_seed(0)
    x, k = packed_heads(8, first_only=False), Kernels(torch.float32)
    expected, _ = expected_attention(x)
    outs = torch.stack([k.attention(x, 0.3, Dropout(seed, 0.5))[0] for seed in range(2000)])
    error = (outs.double().mean(0) - expected).abs() / (outs.double().std(0) / 2000**0.5 + 1e-12)
    assert error[: sum(LENGTHS)].max() < 6  # standard errors, over 7,000 values
    mask = Dropout(7, 0.5)
    out, log_sum = k.attention(x, 0.3, mask)
    into = Heads(*(torch.zeros_like(t) for t in (x.query, x.key, x.value)), x.layout, HEADS, first_only=False)
    weight = torch.randn_like(out)
    k.attention_backward(x, into, weight, log_sum, 0.3, mask)
    used = slice(sum(LENGTHS))  # linear in v: <out, w> = <gradient of it, v>
    torch.testing.assert_close((into.value * x.value)[used].sum(), (out * weight)[used].sum(), atol=1e-3, rtol=1e-4)
    step = 1e-2 * torch.randn_like(x.query)
    sides = []
    for sign in (1, -1):
        moved = Heads(x.query + sign * step, x.key.clone(), x.value.clone(), x.layout, HEADS, first_only=False)
        sides.append((k.attention(moved, 0.3, mask)[0] * weight)[used].sum())
    slope = (into.query * step)[used].sum()
    torch.testing.assert_close((sides[0] - sides[1]) / 2, slope, atol=5e-3, rtol=1e-2)


@pytest.mark.parametrize("p", [0.0, 0.25])
def test_residual_and_normalization(p):
    torch.manual_seed(0)
    k, mask = Kernels(torch.float32), Dropout(3, p)
    branch, residual = (torch.randn(70, 50, dtype=torch.float64, requires_grad=True) for _ in range(2))
    gain, shift = (torch.randn(50, dtype=torch.float64, requires_grad=True) for _ in range(2))
    ones, zeros = torch.ones(50), torch.zeros(50)
    *_, normalized, inverse = k.norm(torch.full((70, 50), 1e4), torch.zeros(70, 50), ones, zeros, 0.0, mask)
    keep = (normalized > 0).double() if p else torch.ones(70, 50, dtype=torch.float64)
    assert abs(keep.mean().item() - (1 - p)) < 0.04
    summed = residual + branch * keep / (1 - p)
    expected = layer_norm(summed, (50,), gain, shift, 1e-5)
    inputs = [t.detach().float() for t in (branch, residual, gain, shift)]
    out, activations, normalized, inverse = k.norm(*inputs, 1e-5, mask)
    torch.testing.assert_close(out.double(), expected, atol=1e-5, rtol=1e-5)
    assert torch.equal(out, activations)
    grads = torch.randn(2, 70, 50)
    gradients = torch.autograd.grad((expected * grads.sum(0)).sum(), (residual, branch, gain, shift))
    grad_residual, grad_branch, sums = k.norm_backward(grads[0], grads[1], normalized, inverse, inputs[2], mask)
    for ours, theirs in zip((grad_residual, grad_branch, *sums), (*gradients, gradients[1].sum(0)), strict=True):
        torch.testing.assert_close(ours.double(), theirs, atol=2e-5, rtol=1e-4)


def test_gelu():
    x = torch.cat([torch.linspace(-12, 12, 4001, dtype=torch.float64), torch.tensor([0.0, -100.0, 100.0])])
    x = x.repeat(40, 1).requires_grad_()
    expected, k = gelu(x), Kernels(torch.float32)
    torch.testing.assert_close(k.gelu(x.detach().float()).double(), expected, atol=1e-6, rtol=1e-6)
    (gradient,) = torch.autograd.grad(expected.sum(), x)
    grad = torch.ones(x.shape)
    total = k.gelu_backward_(x.detach().float(), grad)
    torch.testing.assert_close(grad.double(), gradient, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(total.double(), gradient.sum(0), atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_number_that_is_none_is_not_lost(dtype):
    """A diverged run must be seen to diverge."""
    k, none = Kernels(dtype), Dropout(0, 0.0)
    nan = torch.full((1, 16), torch.nan, dtype=dtype)
    assert k.gelu(nan).isnan().all()
    out, activations, *_ = k.norm(nan, torch.zeros(1, 16), torch.ones(16), torch.zeros(16), 1e-5, none)
    assert out.isnan().all() and activations.isnan().all()
    layout = PackedLayout.of(np.array([1]), 1, torch.device("cpu"))
    assert k.attention(Heads(nan, nan, nan, layout, 1, first_only=False), 1.0, none)[0].isnan().all()


def gradients_of(model, batch, dtype):
    torch.manual_seed(5)
    model.zero_grad()
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        model(**batch).loss.backward()
    return [p.grad for p in model.parameters() if p.grad is not None]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_seed_of_torch_decides_the_masks_and_threads_nothing(dtype, tiny_models):
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_pretrained(tiny_models["bert"]).train()
    use_packing(model, dtype)
    batch = PackedCollator(model)(rows_of(np.random.default_rng(1), LENGTHS[:4], types=True))
    threads, results = torch.get_num_threads(), []
    try:
        for count in (1, 1, 2):
            torch.set_num_threads(count)
            results.append(gradients_of(model, batch, dtype))
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(a, b) for a, b in zip(results[0], results[1], strict=True))
    for a, b in zip(results[0], results[2], strict=True):  # products of torch may be summed in another order
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-3 if dtype == torch.float32 else 0.1)


def test_bfloat16_agrees_with_autocast(tiny_models):
    """Gradients as near to those of float32 as the gradients of transformers' layers under autocast are."""
    torch.manual_seed(0)
    quiet = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    exact = AutoModelForSequenceClassification.from_pretrained(tiny_models["bert"], **quiet).train()
    batch = None
    found = {}
    for name, layers, dtype in (
        ("exact", None, None),
        ("autocast", None, torch.bfloat16),
        ("ours", torch.bfloat16, torch.bfloat16),
    ):
        model = copy.deepcopy(exact)
        assert use_packing(model, layers) == (name == "ours")
        batch = batch or PackedCollator(model)(rows_of(np.random.default_rng(1), LENGTHS, types=True))
        found[name] = torch.cat([g.flatten() for g in gradients_of(model, batch, dtype)])
    errors = {name: (found[name] - found["exact"]).norm() for name in ("autocast", "ours")}
    assert errors["ours"] < 1.2 * errors["autocast"]


def test_without_a_compiler_the_layers_stay_torchs(tiny_models, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("CC", "false")
    monkeypatch.setenv("PATH", "")
    kernels.library.cache_clear()
    try:
        model = AutoModelForSequenceClassification.from_pretrained(tiny_models["bert"])
        assert not use_packing(model, torch.float32)
        batch = PackedCollator(model)(rows_of(np.random.default_rng(1), LENGTHS[:4], types=True))
        assert model(**batch).loss.isfinite()
    finally:
        kernels.library.cache_clear()


def test_an_activation_that_is_not_gelu_stays_torchs(tiny_models):
    model = AutoModelForSequenceClassification.from_pretrained(tiny_models["bert"], hidden_act="relu")
    assert not use_packing(model, torch.float32)
