"""Weight decay is decoupled, whatever the class makes of it."""

import pytest
import torch
from torch import Tensor, nn

from glue_mva.checks import relative
from glue_mva.optim.decay import DecoupledDecay, rule_of
from glue_mva.optim.registry import get_optimizer
from glue_mva.training.groups import OptimizerMaker

LIKE = [torch.zeros(6, 4), torch.zeros(4)]


class SubclassThatCallsItsParent(torch.optim.SGD):
    def step(self, closure=None):
        return super().step(closure)


class IndependentOfLr(torch.optim.SGD):
    """Decays by `weight_decay` alone, whatever the learning rate."""

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                p.mul_(1 - group["weight_decay"]).sub_(group["lr"] * p.grad)


@pytest.mark.parametrize(
    ("cls", "arguments", "expected"),
    [
        (torch.optim.AdamW, {}, "class"),
        (torch.optim.NAdam, {"decoupled_weight_decay": True}, "class"),
        (torch.optim.NAdam, {}, "trainer"),
        (torch.optim.Adam, {}, "trainer"),
        (torch.optim.SGD, {"momentum": 0.9}, "trainer"),
        (torch.optim.SGD, {}, "class"),  # without momentum the two are one
        (torch.optim.RMSprop, {}, "trainer"),
        (torch.optim.Rprop, {}, "trainer"),  # it has none
        (IndependentOfLr, {}, "own"),
    ],
)
def test_what_a_class_does_is_seen(cls, arguments, expected):
    before = torch.random.get_rng_state()
    assert rule_of(lambda groups: cls(groups, **arguments), LIKE) == expected
    assert torch.equal(torch.random.get_rng_state(), before)


def test_a_device_without_float64_will_do(monkeypatch):
    """Apple's GPUs refuse it; here, whatever was not brought to the CPU before does."""
    cpu, double, brought = Tensor.cpu, Tensor.double, []

    def bring(x: Tensor) -> Tensor:
        brought.append(cpu(x))
        return brought[-1]

    def refuse(x: Tensor) -> Tensor:
        if not any(x is other for other in brought):
            raise TypeError("Cannot convert a MPS Tensor to float64 dtype")
        return double(x)

    monkeypatch.setattr(Tensor, "cpu", bring)
    monkeypatch.setattr(Tensor, "double", refuse)
    assert rule_of(torch.optim.AdamW, LIKE) == "class"
    assert relative(torch.ones(2), torch.full((2,), 2.0)) == 0.5


@pytest.mark.parametrize("cls", [torch.optim.SGD, SubclassThatCallsItsParent, torch.optim.Adam])
def test_the_trainers_decay_is_decoupled(cls):
    """By hand: theta = theta (1 - lr decay) - update, where the update is that of a class without decay."""

    def walk(optimizer: torch.optim.Optimizer, p: nn.Parameter, decay: float) -> list[Tensor]:
        generator, found = torch.Generator().manual_seed(1), []
        for lr in (0.1, 0.05, 0.2):
            optimizer.param_groups[0]["lr"] = lr
            p.grad = torch.randn(5, generator=generator)
            if decay:
                p.data.mul_(1 - lr * decay)
            optimizer.step()
            found.append(p.detach().clone())
        return found

    cls([nn.Parameter(torch.ones(5))], lr=0.1)  # so that torch has put its hooks on the parent too
    arguments = {"momentum": 0.9} if issubclass(cls, torch.optim.SGD) else {}
    ours, plain = nn.Parameter(torch.ones(5)), nn.Parameter(torch.ones(5))
    optimizer = cls([{"params": [ours], "weight_decay": 0.5}], lr=0.1, **arguments)
    DecoupledDecay(optimizer)
    expected = walk(cls([plain], lr=0.1, **arguments), plain, 0.5)
    assert all(torch.equal(a, b) for a, b in zip(walk(optimizer, ours, 0.0), expected, strict=True))


@pytest.mark.parametrize(
    ("optim", "expected"),
    [("adam", "class"), ("sgd", "trainer"), ("nadam", "class"), ("torch.optim:NAdam", "class"), ("lamb", "class"),
     ("prodigy", "own"), ("torch.optim:Adagrad", "trainer"), (SubclassThatCallsItsParent, "class")],
)  # fmt: skip
def test_who_decays_in_a_run(optim, expected):
    if optim in ("lamb", "prodigy"):
        pytest.importorskip("pytorch_optimizer")
    model = nn.Sequential(nn.Linear(5, 3), nn.Linear(3, 2))
    names = [name for name, _ in model.named_parameters()]
    for decay, wanted in ((0.1, expected), (0.0, None)):
        maker = OptimizerMaker(get_optimizer(optim), {})
        optimizer = maker.build(model, lr=1e-3, layer_decay=1.0, weight_decay=decay, decayed=names)
        assert maker.settle_decay(optimizer) == wanted
        in_class = wanted in ("class", "own")
        assert [group["weight_decay"] for group in optimizer.param_groups] == [decay if in_class else 0.0]
