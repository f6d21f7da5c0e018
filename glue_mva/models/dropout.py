"""Dropout whose masks cost little on a CPU: four 16-bit draws from each 64-bit random number.

`bernoulli_` draws one 32-bit number per element in one thread and was seen to take a quarter of a training step.
"""

import torch
from torch import Tensor, nn

_LEVELS = 2**16


def keep_mask(shape: torch.Size | tuple[int, ...], p: float, device: torch.device) -> Tensor:
    """Boolean tensor of `shape`, true with probability 1 - p rounded to 1/65536, from torch's default generator."""
    if device.type != "cpu":
        return torch.rand(shape, device=device) >= p
    count = torch.Size(shape).numel()
    draws = torch.empty((count + 3) // 4, dtype=torch.int64).random_(-(2**63), None)
    drop_below = round(p * _LEVELS) - _LEVELS // 2
    return (draws.view(torch.int16)[:count] >= drop_below).view(shape)


class CpuDropout(nn.Dropout):
    """`nn.Dropout` with masks from `keep_mask`; has no parameters, so a `state_dict` does not change."""

    def forward(self, input: Tensor) -> Tensor:
        if not self.training or self.p == 0:
            return input
        return input * keep_mask(input.shape, self.p, input.device) * (1 / (1 - self.p))


def use_cpu_dropout(model: nn.Module) -> None:
    """Replace every `nn.Dropout` of a model, in place."""
    for parent in model.modules():
        for name, child in parent.named_children():
            if type(child) is nn.Dropout:
                setattr(parent, name, CpuDropout(child.p))
