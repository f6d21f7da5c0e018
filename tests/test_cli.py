"""The commands as a user types them."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

from glue_mva.cli.run import read_config_file
from glue_mva.errors import UsageError
from tests.processes import command, forked
from tools.build_cli_docs import PAGE, help_page


def python(*words, cwd):
    return subprocess.run([sys.executable, *words], capture_output=True, text=True, cwd=cwd)


@pytest.mark.parametrize(
    "words, said",
    [
        (["--task", "rtee", "--optim", "adam"], "unknown task 'rtee'; did you mean 'rte'?"),
        (["--task", "rte", "--optim", "madm"], "unknown optimizer 'madm'; did you mean 'madam'?"),
        (["--task", "rte"], "give --optim"),
        (["--task", "rte", "--optim", ":Foo"], "write it as pkg.module:Class"),
        (["--task", "rte", "--optim", "./my.py:Foo"], "write it as pkg.module:Class"),
        (["--task", "rte", "--optim", "torch.optim.RAdam"], "did you mean 'torch.optim:RAdam'?"),
        (
            ["--task", "rte", "--optim", "exits:Foo"],
            "'exits' of optimizer 'exits:Foo': it raises SystemExit",
        ),
        (["--task", "rte", "--optim", "os:system"], "'os:system' is no optimizer"),
        (["--task", "rte", "--optim", "adam", "--set", 'optim_args={"bettas": 1}'], "Adam has no 'bettas'"),
        (["--task", "rte", "--optim", "adam", "--set", 'lr="1e-3"'], "'1e-3': write the number without quotes"),
        (["--task", "rte", "--optim", "adam", "--lr", "-1"], "lr: input should be greater than 0, got -1"),
        (["--task", "rte", "--optim", "adam", "--lr", "nan"], "got nan"),
        (["--task", "rte", "--optim", "adam", "--set", "max_lenght=3"], "did you mean 'max_length'?"),
        (["--config", "x.toml"], "x.toml: unknown key 'optimizer'"),
        (["--task", "rte", "--optim", "adam", "--data", "nowhere"], "'nowhere' is not there"),
        (["--task", "rte", "--optim", "adam"], "--data DIR (the official TSV files) or --demo"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(words, said, tmp_path):
    (tmp_path / "x.toml").write_text('task = "rte"\noptimizer = "adam"\n')
    (tmp_path / "exits.py").write_text("import sys\nsys.exit(0)\n")
    done = command(tmp_path, "run", *words)
    assert done.returncode == 2 and said in done.stderr
    assert "Traceback" not in done.stderr and len(done.stderr.strip().splitlines()) == 1
    assert {p.name for p in tmp_path.iterdir()} - {"__pycache__"} == {"exits.py", "x.toml"}


def test_an_optimizer_in_the_working_directory_is_found_by_the_console_script(tmp_path):
    """Which, unlike `python -m`, does not look there by itself: nor do the processes of these tests."""
    (tmp_path / "mine.py").write_text("import torch\nclass Mine(torch.optim.SGD): pass\n")
    assert forked(print_found, ["mine"], tmp_path).stdout == "False\n"
    done = command(tmp_path, "run", "--task", "rte", "--optim", "mine:Mine", "--data", "nowhere")
    assert done.returncode == 2 and "'nowhere' is not there" in done.stderr
    assert "with mine:Mine" in done.stdout.splitlines()[0]
    assert "lr 2e-05 is Adam's, not searched for this optimizer" in done.stdout.splitlines()[0]


def print_found():
    """Whether Python finds the module that is named first on the command line."""
    print(importlib.util.find_spec(sys.argv[0]) is not None)


@pytest.mark.parametrize("name", ["WORLD_SIZE", "RANK"])
def test_variables_of_a_launcher_without_the_launcher_are_refused(name, tmp_path):
    done = command(tmp_path, "run", "--demo", **{name: "2"})
    assert done.returncode == 2 and f"the environment has {name}=2" in done.stderr
    assert not list(tmp_path.iterdir())


def test_a_run_from_the_command_line(tmp_path, tiny_models, glue):
    words = ["--task", "MRPC", "--optim", "lamadam", "--data", glue, "--model", tiny_models["bert"],
             "--max-train-samples", "40", "--num-train-epochs", "1", "--set", "max_eval_samples=40"]  # fmt: skip
    done = command(tmp_path, "run", *words)
    assert done.returncode == 0, done.stderr
    assert "the paper's best for LaMAdam on MRPC: lr 6e-05" in done.stdout
    assert "epoch 1: validation accuracy" in done.stdout and "majority" in done.stdout
    (path,) = (tmp_path / "runs").glob("*/record.json")
    record = json.loads(path.read_text())
    assert record["status"] == "ok" and str(path.relative_to(tmp_path)) in done.stdout
    again = command(tmp_path, "run", *words)
    assert again.returncode == 0 and "is finished" in again.stdout
    assert json.loads(path.read_text()) == record


def test_a_diverged_run_exits_with_1(tmp_path, tiny_models, glue):
    words = ["--task", "rte", "--optim", "torch.optim:SGD", "--lr", "1e30", "--data", glue, "--model",
             tiny_models["bert"], "--max-train-samples", "64", "--precision", "fp32"]  # fmt: skip
    done = command(tmp_path, "run", *words)
    assert done.returncode == 1 and "diverged: the loss was not finite" in done.stderr
    assert "Traceback" not in done.stderr


def test_help_imports_nothing_of_weight(tmp_path):
    heavy = ("torch", "transformers", "datasets", "pandas", "numpy", "ray")
    code = f"import sys, glue_mva.cli; print([m for m in {heavy} if m in sys.modules])"
    assert python("-c", code, cwd=tmp_path).stdout.strip() == "[]"


def test_the_public_names_import():
    names = ["run", "GlueTrainer", "MAdam", "LaMAdam", "LaProp"]
    code = f"from glue_mva import *; print({', '.join(n + '.__name__' for n in names)})"
    assert python("-c", code, cwd=Path.cwd()).stdout.split() == names


def test_recipes_and_tasks_say_what_there_is(tmp_path):
    shown = command(tmp_path, "recipes", "--task", "stsb", "--optim", "madam").stdout
    line = next(line for line in shown.splitlines() if "weight_decay" in line)
    assert "0.5" in line and "differs" in line
    assert "5,749" in command(tmp_path, "tasks").stdout


def test_config_files_name_the_key(tmp_path):
    path = tmp_path / "c.toml"
    path.write_text("lr = 1e-5\n[optim_args]\neps = 1e-8\n")
    assert read_config_file(path) == {"lr": 1e-5, "optim_args": {"eps": 1e-8}}
    path.write_text("learning_rate = 1e-5\n")
    with pytest.raises(UsageError, match="learning_rate"):
        read_config_file(path)


def test_a_value_given_for_one_argument_leaves_the_others_of_the_file(tmp_path):
    path = tmp_path / "c.toml"
    path.write_text('task = "rte"\noptim = "madam"\nlr = 1e-5\n[optim_args]\nbeta2_max = 0.999\neps = 1e-7\n')
    words = ["--config", str(path), "--set", "optim_args.eps=1e-8", "--data", "nowhere"]
    shown = command(tmp_path, "run", *words).stdout
    assert "beta2_max 0.999" in shown and "eps 1e-08" in shown, shown


def test_the_documented_help_is_the_programs():
    assert PAGE.read_text(encoding="utf-8") == help_page(), "run: python tools/build_cli_docs.py"
