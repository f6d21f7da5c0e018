"""Packed batches against padded ones, and the parts that packing is made of."""

import copy
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch._dynamo.testing import CompileCounter
from transformers import AutoModelForSequenceClassification

from glue_mva.models.attention import GroupedAttention, PackedLayout
from glue_mva.models.packing import FAMILIES, PackedCollator, round_up, use_packing
from tests.models.material import reference_attention, rows_of

LENGTHS = [5, 40, 33, 7, 60, 60, 12, 1]


def padded(rows, pad_token_id):
    longest = max(len(r["input_ids"]) for r in rows)
    batch = {"labels": torch.tensor([r["labels"] for r in rows])}
    for name, filler in (("input_ids", pad_token_id), ("token_type_ids", 0)):
        if name in rows[0]:
            batch[name] = torch.tensor([[*r[name], *[filler] * (longest - len(r[name]))] for r in rows])
    mask = [[1] * len(r["input_ids"]) + [0] * (longest - len(r["input_ids"])) for r in rows]
    return {**batch, "attention_mask": torch.tensor(mask)}


@pytest.mark.parametrize("layers", [None, torch.float32], ids=["torch", "compiled"])
@pytest.mark.parametrize("family", [*FAMILIES, "modernbert, mean"])
def test_packed_training_is_padded_training(family, layers, tiny_models):
    """50 updates in float32 without dropout: the losses agree to 1e-5. ModernBERT's local attention looks 8 tokens to
    either side here, and sequences have up to 63; its head reads the first token or the mean."""
    torch.manual_seed(0)
    quiet = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "classifier_dropout": 0.0}
    if family == "distilbert":
        quiet = {"dropout": 0.0, "attention_dropout": 0.0, "seq_classif_dropout": 0.0}
    if family.startswith("modernbert"):  # has none unless asked for
        family, _, mean = family.partition(", ")
        quiet = {"classifier_pooling": mean or "cls"}
    model = AutoModelForSequenceClassification.from_pretrained(tiny_models[family], num_labels=2, **quiet).train()
    packed = copy.deepcopy(model)
    assert use_packing(packed, layers) == (layers is not None and family != "modernbert")
    collate, rng = PackedCollator(packed), np.random.default_rng(0)
    optimizers = [torch.optim.AdamW(m.parameters(), lr=1e-3) for m in (model, packed)]
    for _ in range(50):
        rows = rows_of(rng, rng.integers(1, 64, 8), types=family in ("bert", "electra"))
        losses = []
        batches = padded(rows, model.config.pad_token_id), collate(rows)
        for m, batch, optimizer in zip((model, packed), batches, optimizers, strict=True):
            loss = m(**batch).loss
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        assert losses[0] == pytest.approx(losses[1], abs=1e-5)


@pytest.mark.parametrize("layers", [None, torch.bfloat16], ids=["torch", "compiled"])
@pytest.mark.parametrize("family", FAMILIES)
def test_packed_bfloat16_is_as_near_to_float32_as_padded_bfloat16(family, layers, tiny_models):
    """Logits and gradients; the reference is padded, in float32, and in transformers' own attention."""
    torch.manual_seed(0)
    quiet = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "classifier_dropout": 0.0}
    if family == "distilbert":
        quiet = {"dropout": 0.0, "attention_dropout": 0.0, "seq_classif_dropout": 0.0}
    if family == "modernbert":
        quiet = {}  # has none unless asked for
    model = AutoModelForSequenceClassification.from_pretrained(tiny_models[family], num_labels=2, **quiet).train()
    packed = copy.deepcopy(model)
    assert use_packing(packed, layers) == (layers is not None and family != "modernbert")
    rows = rows_of(np.random.default_rng(0), LENGTHS, types=family in ("bert", "electra"))
    batches = {"padded": padded(rows, model.config.pad_token_id), "packed": PackedCollator(packed)(rows)}
    exact = logits_and_gradients(model, batches["padded"], bfloat16=False)
    errors = {}
    for name, m in (("padded", model), ("packed", packed)):
        found = logits_and_gradients(m, batches[name], bfloat16=True)
        errors[name] = [((x - y).norm() / y.norm()).item() for x, y in zip(found, exact, strict=True)]
    for ours, theirs in zip(errors["packed"], errors["padded"], strict=True):
        assert 0 < ours < 1.5 * theirs


def logits_and_gradients(model, batch, *, bfloat16):
    model.zero_grad()
    with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
        out = model(**batch)
    out.loss.backward()
    return out.logits.detach().float(), torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


def test_grouped_attention_and_its_gradient():
    torch.manual_seed(0)
    total = sum(LENGTHS) + 6  # six tokens belong to no sequence
    layout = PackedLayout.of(np.array(LENGTHS), total, torch.device("cpu"))
    assert len(layout.groups) > 1 and any(g.bias is None for g in layout.groups)
    inputs = [torch.randn(total, 3, 8, dtype=torch.float64, requires_grad=True) for _ in range(3)]
    weight = torch.randn(total, 3, 8, dtype=torch.float64)
    results = []
    for attention in (
        lambda q, k, v: GroupedAttention.apply(q, k, v, layout, 0.0, 0.3),
        lambda q, k, v: reference_attention(q, k, v, LENGTHS, 0.3),
    ):
        out = attention(*inputs)
        results.append((out, *torch.autograd.grad((out * weight).sum(), inputs)))
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs)
    assert (results[0][0][-6:] == 0).all()


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize("window", [0, 3, 100])
def test_a_window_is_attention_among_near_tokens(window, dtype):
    """Against each token's own softmax over its neighbours, with a gradient that is finite everywhere."""
    torch.manual_seed(0)
    layout = PackedLayout.of(np.array(LENGTHS), sum(LENGTHS), torch.device("cpu"))
    inputs = [torch.randn(sum(LENGTHS), 2, 8).to(dtype).requires_grad_() for _ in range(3)]
    out = GroupedAttention.apply(*inputs, layout, 0.0, 0.3, window)
    q, k, v = (x.detach().double() for x in inputs)
    expected, start = torch.empty_like(q), 0
    for n in LENGTHS:
        for i in range(start, start + n):
            near = slice(max(start, i - window), min(start + n, i + window + 1))
            weights = torch.softmax(torch.einsum("hd,khd->hk", q[i], k[near]) * 0.3, -1)
            expected[i] = torch.einsum("hk,khd->hd", weights, v[near])
        start += n
    torch.testing.assert_close(out.double(), expected, atol=1e-9 if dtype == torch.float64 else 0.03, rtol=0)
    assert all(torch.isfinite(g).all() for g in torch.autograd.grad(out.float().sum(), inputs))


def test_attention_dropout_is_unbiased_and_differentiates_its_own_mask():
    torch.manual_seed(0)
    layout = PackedLayout.of(np.array([20, 20]), 40, torch.device("cpu"))
    q, k, v = (torch.randn(40, 2, 4, dtype=torch.float64) for _ in range(3))
    v.requires_grad_()
    mean = torch.stack([GroupedAttention.apply(q, k, v, layout, 0.5, 0.5).detach() for _ in range(3000)]).mean(0)
    torch.testing.assert_close(mean, reference_attention(q, k, v, [20, 20], 0.5).detach(), atol=0.08, rtol=0)
    out = GroupedAttention.apply(q, k, v, layout, 0.5, 0.5)  # linear in v: <out, w> = <grad of it, v>
    (grad,) = torch.autograd.grad((out * q).sum(), v)
    torch.testing.assert_close((grad * v).sum(), (out * q).sum())


@pytest.mark.parametrize(
    ("sizes", "tokens", "offsets", "longest"),
    [([3, 5], 16, [0, 3, 8, 12, 16], 8), ([9], 9, [0, 9, 9], 16), ([1, 1], 2, [0, 1, 2, 2, 2], 1)],
)
def test_no_token_lies_outside_of_the_offsets(sizes, tokens, offsets, longest):
    """A variable-length kernel writes no row that belongs to no sequence, so the filler is one."""
    layout = PackedLayout.of(np.array(sizes), tokens, torch.device("cpu"))
    assert layout.offsets.tolist() == offsets and layout.starts.tolist() == offsets[: len(sizes)]
    assert layout.longest == longest


def test_one_compiled_graph_serves_every_layout():
    counter = CompileCounter()

    @torch.compile(backend=counter, fullgraph=True, dynamic=True)
    def read(x, layout):
        return x[layout.offsets.long() - 1] * layout.longest

    for sizes in ([3, 5], [9, 1, 30], [60] * 4, [2] * 8):
        layout = PackedLayout.of(np.array(sizes), round_up(sum(sizes), 4), torch.device("cpu"))
        read(torch.ones(round_up(sum(sizes), 4), 2), layout)
    assert counter.frame_count == 1


@pytest.mark.parametrize("layers", [None, torch.float32], ids=["torch", "compiled"])
def test_the_first_token_of_each_sequence_reaches_the_head(layers, tiny_models):
    """A batch says nothing of one row that depends on another."""
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_pretrained(tiny_models["bert"]).eval()
    use_packing(model, layers)
    collate, rows = PackedCollator(model), rows_of(np.random.default_rng(1), LENGTHS, types=True)
    together = model(**collate(rows)).logits
    alone = torch.cat([model(**collate([row])).logits for row in rows])
    torch.testing.assert_close(together, alone)


def test_an_unverified_family_is_refused(tiny_models):
    model = AutoModelForSequenceClassification.from_pretrained(tiny_models["albert"])
    with pytest.raises(ValueError, match="albert"):
        use_packing(model)


def test_a_copy_of_a_packed_model_has_weights_of_its_own(tiny_models):
    """As an average of weights keeps one."""
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_pretrained(tiny_models["bert"]).eval()
    use_packing(model, torch.float32)
    batch = PackedCollator(model)(rows_of(np.random.default_rng(0), LENGTHS, types=True))
    copied, before = copy.deepcopy(model), model(**batch).logits
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(2)
    assert torch.equal(copied(**batch).logits, before) and not torch.equal(model(**batch).logits, before)


def test_sizes_are_few_and_close():
    sizes = {round_up(n) for n in range(1, 5000)}
    assert len(sizes) < 140 and all(n <= round_up(n) < n + max(16, n / 8) for n in range(1, 5000))


def test_freed_memory_is_kept_for_the_next_tensor():
    """Page faults of ten updates of a large embedding after ten others, with and without, in a process of its own.

    Where a block lands depends on what lies beside it, so that now and then a block is mapped anew: 0 to 2 in 10 here.
    """
    code = """
import resource, torch
from glue_mva.models.memory import reuse_freed_memory
model = torch.nn.Sequential(torch.nn.Embedding(30_000, 400), torch.nn.Linear(400, 400))
rows = torch.randint(30_000, (500,))
def faults():
    for step in range(20):
        if step == 10:
            before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        model.zero_grad()
        model(rows).sum().backward()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
default = faults()
print(default, faults() if reuse_freed_memory() else -1)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    default, kept = map(int, done.stdout.split())
    if kept < 0:
        pytest.skip("the C library is not glibc")
    if default == 0:
        pytest.skip("the system counts no page faults")
    assert kept < default / 2
