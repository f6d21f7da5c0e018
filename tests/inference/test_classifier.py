"""Labels of `Classifier` and of the command, against transformers alone and against the run that made the model."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer
from typer.testing import CliRunner

from glue_mva import run
from glue_mva.cli import app
from glue_mva.errors import UsageError
from glue_mva.inference.classifier import Classifier, batches
from tests.processes import running
from tests.tiny import CONFIGS
from tests.training.material import config_of

FIRST = ["Anna sold the lamp in the library, says Hugo, and then bought another one.", "No.", "David took the clock."]
SECOND = ["Anna was in the library.", "Somebody said no to it.", "The clock is gone."]


def call(*words, stdin=None):
    return CliRunner().invoke(app, ["predict", *(str(word) for word in words)], input=stdin)


@pytest.fixture(scope="module")
def trained(glue, tiny_models, tmp_path_factory):
    """task -> folder of a float32 run that kept its weights, made when first asked for."""
    output, made = tmp_path_factory.mktemp("runs"), {}

    def folder(task):
        if task not in made:
            config = config_of(task, glue, tiny_models["bert"], output, save_model=True, precision="fp32")
            made[task] = output / run(config.replace(max_eval_samples=None)).run_id
        return made[task]

    return folder


@pytest.mark.parametrize("family", CONFIGS)
def test_any_fine_tuned_folder_labels_as_transformers_does(family, tiny_models, tmp_path):
    """Packed or padded, whatever the family: probabilities of the plain model, one row at a time."""
    torch.manual_seed(1)
    model = AutoModelForSequenceClassification.from_pretrained(tiny_models[family], num_labels=3)
    model.save_pretrained(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tiny_models[family])
    tokenizer.save_pretrained(tmp_path)
    classifier = Classifier(str(tmp_path), precision="fp32")
    assert classifier.labels == ["LABEL_0", "LABEL_1", "LABEL_2"] and classifier.task is None
    for texts in ((FIRST,), (FIRST, SECOND)):
        got = classifier.predict(classifier.tokenize(*texts))
        with torch.inference_mode():
            rows = [model.eval()(**tokenizer(*row, return_tensors="pt")).logits for row in zip(*texts, strict=True)]
        np.testing.assert_allclose(got, torch.cat(rows).softmax(-1).numpy(), atol=1e-5)
    assert (classifier.padding == "none") == (family not in ("albert", "deberta-v2"))


def test_the_command_gives_the_runs_own_dev_predictions(trained, glue, tmp_path):
    folder = trained("rte")
    dev = Path(glue) / "RTE" / "dev.tsv"
    done = call(folder, dev, "--precision", "fp32")
    assert done.exit_code == 0, done.stderr
    lines = [line.split("\t") for line in done.stdout.splitlines()]
    given = [line.split("\t") for line in dev.read_text(encoding="utf-8").splitlines()]
    assert [line[:4] for line in lines] == given
    assert lines[0][4:] == ["prediction", "probability_entailment", "probability_not_entailment"]
    with np.load(folder / "predictions.npz") as arrays:
        logits = torch.from_numpy(arrays["validation/best"])
    np.testing.assert_allclose(np.array([line[5:] for line in lines[1:]], float), logits.softmax(-1).numpy(), atol=1e-4)
    assert [line[4] for line in lines[1:]] == [lines[0][5 + i].partition("_")[2] for i in logits.argmax(-1)]


def test_a_regression_answers_on_the_scale_of_its_data(trained, glue, tmp_path):
    dev = Path(glue) / "STS-B" / "dev.tsv"
    call(trained("stsb") / "model", dev, "--out", tmp_path / "x.jsonl", "--precision", "fp32")
    rows = [json.loads(line) for line in (tmp_path / "x.jsonl").read_text(encoding="utf-8").splitlines()]
    with np.load(trained("stsb") / "predictions.npz") as arrays:
        np.testing.assert_allclose([row["prediction"] for row in rows], arrays["validation/best"], atol=1e-4)
    assert [row["sentence1"] for row in rows][:1] == [dev.read_text(encoding="utf-8").splitlines()[1].split("\t")[7]]
    assert "probabilities" not in rows[0]


def test_standard_input_and_what_is_too_long(trained):
    long = "a fine film " * 60
    done = call(trained("sst2"), "-", stdin=f"good\n{long}\nbad\n")
    assert done.exit_code == 0 and [line.split("\t")[0] for line in done.stdout.splitlines()] == [
        "sentence", "good", long, "bad"]  # fmt: skip
    assert done.stderr == "glue-mva: 1 of 3 rows are cut at 48 tokens, or just that long\n"
    asked = call(trained("sst2"), "-", "--format", "jsonl", stdin='{"text": "good", "id": 7}\n')
    row = json.loads(asked.stdout)
    assert list(row) == ["text", "id", "prediction", "probabilities"] and row["prediction"] in row["probabilities"]


@pytest.mark.parametrize(
    ("words", "content", "said"),
    [
        (["RUN", "nowhere.tsv"], None, "'nowhere.tsv': No such file"),
        (["RUN", "x.tsv"], b"", "x.tsv: empty"),
        (["RUN", "x.tsv"], b"\xff", "x.tsv: not UTF-8 at byte 0"),
        (["RUN", "x.tsv"], b"id\tcontent\n1\ta\n", "x.tsv: no column of texts among id, content"),
        (["RUN", "x.tsv", "--columns", "a,b"], b"a\tc\n1\t2\n", "x.tsv: no column 'b'; found a, c"),
        (["RUN", "x.tsv"], b"sentence\tid\na\t1\tb\n", "x.tsv, line 2: 3 columns where 2 belong"),
        (["RUN", "x.csv"], b'sentence\n"a', "x.csv, line 2: unexpected end of data"),
        (["RUN", "x.tsv", "--to", "xml"], b"sentence\na\n", "--to 'xml': it is written as csv, jsonl, tsv"),
        (["RUN", "x.tsv"], b"sentence1\tsentence2\na\tb\n", "trained on sst2, which has single texts (sentence)"),
        (["RUN", "x.tsv", "--out", "none/x.txt/y"], b"sentence\na\n", "cannot be written"),
        (["RUN", "x.tsv", "--precision", "fp8"], b"sentence\na\n", "unknown precision 'fp8'; known: auto, fp32"),
        (["RUN", "x.tsv", "--precision", "fp16"], b"sentence\na\n", "precision fp16 needs a CUDA GPU"),
        (["nowhere/model", "x.tsv"], b"sentence\na\n", "cannot load model 'nowhere/model'"),
        (["./nowhere", "x.tsv"], b"sentence\na\n", "model folder './nowhere' is not there"),
        (["./nowhere", "x.tsv"], b"sentence\tid\na\n", "x.tsv, line 2: 1 columns where 2 belong"),
        (["./nowhere", "x.tsv", "--columns", "b"], b"a\n1\n", "x.tsv: no column 'b'; found a"),
        (["ENCODER", "x.tsv"], b"sentence\na\n", "is no fine-tuned classifier: its architectures are ['BertModel']"),
        (["RUNS", "x.tsv"], b"sentence\na\n", "is a folder of runs: give one of them"),
        (["PLAIN", "x.tsv"], b"sentence\na\n", "kept no weights: `glue-mva export` makes them"),
    ],
)
def test_bad_input_is_one_line(words, content, said, trained, tiny_models, tmp_path, monkeypatch):
    (tmp_path / "none").write_text("")
    plain = tmp_path / "plain"
    plain.mkdir()
    (plain / "record.json").write_bytes((trained("sst2") / "record.json").read_bytes())
    names = {"RUN": trained("sst2"), "RUNS": trained("sst2").parent, "ENCODER": tiny_models["bert"], "PLAIN": plain}
    if content is not None:
        (tmp_path / words[1]).write_bytes(content)
    before = sorted(tmp_path.iterdir())
    monkeypatch.chdir(tmp_path)
    done = call(*(names.get(word, word) for word in words))
    assert isinstance(done.exception, UsageError) and said in str(done.exception), done.exception
    assert "\n" not in str(done.exception) and done.output == "" and sorted(tmp_path.iterdir()) == before


def test_a_reader_that_stops_early_gets_no_traceback(trained, tmp_path):
    (tmp_path / "x.txt").write_text("good\n" * 9000)
    with running(tmp_path, "predict", trained("sst2"), tmp_path / "x.txt", stderr=tmp_path / "stderr") as predict:
        assert [predict.stdout.readline() for _ in range(2)][1].startswith("good\t")
        predict.stdout.close()
        assert predict.wait(60) == 0
    assert (tmp_path / "stderr").read_text() == ""


def test_weights_without_a_head_and_several_labels_are_refused(tiny_models, trained, tmp_path):
    config = json.loads((Path(tiny_models["bert"]) / "config.json").read_text())
    for folder, changes in (("head", {}), ("several", {"problem_type": "multi_label_classification"})):
        source = Path(tiny_models["bert"] if folder == "head" else trained("sst2") / "model")
        target = tmp_path / folder
        target.mkdir()
        for path in source.iterdir():
            (target / path.name).write_bytes(path.read_bytes())
        base = config if folder == "head" else json.loads((target / "config.json").read_text())
        named = {"architectures": ["BertForSequenceClassification"]}
        (target / "config.json").write_text(json.dumps({**base, **named, **changes}))
    with pytest.raises(UsageError, match=r"lacks weights of its classifier: .*classifier"):
        Classifier(str(tmp_path / "head"))
    with pytest.raises(UsageError, match="several labels to one text"):
        Classifier(str(tmp_path / "several"))


def test_a_model_whose_outputs_are_not_finite_labels_nothing(trained, tmp_path):
    classifier = Classifier(str(trained("sst2")), precision="fp32")
    with torch.no_grad():
        classifier.model.classifier.bias.fill_(torch.nan)
    with pytest.raises(UsageError, match="outputs that are not finite in fp32"):
        classifier.predict(classifier.tokenize(["good"]))


def test_half_a_model_is_refused(trained, tmp_path):
    shutil.copytree(trained("sst2") / "model", tmp_path / "model")
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    (tmp_path / "model" / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 1}))
    with pytest.raises(UsageError, match="layers that its config does not name"):
        Classifier(str(tmp_path / "model"))


def test_a_folder_as_output_is_refused(trained, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("x.txt").write_text("good\n")
    for out in (".", str(tmp_path)):
        done = call(trained("sst2"), "x.txt", "--out", out)
        assert isinstance(done.exception, UsageError) and "Is a directory" in str(done.exception), done.exception


def test_batches_hold_every_row_once_and_no_more_tokens_than_allowed():
    lengths = np.random.default_rng(0).integers(1, 200, 500)
    found = batches(lengths, 1000)
    assert sorted(np.concatenate(found)) == list(range(500))
    assert all(len(batch) * lengths[batch].max() <= 1000 for batch in found)
    assert len(batches(np.array([5000, 1]), 1000)) == 2
