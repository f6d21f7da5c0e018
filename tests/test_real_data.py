"""The real GLUE files, where `GLUE_MVA_TEST_DATA` names a folder that holds them."""

import pytest

from glue_mva import RunConfig, run
from glue_mva.config.resolve import resolve
from glue_mva.data.load import load_task
from glue_mva.tasks import TASKS

ROWS = {"cola": (8551, 1043), "sst2": (67349, 872), "mrpc": (3668, 408), "stsb": (5749, 1500), "rte": (2490, 277),
        "wnli": (635, 71)}  # fmt: skip


def config(task, folder, **values):
    return RunConfig(task=task, optim="lamadam", data=folder, **values)


def loaded(task, folder, **values):
    return load_task(resolve(config(task, folder, **values)))


@pytest.mark.parametrize("task", ROWS)
def test_a_complete_task_has_the_official_rows(task, real_glue):
    data = loaded(task, real_glue)
    assert (data.info.rows["train"], data.info.rows["validation"]) == ROWS[task]
    assert not data.info.partial


def test_first_rows_are_glues(real_glue):
    cola = loaded("cola", real_glue).train[0]
    assert (cola["sentence"], cola["label"]) == (
        "Our friends won't buy this analysis, let alone the next one we propose.", 1)  # fmt: skip
    mrpc = loaded("mrpc", real_glue).train[0]
    assert mrpc["label"] == 1 and '" the witness "' in mrpc["sentence1"]
    rte = loaded("rte", real_glue).train[0]
    assert rte["sentence1"].startswith("No Weapons of Mass Destruction") and rte["label"] == 1  # not_entailment
    stsb = loaded("stsb", real_glue).evaluation["validation"][0]
    assert stsb["sentence1"] == "A man with a hard hat is dancing." and stsb["label"] == 5.0
    ax = loaded("ax", real_glue, num_train_epochs=0).evaluation["test"]
    assert ax[0]["premise"] == "The cat sat on the mat." and ax.num_rows == 1104


def test_the_demo_is_an_excerpt_of_qnli(real_glue):
    demo = loaded("qnli", "demo")
    real = loaded("qnli", real_glue)
    for ours, theirs in (
        (demo.train, real.train),
        *zip(demo.evaluation.values(), real.evaluation.values(), strict=True),
    ):
        known = {(r["question"], r["sentence"], r["label"]) for r in theirs}
        assert all((r["question"], r["sentence"], r["label"]) in known for r in ours)


@pytest.mark.parametrize("task", [t for t in TASKS if t != "ax"])
def test_every_task_trains(task, real_glue, tiny_models, tmp_path):
    small = {"max_train_samples": 64, "max_eval_samples": 48, "max_length": 48, "num_train_epochs": 1.0, "lr": 1e-3}
    record = run(config(task, real_glue, model=tiny_models["bert"], output=str(tmp_path), **small))
    assert record.status == "ok" and record.data.partial
