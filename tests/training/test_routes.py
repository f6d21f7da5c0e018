"""Parameters for several optimizers: each is stepped by one, as by hand, and what fits nothing is refused."""

import copy
import json
import re

import pytest
import torch
from torch import nn
from transformers import AutoModelForSequenceClassification, get_scheduler
from typer.testing import CliRunner

from glue_mva import RunConfig, UsageError, run
from glue_mva.cli import app
from glue_mva.config.identity import identity
from glue_mva.config.resolve import resolve
from glue_mva.optim.diagnostics import state_bytes
from glue_mva.optim.dynamics import StepProbe
from glue_mva.optim.registry import get_optimizer
from glue_mva.optim.routed import RoutedOptimizer
from glue_mva.record import read_record
from glue_mva.training.groups import OptimizerMaker
from tests.optim.test_rivals import Own
from tests.training.material import CutOffBefore, CutOffError, config_of


class Net(nn.Module):
    """Names as those of an encoder with two layers, and weights of known values."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Parameter(torch.full((3, 2), 2.0))
        self.encoder = nn.ModuleDict({"layer": nn.ModuleList(nn.Linear(2, 2) for _ in range(2))})
        self.head = nn.Parameter(torch.full((2,), 2.0))
        for parameter in self.parameters():
            nn.init.constant_(parameter, 2.0)


def stepped(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int = 1) -> dict[str, torch.Tensor]:
    """name -> parameter after steps with gradients of 0.5."""
    for _ in range(steps):
        for parameter in model.parameters():
            parameter.grad = torch.full_like(parameter, 0.5)
        optimizer.step()
    return {name: parameter.detach() for name, parameter in model.named_parameters()}


GROUPS = {"lr": 0.1, "layer_decay": 1.0, "weight_decay": 0.5}
SGD = "torch.optim:SGD"
COUPLED = {"optim": SGD, "optim_args": {"momentum": 0.9}}
"""With momentum, decay in the gradient is not decoupled, so that the trainer decays; the first step is the same."""


def test_every_parameter_is_stepped_once_by_the_first_route_that_fits() -> None:
    """The first step of SGD by hand: theta (1 - lr * decay) - lr * 0.5. The bias fits both routes and goes with the
    first, which has a rate of its own; the second has a decay of its own, and the row has neither route's."""
    model = Net()
    routes = [{"match": r"bias$", "lr": 0.2} | COUPLED, {"match": r"\.layer\.", "weight_decay": 0.0} | COUPLED]
    maker = OptimizerMaker(get_optimizer(SGD), {}, routes)
    names = [name for name, _ in model.named_parameters()]
    optimizer = maker.build(model, **GROUPS, decayed=set(names))
    assert isinstance(optimizer, RoutedOptimizer)
    assert sorted(name for part in maker.parts for name, _ in part.named) == sorted(names)
    assert maker.settle_decay(optimizer) == "class"
    assert [part.decayed_by for part in maker.parts] == ["class", "trainer", None]
    assert optimizer.param_groups[0]["lr"] == 0.1  # the rate that a Trainer logs is the row's
    for name, after in stepped(model, optimizer).items():
        expected = 2 * 0.9 - 0.1 if "bias" in name else 2 - 0.05 if "layer" in name else 2 * 0.95 - 0.05
        torch.testing.assert_close(after, torch.full_like(after, expected), msg=name)


def test_layer_decay_counts_the_layers_of_the_whole_model() -> None:
    """Two layers at 0.5: embeddings at lr / 8, the first layer at lr / 4, the second at lr / 2, the head at lr."""
    model = Net()
    routes = [{"match": "embed", "optim": SGD}, {"match": r"\.0\.", "optim": SGD, "lr": 1.0}]
    optimizer = OptimizerMaker(get_optimizer(SGD), {}, routes).build(model, **GROUPS | {"layer_decay": 0.5}, decayed=())
    names = {id(p): name for name, p in model.named_parameters()}
    rates = {names[id(p)]: group["lr"] for group in optimizer.param_groups for p in group["params"]}
    assert rates["embed"] == 0.1 / 8 and rates["head"] == 0.1
    assert rates["encoder.layer.0.weight"] == 1.0 / 4 and rates["encoder.layer.1.weight"] == 0.1 / 2


def test_the_step_size_is_the_mean_change_without_decay() -> None:
    """Of all parameters, whoever steps them and whoever decays: 6 embeddings change by 0.1 * 0.5, 14 others by Adam's
    first step, 0.1."""
    model = Net()
    maker = OptimizerMaker(get_optimizer("adam"), {"eps": 1e-12}, [{"match": "embed"} | COUPLED])
    optimizer = maker.build(model, **GROUPS, decayed={name for name, _ in model.named_parameters()})
    assert maker.settle_decay(optimizer) == "class" and maker.parts[1].decayed_by == "trainer"
    probe = StepProbe(optimizer, lambda: True)
    stepped(model, optimizer)
    assert probe.read() == {"step_size": pytest.approx((6 * 0.05 + 14 * 0.1) / 20, rel=1e-5)}


def test_a_registry_name_in_a_route_means_what_it_means_in_a_row() -> None:
    """Muon takes the matrices among what fits, AdamW the rest of it; state is saved and loaded through both levels."""

    def built() -> tuple[Net, torch.optim.Optimizer]:
        torch.manual_seed(0)
        model = Net()
        maker = OptimizerMaker(get_optimizer("sgd"), {}, [{"match": "layer", "optim": "muon"}])
        return model, maker.build(model, **GROUPS | {"weight_decay": 0.0}, decayed=())

    model, optimizer = built()
    names = {id(p): name for name, p in model.named_parameters()}
    assert isinstance(optimizer, RoutedOptimizer)
    muon, adam = optimizer.optimizers[1].optimizers  # type: ignore[attr-defined]
    found = [sorted(names[id(p)] for g in part.param_groups for p in g["params"]) for part in (muon, adam)]
    assert found == [[f"encoder.layer.{i}.{kind}" for i in range(2)] for kind in ("weight", "bias")]
    stepped(model, optimizer, 2)
    other, resumed = built()
    other.load_state_dict(model.state_dict())
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    after = stepped(other, resumed)
    for name, expected in stepped(model, optimizer).items():
        assert torch.equal(after[name], expected), name


def test_a_class_for_matrices_alone_may_have_nothing_else_to_share() -> None:
    model = Net()
    routes = [{"match": r"layer.*weight", "optim": "muon"}]
    optimizer = OptimizerMaker(get_optimizer("sgd"), {}, routes).build(model, **GROUPS, decayed=())
    (muon,) = optimizer.optimizers[1].optimizers  # type: ignore[attr-defined]
    assert sum(len(group["params"]) for group in muon.param_groups) == 2
    stepped(model, optimizer, 2)


@pytest.mark.parametrize(
    ("routes", "words"),
    [
        ([{"match": "nothing", "optim": "sgd"}], r"'nothing' is in the name of no parameter .* some of these: "
                                                 r"\w+\.embeddings\.word_embeddings\.weight, .*classifier"),
        ([{"match": "bias", "optim": "sgd"}, {"match": "bias$", "optim": "sgd"}], "'bias\\$' is in the name of no"),
        ([{"match": ".", "optim": "sgd"}], "leave no parameter to LaMAdam"),
        ([{"match": "bias", "optim": "torch.optim:Muon"}], "Muon cannot be built .*2D parameters"),
        ([{"match": "bias", "optim": "torch.optim:Nope"}], "no class 'Nope'"),
    ],
)  # fmt: skip
def test_routes_that_cannot_be_are_refused_before_anything_is_written(routes, words, glue, tiny_models, tmp_path):
    with pytest.raises(UsageError, match=words) as error:
        run(config_of("rte", glue, tiny_models["bert"], tmp_path / "runs", routes=routes))
    assert "\n" not in str(error.value) and not list(tmp_path.iterdir())


def test_all_state_of_routed_optimizers_counts_and_looking_at_it_changes_nothing() -> None:
    """AdamW's two moments of 18 entries and a step count for each of 5 tensors, and SGD's momentum of 2."""
    model = Net()
    maker = OptimizerMaker(get_optimizer("adam"), {}, [{"match": "head"} | COUPLED])
    optimizer = maker.build(model, **GROUPS, decayed=())
    stepped(model, optimizer)
    parts = [dict(part.state) for part in optimizer.optimizers]
    assert state_bytes(optimizer) == 4 * (2 * 18 + 5 + 2)
    assert [dict(part.state) for part in optimizer.optimizers] == parts
    assert len(optimizer.state_dict()["optimizers"]) == 2  # torch refuses a state of a stranger's parameter
    assert get_scheduler("polynomial", optimizer, 1, 10).get_last_lr()[0] < 0.1


def test_a_routed_run_is_cut_off_and_resumed(glue, tiny_models, tmp_path):
    values = {"optim": "muon", "checkpoint_minutes": 0.0, "logging_steps": 1, "num_train_epochs": 2.0}
    whole = run(config_of("rte", glue, tiny_models["bert"], tmp_path / "whole", **values))
    config = config_of("rte", glue, tiny_models["bert"], tmp_path / "cut", resume=True, **values)
    with pytest.raises(CutOffError):
        run(config, [CutOffBefore(3)])
    resumed = run(config)
    assert resumed.execution.resumed_from_step == 3 and resumed.curves == whole.curves


def test_a_run_with_routes_is_recorded(glue, tiny_models, tmp_path):
    """From the command line."""
    routes = [{"match": "encoder.*weight", "optim": "muon", "lr": 1e-4}, {"match": "embed", "optim": "madam"}]
    words = ["--task", "rte", "--optim", "adam", "--lr", "1e-3", "--data", glue, "--model", tiny_models["bert"],
             "--max-train-samples", "64", "--max-eval-samples", "48", "--max-length", "48", "--num-train-epochs", "1",
             "--output", str(tmp_path / "runs"), "--set", f"routes={json.dumps(routes)}"]  # fmt: skip
    done = CliRunner().invoke(app, ["run", *words])
    assert done.exit_code == 0, done.output
    assert "route encoder.*weight: muon, lr 0.0001, momentum 0.95" in done.output
    record = read_record(next((tmp_path / "runs").iterdir()))
    assert record.status == "ok" and "step_size" in record.curves and record.run_id.startswith("rte-adam-")
    muon, madam = record.execution.routes
    assert (muon.match, madam.match, madam.optimizer) == ("encoder.*weight", "embed", "MAdam")
    assert record.config.routes[1]["optim_args"]["beta2_max"] == 0.98
    model = AutoModelForSequenceClassification.from_pretrained(tiny_models["bert"])
    sizes = {name: p.numel() for name, p in model.named_parameters()}
    assert muon.parameters == sum(n for name, n in sizes.items() if re.search("encoder.*weight", name))
    assert madam.parameters == sum(n for name, n in sizes.items() if "embed" in name)
    assert record.execution.weight_decay == muon.weight_decay == madam.weight_decay == "class"


def test_the_source_of_an_own_class_in_a_route_counts() -> None:
    config = resolve(RunConfig(task="rte", optim="adam", routes=[{"match": "bias", "optim": Own}]))
    assert config.routes[0]["optim"] == "tests.optim.test_rivals:Own"
    alone = identity(resolve(RunConfig(task="rte", optim=Own))).optimizer_source
    assert alone is not None and identity(config).optimizer_source == alone
    assert identity(resolve(RunConfig(task="rte", optim="adam"))).optimizer_source is None
