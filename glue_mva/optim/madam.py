"""MAdam: Adam whose second moment is a maximum-variation average (Algorithm 1 of the paper)."""

from torch import Tensor
from torch.optim.optimizer import ParamsT

from glue_mva.optim import maxva
from glue_mva.optim.base import MaxVAOptimizer
from glue_mva.optim.state import Constants, Scalars, Tensors


class MAdam(MaxVAOptimizer):
    """Adam with an adaptive, per-coordinate decay of the second moment (Zhu et al., Algorithm 1).

    The decay beta_t of every coordinate is chosen anew at each step, within [beta2_min, beta2_max], so that the
    weighted variance of the gradients seen so far is largest. With beta2_min = beta2_max it is AdamW.

    Args:
        params: parameters, named parameters or parameter groups.
        lr: learning rate; a float or a one-element tensor. On GLUE the paper's best are 2 to 6 times
            AdamW's.
        beta1: decay of the momentum average, in [0, 1).
        beta2_min: lower end of the range of beta_t, in [0, 1).
        beta2_max: upper end, in [beta2_min, 1]. 1 is allowed (the paper's section 4.1 uses it).
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

    normalise_first = False

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1e-3,
        beta1: float = 0.9,
        beta2_min: float = 0.5,
        beta2_max: float = 0.999,
        eps: float = 1e-8,
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
            beta2_min=beta2_min,
            beta2_max=beta2_max,
            eps=eps,
            weight_decay=weight_decay,
            amsgrad=amsgrad,
            maximize=maximize,
            foreach=foreach,
            fused=fused,
            capturable=capturable,
        )

    @staticmethod
    def update(x: Tensors, by: Scalars, c: Constants) -> None:
        """One step of Algorithm 1 on one parameter, in place. The other implementations compute the same, faster."""
        p, g, m, u, s, w = x.param, x.grad, x.exp_avg, x.mean, x.var, x.weight_sum
        p.mul_(by.decay)  #                                                 decoupled decay: theta (1 - lr lambda)
        m.add_((g - m) * (1 - c.beta1))  #                                  m = alpha m + (1 - alpha) g
        gamma = maxva.gamma_t(g, u, s, w, by.gamma_min, by.gamma_max)  #    Eq. 8, clipped
        v = maxva.average_(g, u, s, w, gamma)  #                            Eq. 4 to 7
        if x.max_second is not None:
            v = maxva.amsgrad_(v, w, x.max_second)
        p.sub_(
            m / (maxva.sqrt(v) + c.eps) * by.step_size
        )  #                    theta -= lr / (1 - alpha^t) m / (sqrt(v) + eps)
