"""Training with the rows that occur, against training with the whole embedding."""

import copy

import numpy as np
import pytest
import torch
from torch.optim.lr_scheduler import LambdaLR
from transformers import AutoModelForSequenceClassification

from glue_mva.models.packing import PackedCollator, use_packing
from glue_mva.models.vocabulary import CompactVocabulary, can_compact
from glue_mva.optim.registry import OPTIMIZERS
from glue_mva.paper import TABLE3_OPTIMIZERS

TOKENS = np.array([3, 7, 200, 201, 520, 600])


def batches(model, count):
    rng, collate = np.random.default_rng(0), PackedCollator(model)
    for _ in range(count):
        rows = [{"input_ids": rng.choice(TOKENS, n), "labels": np.int64(n % 2)} for n in rng.integers(1, 12, 4)]
        yield collate(rows)


def prepare(model, optim, decay_all):
    """Optimizer and schedule: warmup and decay, and, unless `decay_all`, no weight decay on the embeddings."""
    groups = [
        {"params": [p for n, p in model.named_parameters() if ("embeddings" in n) == inside], "weight_decay": decay}
        for inside, decay in ((True, 0.5 if decay_all else 0.0), (False, 0.5))
    ]
    spec = OPTIMIZERS[optim]
    optimizer = spec.cls(groups, lr=1e-2, **spec.implementation, **spec.constants)
    return optimizer, LambdaLR(optimizer, lambda t: min(1.0, (t + 1) / 5) * (1 - t / 20))


def train(model, optimizer, scheduler, given):
    losses = []
    for batch in given:
        loss = model(**batch).loss
        loss.backward()
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize("decay_all", [True, False])
@pytest.mark.parametrize("optim", TABLE3_OPTIMIZERS)
@pytest.mark.parametrize("family", ["bert", "roberta", "electra"])
def test_the_numbers_are_those_of_the_whole_embedding(family, optim, decay_all, tiny_models):
    """12 updates, the second half in another process: losses, weights, and the rows that nothing touched."""
    torch.manual_seed(0)
    quiet = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    whole = AutoModelForSequenceClassification.from_pretrained(tiny_models[family], **quiet).train()
    use_packing(whole)
    first, second = copy.deepcopy(whole), copy.deepcopy(whole)
    given = list(batches(whole, 12))
    expected = train(whole, *prepare(whole, optim, decay_all), given)

    vocabularies = [CompactVocabulary(m, [TOKENS], keep_rest=True) for m in (first, second)]
    steps = prepare(first, optim, decay_all)
    losses = train(first, *steps, given[:6])
    vocabularies[0].whole_state(first, steps[1], 4)  # as after a best epoch; what follows does not depend on it
    resumed = prepare(second, optim, decay_all)
    second.load_state_dict(first.state_dict())
    for ours, theirs in zip(resumed, steps, strict=True):
        ours.load_state_dict(theirs.state_dict())
    losses += train(second, *resumed, given[6:])

    assert losses == expected
    state = vocabularies[1].whole_state(second, resumed[1], 12)
    assert state.keys() == whole.state_dict().keys()
    for name, value in whole.state_dict().items():
        if optim == "adam" and "word_embeddings" in name:  # torch's fused AdamW decays in two operations
            torch.testing.assert_close(state[name], value, rtol=1e-6, atol=0)
            assert torch.equal(state[name][TOKENS], value[TOKENS])
        else:
            assert torch.equal(state[name], value)
    assert second.get_input_embeddings().weight.shape[0] == len({*TOKENS.tolist(), whole.config.pad_token_id})
    first.load_state_dict(second.state_dict())
    in_two_parts = vocabularies[0].whole_state(first, steps[1], 12)
    assert all(torch.equal(in_two_parts[name], state[name]) for name in state)


def test_a_token_that_was_left_out_is_refused(tiny_models):
    model = AutoModelForSequenceClassification.from_pretrained(tiny_models["bert"])
    CompactVocabulary(model, [TOKENS], keep_rest=False)
    with pytest.raises(IndexError):
        model(input_ids=torch.tensor([[3, 4]]))


def test_only_plain_embeddings_of_their_own_are_compacted(tiny_models):
    model = AutoModelForSequenceClassification.from_pretrained(tiny_models["bert"])
    assert can_compact(model)
    model.classifier.weight = model.get_input_embeddings().weight  # tied
    assert not can_compact(model)
    model = AutoModelForSequenceClassification.from_pretrained(tiny_models["bert"])
    model.get_input_embeddings().scale_grad_by_freq = True
    assert not can_compact(model)

    class Scaled(torch.nn.Embedding):
        def forward(self, tokens):
            return 2 * super().forward(tokens)

    model.set_input_embeddings(Scaled(30522, 16))
    assert not can_compact(model)
