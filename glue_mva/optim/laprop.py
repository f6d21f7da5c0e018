"""LaProp: Adam with the normalisation before the momentum (Ziyin et al. 2020), the baseline of LaMAdam."""

from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from glue_mva.optim import dispatch, maxva
from glue_mva.optim.base import Base, bias_correction, check_decay
from glue_mva.optim.state import Constants, Scalars, Tensors


class LaProp(Base):
    """Each gradient is divided by the root of the second moment before it enters the momentum average.

    Args:
        params: parameters, named parameters or parameter groups.
        lr: learning rate; a float or a one-element tensor.
        beta1: decay of the momentum average, in [0, 1).
        beta2: decay of the second moment, in [0, 1).
        eps: added to the root of the second moment, outside the root.
        weight_decay: decoupled (as in AdamW): theta is multiplied by 1 - lr * weight_decay.
        amsgrad: use the running maximum of the second moment.
        maximize: ascend instead of descend.
        foreach: step with foreach operations, as in torch.optim; None for both picks the fastest one that is safe.
        fused: step with the fused kernel, as in torch.optim.
        capturable: keep step counts and learning rate on the device, as CUDA graphs need.

    Raises:
        UsageError: a hyperparameter out of range.
        RuntimeError: at `step`, a sparse gradient; `foreach` and `fused` both set.
    """

    normalise_first = True
    state_names = ("exp_avg", "exp_avg_sq")
    implementations = dispatch.ALL

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1e-3,
        beta1: float = 0.9,
        beta2: float = 0.999,
        eps: float = 1e-15,
        weight_decay: float = 0.0,
        *,
        amsgrad: bool = False,
        maximize: bool = False,
        foreach: bool | None = None,
        fused: bool | None = None,
        capturable: bool = False,
    ) -> None:
        super().__init__(
            params,
            lr=lr,
            beta1=beta1,
            beta2=beta2,
            eps=eps,
            weight_decay=weight_decay,
            amsgrad=amsgrad,
            maximize=maximize,
            foreach=foreach,
            fused=fused,
            capturable=capturable,
        )

    def check_group(self, group: dict[str, Any]) -> None:
        super().check_group(group)
        check_decay("beta2", group["beta2"])

    def scalars(self, group: dict[str, Any], lr: float | Tensor, t: float | Tensor) -> Scalars:
        step_size = lr / bias_correction(group["beta1"], t)
        return Scalars(1 - lr * group["weight_decay"], step_size, 0.0, 0.0, bias_correction(group["beta2"], t))

    @staticmethod
    def update(x: Tensors, by: Scalars, c: Constants) -> None:
        """One step on one parameter, in place. The other implementations compute the same, faster."""
        p, g, m, v = x.param, x.grad, x.exp_avg, x.exp_avg_sq
        p.mul_(by.decay)  #                                        decoupled decay: theta (1 - lr lambda)
        v.add_((g * g - v) * (1 - c.beta2))  #                     v = beta2 v + (1 - beta2) g^2
        if x.max_second is not None:
            v = torch.maximum(x.max_second, v, out=x.max_second)
        n = g / (maxva.sqrt(v / by.bias_correction2) + c.eps)  #      normalised gradient
        m.add_((n - m) * (1 - c.beta1))  #                         m = beta1 m + (1 - beta1) n
        p.sub_(m * by.step_size)  #                                theta -= lr / (1 - beta1^t) m
