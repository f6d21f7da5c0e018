"""The optimizers of the registry: they learn, decay is decoupled, and one optimizer may be made of several."""

import pytest
import torch
from transformers import AutoModelForSequenceClassification

from glue_mva import RunConfig, UsageError
from glue_mva.config.resolve import resolve
from glue_mva.optim.diagnostics import state_bytes_of
from glue_mva.optim.registry import OPTIMIZERS, OptimizerSpec, get_optimizer
from glue_mva.optim.routed import RoutedOptimizer
from glue_mva.training.groups import OptimizerMaker

RATES = {"sgd": 0.1, "muon": 0.1, "adafactor": 0.1, "lion": 0.01, "lamb": 0.05, "prodigy": 1.0}
"""Learning rates at which the small problem below is solved; 0.03 for all others."""


def made(spec: OptimizerSpec, parameter: torch.nn.Parameter, **arguments: float) -> torch.optim.Optimizer:
    return spec.cls([parameter], **{**spec.implementation, **spec.constants, **arguments})  # type: ignore[arg-type]


def switch(optimizer: torch.optim.Optimizer, mode: str) -> None:
    if hasattr(optimizer, mode):
        getattr(optimizer, mode)()


@pytest.mark.parametrize("spec", OPTIMIZERS.values(), ids=lambda spec: spec.name)
def test_it_learns(spec: OptimizerSpec) -> None:
    """Least squares for a 16 x 8 matrix, from 64 noisy gradients of 32 rows each."""
    generator = torch.Generator().manual_seed(0)
    target, parameter = torch.randn(16, 8, generator=generator), torch.nn.Parameter(torch.full((16, 8), 0.5))
    optimizer = made(spec, parameter, lr=RATES.get(spec.name, 0.03))
    first = (parameter.detach() - target).square().mean()
    switch(optimizer, "train")
    for _ in range(150):
        rows = torch.randn(32, 16, generator=generator)
        optimizer.zero_grad()
        (rows @ (parameter - target)).square().mean().backward()
        optimizer.step()
    switch(optimizer, "eval")
    assert (parameter.detach() - target).square().mean() < first / 5


DECOUPLED = [spec for spec in OPTIMIZERS.values() if spec.decay == "class"]
"""SGD's decay is seen to (test_decay.py). Of those with a rule of their own: Prodigy's goes with the step size that it
finds, that of schedule-free AdamW with the average."""


@pytest.mark.parametrize("spec", DECOUPLED, ids=lambda spec: spec.name)
def test_weight_decay_is_decoupled(spec: OptimizerSpec) -> None:
    """Two first steps that differ in decay alone differ by lr * decay * parameter."""
    ends = []
    for decay in (0.0, 0.5):
        torch.manual_seed(0)
        parameter = torch.nn.Parameter(torch.ones(8, 8))
        optimizer = made(spec, parameter, lr=1e-3, weight_decay=decay)
        switch(optimizer, "train")
        for _ in range(2 if spec.name == "soap" else 1):  # SOAP's first step only sets up its preconditioner
            parameter.grad = torch.randn(8, 8, generator=torch.Generator().manual_seed(1))
            optimizer.step()
        ends.append(parameter.detach())
    change = (ends[0] - ends[1]).mean().item()
    assert change == pytest.approx(1e-3 * 0.5, rel=0.05)


def test_muon_takes_the_matrices_of_the_layers_and_adam_the_rest(tiny_models) -> None:
    model = AutoModelForSequenceClassification.from_pretrained(tiny_models["bert"])
    optimizer = OptimizerMaker(get_optimizer("muon"), {}).build(
        model, lr=1e-3, layer_decay=1.0, weight_decay=0.1, decayed=()
    )
    assert isinstance(optimizer, RoutedOptimizer)
    muon, adam = optimizer.optimizers
    matrices = {id(p) for group in muon.param_groups for p in group["params"]}
    for name, parameter in model.named_parameters():
        assert (id(parameter) in matrices) == ("layer." in name and parameter.ndim == 2), name
    assert sum(len(g["params"]) for g in adam.param_groups) == len(list(model.parameters())) - len(matrices)


def test_a_routed_optimizer_steps_schedules_and_resumes_as_its_parts() -> None:
    def start() -> tuple[list[torch.nn.Parameter], RoutedOptimizer]:
        parameters = [torch.nn.Parameter(torch.ones(4, 4)), torch.nn.Parameter(torch.ones(4))]
        first, second = torch.optim.Adam([parameters[0]], 0.1), torch.optim.SGD([parameters[1]], 0.1)
        return parameters, RoutedOptimizer([first, second])

    def advance(parameters: list[torch.nn.Parameter], optimizer: RoutedOptimizer, steps: int) -> None:
        for _ in range(steps):
            for parameter in parameters:
                parameter.grad = parameter.detach().clone()
            optimizer.step()

    whole, optimizer = start()
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.5)
    assert [group["lr"] for part in optimizer.optimizers for group in part.param_groups] == [0.05, 0.05]
    advance(whole, optimizer, 3)
    assert whole[1][0].item() == pytest.approx(0.95**3)
    cut, first = start()
    torch.optim.lr_scheduler.LambdaLR(first, lambda step: 0.5)
    advance(cut, first, 2)
    state, weights = first.state_dict(), [parameter.detach().clone() for parameter in cut]
    resumed, second = start()
    for parameter, weight in zip(resumed, weights, strict=True):
        parameter.data.copy_(weight)
    second.load_state_dict(state)
    advance(resumed, second, 1)
    assert all(torch.equal(a, b) for a, b in zip(whole, resumed, strict=True))
    assert len(second.state) == 1 and scheduler is not None  # SGD without momentum keeps nothing


def test_defaults_of_a_rival_follow_from_adams() -> None:
    """RTE with the paper's recipe: Adam 2e-5 and 0.1, so Lion 4e-6 and 0.5."""
    lion = resolve(RunConfig(task="rte", optim="lion"))
    assert (lion.lr, lion.weight_decay) == pytest.approx((4e-6, 0.5)) and "Chen" in lion.sources["lr"]
    assert resolve(RunConfig(task="rte", optim="schedulefree")).lr_scheduler == "constant_with_warmup"
    assert resolve(RunConfig(task="rte", optim="lion", lr=1e-5)).lr == 1e-5


class Own(torch.optim.SGD):
    """An optimizer of somebody else's."""


def test_a_class_stands_for_its_path() -> None:
    assert RunConfig(task="rte", optim=Own).optim == f"{__name__}:Own"
    assert get_optimizer(f"{__name__}:Own").cls is Own

    class Local(torch.optim.SGD):
        pass

    with pytest.raises(UsageError, match="must be importable"):
        RunConfig(task="rte", optim=Local)


def test_state_is_measured() -> None:
    """Two float32 averages for Adam, four for MAdam, one for SGD with momentum and for Lion."""
    sizes = {name: state_bytes_of(OPTIMIZERS[name]) for name in ("adam", "madam", "sgd", "lion")}
    assert sizes == pytest.approx({"adam": 8, "madam": 16, "sgd": 4, "lion": 4}, abs=0.01)
