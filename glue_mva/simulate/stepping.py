"""Many learning rates at once: one optimizer, one parameter group per learning rate, all on rows of one tensor."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from glue_mva import paper
from glue_mva.errors import UsageError, nearest
from glue_mva.optim.registry import OPTIMIZERS, usual_name

Progress = Callable[[int], None]
"""Called with the number of optimizer steps done since the last call."""


def no_progress(steps: int) -> None:
    """Show nothing."""


AMSGRAD = "amsgrad"
"""Adam with `amsgrad=True`, a name of its own because the paper plots it beside Adam."""

OPTIMIZER_LABELS = {**{name: OPTIMIZERS[name].label for name in paper.BEST_HPARAMS}, AMSGRAD: "AMSGrad"}


@dataclass(frozen=True)
class Setting:
    """An optimizer and its hyperparameters, the learning rate left open."""

    optim: str
    """Name in the registry, or `amsgrad`."""
    args: Mapping[str, Any] = field(default_factory=dict)
    """Keyword arguments of the class, besides `lr`; without weight decay unless given."""
    detail: str = ""
    """What tells it from other settings of the same optimizer, such as `beta2=0.9`."""

    @property
    def label(self) -> str:
        return OPTIMIZER_LABELS[self.optim]


def check_optimizers(names: Sequence[str]) -> tuple[str, ...]:
    """The names, each once and in the registry's spelling.

    Raises:
        UsageError: a name that is neither one of the paper's nor `amsgrad`.
    """
    checked = dict.fromkeys(map(usual_name, names))
    for name in checked:
        if name not in OPTIMIZER_LABELS:
            raise UsageError(f"unknown optimizer {name!r}{nearest(name, list(OPTIMIZER_LABELS))}")
    return tuple(checked)


def build(setting: Setting, lrs: Sequence[float], start: Tensor) -> tuple[torch.optim.Optimizer, Tensor, Tensor]:
    """An optimizer of the package over copies of `start`, one parameter and one group per learning rate.

    Args:
        lrs: learning rates, L of them.
        start: initial value of every copy, any shape S; its dtype is the state's dtype.

    Returns:
        The optimizer; the parameters' values, shape (L, *S); their gradients, same shape, to be filled before `step`.
    """
    values = start.expand(len(lrs), *start.shape).clone()
    gradients = torch.zeros_like(values)
    groups: list[dict[str, Any]] = []
    for value, gradient, lr in zip(values, gradients, lrs, strict=True):
        parameter = torch.nn.Parameter(value)  # shares its memory with `values`
        parameter.grad = gradient
        groups.append({"params": [parameter], "lr": lr})
    name = "adam" if setting.optim == AMSGRAD else setting.optim
    extra = {"amsgrad": True} if setting.optim == AMSGRAD else {}
    # The plain loop over tensors is the fastest implementation for a handful of small ones.
    args = {"weight_decay": 0.0, "foreach": False, **setting.args, **extra}
    return OPTIMIZERS[name].cls(groups, **args), values, gradients


def second_moment(optimizer: torch.optim.Optimizer, t: int) -> Tensor:
    """The v_t under the root of step t (counted from 1), read from the state of an optimizer that `build` made.

    Returns:
        Shape (L, *S): the bias-corrected average of g^2, its running maximum first with AMSGrad; u^2 + s of a MaxVA
        average.
    """
    states = [optimizer.state[parameter] for group in optimizer.param_groups for parameter in group["params"]]
    if "mean" in states[0]:
        mean = torch.stack([state["mean"] for state in states])
        return torch.stack([state["var"] for state in states]).addcmul_(mean, mean)
    name = next(key for key in ("max_exp_avg_sq", "exp_avg_sq") if key in states[0])
    defaults = optimizer.defaults
    beta2 = defaults["beta2"] if "beta2" in defaults else defaults["betas"][1]
    return torch.stack([state[name] for state in states]) / (1 - beta2**t)
