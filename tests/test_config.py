"""Configs, their checks, and what a run_id depends on."""

import json
import math
import shutil

import pytest

from glue_mva import paper
from glue_mva.config.recipes import RECIPES, resolve
from glue_mva.config.run import RunConfig, parse_assignments, read_toml
from glue_mva.config.schedule import schedule
from glue_mva.errors import UsageError
from glue_mva.tasks import TASKS, get_task


@pytest.mark.parametrize("typed, name", [("STS-B", "stsb"), ("sst-2", "sst2"), ("SST2", "sst2"), ("CoLA", "cola"),
                                         ("Mnli", "mnli"), ("ax", "ax")])  # fmt: skip
def test_task_names_as_people_type_them(typed, name):
    assert get_task(typed).name == name


@pytest.mark.parametrize(
    "values, words",
    [
        ({"task": "rtee"}, ["rtee", "'rte'"]),
        ({"optim": "lamadm"}, ["lamadm", "'lamadam'"]),
        ({"lr": -1.0}, ["lr", "-1"]),
        ({"lr": math.nan}, ["lr", "nan"]),
        ({"weight_decay": -0.1}, ["weight_decay", "-0.1"]),
        ({"train_batch_size": 0}, ["train_batch_size", "0"]),
        ({"seed": -1}, ["seed", "-1"]),
        ({"seed": 1.5}, ["seed", "1.5"]),
        ({"lr": "fast"}, ["lr", "'fast'"]),
        ({"learning_rat": 1e-5}, ["learning_rat"]),
        ({"precision": "fp8"}, ["precision", "fp8"]),
        ({"optim_args": {"beta2_mim": 0.4}}, ["beta2_mim", "'beta2_min'"]),
        ({"optim_args": {"lr": 0.4}}, ["optim_args.lr"]),
        ({"task": "ax"}, ["ax", "num_train_epochs = 0"]),
    ],
)
def test_a_bad_value_is_named(values, words):
    with pytest.raises(UsageError) as error:
        RunConfig(**{"task": "rte", "optim": "lamadam", **values})
    assert all(word in str(error.value) for word in words)
    assert "\n" not in str(error.value)


def test_all_problems_are_listed_at_once():
    with pytest.raises(UsageError) as error:
        RunConfig(task="rte", optim="adam", lr=-1.0, seed=-5, holdout_fraction=1.0)
    assert all(name in str(error.value) for name in ("lr", "seed", "holdout_fraction"))


def test_the_paper_fills_what_is_not_given():
    config, source = resolve(RunConfig(task="cola", optim="madam", lr=1e-5))
    assert (config.lr, config.weight_decay, config.train_batch_size) == (1e-5, 0.5, 16)
    assert config.optim_args == {"beta1": 0.9, "beta2_min": 0.5, "beta2_max": 0.98, "eps": 1e-6}
    assert source["lr"] == "given"
    assert "paper" in source["weight_decay"]


@pytest.mark.parametrize("task", paper.TABLE3_TASKS)
def test_the_schedule_of_the_full_data_is_the_papers(task):
    config, _ = resolve(RunConfig(task=task, optim="adam"))
    plan = schedule(config, TASKS[task].rows["train"])
    assert (plan.total_steps, plan.warmup_steps) == (paper.UPDATES[task], paper.WARMUP_UPDATES[task])
    epochs = 10 * math.ceil(TASKS[task].rows["train"] / paper.TRAIN_BATCH_SIZE[task])
    assert plan.max_steps == min(paper.UPDATES[task], epochs)


def test_the_schedule_scales_with_rows_and_epochs():
    config, _ = resolve(RunConfig(task="mrpc", optim="adam", num_train_epochs=5.0))
    plan = schedule(config, 1834)  # half of the rows, half of the epochs: a quarter of 2296 and 137
    assert (plan.total_steps, plan.warmup_steps, plan.max_steps) == (574, 34, 574)
    capped = schedule(config.replace(max_steps=7), 1834)
    assert (capped.total_steps, capped.max_steps, capped.warmup_steps) == (7, 7, 0)


def test_recipe_hf_is_run_glues():
    config, _ = resolve(RunConfig(task="stsb", optim="adam", recipe="hf"))
    assert (config.lr, config.weight_decay, config.num_train_epochs, config.max_length) == (5e-5, 0.0, 3.0, 128)
    assert (config.max_grad_norm, config.train_batch_size, config.scale_targets) == (1.0, 8, False)
    assert config.hidden_dropout is None  # the checkpoint's own
    assert schedule(config, 5749).max_steps == 3 * 719


def test_run_id_says_what_determines_the_result():
    config = RunConfig(task="rte", optim="lamadam")
    assert config.run_id == RunConfig(task="RTE", optim="LaMAdam", lr=6e-5, weight_decay=0.1).run_id
    assert config.run_id == config.replace(output="elsewhere", resume=True, gradient_accumulation_steps=4).run_id
    changed = [{"seed": 1}, {"lr": 1e-5}, {"optim_args": {"eps": 1e-8}}, {"max_train_samples": 5}, {"recipe": "hf"}]
    ids = {config.run_id, *(config.replace(**change).run_id for change in changed)}
    assert len(ids) == 1 + len(changed)


def test_run_id_depends_on_content_not_on_paths(tmp_path, glue, tiny_models):
    for name in ("a", "b"):
        shutil.copytree(f"{glue}/RTE", tmp_path / name / "RTE")
        shutil.copytree(tiny_models["bert"], tmp_path / f"model-{name}")
    configs = [
        RunConfig(task="rte", optim="adam", data=str(tmp_path / n), model=str(tmp_path / f"model-{n}")) for n in "ab"
    ]
    assert configs[0].run_id == configs[1].run_id
    dev = tmp_path / "b" / "RTE" / "dev.tsv"
    dev.write_text(dev.read_text().replace("not_entailment", "entailment", 1))
    assert configs[0].run_id != configs[1].run_id


def test_assignments_are_toml():
    values = parse_assignments(["lr=1e-5", "optim_args.eps=1e-8", "task=rte", "resume=true"])
    assert values == {"lr": 1e-5, "optim_args": {"eps": 1e-8}, "task": "rte", "resume": True}
    with pytest.raises(UsageError, match="key=value"):
        parse_assignments(["lr"])


def test_a_broken_toml_file_is_named(tmp_path):
    path = tmp_path / "x.toml"
    path.write_text("lr = ")
    with pytest.raises(UsageError, match=r"x\.toml"):
        read_toml(path)
    with pytest.raises(UsageError, match=r"missing\.toml"):
        read_toml(tmp_path / "missing.toml")


def test_config_survives_json():
    config, _ = resolve(RunConfig(task="rte", optim="adam"))
    assert RunConfig(**json.loads(json.dumps(config.model_dump()))) == config


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_resolves_every_task(recipe):
    for task in TASKS:
        config, source = resolve(RunConfig(task=task, optim="laprop", recipe=recipe, num_train_epochs=0))
        assert config.lr is not None and config.train_batch_size is not None
        assert source["num_train_epochs"] == "given"
