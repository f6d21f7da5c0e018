"""One optimizer made of several, each with parameters of its own: matrices to Muon and the rest to AdamW, say."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.optim import Optimizer


class RoutedOptimizer(Optimizer):
    """Steps several optimizers as one. Its `param_groups` are theirs, so schedulers set their learning rates.

    Args:
        optimizers: at least one; no parameter may belong to two of them.

    Raises:
        ValueError: a parameter belongs to two.
    """

    def __init__(self, optimizers: Sequence[Optimizer]) -> None:
        self.optimizers = list(optimizers)
        groups = [group for optimizer in self.optimizers for group in optimizer.param_groups]
        super().__init__([dict(group) for group in groups], dict(self.optimizers[0].defaults))
        self._join()

    def _join(self) -> None:
        self.param_groups = [group for optimizer in self.optimizers for group in optimizer.param_groups]

    @property
    def state(self) -> Any:
        """parameter -> its state, of all optimizers: to be read."""
        return {p: state for optimizer in self.optimizers for p, state in optimizer.state.items()}

    @state.setter
    def state(self, value: Any) -> None:
        """torch sets an empty one when an optimizer is made."""

    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for optimizer in self.optimizers:
            optimizer.step()
        return loss

    def train(self) -> None:
        """Training weights, for those that have others to evaluate with (schedule-free ones)."""
        self._switch("train")

    def eval(self) -> None:
        """Weights to evaluate with."""
        self._switch("eval")

    def _switch(self, mode: str) -> None:
        for optimizer in self.optimizers:
            if hasattr(optimizer, mode):
                getattr(optimizer, mode)()

    def state_dict(self) -> dict[str, Any]:
        return {"optimizers": [optimizer.state_dict() for optimizer in self.optimizers]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load what `state_dict` returned.

        Raises:
            ValueError: it belongs to an optimizer that is not made of the same number of parts.
        """
        for optimizer, state in zip(self.optimizers, state_dict["optimizers"], strict=True):
            optimizer.load_state_dict(state)
        self._join()
