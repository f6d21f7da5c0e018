"""Configs, their checks, and what a run_id depends on."""

import datetime
import json
import math
import re
import shutil
import typing

import pytest

from glue_mva import paper
from glue_mva.config.base import read_toml
from glue_mva.config.identity import EXECUTION_FIELDS, NEUTRAL, identity, run_id
from glue_mva.config.recipes import RECIPES
from glue_mva.config.resolve import ResolvedConfig, resolve
from glue_mva.config.run import RunConfig, parse_assignments
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
        ({"hidden_dropout": 1.5}, ["hidden_dropout: input should be less than 1 or", "'checkpoint', got 1.5"]),
        ({"logging_steps": "often"}, ["logging_steps", "'auto'", "'often'"]),
        ({"optim_args": {"eps": math.inf}}, ["optim_args.eps", "inf"]),
        ({"optim_args": {"eps": datetime.date(2026, 1, 1)}}, ["optim_args.eps", "date"]),
        ({"num_train_epochs": 1e308}, ["num_train_epochs", "1e+308"]),
        ({"train_batch_size": 2**63}, ["train_batch_size", str(2**63)]),
        ({"max_length": 3}, ["max_length", "3"]),
        ({"optim_args": {"beta2_mim": 0.4}}, ["beta2_mim", "'beta2_min'"]),
        ({"optim_args": {"lr": 0.4}}, ["optim_args.lr"]),
        ({"lr": "1e-3"}, ["lr", "'1e-3'", "without quotes"]),
        ({"optim_args": {"eps": "1e-8"}}, ["optim_args.eps", "'1e-8'", "without quotes"]),
        ({"task": "ax"}, ["ax", "num_train_epochs = 0"]),
        ({"routes": [{"match": "(", "optim": "sgd"}]}, ["routes, number 1", "'('", "no regular expression"]),
        ({"routes": [{"match": "a", "optim": "sgd"}, {"match": "b", "optim": "sdg"}]}, ["number 2", "'sgd'"]),
        ({"routes": [{"match": "a", "optim": "sgd", "optim_args": {"beta": 1}}]}, ["routes, number 1", "'beta'"]),
        ({"routes": [{"match": "a", "optim": "sgd", "optim_args": {"lr": 1}}]}, ["optim_args.lr", "field of its own"]),
        ({"routes": [{"match": "a", "optim": "sgd", "rate": 1}]}, ["routes, number 1", "unknown key 'rate'"]),
        ({"routes": [{"optim": "sgd"}]}, ["routes, number 1", "match", "missing"]),
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
    config = resolve(RunConfig(task="cola", optim="madam", lr=1e-5))
    assert (config.lr, config.weight_decay, config.train_batch_size) == (1e-5, 0.5, 16)
    assert config.optim_args == {"beta1": 0.9, "beta2_min": 0.5, "beta2_max": 0.98, "eps": 1e-6}
    assert config.sources["lr"] == "given"
    assert "paper" in config.sources["weight_decay"]


@pytest.mark.parametrize("task", paper.TABLE3_TASKS)
def test_the_schedule_of_the_full_data_is_the_papers(task):
    config = resolve(RunConfig(task=task, optim="adam"))
    plan = schedule(config, TASKS[task].rows["train"])
    assert (plan.total_steps, plan.warmup_steps) == (paper.UPDATES[task], paper.WARMUP_UPDATES[task])
    epochs = 10 * math.ceil(TASKS[task].rows["train"] / paper.TRAIN_BATCH_SIZE[task])
    assert plan.max_steps == min(paper.UPDATES[task], epochs)


def test_the_schedule_scales_with_rows_and_epochs():
    config = resolve(RunConfig(task="mrpc", optim="adam", num_train_epochs=5.0))
    plan = schedule(config, 1834)  # half of the rows, half of the epochs: a quarter of 2296 and 137
    assert (plan.total_steps, plan.warmup_steps, plan.max_steps) == (574, 34, 574)
    capped = schedule(config.replace(max_steps=7), 1834)
    assert (capped.total_steps, capped.max_steps, capped.warmup_steps) == (7, 7, 0)


def test_recipe_hf_is_run_glues():
    config = resolve(RunConfig(task="stsb", optim="adam", recipe="hf"))
    assert (config.lr, config.weight_decay, config.num_train_epochs, config.max_length) == (5e-5, 0.0, 3.0, 128)
    assert (config.max_grad_norm, config.train_batch_size, config.scale_targets) == (1.0, 8, False)
    assert config.hidden_dropout == "checkpoint"  # the checkpoint's own
    assert schedule(config, 5749).max_steps == 3 * 719


@pytest.mark.parametrize(
    ("task", "lr", "lost", "epochs"),
    [("cola", 8e-5, 1e-6, 5), ("mnli", 5e-5, 5e-6, 1), ("mrpc", 5e-5, 5e-6, 10), ("qnli", 8e-5, 5e-6, 2),
     ("qqp", 5e-5, 5e-6, 10), ("rte", 5e-5, 1e-5, 3), ("sst2", 8e-5, 1e-5, 2), ("stsb", 8e-5, 5e-6, 10),
     ("wnli", 5e-5, 1e-5, 3)],
)  # fmt: skip
def test_recipe_modernbert_is_table_6(task, lr, lost, epochs):
    """Warner et al. 2024, base model, lines as printed; `lost` is the printed weight decay, per update at the peak."""
    config = resolve(RunConfig(task=task, optim="adam", recipe="modernbert"))
    assert (config.lr, config.num_train_epochs, config.train_batch_size) == (lr, epochs, 64)
    assert config.lr * config.weight_decay == pytest.approx(lost, rel=1e-6)
    assert "RTE's" in config.sources["lr"] if task == "wnli" else "RTE" not in config.sources["lr"]
    assert "AdamW's" in resolve(RunConfig(task=task, optim="madam", recipe="modernbert")).sources["lr"]


@pytest.mark.parametrize(
    ("task", "lr", "epochs", "warmup", "batch", "dropout", "length"),
    [("cola", 5.5e-6, 10, 50, 32, 0.1, 64), ("mnli", 7e-6, 2, 500, 64, 0.3, 256), ("mrpc", 6e-6, 6, 50, 32, 0.2, 128),
     ("qnli", 7e-6, 6, 200, 64, 0.2, 512), ("qqp", 1e-5, 6, 1000, 64, 0.2, 320), ("rte", 1e-5, 6, 50, 32, 0.3, 320),
     ("sst2", 6e-6, 8, 500, 32, 0.1, 128), ("stsb", 7e-6, 4, 50, 32, 0.1, 128)],
)  # fmt: skip
def test_recipe_deberta_is_that_of_the_scripts(task, lr, epochs, warmup, batch, dropout, length):
    """microsoft/DeBERTa, experiments/glue/<task>.sh, deberta-v3-large; the warmup is in updates there."""
    config = resolve(RunConfig(task=task, optim="adam", recipe="deberta"))
    assert (config.lr, config.num_train_epochs, config.train_batch_size) == (lr, epochs, batch)
    assert (config.classifier_dropout, config.max_length, config.weight_decay) == (dropout, length, 0.01)
    assert schedule(config, TASKS[task].rows["train"]).warmup_steps == warmup


def test_the_recipes_are_those_that_a_config_names():
    assert typing.get_args(RunConfig.model_fields["recipe"].annotation) == tuple(RECIPES)


def id_of(**values):
    return run_id(resolve(RunConfig(**{"task": "rte", "optim": "lamadam", **values})))


def test_run_id_says_what_determines_the_result():
    assert id_of() == id_of(task="RTE", optim="LaMAdam", lr=6e-5, weight_decay=0.1)
    assert id_of() == id_of(output="elsewhere", resume=True, gradient_accumulation_steps=4, eval_batch_size=8)
    changed = [{"seed": 1}, {"lr": 1e-5}, {"optim_args": {"eps": 1e-8}}, {"max_train_samples": 5}, {"recipe": "hf"},
               {"max_steps": 5}, {"holdout_fraction": 0.1}, {"holdout_fraction": 0.1, "holdout_seed": 1},
               {"hidden_dropout": "checkpoint"}]  # fmt: skip
    ids = {id_of(), *(id_of(**change) for change in changed)}
    assert len(ids) == 1 + len(changed)


def test_the_fields_that_are_no_part_of_run_id():
    """Pinned: a field leaves or joins this list only where its effect on results is understood."""
    assert sorted(EXECUTION_FIELDS) == [
        "checkpoint_minutes", "compile", "eval_batch_size", "force", "fused", "gradient_accumulation_steps",
        "logging_steps", "output", "predict_test", "report_to", "resume", "save_model", "sources",
    ]  # fmt: skip
    assert NEUTRAL == {"own_task": {}, "init_from": "", "max_steps": 0, "max_train_samples": 0, "max_eval_samples": 0,
                       "routes": [],
                       "holdout_fraction": 0.0, "holdout_seed": 0, "lr_scheduler": "linear", "layer_decay": 1.0,
                       "early_stopping_patience": 0}  # fmt: skip


def test_run_ids_are_pinned():
    """Of configs without local content. A change here renames every stored run: it belongs in the changelog."""
    assert id_of() == "rte-lamadam-390e292c5f4d"
    assert id_of(recipe="hf", max_steps=10, holdout_fraction=0.1) == "rte-lamadam-99add37e5969"


def test_routes_are_part_of_run_id():
    """Each of their values, in its order; what stands for a default is the default."""
    first, second = {"match": "embed", "optim": "sgd"}, {"match": "layer", "optim": "Muon"}
    base = id_of(routes=[first, second])
    same = [first | {"optim_args": {"momentum": 0.9}}, second | {"optim": "muon"}]
    assert base == id_of(routes=same) == id_of(routes=json.loads(json.dumps(same)))
    others = [[second, first], [first], [first | {"lr": 0.1}, second], [first | {"match": "emb"}, second], []]
    assert len({base, *(id_of(routes=routes) for routes in others)}) == 1 + len(others)
    assert id_of(routes=[]) == id_of()


def test_a_field_at_its_neutral_default_is_not_hashed():
    """So that one that is added later renames no older run."""
    hashed = identity(resolve(RunConfig(task="rte", optim="adam", max_eval_samples=9))).values
    assert "max_eval_samples" in hashed
    assert not hashed.keys() & (NEUTRAL.keys() - {"max_eval_samples"})


@pytest.mark.parametrize(
    "one, other",
    [
        ({"weight_decay": -0.0}, {"weight_decay": 0.0}),
        ({"weight_decay": 1}, {"weight_decay": 1.0}),
        ({"optim_args": {"beta1": 0}}, {"optim_args": {"beta1": -0.0}}),
        ({"optim": "torch.optim:Adam", "optim_args": {"betas": (0, 1.0)}},
         {"optim": "torch.optim:Adam", "optim_args": {"betas": [0.0, 1]}}),
        ({"holdout_seed": 3}, {}),
        ({"max_steps": 9, "num_train_epochs": 2.0}, {"max_steps": 9, "num_train_epochs": 5.0}),
        ({"max_train_samples": 2490}, {}),
        ({"max_train_samples": 5000}, {}),
        ({"task": "qnli", "data": "demo", "max_train_samples": 2000}, {"task": "qnli", "data": "demo"}),
        ({"max_eval_samples": 277}, {}),
        ({"scale_targets": False}, {}),
    ],
)  # fmt: skip
def test_values_that_mean_the_same_give_one_run_id(one, other):
    assert id_of(**one) == id_of(**other)


def test_a_limit_that_limits_one_split_counts():
    """MNLI's dev sets have 9,815 and 9,832 rows; in a folder, how many rows there are is not known beforehand."""
    assert id_of(task="mnli", max_eval_samples=9820) != id_of(task="mnli")
    assert id_of(data="nowhere", max_train_samples=2490) != id_of(data="nowhere")


def test_a_run_id_is_a_folder_name():
    for optim in ("m:" + 200 * "x", "m:Größe"):
        assert re.fullmatch(r"rte-[a-z0-9._-]{1,40}-[0-9a-f]{12}", id_of(optim=optim))


def test_nothing_is_left_open_in_a_resolved_config():
    for name, info in ResolvedConfig.model_fields.items():
        assert type(None) not in typing.get_args(info.annotation), name


def test_run_id_depends_on_content_not_on_paths(tmp_path, glue, tiny_models):
    def ids():
        return [id_of(data=str(tmp_path / n), model=str(tmp_path / f"model-{n}")) for n in "ab"]

    for name in ("a", "b"):
        shutil.copytree(f"{glue}/RTE", tmp_path / name / "RTE")
        shutil.copytree(tiny_models["bert"], tmp_path / f"model-{name}")
    assert len(set(ids())) == 1
    dev = tmp_path / "b" / "RTE" / "dev.tsv"
    dev.write_text(dev.read_text().replace("not_entailment", "entailment", 1))
    assert len(set(ids())) == 2


@pytest.mark.parametrize("name", ["vocab.json", "merges.txt", "spm.model", "sentencepiece.bpe.model", "tokenizer.json",
                                  "special_tokens_map.json", "added_tokens.json", "encoder.safetensors"])  # fmt: skip
def test_every_file_that_a_tokenizer_or_the_weights_may_lie_in_counts(name, tmp_path, tiny_models):
    folder = tmp_path / "model"
    shutil.copytree(tiny_models["bert"], folder)
    (folder / name).write_text("one")
    before = id_of(model=str(folder))
    (folder / name).write_text("other")
    assert id_of(model=str(folder)) != before
    (folder / "README.md").write_text("a word about it")
    (folder / name).write_text("one")
    assert id_of(model=str(folder)) == before


def test_assignments_are_toml():
    values = parse_assignments(["lr=1e-5", "optim_args.eps=1e-8", "task=rte", "resume=true"])
    assert values == {"lr": 1e-5, "optim_args": {"eps": 1e-8}, "task": "rte", "resume": True}
    assert parse_assignments(['optim_args={"eps": 1e-8, "foreach": null}']) == {
        "optim_args": {"eps": 1e-8, "foreach": None}
    }
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
    config = resolve(RunConfig(task="rte", optim="adam", max_steps=3))
    assert ResolvedConfig(**json.loads(json.dumps(config.model_dump()))) == config


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_resolves_every_task(recipe):
    for task in TASKS:
        config = resolve(RunConfig(task=task, optim="laprop", recipe=recipe, num_train_epochs=0))
        assert None not in config.model_dump().values()
        assert config.sources["num_train_epochs"] == "given"
        assert {"lr", "weight_decay", "num_train_epochs", "train_batch_size"} <= config.sources.keys()
