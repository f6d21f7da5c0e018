"""What MAdam, LaMAdam and LaProp share: checks, state, step counts, checkpoints and the choice of implementation."""

import math
from collections.abc import Callable
from functools import partial
from itertools import chain
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.optimizer import ParamsT

from glue_mva.errors import UsageError
from glue_mva.optim import dispatch, maxva, selfcheck
from glue_mva.optim.state import STATE_NAMES, Constants, Scalars, Slot, Tensors, compute_dtype, local, rows

_OLD_DEFAULTS = {"amsgrad": False, "maximize": False, "foreach": None, "fused": None, "capturable": False}
"""Flags that an old `state_dict` may lack."""
_ORDER = "normalise_first"
"""Key of a `state_dict`'s groups that tells MAdam's from LaMAdam's, which are else of the same names and shapes."""


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
    """State tensors besides `step`, as named in `state.Tensors`."""
    implementations: ClassVar[tuple[str, ...]] = ("for-loop",)
    """Those that compute the same as `update`: of "for-loop", "foreach", "cpu", "cuda"."""

    def __init__(self, params: ParamsT, **defaults: Any) -> None:
        if defaults["foreach"] and defaults["fused"]:
            raise RuntimeError("`fused` and `foreach` cannot be `True` together.")
        self.check_group(defaults)
        super().__init__(params, defaults)
        self._take_over_grad_scaling()

    @staticmethod
    def update(x: Tensors, by: Scalars, c: Constants) -> None:
        """One step of one parameter, in place: the specification, which the for-loop runs as it is."""
        raise NotImplementedError

    def scalars(self, group: dict[str, Any], lr: float | Tensor, t: float | Tensor) -> Scalars:
        """The numbers of a parameter's t-th step; tensors like `t` where it is one."""
        raise NotImplementedError

    def constants(self, group: dict[str, Any]) -> Constants:
        """What is the same for all parameters of a group, at every step."""
        beta2 = group.get("beta2", 0.0)
        return Constants(group["beta1"], beta2, group["eps"], group["maximize"], self.normalise_first)

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
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
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
                self._step_group(group, params, grads, steps, states)
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

    def implementation_for(self, group: dict[str, Any], params: list[Tensor]) -> str:
        """The one of `dispatch.ALL` that is chosen for a group, if it knows the update and proved itself here."""
        name = dispatch.choose(group, params)
        if name not in self.implementations:
            return "for-loop"
        while name != "for-loop" and not selfcheck.sound(name, type(self), group["amsgrad"], params):
            name = selfcheck.INSTEAD[name]
        return name

    def _step_group(
        self,
        group: dict[str, Any],
        params: list[Tensor],
        grads: list[Tensor],
        steps: list[Tensor],
        states: list[list[Tensor | None]],
    ) -> None:
        """One step of the parameters of a group, all of which have a gradient."""
        name = self.implementation_for(group, params)
        grad_scale, found_inf = getattr(self, "grad_scale", None), getattr(self, "found_inf", None)  # by GradScaler
        if name != "cuda" and not _unscale_(grads, grad_scale, found_inf):
            return
        torch._foreach_add_(steps, 1)
        is_graph = group["capturable"] or torch.compiler.is_compiling()
        on_device = is_graph or name == "cuda" or steps[0].device.type != "cpu"
        counts = None if on_device else [step.item() for step in steps]
        if not is_graph:
            self._drop_constant(group, params, steps, counts, states)
        columns: list[Any] = [params, grads, *states]
        tensors = [local(Tensors._make(row)) for row in zip(*columns, strict=True)]
        c = self.constants(group)
        if name == "cuda":
            from glue_mva.optim.kernels import cuda  # imports triton

            tables = self.__dict__.setdefault("_tables", {}).setdefault(id(group), {})
            cuda.step(tensors, steps, partial(self._scalars_at, group), c, tables, grad_scale, found_inf)
            if found_inf is not None:
                skipped = (found_inf != 0).to(torch.float32)  # found_inf counts the devices that overflowed
                torch._foreach_sub_(steps, [skipped.to(step.device) for step in steps])
        else:
            numbers = self._numbers(group, steps) if counts is None else self._numbers_on_host(group, counts)
            slots = [Slot(x, by) for x, by in zip(tensors, numbers, strict=True)]
            dispatch.step(name, slots, c, self.update)

    def _drop_constant(
        self,
        group: dict[str, Any],
        params: list[Tensor],
        steps: list[Tensor],
        counts: list[float] | None,
        states: list[list[Tensor | None]],
    ) -> None:
        """Takes what has become constant out of `states` and out of the state; nothing, where nothing does.

        Args:
            counts: `steps` as numbers; None where they are on a device.
        """

    def _scalars_at(self, group: dict[str, Any], t: Tensor) -> Scalars:
        """The numbers of step counts `t` (n,), on their device."""
        lr = group["lr"]
        on_device = lr.reshape(()).to(t.device, non_blocking=True) if isinstance(lr, Tensor) else lr
        return self.scalars(group, on_device, t)

    def _numbers(self, group: dict[str, Any], steps: list[Tensor]) -> list[Scalars]:
        """The numbers of each step, as 0-dim tensors: a few operations for all steps on one device."""
        found: dict[int, Scalars] = {}
        for device in dict.fromkeys(step.device for step in steps):
            here = [k for k, step in enumerate(steps) if step.device == device]
            t = torch.stack([steps[k] for k in here])
            found |= zip(here, rows(self._scalars_at(group, t), t), strict=True)
        return [found[k] for k in range(len(steps))]

    def _numbers_on_host(self, group: dict[str, Any], counts: list[float]) -> list[Scalars]:
        lr = group["lr"].item() if isinstance(group["lr"], Tensor) else group["lr"]
        found = {t: self.scalars(group, lr, t) for t in set(counts)}
        return [found[t] for t in counts]

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

        Raises:
            UsageError: another kind of optimizer saved it; nothing was changed.
        """
        saved: dict[str, Any] = {}

        def take_out(_: Optimizer, loading: dict[str, Any]) -> dict[str, Any]:
            self._refuse_foreign(loading)
            groups = [{k: v for k, v in group.items() if k != _ORDER} for group in loading["param_groups"]]
            saved.update(loading)
            return {**loading, "state": {}, "param_groups": groups}

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

    def _refuse_foreign(self, state_dict: dict[str, Any]) -> None:
        group_keys = self.param_groups[0]  # `defaults` has a further one once torch has loaded something
        needed = [name for name in self.defaults if name in group_keys and name not in _OLD_DEFAULTS]
        missing = [name for name in needed if any(name not in group for group in state_dict["param_groups"])]
        reason = f"it has no {', '.join(missing)}" if missing else ""
        if any(group.get(_ORDER, self.normalise_first) != self.normalise_first for group in state_dict["param_groups"]):
            reason = f"it has momentum of {'plain' if self.normalise_first else 'divided'} gradients"
        if reason:
            name = type(self).__name__
            raise UsageError(
                f"this state_dict is not {name}'s: {reason}; load it into the class that saved it, or start {name} "
                "without it, from the model's weights"
            )

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
    implementations = dispatch.ALL

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
        packed["param_groups"] = [{**group, _ORDER: self.normalise_first} for group in packed["param_groups"]]
        return packed

    def _drop_constant(
        self,
        group: dict[str, Any],
        params: list[Tensor],
        steps: list[Tensor],
        counts: list[float] | None,
        states: list[list[Tensor | None]],
    ) -> None:
        """Drops `weight_sum` where it was 1 before this step."""
        weights = states[STATE_NAMES.index("weight_sum")]
        limits = [maxva.steps_until_full(group["beta2_max"], compute_dtype(p)) for p in params]
        kept = [k for k, weight in enumerate(weights) if weight is not None and limits[k] < math.inf]
        found = self._read_where_due(params, steps, kept, limits) if counts is None else {k: counts[k] for k in kept}
        for k, t in found.items():
            if t > limits[k]:
                self.state[params[k]].pop("weight_sum", None)
                weights[k] = None

    def _read_where_due(
        self, params: list[Tensor], steps: list[Tensor], kept: list[int], limits: list[float]
    ) -> dict[int, float]:
        """Index -> count of the steps that may be past their limits; the others are not read: the host would wait."""
        left: dict[Tensor, float] = self.__dict__.setdefault("_steps_left", {})
        for k in kept:
            left[params[k]] = left.get(params[k], 0.0) - 1
        due = [k for k in kept if left[params[k]] <= 0]
        if not due:
            return {}
        device = steps[due[0]].device
        found = dict(zip(due, torch.stack([steps[k].to(device) for k in due]).tolist(), strict=True))
        left |= {params[k]: limits[k] + 1 - t for k, t in found.items()}
        return found


def _unscale_(grads: list[Tensor], grad_scale: Tensor | None, found_inf: Tensor | None) -> bool:
    """Divides the gradients by GradScaler's scale, in place as torch's fused optimizers do; False to skip the step."""
    if found_inf is not None and found_inf.item() != 0:
        return False
    if grad_scale is not None:
        for grad in grads:
            grad.div_(grad_scale.to(grad.device))
    return True
