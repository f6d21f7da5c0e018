"""Options that are made from the fields of a config class."""

from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from glue_mva.cli import app
from glue_mva.cli.options import with_fields
from glue_mva.cli.sweep_options import RUN_FIELDS
from glue_mva.config.run import RunConfig
from glue_mva.sweep.config import SweepConfig


def given(model: type, *words: str) -> dict[str, Any]:
    """What a command with the fields of a class gets from these words."""
    seen: list[dict[str, Any]] = []
    small = typer.Typer()

    @small.command()
    @with_fields(model)
    def command(given: dict[str, Any]) -> None:
        seen.append(given)

    done = CliRunner().invoke(small, words)
    assert done.exit_code == 0, done.output
    return seen[0]


def test_values_arrive_in_the_types_of_their_fields() -> None:
    words = ["--task", "5", "--lr", "1e-4", "--seed", "7", "--hidden-dropout", "checkpoint", "--attention-dropout",
             "0.2", "--no-fused", "--decay-all-parameters", "--logging-steps", "auto"]  # fmt: skip
    assert given(RunConfig, *words) == {
        "task": "5", "lr": 1e-4, "seed": 7, "hidden_dropout": "checkpoint", "attention_dropout": 0.2, "fused": False,
        "decay_all_parameters": True, "logging_steps": "auto",
    }  # fmt: skip
    assert given(SweepConfig, "--tasks", "rte, sst2", "--lr", "1e-5,2e-5", "--final-seeds", "2") == {
        "tasks": ["rte", "sst2"], "lr": [1e-5, 2e-5], "final_seeds": 2,
    }  # fmt: skip
    assert given(RunConfig) == {}


def test_what_is_no_value_of_the_field_is_left_for_the_class_to_refuse() -> None:
    assert given(RunConfig, "--lr", "fast", "--seed", "1.5") == {"lr": "fast", "seed": 1.5}


@pytest.mark.parametrize("command", ["run", "sweep", "plan", "status"])
def test_every_field_is_an_option_with_its_docstring(command: str) -> None:
    """But for tables, which `--set` fills."""
    fields = {} if command == "run" else dict(SweepConfig.model_fields)
    fields |= {n: RunConfig.model_fields[n] for n in (RunConfig.model_fields if command == "run" else RUN_FIELDS)}
    shown = CliRunner().invoke(app, [command, "--help"], terminal_width=4000).output
    assert "--optim-args" not in shown and "--own-task" not in shown and "--routes" not in shown
    for name, info in fields.items():
        if name not in ("optim_args", "routes", "run", "own_task", "own_tasks"):
            assert f"--{name.replace('_', '-')}" in shown
        if name not in ("optim_args", "routes", "run", "own_task", "own_tasks", "tasks", "optimizers"):
            assert " ".join((info.description or "").split()) in " ".join(shown.split())
