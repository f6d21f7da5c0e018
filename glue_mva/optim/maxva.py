"""Maximum Variation Averaging: the paper's adaptive second moment (Eq. 4 to 9) as functions of tensors.

Per coordinate, the average over past gradients is kept in centered form: `mean` (u), `var` (s, the variance estimate
v - u^2) and `weight_sum` (w, the total weight of the average). Keeping s instead of v is the same mathematics without
the cancellation of v - u^2, which leaves no digits in float32 where |u| is much larger than the spread.

With gamma = 1 - beta_t the update needs no branch and no constant to be tuned: `TINY` only decides 0 / 0.
All tensors have the shape of the parameter; every operation is element-wise.
"""

import functools
import math

import numpy
import torch
from torch import Tensor

TINY = 2.0**-126
"""Smallest normal float32. Makes beta_t = beta2_min where d = s = 0 (Appendix B, claim 4), and is lost in rounding
where d + s exceeds some 1e-30."""


def gamma_range(beta2_min: float, beta2_max: float) -> tuple[float, float]:
    """The clipping range of beta_t as a range of gamma = 1 - beta_t: (smallest, largest)."""
    return 1.0 - beta2_max, 1.0 - beta2_min


def first_gamma(beta2_max: float) -> float:
    """gamma of a parameter's first step (Eq. 9): 1 - beta2_max; 0.1 where beta2_max = 1, which would give no weight."""
    return 1.0 - beta2_max if beta2_max < 1.0 else 0.1


@functools.cache
def steps_until_full(beta2_max: float, dtype: torch.dtype = torch.float32) -> float:
    """First step t with beta2_max^t < 2^-24, from which on w is 1 to the precision of float32; infinite at 1.

    (1 - w is the product of all beta_t so far.) In float64 it is 2^-53.
    """
    if beta2_max >= 1.0:
        return math.inf
    bits = 53 if dtype == torch.float64 else 24
    return math.floor(bits * math.log(2.0) / -math.log(beta2_max)) + 1 if beta2_max > 0.0 else 1


def gamma_t(
    grad: Tensor,
    mean: Tensor,
    var: Tensor,
    weight_sum: Tensor | None,
    gamma_min: float | Tensor,
    gamma_max: float | Tensor,
) -> Tensor:
    """gamma = 1 - beta_t, where beta_t maximises the variance of the new average (Eq. 8), clipped to its range.

    Args:
        grad: g, the new gradient.
        mean: u of the previous step.
        var: s of the previous step.
        weight_sum: w of the previous step; None where it has reached 1.
        gamma_min: 1 - beta2_max, or `first_gamma` at a parameter's first step.
        gamma_max: 1 - beta2_min, or `first_gamma` at a parameter's first step.
    """
    e = grad - mean
    d = e * e  #                                                     d = (g - u)^2
    q = d - var if weight_sum is None else (d - var) * weight_sum  # w (d - s)
    # Eq. 8: beta = (d + s) / (w (d - s) + d + s), so 1 - beta = w (d - s) / (w (d - s) + d + s)
    gamma = (q + TINY) / (q + d + var + TINY)
    return gamma.clamp(min=gamma_min).clamp(max=gamma_max)


def average_(grad: Tensor, mean: Tensor, var: Tensor, weight_sum: Tensor | None, gamma: Tensor) -> Tensor:
    """Moves `mean`, `var` and `weight_sum` (in place) to the new average and returns its second moment v.

    Eq. 4 to 6 divided by their total weight: with b = (1 - beta_t) / w', u' = u + b (g - u), s' = (1 - b) (s + b d).
    """
    e = grad - mean
    d = e * e
    if weight_sum is None:
        b = gamma
    else:
        weight_sum.add_((1 - weight_sum) * gamma)  # w' = beta_t w + (1 - beta_t)
        b = gamma / weight_sum
    mean.add_(e * b)  #                              u' = u + b (g - u)
    var.add_(d * b).mul_(1 - b)  #                   s' = (1 - b) (s + b d)
    return mean * mean + var  #                      v' = s' + u'^2


def amsgrad_(v: Tensor, weight_sum: Tensor | float | None, max_second: Tensor) -> Tensor:
    """AMSGrad's second moment: the running maximum of the un-normalised v~ = w v (in place), then divided by w."""
    if weight_sum is None:
        return torch.maximum(max_second, v, out=max_second)
    torch.maximum(max_second, v * weight_sum, out=max_second)
    return max_second / weight_sum


def sqrt(x: Tensor) -> Tensor:
    """The root, correctly rounded on CPU too, where torch's own is not: so all implementations give the same bits."""
    if x.device.type != "cpu" or torch.compiler.is_compiling():
        return x.sqrt()
    root = torch.empty_like(x)
    numpy.sqrt(x.numpy(), out=root.numpy())
    return root
