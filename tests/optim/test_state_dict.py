"""Saving, loading, copying: the state goes on as it was, or is refused."""

import copy
import io
import pickle

import pytest
import torch

from glue_mva import LaProp, UsageError
from tests.optim.stepping import CLASSES, parameters, steps

pytestmark = pytest.mark.parametrize("cls", CLASSES)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_state_dict_round_trip_continues_bit_for_bit(cls, implementation, dtype):
    (p,), (q,) = parameters((50,), dtype=dtype), parameters((50,), dtype=dtype)
    first, second = cls([p], lr=0.1), cls([q], lr=0.1)
    steps(first, [p], 4)
    buffer = io.BytesIO()
    torch.save(first.state_dict(), buffer)
    buffer.seek(0)
    second.load_state_dict(torch.load(buffer))
    q.data.copy_(p.data)
    for name, value in second.state[q].items():
        assert value.dtype == first.state[p][name].dtype, name
    for optimizer, x in ((first, p), (second, q)):
        steps(optimizer, [x], 4, seed=1)
    assert torch.equal(p, q)


def test_loading_hooks_see_and_may_change_the_state(cls):
    (p,), (q,) = parameters((3,)), parameters((3,))
    source, target = cls([p]), cls([q])
    steps(source, [p])
    seen = []
    target.register_load_state_dict_pre_hook(
        lambda _, state: {**state, "state": {0: {**state["state"][0], "exp_avg": torch.full((3,), 5.0)}}}
    )
    target.register_load_state_dict_post_hook(lambda optimizer: seen.append(len(optimizer.state)))
    target.load_state_dict(source.state_dict())
    assert seen == [1]
    assert torch.equal(target.state[q]["exp_avg"], torch.full((3,), 5.0))


def test_a_state_of_the_other_order_is_refused(cls):
    """MAdam's and LaMAdam's have the same keys and shapes, and mean other things."""
    (p,), (q,) = parameters((3,)), parameters((3,))
    source = cls([p])
    steps(source, [p])
    for other in CLASSES:
        target = other([q])
        if other is cls:
            target.load_state_dict(source.state_dict())
            assert target.param_groups[0].keys() == source.param_groups[0].keys()
            continue
        with pytest.raises(UsageError, match=f"this state_dict is not {other.__name__}'s"):
            target.load_state_dict(source.state_dict())


def test_loading_on_another_device(cls):
    (p,) = parameters((3,))
    source = cls([p])
    steps(source, [p])
    target = cls([torch.nn.Parameter(torch.empty(3, device="meta"))])
    target.load_state_dict(source.state_dict())
    (state,) = target.state.values()
    assert {name: value.device.type for name, value in state.items() if name != "step"}.keys() == set(cls.state_names)
    assert all(value.device.type == ("cpu" if name == "step" else "meta") for name, value in state.items())


def test_old_state_dicts_load(cls):
    """Flags that came later are missing, and the step is a plain number."""
    (p,), (q,) = parameters((3,)), parameters((3,))
    source, target = cls([p], lr=0.1), cls([q], lr=0.1)
    steps(source, [p])
    saved = copy.deepcopy(source.state_dict())
    for flag in ("amsgrad", "maximize", "foreach", "fused", "capturable"):
        del saved["param_groups"][0][flag]
    saved["state"][0]["step"] = 3
    target.load_state_dict(saved)
    q.data.copy_(p.data)
    for optimizer, x in ((source, p), (target, q)):
        steps(optimizer, [x], seed=1)
    assert torch.equal(p, q)


def test_a_state_dict_of_another_optimizer_is_refused_and_changes_nothing(cls):
    (p,), (q,) = parameters((3,)), parameters((3,))
    theirs, ours = torch.optim.AdamW([q]), cls([p], lr=0.1)
    steps(theirs, [q])
    steps(ours, [p])
    before = copy.deepcopy(ours.state_dict())
    second = "beta2" if cls is LaProp else "beta2_min, beta2_max"
    with pytest.raises(UsageError, match=f"not {cls.__name__}'s: it has no beta1, {second}; load it into") as caught:
        ours.load_state_dict(theirs.state_dict())
    assert "\n" not in str(caught.value)
    assert str(ours.state_dict()) == str(before)


def test_a_state_dict_can_be_loaded_again_and_again(cls):
    """accelerate loads one when it prepares an optimizer, and the Trainer another when it resumes."""
    (p,), (q,) = parameters((3,)), parameters((3,))
    source, target = cls([p], lr=0.1), cls([q], lr=0.1)
    for seed in (0, 1):
        steps(source, [p], seed=seed)
        target.load_state_dict(source.state_dict())
    assert str(target.state_dict()) == str(source.state_dict())


def test_mismatched_state_dict_is_refused_and_changes_nothing(cls):
    (p,) = parameters((3,))
    optimizer = cls([p])
    steps(optimizer, [p])
    before = copy.deepcopy(optimizer.state[p])
    with pytest.raises(ValueError, match="parameter group"):
        optimizer.load_state_dict(cls([{"params": parameters((3,), (3,))}]).state_dict())
    assert all(torch.equal(value, optimizer.state[p][name]) for name, value in before.items())


@pytest.mark.parametrize("clone", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_copies_and_pickles_go_on_alike(cls, clone, implementation):
    (p,) = parameters((20,))
    optimizer = cls([p], lr=0.1)
    steps(optimizer, [p])
    twin = clone(optimizer)
    (q,) = twin.param_groups[0]["params"]
    for o, x in ((optimizer, p), (twin, q)):
        steps(o, [x], seed=1)
    assert torch.equal(p, q)
    assert p is not q
