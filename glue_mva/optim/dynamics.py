"""What an optimizer does at the updates that are logged: average step size and beta_t, kept on the device till read."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from glue_mva.optim.diagnostics import average_step_size, beta_statistics, knows


class StepProbe:
    """Measures one optimizer through its step hooks, at the updates for which `is_due()` is true, and only there.

    `step_size` is the paper's (section 5): the mean over all entries of |lr m / (sqrt(v) + eps)| or |lr m|, weight
    decay not included, from the state of MAdam, LaMAdam, LaProp and AdamW. For any other optimizer it is the mean
    change of the parameters with decoupled weight decay taken out, which needs a copy of them during that update.

    Args:
        own_decay: the class decays weights by a rule of its own, which cannot be taken out (Prodigy, schedule-free
            AdamW): the step size is then not known of groups that decay.
    """

    def __init__(
        self, optimizer: torch.optim.Optimizer, is_due: Callable[[], bool], *, own_decay: bool = False
    ) -> None:
        self._is_due = is_due
        self._own_decay = own_decay
        self._values: dict[str, Tensor] = {}
        self._before: list[Tensor] = []
        optimizer.register_step_pre_hook(self._on_start)
        optimizer.register_step_post_hook(self._on_end)

    def read(self) -> dict[str, float]:
        """The values of the last update that was due, fetched from the device; empty when there is none."""
        values = {name: value.item() for name, value in self._values.items()}
        self._values = {}
        return values

    def _on_start(self, optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        if not self._is_due():
            return
        self._values = beta_statistics(optimizer) or {}
        if not knows(optimizer):
            self._before = [p.detach().clone() for p in _parameters(optimizer)]

    def _on_end(self, optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        if not self._is_due():
            return
        if not knows(optimizer) and not self._before:
            return  # measured already: torch calls the hooks twice where a subclass's step calls its parent's
        step_size = average_step_size(optimizer) if knows(optimizer) else self._mean_change(optimizer)
        if step_size is not None:
            self._values["step_size"] = step_size
        self._before = []

    def _mean_change(self, optimizer: torch.optim.Optimizer) -> Tensor | None:
        total, count, before = torch.zeros(()), 0, iter(self._before)
        for group in optimizer.param_groups:
            decay = group.get("weight_decay", 0.0)
            if decay and self._own_decay:
                return None
            keep = 1 - (decay if group.get("fixed_decay") else group["lr"] * decay)
            for parameter in group["params"]:
                if parameter.requires_grad:
                    change = parameter.detach() - next(before) * keep
                    total = total.to(parameter.device) + change.abs().sum(dtype=torch.float32)
                    count += change.numel()
        return total / count if count else None


def _parameters(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    return [p for group in optimizer.param_groups for p in group["params"] if p.requires_grad]
