"""Each implementation against the for-loop on this machine, before it steps a model for the first time."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from glue_mva import checks

if TYPE_CHECKING:
    from glue_mva.optim.base import Base

INSTEAD = {"cuda": "foreach", "cpu": "foreach", "foreach": "for-loop"}
"""Implementation -> the plainer one that is taken where it is wrong."""
LABELS = {"for-loop": "for-loop", "foreach": "foreach", "cpu": "C kernel", "cuda": "Triton kernel"}
"""Implementation -> its name in messages."""
_STEPS = 10
_TOLERANCE = 2e-5
"""On a GPU, where torch's own operations may be contracted; on a CPU every bit must agree."""
_known: dict[tuple, str] = {}


def sound(name: str, cls: "type[Base]", amsgrad: bool, params: list[Tensor]) -> bool:
    """Whether an implementation computes what `cls.update` says, for parameters of these dtypes on these devices."""
    kinds = {(p.device, p.dtype) for p in params}
    return all(_verdict(name, cls, amsgrad, device, dtype).ok for device, dtype in kinds)


def _verdict(name: str, cls: "type[Base]", amsgrad: bool, device: torch.device, dtype: torch.dtype) -> checks.Verdict:
    key = name, cls, amsgrad, device, dtype
    title = _known.get(key)
    if title is None:
        variant = f"{cls.__name__}{', amsgrad' if amsgrad else ''}, {str(dtype).removeprefix('torch.')}, {device}"
        title = f"optimizer: {LABELS[name]} ({variant})"
        others = sum(known == title or known.startswith(f"{title}, ") for known in _known.values())
        title = _known[key] = f"{title}, another class of that name ({others + 1})" if others else title
    return checks.verdict(title, lambda: _check(*key))


def _check(name: str, cls: "type[Base]", amsgrad: bool, device: torch.device, dtype: torch.dtype) -> checks.Check:
    def compare() -> list[checks.Difference]:
        flags = {"amsgrad": amsgrad, "fused": name == "cuda"}  # which puts step counts on the device
        plain, fast = (_walk(_forced(cls, n), flags, device, dtype) for n in ("for-loop", name))
        params, state = (
            max(checks.relative(got, expected) for got, expected in zip(*part, strict=True))
            for part in zip(fast, plain, strict=True)
        )
        if device.type == "cpu" and name != "cuda":
            return [checks.Difference("parameters and state", max(params, state), 0.0)]
        one_ulp = torch.finfo(dtype).eps  # what the smallest difference can turn into where 16 bits are rounded to
        return [
            checks.Difference("parameters", params, max(_TOLERANCE, one_ulp)),
            checks.Difference("state tensors", state, _TOLERANCE),
        ]

    ours = Path(__file__).parent
    names = [part.__module__ for part in cls.__mro__ if part.__module__.partition(".")[0] not in ("torch", "builtins")]
    files = [getattr(sys.modules.get(name), "__file__", None) for name in names]
    lasting = all(files) and cls is getattr(sys.modules.get(cls.__module__), cls.__qualname__, None)
    sources = (ours, *(Path(file) for file in files if file and ours not in Path(file).parents))
    return checks.Check(compare, f"the {LABELS[INSTEAD[name]]} implementation", device, sources, lasting)


def _forced(cls: "type[Base]", name: str) -> Callable[..., "Base"]:
    """The class with one implementation, whatever its flags and the device say."""
    return type(cls.__name__, (cls,), {"implementation_for": lambda self, group, params: name})


@torch.no_grad()
def _walk(
    make: Callable[..., "Base"], flags: dict[str, bool], device: torch.device, dtype: torch.dtype
) -> tuple[list[Tensor], list[Tensor]]:
    """(parameters, state) after a few steps with decay, a schedule, and weights w both kept and full (dropped)."""
    generator = torch.Generator("cpu").manual_seed(0)

    def random(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, device="cpu").to(device, dtype)

    groups: list[dict[str, Any]] = [
        {"params": [torch.nn.Parameter(random(*s)) for s in ((30, 77), (5,))]} for _ in "ab"
    ]
    optimizer = make(groups, lr=0.01, eps=1e-6, weight_decay=0.1, **flags)
    if "beta2_max" in optimizer.defaults:
        optimizer.param_groups[1] |= {"beta2_min": 0.0, "beta2_max": 0.1}  # w is 1 after 8 steps
    params = [p for group in optimizer.param_groups for p in group["params"]]
    for t in range(_STEPS):
        for group in optimizer.param_groups:
            group["lr"] = 0.01 * (t + 1) / _STEPS
        for p in params:
            p.grad = random(*p.shape) * 10.0 ** -(t % 4)
        optimizer.step()
    found = params, [x for p in params for x in optimizer.state[p].values()]
    values, state = ([torch.view_as_real(x) if x.is_complex() else x for x in part] for part in found)
    return values, state
