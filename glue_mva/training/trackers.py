"""What a run tells wandb and MLflow: a run of its own there, with its curves and its config as the hyperparameters."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from transformers.integrations import MLflowCallback, WandbCallback

from glue_mva.config.identity import EXECUTION_FIELDS
from glue_mva.config.resolve import ResolvedConfig
from glue_mva.errors import UsageError, kind_and_line


def hyperparameters(config: ResolvedConfig) -> dict[str, bool | float | str]:
    """Every field of a config that its result depends on; arguments of the optimizer as `optim_args.NAME`, and what is
    neither a number nor a word as text."""
    values = config.model_dump(exclude={*EXECUTION_FIELDS, "own_task", "optim_args"})
    values |= {f"optim_args.{name}": value for name, value in config.optim_args.items()}
    return {
        name: value if isinstance(value, bool | int | float | str) else str(value) for name, value in values.items()
    }


@dataclass(frozen=True)
class _Shown:
    """What transformers' callbacks show of the Trainer's arguments, which know neither the optimizer nor the schedule
    that a run really has: here, the run's own config."""

    config: ResolvedConfig
    run_name: str
    output_dir: str = ""

    def to_dict(self) -> dict[str, Any]:
        return dict(hyperparameters(self.config))


@contextlib.contextmanager
def _beginning(name: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # nobody is logged in, no such server, ...
        raise UsageError(f"report_to {name}: it could not begin a run: {kind_and_line(error)}") from error


class Wandb(WandbCallback):
    """transformers' callback, for one of several runs that a process may make. Needs the package wandb."""

    def __init__(self, config: ResolvedConfig, name: str) -> None:
        super().__init__()
        self._shown, self._began = _Shown(config, name), False

    def setup(self, args: Any, state: Any, model: Any, **kwargs: Any) -> None:
        import wandb

        self._began = wandb.run is None
        with _beginning("wandb"):
            super().setup(self._shown, state, model, **kwargs)

    def close(self, *, ok: bool) -> None:
        """End the run there; without, the next one of this process would go on with it. One that was there before stays
        open."""
        import wandb

        if self._began and wandb.run is not None:
            wandb.finish(exit_code=0 if ok else 1)


class MLflow(MLflowCallback):
    """transformers' callback, for one of several runs that a process may make. Needs the package mlflow."""

    def __init__(self, config: ResolvedConfig, name: str) -> None:
        super().__init__()
        self._shown = _Shown(config, name)

    def setup(self, args: Any, state: Any, model: Any) -> None:
        with _beginning("mlflow"):
            super().setup(self._shown, state, model)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Not yet: `close` knows how the run ended."""

    def close(self, *, ok: bool) -> None:
        """End the run that it began there, be it nested in another. One that was there before stays open."""
        import mlflow

        # transformers would end whatever run is active when this object is collected, too
        began, self._auto_end_run = self._auto_end_run, False
        if began and mlflow.active_run() is not None:
            mlflow.end_run("FINISHED" if ok else "FAILED")


TRACKERS: dict[str, type[Wandb] | type[MLflow]] = {"wandb": Wandb, "mlflow": MLflow}
