"""What wandb, MLflow and TensorBoard are told of a run; the first two where they are installed."""

import gc

import pytest

from glue_mva import run
from glue_mva.errors import UsageError
from tests.training.material import config_of


@pytest.mark.parametrize("status", ["ok", "diverged"])
def test_mlflow_gets_a_run_for_each(status, glue, tiny_models, tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"file:{tmp_path / 'store'}")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "glue")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    values = {"report_to": "mlflow", "logging_steps": 1, "lr": 1e-3 if status == "ok" else 1e30}
    made = [run(config_of("rte", glue, tiny_models["bert"], tmp_path, seed=seed, **values)) for seed in (1, 2)]
    client = mlflow.tracking.MlflowClient(f"file:{tmp_path / 'store'}")
    found = client.search_runs([client.get_experiment_by_name("glue").experiment_id])
    shown = {entry.info.run_name: entry for entry in found}
    assert shown.keys() == {record.run_id for record in made} and {record.status for record in made} == {status}
    for record in made:
        entry = shown[record.run_id]
        assert entry.info.status == ("FINISHED" if status == "ok" else "FAILED")
        assert entry.data.params["optim"] == "lamadam" and entry.data.params["seed"] == str(record.config.seed)
        losses = [point.value for point in client.get_metric_history(entry.info.run_id, "loss")]
        assert status == "diverged" or losses == pytest.approx(record.curves["loss"])


@pytest.mark.parametrize("nested", [True, False])
def test_mlflow_ends_the_run_that_was_begun_and_no_other(nested, glue, tiny_models, tmp_path, monkeypatch):
    """A run of the caller's is active, around ours or after it, when what is left of ours is collected."""
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"file:{tmp_path / 'store'}")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_NESTED_RUN", str(nested))
    mlflow.set_experiment("glue")
    config = config_of("rte", glue, tiny_models["bert"], tmp_path, report_to="mlflow")
    gc.disable()
    try:
        first = None if nested else run(config)
        with mlflow.start_run() as outer:
            record = first or run(config)
            assert mlflow.active_run().info.run_id == outer.info.run_id
            gc.enable()
            gc.collect()
            assert mlflow.active_run().info.run_id == outer.info.run_id
    finally:
        gc.enable()
    (ours,) = mlflow.search_runs(filter_string=f"run_name = '{record.run_id}'", output_format="list")
    assert ours.info.status == "FINISHED"
    assert ours.data.tags.get("mlflow.parentRunId") == (outer.info.run_id if nested else None)


def test_a_tracker_that_cannot_begin_is_one_line(glue, tiny_models, tmp_path, monkeypatch):
    pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "carrier-pigeon://coop")
    with pytest.raises(UsageError, match=r"^report_to mlflow: it could not begin a run: .*carrier-pigeon"):
        run(config_of("rte", glue, tiny_models["bert"], tmp_path, report_to="mlflow"))
    assert not list(tmp_path.rglob("*.json"))  # refused: nothing was started


def test_wandb_gets_a_run_for_each(glue, tiny_models, tmp_path, monkeypatch):
    """Offline, a run is a file, in which names and values stand as text."""
    pytest.importorskip("wandb")
    for name, value in {"WANDB_MODE": "offline", "WANDB_DIR": str(tmp_path), "WANDB_SILENT": "true"}.items():
        monkeypatch.setenv(name, value)
    made = [run(config_of("rte", glue, tiny_models["bert"], tmp_path, seed=seed, report_to="wandb")) for seed in (1, 2)]
    files = [path.read_bytes() for path in tmp_path.glob("wandb/offline-run-*/run-*.wandb")]
    assert len(files) == 2
    for record in made:
        (shown,) = [content for content in files if record.run_id.encode() in content]
        assert all(word in shown for word in (b'"lamadam"', b"optim_args.beta2_min", b"eval/validation_accuracy"))


def test_tensorboard_gets_the_curves_and_the_hyperparameters(glue, tiny_models, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    record = run(config_of("rte", glue, tiny_models["bert"], tmp_path, report_to="tensorboard", optim="lamadam"))
    events = EventAccumulator(str(tmp_path / record.run_id / "tensorboard")).Reload()
    scores = [event.value for event in events.Scalars("eval/validation_accuracy")]
    assert scores == pytest.approx([e.metrics["validation"]["accuracy"] for e in record.epochs])
    assert [e.step for e in events.Scalars("train/loss")] == record.curves["step"]

    def plugin(name):
        return HParamsPluginData.FromString(events.SummaryMetadata(f"_hparams_/{name}").plugin_data.content)

    shown = plugin("session_start_info").session_start_info.hparams
    assert shown["optim"].string_value == "lamadam" and shown["lr"].number_value == record.config.lr
    assert shown["optim_args.beta2_min"].number_value == 0.5 and shown["seed"].number_value == record.config.seed
    assert "output" not in shown
    (metric,) = plugin("experiment").experiment.metric_infos
    assert metric.name.tag == "eval/validation_accuracy"
    assert plugin("session_end_info").session_end_info.status == 1  # success


def test_a_run_made_anew_leaves_one_curve_in_tensorboard(glue, tiny_models, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    config = config_of("rte", glue, tiny_models["bert"], tmp_path, report_to="tensorboard")
    first = run(config)
    again = run(config.replace(force=True))
    events = EventAccumulator(str(tmp_path / first.run_id / "tensorboard")).Reload()
    assert [event.step for event in events.Scalars("train/loss")] == again.curves["step"]
    assert len(list((tmp_path / first.run_id / "tensorboard").iterdir())) == 1


def test_an_evaluation_without_training_has_no_curves_in_tensorboard(glue, tiny_models, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    trained = run(config_of("rte", glue, tiny_models["bert"], tmp_path / "out", save_model=True))
    model = str(tmp_path / "out" / trained.run_id / "model")
    record = run(config_of("rte", glue, model, tmp_path / "out", report_to="tensorboard", num_train_epochs=0))
    assert record.status == "ok" and not list(tmp_path.rglob("events.out.*"))
