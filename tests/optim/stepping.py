"""Parameters, and steps with random gradients, that several tests of the optimizers share."""

import torch

from glue_mva import LaMAdam, LaProp, MAdam

CLASSES = [MAdam, LaMAdam, LaProp]


def steps(optimizer, params, n=3, seed=0):
    """Random gradients, the same for the same seed whatever the dtype and layout."""
    generator = torch.Generator().manual_seed(seed)
    for _ in range(n):
        for p in params:
            p.grad = torch.randn(p.shape, generator=generator).to(p.dtype)
        optimizer.step()


def parameters(*shapes, dtype=torch.float32):
    generator = torch.Generator().manual_seed(7)
    return [torch.nn.Parameter(torch.randn(shape, generator=generator).to(dtype)) for shape in shapes]
