"""Test sets are predicted by the weights of the best epoch, or the run is refused before it starts."""

import shutil
import signal
from pathlib import Path

import numpy as np
import pytest

from glue_mva import run
from glue_mva.errors import UsageError
from tests.processes import PROCESSES
from tests.training.material import KillAt, config_of, padded_outputs, predictions, result


def run_whose_best_epoch_is_not_the_last(make_config):
    """A run of the first seed with which an epoch before the last is the best."""
    for seed in range(1, 20):
        record = run(make_config(seed))
        if record.best_epoch < len(record.epochs) - 1:
            return record
    raise AssertionError("every seed had its best epoch at the end")


def test_the_test_set_is_predicted_by_the_best_epochs_weights(glue, tiny_models, tmp_path):
    """Against transformers alone: the kept model over padded batches in float32."""

    def make(seed, output="kept", **values):
        fixed = {"optim": "adam", "num_train_epochs": 4.0, "lr": 1e-2, "precision": "fp32", "predict_test": True}
        return config_of("rte", glue, tiny_models["bert"], tmp_path / output, seed=seed, **(fixed | values))

    record = run_whose_best_epoch_is_not_the_last(lambda seed: make(seed, save_model=True))
    logits = padded_outputs(tmp_path / "kept" / record.run_id / "model", Path(glue) / "RTE" / "test.tsv")
    kept = predictions(tmp_path / "kept", record)
    np.testing.assert_allclose(kept["test/best"], logits, atol=1e-5)
    assert record.data.test_rows == {"test": len(logits)}
    assert not np.allclose(kept["validation/best"], kept["validation/last"])

    seed = record.config.seed
    removed = run(make(seed, "removed"))
    assert removed.run_id == record.run_id and predictions(tmp_path / "removed", removed).keys() == kept.keys()
    np.testing.assert_array_equal(predictions(tmp_path / "removed", removed)["test/best"], kept["test/best"])
    assert sorted(p.name for p in (tmp_path / "removed" / record.run_id).iterdir() if p.name[0] != ".") == [
        "predictions.npz", "record.json"]  # fmt: skip
    plain = run(make(seed, "plain", predict_test=False))
    assert plain.run_id == record.run_id and plain.epochs == record.epochs and plain.curves == record.curves


def test_an_mnli_run_predicts_ax_too(glue, tiny_models, tmp_path):
    counts = {"test_matched": 20, "test_mismatched": 16, "ax": 24}
    config = config_of("mnli", glue, tiny_models["bert"], tmp_path, predict_test=True)
    record = run(config)
    arrays = predictions(tmp_path, record)
    assert {name: arrays[f"{name}/best"].shape for name in counts} == {name: (n, 3) for name, n in counts.items()}
    assert record.data.test_rows == counts and not any("test" in key for key in record.epochs[0].metrics)


def test_targets_are_predicted_on_their_own_scale(glue, tiny_models, tmp_path):
    config = config_of("stsb", glue, tiny_models["bert"], tmp_path, predict_test=True, save_model=True,
                       precision="fp32")  # fmt: skip
    record = run(config)
    logits = padded_outputs(tmp_path / record.run_id / "model", Path(glue) / "STS-B" / "test.tsv")
    assert logits.shape == (24, 1)
    np.testing.assert_allclose(predictions(tmp_path, record)["test/best"], 5 * logits[:, 0], atol=1e-4)


def test_a_finished_run_without_them_is_not_passed_off(glue, tiny_models, tmp_path):
    config = config_of("rte", glue, tiny_models["bert"], tmp_path)
    plain = run(config)
    wanting = config.replace(predict_test=True, save_model=True)
    with pytest.raises(UsageError, match=r"made without predict_test and save_model; --force"):
        run(wanting)
    assert "test/best" not in predictions(tmp_path, plain)
    again = run(wanting.replace(force=True))
    assert result(again) != result(plain) and again.epochs == plain.epochs
    assert "test/best" in predictions(tmp_path, again)
    assert run(wanting).created == again.created == run(config).created


def test_a_resumed_run_predicts_the_same(glue, tiny_models, tmp_path):
    values = {"num_train_epochs": 3.0, "checkpoint_minutes": 0.0, "logging_steps": 3, "predict_test": True}
    whole = run(config_of("rte", glue, tiny_models["roberta"], tmp_path / "whole", **values))
    killed = config_of("rte", glue, tiny_models["roberta"], tmp_path / "killed", resume=True, **values)
    child = PROCESSES.Process(target=run, args=(killed, [KillAt(11, writing=False)]))
    child.start()
    child.join()
    assert child.exitcode == -signal.SIGKILL
    resumed = run(killed)
    assert resumed.execution.resumed_from_step == 9 and result(resumed) == result(whole)
    one, two = predictions(tmp_path / "whole", whole), predictions(tmp_path / "killed", resumed)
    assert one.keys() == two.keys() and all(np.array_equal(one[key], two[key]) for key in one)


@pytest.mark.parametrize(
    ("task", "change", "said"),
    [
        ("rte", lambda data: (data / "RTE" / "test.tsv").unlink(), r"no test\.tsv in"),
        ("mnli", lambda data: shutil.rmtree(data / "AX"), "no data for ax in .* looked for a folder AX"),
        ("rte", lambda data: swap_rows(data / "RTE" / "test.tsv"), "test.tsv, line 2: index '1' where 0 belongs"),
        ("rte", lambda data: (data / "RTE" / "test.tsv").write_text(""), "test.tsv: empty"),
        ("rte", lambda data: (data / "RTE" / "test.tsv").write_bytes(b"\xff"), "not UTF-8 at byte 0"),
    ],
)
def test_a_test_set_that_cannot_be_predicted_is_refused_at_once(task, change, said, glue, tiny_models, tmp_path):
    shutil.copytree(glue, tmp_path / "glue")
    change(tmp_path / "glue")
    with pytest.raises(UsageError, match=said):
        run(config_of(task, str(tmp_path / "glue"), tiny_models["bert"], tmp_path / "runs", predict_test=True))
    assert not (tmp_path / "runs").exists()


def test_the_demo_has_no_test_set(tiny_models, tmp_path):
    with pytest.raises(UsageError, match="the demo data have no test set"):
        run(config_of("qnli", "demo", tiny_models["bert"], tmp_path, predict_test=True))


def swap_rows(path):
    lines = path.read_text(encoding="utf-8").split("\n")
    lines[1], lines[2] = lines[2], lines[1]
    path.write_text("\n".join(lines), encoding="utf-8")
