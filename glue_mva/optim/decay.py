"""Weight decay that is decoupled whatever the class: by its own switch, or applied beside it where it has none.

Whether a class decouples its decay is no part of its interface. So its first steps are compared with what decoupled
decay, no decay, and decay in the gradient (L2) would give.
"""

import inspect
from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor
from torch.optim import Optimizer

Rule = Literal["class", "trainer", "own"]
"""Who decays: the class, decoupled; the trainer, decoupled, since the class couples it or has none; or the class, by a
rule of its own that is neither."""

SWITCHES = ("decoupled_weight_decay", "weight_decouple")
"""Keyword arguments by which torch's optimizers, and others, decouple their decay."""

_LR, _DECAY, _STEPS = 1e-2, 0.1, 3
_TOLERANCE = 0.05
"""Of the effect of the decay: whether a class decays before or after its step makes a difference of `_LR` of it."""


def switches(cls: type[Optimizer]) -> dict[str, bool]:
    """The keyword arguments that make a class decouple its decay."""
    return {name: True for name in SWITCHES if name in inspect.signature(cls.__init__).parameters}


class DecoupledDecay:
    """Multiplies parameters that have a gradient by 1 - lr * weight_decay before every step of an optimizer, which does
    not decay them itself any more.

    Args:
        optimizer: what its groups have as `weight_decay` moves to `decoupled_by_trainer`.
        groups: those of its groups that this is done to; by default, all.
    """

    def __init__(self, optimizer: Optimizer, groups: Sequence[dict[str, Any]] | None = None) -> None:
        self._depth = 0
        for group in optimizer.param_groups if groups is None else groups:
            group["decoupled_by_trainer"], group["weight_decay"] = group["weight_decay"], 0.0
        optimizer.register_step_pre_hook(self._before)
        optimizer.register_step_post_hook(self._after)

    @torch.no_grad()
    def _before(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        self._depth += 1
        if self._depth > 1:
            return  # torch calls the hooks again where a subclass's step calls its parent's
        for group in optimizer.param_groups:
            factor = 1 - group["lr"] * group.get("decoupled_by_trainer", 0.0)
            decayed = [p for p in group["params"] if p.grad is not None]
            if factor != 1 and decayed:
                torch._foreach_mul_(decayed, factor)

    def _after(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        self._depth -= 1


def rule_of(make: Callable[[list[dict[str, Any]]], Optimizer], like: Sequence[Tensor]) -> Rule:
    """What an optimizer's weight decay is, seen in its first steps on small random tensors.

    Args:
        make: builds it for parameter groups.
        like: tensors with the shapes and the device of the parameters to try it on.

    Raises:
        Exception: whatever its step raises.
    """
    with torch.random.fork_rng():

        def walk(mode: Literal["class", "trainer", "none", "gradient"]) -> Tensor:
            torch.manual_seed(0)
            params = [torch.nn.Parameter(torch.randn(p.shape).to(p.device)) for p in like]
            grads = [[torch.randn(p.shape).to(p.device) for p in like] for _ in range(_STEPS)]
            decay = _DECAY if mode in ("class", "trainer") else 0.0
            optimizer = make([{"params": params, "lr": _LR, "weight_decay": decay}])
            if mode == "trainer":
                DecoupledDecay(optimizer)
            getattr(optimizer, "train", lambda: None)()
            for step in grads:
                for p, grad in zip(params, step, strict=True):
                    p.grad = grad + _DECAY * p.detach() if mode == "gradient" else grad.clone()
                optimizer.step()
            return torch.cat([p.detach().cpu().double().flatten() for p in params])

        found, decoupled, none, coupled = (walk(mode) for mode in ("class", "trainer", "none", "gradient"))
    allowed = _TOLERANCE * (decoupled - none).abs().max()
    close = [bool((found - expected).abs().max() <= allowed) for expected in (decoupled, none, coupled)]
    return "class" if close[0] else "trainer" if any(close) else "own"
