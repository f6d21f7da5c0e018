"""Whole runs: records, determinism, resuming, refusing."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import pipeline

from glue_mva import RunConfig, run
from glue_mva.config.identity import run_id
from glue_mva.config.resolve import resolve
from glue_mva.errors import UsageError
from glue_mva.record import read_record
from glue_mva.tasks import TASKS
from glue_mva.training import metrics, runner
from glue_mva.training.runner import finished_record
from tests.processes import PROCESSES
from tests.tiny import CONFIGS
from tests.training.material import KillAt, config_of, result


@pytest.mark.parametrize("task", [t for t in TASKS if t != "ax"])
def test_every_task_runs(task, glue, tiny_models, tmp_path):
    record = run(config_of(task, glue, tiny_models["roberta"], tmp_path))
    stored = read_record(tmp_path / record.run_id)
    assert stored.status == "ok" and stored.to_json() == record.to_json()
    assert stored.data.partial and stored.execution.padding == "none"
    assert stored.headline.metric == TASKS[task].headline
    split = stored.headline.split
    assert split == ("validation_matched" if task == "mnli" else "validation")
    assert stored.best.metrics.keys() == stored.majority.keys() == set(TASKS[task].eval_splits)
    for name, values in stored.best.metrics.items():
        assert values.keys() == {*TASKS[task].metrics, "loss"} == {*stored.majority[name], "loss"}
    assert stored.score == pytest.approx(100 * stored.best.metrics[split][TASKS[task].headline])
    with np.load(tmp_path / record.run_id / "predictions.npz") as arrays:
        outputs, labels = arrays[f"{split}/best"], arrays[f"{split}/labels"]
    again = metrics.compute(TASKS[task], metrics.to_predictions(TASKS[task], outputs), labels)
    assert 100 * again[TASKS[task].headline] == pytest.approx(stored.score, abs=1e-4)
    if task == "stsb":
        assert labels.max() > 1.5  # on the original scale
    assert not (tmp_path / record.run_id / "work").exists()
    assert {"step", "loss", "learning_rate", "step_size"} <= set(stored.curves)
    assert all(len(v) == len(stored.curves["step"]) > 0 for v in stored.curves.values())


@pytest.mark.parametrize("family", CONFIGS)
def test_every_family_trains(family, glue, tiny_models, tmp_path):
    record = run(config_of("mrpc", glue, tiny_models[family], tmp_path, optim="madam", max_train_samples=32))
    assert record.status == "ok" and record.model.model_type == family
    verified = family not in ("albert", "deberta-v2")
    assert record.execution.padding == ("none" if verified else "longest")


def test_a_tiny_model_learns(glue, tiny_models, tmp_path):
    """From random weights: the words that decide the label are few."""
    values = {"max_train_samples": None, "max_eval_samples": None, "num_train_epochs": 6.0, "lr": 1e-2}
    record = run(config_of("sst2", glue, tiny_models["roberta"], tmp_path, **values))
    assert record.score > 100 * record.majority["validation"]["accuracy"] + 20 and record.warnings == []
    assert record.model.architecture == "RobertaForSequenceClassification"


@pytest.mark.parametrize(("family", "recipe"), [("modernbert", "modernbert"), ("deberta-v2", "deberta")])
def test_a_tiny_model_learns_by_the_recipe_of_its_family(family, recipe, glue, tiny_models, tmp_path):
    """All but the learning rate and the epochs, which random weights need more of."""
    values = {"task": "sst2", "optim": "adam", "data": glue, "model": tiny_models[family], "output": str(tmp_path)}
    record = run(RunConfig(**values, recipe=recipe, lr=1e-2, num_train_epochs=12.0, train_batch_size=16))
    assert record.score > 100 * record.majority["validation"]["accuracy"] + 20 and record.warnings == []
    assert record.execution.padding == ("none" if family == "modernbert" else "longest")
    assert "table 6" in record.config.sources["weight_decay"] or family != "modernbert"


def test_the_same_seed_gives_the_same_record_and_another_seed_another(glue, tiny_models, tmp_path):
    records = [
        run(config_of("rte", glue, tiny_models["bert"], tmp_path / name, seed=seed, num_train_epochs=2.0))
        for name, seed in (("a", 1), ("b", 1), ("c", 2))
    ]
    assert result(records[0]) == result(records[1])
    assert records[0].curves["loss"] != records[2].curves["loss"]
    a, b = (np.load(tmp_path / name / records[0].run_id / "predictions.npz") for name in "ab")
    assert {"validation/best", "validation/last", "validation/labels"} <= set(a) == set(b)
    assert all(np.array_equal(a[k], b[k]) for k in a)


def test_a_finished_run_is_not_run_again(glue, tiny_models, tmp_path):
    config = config_of("rte", glue, tiny_models["bert"], tmp_path)
    first = run(config)
    folder = tmp_path / first.run_id
    assert run(config).created == first.created and finished_record(resolve(config), folder) is not None
    assert finished_record(resolve(config.replace(force=True)), folder) is None
    (folder / "record.json").write_text("{")
    assert finished_record(resolve(config), folder) is None and run(config).status == "ok"


def test_a_run_that_was_finished_meanwhile_is_not_run_again(glue, tiny_models, tmp_path, monkeypatch):
    """By another process, while this one loaded data and model."""
    config = config_of("rte", glue, tiny_models["bert"], tmp_path)
    prepare, made = runner.prepare, []

    def slowly(resolved):
        prepared = prepare(resolved)
        monkeypatch.setattr(runner, "prepare", prepare)
        made.append(run(config))
        return prepared

    monkeypatch.setattr(runner, "prepare", slowly)
    assert [run(config)] == made == [read_record(tmp_path / made[0].run_id)]


@pytest.mark.parametrize(("step", "writing", "resumed_from"), [(3, False, None), (8, True, 4), (14, False, 12)])
def test_resuming_after_a_kill_gives_the_same_scores(step, writing, resumed_from, glue, tiny_models, tmp_path):
    """Checkpoints are written after 4, 8, 12 ... updates of 30."""
    values = {"num_train_epochs": 3.0, "max_train_samples": 160, "checkpoint_minutes": 0.0, "logging_steps": 4}
    whole = run(config_of("rte", glue, tiny_models["roberta"], tmp_path / "whole", **values))
    killed = config_of("rte", glue, tiny_models["roberta"], tmp_path / "killed", resume=True, **values)
    child = PROCESSES.Process(target=run, args=(killed, [KillAt(step, writing=writing)]))
    child.start()
    child.join()
    assert child.exitcode == -signal.SIGKILL
    folder = tmp_path / "killed" / run_id(resolve(killed))
    assert not (folder / "record.json").exists()
    assert (folder / "work" / f"checkpoint-{step}").exists() == writing  # half written
    record = run(killed)
    assert result(record) == result(whole)
    assert record.execution.resumed_from_step == resumed_from


def test_a_broken_checkpoint_is_passed_over(tmp_path):
    from glue_mva.training.callbacks import last_checkpoint

    for step, state in ((5, "{}"), (10, "{}"), (15, '{"global_s')):
        (tmp_path / f"checkpoint-{step}").mkdir()
        (tmp_path / f"checkpoint-{step}" / "trainer_state.json").write_text(state)
        (tmp_path / f"checkpoint-{step}" / "rng_state.pth").write_bytes(b"")
    assert last_checkpoint(tmp_path, 1) == tmp_path / "checkpoint-10"
    assert last_checkpoint(tmp_path, 2) is None  # made by one process
    assert last_checkpoint(tmp_path / "none", 1) is None


def test_a_diverged_run_is_recorded_as_diverged(glue, tiny_models, tmp_path):
    record = run(
        config_of("rte", glue, tiny_models["bert"], tmp_path, optim="torch.optim:SGD", lr=1e30, precision="fp32")
    )
    assert record.status == "diverged" and record.score is None and "not finite" in record.error
    stored = read_record(tmp_path / record.run_id)
    assert stored.status == "diverged" and stored.is_finished
    json.loads((tmp_path / record.run_id / "record.json").read_text(), parse_constant=pytest.fail)


def test_a_failed_run_leaves_a_record_and_raises(glue, tiny_models, tmp_path):
    """Without weight decay, which would be looked at before anything is written."""
    values = {"optim": f"{__name__}:Failing", "weight_decay": 0.0}
    config = config_of("rte", glue, tiny_models["bert"], tmp_path, **values)
    with pytest.raises(RuntimeError, match="on purpose"):
        run(config)
    stored = read_record(tmp_path / run_id(resolve(config)))
    assert stored.status == "failed" and "on purpose" in stored.error and not stored.is_finished


def test_another_runs_record_is_not_the_result(glue, tiny_models, tmp_path):
    config = config_of("rte", glue, tiny_models["bert"], tmp_path)
    other = run(config_of("rte", glue, tiny_models["bert"], tmp_path, optim="adam"))
    folder = tmp_path / run_id(resolve(config))
    shutil.copytree(tmp_path / other.run_id, folder)
    assert finished_record(resolve(config), folder) is None
    record = run(config)
    assert record.run_id == folder.name and read_record(folder) == record
    assert read_record(folder / "record.unusable-1.json") == other


def test_a_forced_run_that_fails_leaves_the_result_that_stands(glue, tiny_models, tmp_path, monkeypatch):
    config = config_of("rte", glue, tiny_models["bert"], tmp_path, optim=f"{__name__}:Moody", save_model=True,
                       num_train_epochs=2.0)  # fmt: skip
    first = run(config)
    folder = tmp_path / first.run_id
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert folder / "model" / "model.safetensors" in before
    monkeypatch.setenv("MOOD", "bad")
    with pytest.raises(RuntimeError, match="on purpose"):
        run(config.replace(force=True))
    assert {path: path.read_bytes() for path in before} == before and run(config) == first
    failure = read_record(folder / "failure.json")
    assert failure.status == "failed" and "on purpose" in failure.error
    monkeypatch.delenv("MOOD")
    again = run(config.replace(force=True))
    assert result(again) == result(first) and not (folder / "failure.json").exists()


class Moody(torch.optim.SGD):
    """Fails in the second epoch of 64 rows in batches of 16, in a bad mood."""

    def step(self, closure=None):
        self.made = getattr(self, "made", 0) + 1
        if os.environ.get("MOOD") == "bad" and self.made == 6:
            raise RuntimeError("on purpose")
        return super().step(closure)


class Failing(torch.optim.SGD):
    """Fails in its first step."""

    def step(self, closure=None):
        raise RuntimeError("on purpose")


def test_the_saved_model_is_the_best_epochs(glue, tiny_models, tmp_path):
    config = config_of("rte", glue, tiny_models["bert"], tmp_path, save_model=True, num_train_epochs=3.0,
                       precision="fp32")  # fmt: skip
    record = run(config)
    folder = tmp_path / record.run_id / "model"
    classify = pipeline("text-classification", model=str(folder), device="cpu")
    with np.load(tmp_path / record.run_id / "predictions.npz") as arrays:
        best = arrays["validation/best"]
    from glue_mva.data.load import load_task

    rows = load_task(resolve(config)).evaluation["validation"]
    said = [classify({"text": r["sentence1"], "text_pair": r["sentence2"]}, truncation=True, max_length=48)
            for r in rows.select(range(12))]  # fmt: skip
    names = ["entailment", "not_entailment"]
    assert [s["label"] for s in said] == [names[i] for i in best[:12].argmax(1)]
    card = (folder / "README.md").read_text()
    assert "glue-mva run --task rte" in card and f"{record.score / 100:.4f}" in card
    assert list(folder.glob("*.safetensors")) and not list(folder.glob("*.bin"))
    scored = run(config.replace(model=str(folder), num_train_epochs=0.0, save_model=False, output=str(tmp_path / "b")))
    assert scored.score == pytest.approx(record.score)


def test_training_the_rows_that_occur_is_training_them_all(glue, tiny_models, tmp_path, monkeypatch):
    """The same curves of the loss, scores and saved weights; the record counts the parameters that were trained."""
    config = config_of("rte", glue, tiny_models["bert"], tmp_path / "some", save_model=True, num_train_epochs=2.0)
    some = run(config)
    monkeypatch.setattr(runner, "can_compact", lambda model: False)
    everything = run(config.replace(output=str(tmp_path / "all")))
    assert some.curves["loss"] == everything.curves["loss"] and some.epochs == everything.epochs
    weights = [load_file(tmp_path / part / some.run_id / "model" / "model.safetensors") for part in ("some", "all")]
    assert weights[0].keys() == weights[1].keys()
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())
    assert everything.execution.trained_parameters == everything.model.parameters == some.model.parameters
    assert some.execution.trained_parameters < some.model.parameters / 2


def test_ax_is_predicted_with_an_mnli_model(glue, tiny_models, tmp_path):
    trained = run(config_of("mnli", glue, tiny_models["bert"], tmp_path, save_model=True))
    model = str(tmp_path / trained.run_id / "model")
    record = run(RunConfig(task="ax", optim="adam", data=glue, model=model, num_train_epochs=0.0, output=str(tmp_path)))
    assert record.status == "ok" and record.score is None  # published without labels
    with np.load(tmp_path / record.run_id / "predictions.npz") as arrays:
        assert arrays["test/last"].shape == (24, 3)
    with pytest.raises(UsageError, match="3 classes where rte needs 2"):
        run(config_of("rte", glue, model, tmp_path))


def test_the_effective_batch_does_not_depend_on_accumulation(glue, tiny_models, tmp_path):
    records = [
        run(config_of("rte", glue, tiny_models["roberta"], tmp_path / str(n), gradient_accumulation_steps=n,
                      optim="torch.optim:SGD", hidden_dropout=0.0, attention_dropout=0.0, precision="fp32"))
        for n in (1, 4)
    ]  # fmt: skip
    assert records[0].run_id == records[1].run_id
    np.testing.assert_allclose(records[0].curves["loss"], records[1].curves["loss"], atol=1e-4)
    with pytest.raises(UsageError, match="cannot be divided"):
        run(config_of("rte", glue, tiny_models["roberta"], tmp_path / "x", gradient_accumulation_steps=5))


@pytest.mark.parametrize(
    "values, words",
    [
        ({"model": "EMPTY"}, "has no tokenizer"),
        ({"model": "NO WEIGHTS"}, "no weights"),
        ({"model": "./nowhere"}, "not there"),
        ({"model": "someone/unknown"}, "--model FOLDER or --demo"),
        ({"precision": "fp16"}, "fp16 needs a CUDA GPU"),
        ({"padding": "none", "model": "ALBERT"}, "not verified for albert"),
        ({"report_to": "carrier-pigeon"}, "unknown report_to 'carrier-pigeon'"),
        ({"report_to": "tensorboard,clearml"}, "report_to 'clearml' is not installed: pip install clearml"),
        ({"num_train_epochs": 0.0}, "no trained head"),
        ({"output": "FILE/below"}, "not a writable folder"),
    ],
)
def test_bad_input_is_refused_before_anything_is_written(values, words, glue, tiny_models, tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "empty").mkdir()
    shutil.copy(Path(tiny_models["bert"]) / "config.json", tmp_path / "empty")
    shutil.copytree(tiny_models["bert"], tmp_path / "no weights", ignore=shutil.ignore_patterns("*.safetensors"))
    names = {
        "EMPTY": str(tmp_path / "empty"),
        "NO WEIGHTS": str(tmp_path / "no weights"),
        "FILE/below": str(tmp_path / "file" / "x"),
        "ALBERT": tiny_models["albert"],
    }
    values = {k: names.get(v, v) if isinstance(v, str) else v for k, v in values.items()}
    output = values.pop("output", tmp_path / "runs")
    with pytest.raises(UsageError, match=words):
        run(config_of("rte", glue, values.pop("model", tiny_models["bert"]), output, **values))
    assert not (tmp_path / "runs").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="needs a file-size limit")
def test_a_full_disk_leaves_the_old_record_whole(tmp_path):
    """The system refuses to write past a file-size limit, as it does on a full disk."""
    code = f"""
import resource, signal, pathlib
from glue_mva.config.resolve import resolve
from glue_mva.config.run import RunConfig
from glue_mva.record import RunRecord, write_record
folder = pathlib.Path({str(tmp_path)!r})
record = RunRecord(run_id="r", status="failed", config=resolve(RunConfig(task="rte", optim="adam")))
write_record(record, folder)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
try:
    write_record(record.model_copy(update={{"error": "x" * 100000}}), folder)
except OSError as error:
    print("refused", error.errno)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "refused" in done.stdout
    assert read_record(str(tmp_path)).error is None and [p.name for p in tmp_path.iterdir()] == ["record.json"]


@pytest.mark.slow
def test_two_processes_make_one_record_with_the_recipes_batch(glue, tiny_models, tmp_path):
    """`accelerate launch` with 2 processes on the CPU, against one process: the same losses without dropout."""
    common = ["--task", "rte", "--optim", "torch.optim:SGD", "--data", glue, "--model", tiny_models["roberta"], "--lr",
              "1e-3", "--max-train-samples", "64", "--num-train-epochs", "1", "--precision", "fp32", "--set",
              "max_eval_samples=48", "--set", "hidden_dropout=0.0", "--set", "attention_dropout=0.0", "--set",
              "max_length=48"]  # fmt: skip
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2",
              "--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0",
              "-m"]  # fmt: skip
    # on a machine without GPUs accelerate's `--multi_gpu` starts its processes all the same, and gloo joins them
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    for name, front in (("one", [sys.executable, "-m"]), ("two", launch)):
        command = [*front, "glue_mva", "run", *common, "--output", str(tmp_path / name)]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path)
        assert done.returncode == 0, done.stderr[-2000:]
    one, two = (read_record(next((tmp_path / name).glob("*/record.json"))) for name in ("one", "two"))
    assert one.run_id == two.run_id and (one.execution.world_size, two.execution.world_size) == (1, 2)
    np.testing.assert_allclose(one.curves["loss"], two.curves["loss"], atol=1e-4)
    assert one.score == pytest.approx(two.score)


def test_the_fused_optimizer_makes_the_same_run(glue, tiny_models, tmp_path):
    configs = [
        config_of("rte", glue, tiny_models["bert"], tmp_path / name, max_steps=4, fused=name == "fused")
        for name in ("default", "fused")
    ]
    assert run_id(resolve(configs[0])) == run_id(resolve(configs[1]))
    assert result(run(configs[0])) == result(run(configs[1]))
    with pytest.raises(UsageError, match="fused = true is for adam"):
        configs[0].replace(fused=True, optim="torch.optim:SGD")
