"""What MAdam, LaMAdam and LaProp share: checks, state, step counts, checkpoints and the choice of implementation."""

import math
from collections.abc import Callable
from itertools import chain
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.optimizer import ParamsT

from glue_mva.errors import UsageError
from glue_mva.optim import dispatch, maxva
from glue_mva.optim.state import Constants, Scalars, Slot, Tensors, compute_dtype, local

STATE_NAMES = Tensors._fields[2:]
_OLD_DEFAULTS = {"amsgrad": False, "maximize": False, "foreach": None, "fused": None, "capturable": False}


def check_decay(name: str, value: Any, *, closed: bool = False) -> None:
    """Refuses a decay rate outside [0, 1), or outside [0, 1] where `closed`."""
    if not 0.0 <= value <= 1.0 or (value == 1.0 and not closed):
        raise UsageError(f"invalid {name}: {value}; it must lie in [0, 1{']' if closed else ')'}")


def bias_correction(beta: float, t: float | Tensor) -> float | Tensor:
    """1 - beta^t, without the cancellation that a float32 tensor `t` would bring for beta near 1."""
    if isinstance(t, Tensor):
        return -torch.expm1(t * math.log(beta)) if beta > 0.0 else torch.ones_like(t)
    return 1 - beta**t


class Base(Optimizer):
    """An optimizer with float32 state for every parameter of 32 bits or fewer, in four implementations."""

    normalise_first: ClassVar[bool]
    """Whether the gradient is normalised before it enters the momentum (LaProp, LaMAdam) or after (MAdam)."""
    state_names: ClassVar[tuple[str, ...]]
    """State tensors besides `step`, as named in `slots.Tensors`."""

    def __init__(self, params: ParamsT, **defaults: Any) -> None:
        if defaults["foreach"] and defaults["fused"]:
            raise RuntimeError("`fused` and `foreach` cannot be `True` together.")
        self.check_group(defaults)
        super().__init__(params, defaults)
        self._take_over_grad_scaling()

    @staticmethod
    def update(x: Tensors, by: Scalars, c: Constants) -> None:
        """The for-loop implementation: one step of one parameter, in place."""
        raise NotImplementedError

    def scalars(self, group: dict[str, Any], lr: float | Tensor, t: float | Tensor) -> Scalars:
        """The numbers of a parameter's t-th step; 0-dim tensors where `t` is one."""
        raise NotImplementedError

    def constants(self, group: dict[str, Any]) -> Constants:
        """The hyperparameters of a group that no schedule changes."""
        return Constants(group["beta1"], group.get("beta2", 0.0), group["eps"], group["maximize"])

    def check_group(self, group: dict[str, Any]) -> None:
        """Refuses hyperparameters out of range.

        Raises:
            UsageError: names the hyperparameter, its value and its range.
        """
        lr = group["lr"]
        if isinstance(lr, Tensor) and lr.numel() != 1:
            raise UsageError(f"invalid lr: a tensor of {lr.numel()} elements; it must have one")
        for name in ("lr", "eps", "weight_decay"):
            if not group[name] >= 0.0:
                raise UsageError(f"invalid {name}: {group[name]}; it must be 0 or greater")
        check_decay("beta1", group["beta1"])

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        if isinstance(param_group, dict):
            self.check_group({**self.defaults, **param_group})
        super().add_param_group(param_group)

    # ---------------------------------------------------------------------------------------------------------- step

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step over all parameters that have a gradient.

        Args:
            closure: re-evaluates the model with gradients enabled and returns the loss, which `step` then returns.
        """
        self._accelerator_graph_capture_health_check()
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            params: list[Tensor] = []
            grads: list[Tensor] = []
            steps: list[Tensor] = []
            states: list[list[Tensor | None]] = [[] for _ in STATE_NAMES]
            self._init_group(group, params, grads, steps, *states)
            if params:
                dispatch.run(self, group, params, grads, steps, states)
        return loss

    def _init_group(
        self,
        group: dict[str, Any],
        params: list[Tensor],
        grads: list[Tensor],
        steps: list[Tensor],
        *states: list[Tensor | None],
    ) -> None:
        """Fills the lists with the tensors of every parameter that has a gradient, creating state at its first step.

        Named and shaped as in torch's optimizers: `torch.compile` calls it instead of tracing it.
        """
        for p in group["params"]:
            if p.grad is None:
                continue
            if p.grad.is_sparse:
                raise RuntimeError(f"{type(self).__name__} does not support sparse gradients; use sparse=False")
            state = self.state[p]
            if not state:
                self._init_state(group, p, state)
            params.append(p)
            grads.append(p.grad)
            steps.append(state["step"])
            for name, tensors in zip(STATE_NAMES, states, strict=True):
                tensors.append(state.get(name))

    def _init_state(self, group: dict[str, Any], p: Tensor, state: dict[str, Any]) -> None:
        state["step"] = torch.zeros((), dtype=torch.float32, device=self._step_device(group, p))
        like = torch.view_as_real(p) if p.is_complex() else p
        for name in (*self.state_names, *(("max_second",) if group["amsgrad"] else ())):
            state[name] = torch.zeros_like(like, dtype=compute_dtype(p), memory_format=torch.preserve_format)

    @staticmethod
    def _step_device(group: dict[str, Any], p: Tensor) -> torch.device:
        on_device = group["capturable"] or (group["fused"] and p.device.type == "cuda")
        return p.device if on_device else torch.device("cpu")

    def slots(
        self,
        group: dict[str, Any],
        params: list[Tensor],
        grads: list[Tensor],
        steps: list[Tensor],
        states: list[list[Tensor | None]],
    ) -> list[Slot]:
        """Counts the step and pairs the tensors of each parameter (local, real) with the numbers of its step."""
        torch._foreach_add_(steps, 1)
        symbolic = group["capturable"] or torch.compiler.is_compiling() or steps[0].device.type != "cpu"
        lr = group["lr"]
        if isinstance(lr, Tensor):
            lr = lr.reshape(()).to(params[0].device) if symbolic else lr.item()
        by_step: dict[float, Scalars] = {}
        slots = []
        for param, grad, step, *state in zip(params, grads, steps, *states, strict=True):
            if symbolic:
                scalars = self.scalars(group, lr, step)
            else:
                t = step.item()
                if t not in by_step:
                    by_step[t] = self.scalars(group, lr, t)
                scalars = by_step[t]
                state = self.drop_full(group, param, t, state)
            slots.append(Slot(local(Tensors(param, grad, *state)), scalars))
        return slots

    def drop_full(self, group: dict[str, Any], p: Tensor, t: float, state: list[Tensor | None]) -> list[Tensor | None]:
        """The state of `p` at its t-th step, less what has become constant."""
        return state

    # --------------------------------------------------------------------------------------------------- checkpoints

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        for group in self.param_groups:
            for name, value in _OLD_DEFAULTS.items():
                group.setdefault(name, value)
        self._take_over_grad_scaling()

    def _take_over_grad_scaling(self) -> None:
        # torch's convention: GradScaler then passes `grad_scale` and `found_inf` instead of unscaling before the step.
        if all(group["fused"] for group in self.param_groups):
            self._step_supports_amp_scaling = True

    @torch._disable_dynamo
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Loads a `state_dict`, keeping the float32 state of bfloat16 and float16 parameters.

        torch's own method casts state to the dtype of its parameter. So the state goes around it: a hook takes it out
        after all other hooks have seen it, and another puts it back before any of the hooks that run after loading.
        """
        saved: dict[str, Any] = {}

        def take_out(_: Optimizer, loading: dict[str, Any]) -> dict[str, Any]:
            saved.update(loading)
            return {**loading, "state": {}}

        def put_back(_: Optimizer) -> None:
            ids = chain.from_iterable(group["params"] for group in saved["param_groups"])
            owners = ((group, p) for group in self.param_groups for p in group["params"])
            by_id = dict(zip(ids, owners, strict=True))
            for key, value in saved["state"].items():
                if key in by_id:
                    group, p = by_id[key]
                    self.state[p] = {name: self._loaded(group, p, name, x) for name, x in value.items()}
                else:
                    self.state[key] = value

        before = self.register_load_state_dict_pre_hook(take_out)
        after = self.register_load_state_dict_post_hook(put_back, prepend=True)
        try:
            super().load_state_dict(state_dict)
        finally:
            before.remove()
            after.remove()

    def _loaded(self, group: dict[str, Any], p: Tensor, name: str, value: Any) -> Any:
        if name == "step":
            return torch.as_tensor(value, dtype=torch.float32).to(self._step_device(group, p))
        if not isinstance(value, Tensor):
            return value
        value = value.to(device=p.device, dtype=compute_dtype(p))
        return value.contiguous() if 0 in value.stride() else value


class MaxVAOptimizer(Base):
    """What MAdam and LaMAdam share: the state and the scalars of a maximum-variation average."""

    state_names = ("exp_avg", "mean", "var", "weight_sum")

    def check_group(self, group: dict[str, Any]) -> None:
        super().check_group(group)
        check_decay("beta2_min", group["beta2_min"])
        check_decay("beta2_max", group["beta2_max"], closed=True)
        if group["beta2_min"] > group["beta2_max"]:
            raise UsageError(
                f"invalid beta2_min: {group['beta2_min']}; it must not exceed beta2_max {group['beta2_max']}"
            )

    def scalars(self, group: dict[str, Any], lr: float | Tensor, t: float | Tensor) -> Scalars:
        smallest, largest = maxva.gamma_range(group["beta2_min"], group["beta2_max"])
        first = maxva.first_gamma(group["beta2_max"])
        gamma_min: float | Tensor
        gamma_max: float | Tensor
        if isinstance(t, Tensor):
            gamma_min = torch.where(t == 1, first, smallest)
            gamma_max = torch.where(t == 1, first, largest)
        else:
            gamma_min, gamma_max = (first, first) if t == 1 else (smallest, largest)
        step_size = lr / bias_correction(group["beta1"], t)
        return Scalars(1 - lr * group["weight_decay"], step_size, gamma_min, gamma_max, 1.0)

    @torch._disable_dynamo
    def state_dict(self) -> dict[str, Any]:
        """As torch's, with the same keys at every step: a dropped `weight_sum` appears as ones, of one stored element.

        Distributed checkpoints are loaded into the keys that a fresh optimizer has, so none may be missing.
        """
        packed = super().state_dict()
        for key, state in packed["state"].items():
            if isinstance(state, dict) and "var" in state and "weight_sum" not in state:
                var = state["var"]
                ones = torch.ones_like(var) if hasattr(var, "to_local") else var.new_ones(()).expand(var.shape)
                packed["state"][key] = {**state, "weight_sum": ones}
        return packed

    def drop_full(self, group: dict[str, Any], p: Tensor, t: float, state: list[Tensor | None]) -> list[Tensor | None]:
        if t <= maxva.steps_until_full(group["beta2_max"], compute_dtype(p)):
            return state
        self.state[p].pop("weight_sum", None)
        return [None if name == "weight_sum" else x for name, x in zip(STATE_NAMES, state, strict=True)]
