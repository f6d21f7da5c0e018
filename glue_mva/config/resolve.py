"""`resolve`: a `RunConfig` with its recipe -> a `ResolvedConfig`, in which nothing is left open. Imports no torch."""

from typing import Annotated, Any

from pydantic import Field

from glue_mva.config.recipes import FIELDS, RECIPES
from glue_mva.config.run import (
    Count,
    Dropout,
    Epochs,
    Length,
    LrScheduler,
    NonNegative,
    Positive,
    Probability,
    RunConfig,
    execution,
    neutral,
)
from glue_mva.errors import UsageError
from glue_mva.optim.registry import OptimizerSpec, get_optimizer

Limit = Annotated[int, Field(ge=0, lt=2**31)]
"""0 is no limit."""


class ResolvedConfig(RunConfig):
    """All inputs of one run, none of them `None`: what everything below the configuration takes, and what a record
    keeps. Fields mean what they mean in `RunConfig`."""

    lr: Positive
    weight_decay: NonNegative
    num_train_epochs: Epochs
    max_steps: Limit = neutral(0)
    """0 leaves it to the number of epochs."""
    max_train_samples: Limit = neutral(0)
    max_eval_samples: Limit = neutral(0)
    train_batch_size: Count
    warmup_ratio: Probability
    lr_scheduler: LrScheduler = neutral("linear")
    max_grad_norm: NonNegative
    max_length: Length
    hidden_dropout: Dropout
    attention_dropout: Dropout
    classifier_dropout: Dropout
    decay_all_parameters: bool
    scale_targets: bool
    sources: dict[str, str] = execution({})
    """Field -> where its value came from: `given`, the recipe, or the paper's best value."""

    @property
    def optimizer_arguments(self) -> dict[str, Any]:
        """Keyword arguments of the optimizer, with those that say how it is carried out."""
        return self.optim_args | ({"fused": True} if self.fused else {})


def resolve(config: RunConfig) -> ResolvedConfig:
    """Fill in every value that is left to the recipe, and write what means the same in one way. Once per run: a
    resolved config is returned as it is.

    Raises:
        UsageError: an own task, for which the recipe has no value of a field that was not given.
    """
    if isinstance(config, ResolvedConfig):
        return config
    values: dict[str, Any] = dict(config)
    sources: dict[str, str] = {}
    filled = RECIPES[config.recipe].for_run(config.task_spec, config.optim_spec)
    sources |= {key: "given" for key in FIELDS if key not in filled}
    if missing := [key for key in sources if values[key] is None]:
        raise UsageError(f"recipe {config.recipe} knows no {', '.join(missing)} for task {config.task}: give them, or "
                         'name in its file the GLUE task whose values it takes, such as like = "sst2"')  # fmt: skip
    for key, (value, origin) in filled.items():
        sources[key] = "given" if values[key] is not None else origin
        values[key] = value if values[key] is None else values[key]
    for key in config.optim_spec.constants:
        sources[f"optim_args.{key}"] = "given" if key in config.optim_args else config.optim_spec.origin
    values["optim_args"] = _arguments(config.optim_spec, config.optim_args)
    values["routes"] = [
        route | {"optim_args": _arguments(get_optimizer(route["optim"]), route.get("optim_args", {}))}
        for route in config.routes
    ]
    values["max_steps"] = config.max_steps or 0
    values["max_train_samples"] = _limit(config, config.max_train_samples, ("train",))
    values["max_eval_samples"] = _limit(config, config.max_eval_samples, config.task_spec.looked_at)
    values["holdout_seed"] = config.holdout_seed if config.holdout_fraction else 0
    return ResolvedConfig(**values, sources=sources)


def _arguments(optim: OptimizerSpec, given: dict[str, Any]) -> dict[str, Any]:
    """All keyword arguments of an optimizer: those given, over its constants."""
    constants = {k: list(v) if isinstance(v, tuple) else v for k, v in optim.constants.items()}
    return {**constants, **given}


def _limit(config: RunConfig, wanted: int | None, splits: tuple[str, ...]) -> int:
    """0 for all rows, where it is known beforehand that there are no more."""
    rows = [config.task_spec.known_rows(config.data, split) for split in splits]
    return 0 if wanted is None or all(n is not None and wanted >= n for n in rows) else wanted
