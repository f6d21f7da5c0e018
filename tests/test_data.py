"""GLUE files in their official layout, and files with one thing wrong."""

import shutil
import socket
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import numpy as np
import pytest
from datasets import Dataset, DatasetDict
from transformers import AutoTokenizer

from glue_mva.config.identity import DEMO_MODEL, model_path
from glue_mva.config.resolve import resolve
from glue_mva.config.run import RunConfig
from glue_mva.data import encode as encoding
from glue_mva.data import load as data
from glue_mva.data.encode import encode
from glue_mva.data.load import load_task, split_holdout
from glue_mva.data.tsv import file_of, read_split
from glue_mva.errors import UsageError
from glue_mva.tasks import get_task
from tools.build_test_data import build

ROWS = {  # lines of the files, headers not counted
    **dict.fromkeys(("cola", "sst2", "mrpc", "stsb", "qqp", "qnli", "rte"), (192, 64, 24)),
    "mnli": (96, 32, 28, 20, 16), "wnli": (96, 32, 16), "ax": (24,),
}  # fmt: skip


def config(task, source, **values):
    return resolve(RunConfig(task=task, optim="adam", data=str(source), **values))


@pytest.mark.parametrize("task", ROWS)
def test_every_official_file_is_read_whole(task, glue):
    spec = get_task(task)
    columns = {split: read_split(spec, Path(glue, spec.folder, file_of(spec, split))) for split in spec.rows}
    assert tuple(len(c["idx"]) for c in columns.values()) == ROWS[task]
    for split, found in columns.items():
        assert all(text for name in spec.text for text in found[name])
        known = {-1} if split.startswith("test") else set(range(spec.num_labels))
        assert set(found["label"]) == known or (
            spec.is_regression and 0 <= min(found["label"]) < max(found["label"]) <= 5
        )


@pytest.mark.parametrize("task", ROWS)
def test_a_task_is_loaded_with_what_it_has(task, glue):
    spec = get_task(task)
    loaded = load_task(config(task, glue, num_train_epochs=0))
    sizes = dict(zip(spec.rows, ROWS[task], strict=True))
    assert loaded.info.rows == {"train": sizes.get("train", 0), **{s: sizes[s] for s in loaded.evaluation}}
    assert tuple(loaded.evaluation) == (spec.eval_splits or spec.test_splits) and loaded.info.partial


def test_first_rows_are_what_the_files_say(glue):
    cola = load_task(config("cola", glue)).train[0]  # no header: the first line is a row
    assert (cola["sentence"], cola["label"]) == ("Elena broke the letter in the museum.", 1)
    mrpc = load_task(config("mrpc", glue)).train[0]  # behind a byte-order mark, with quotes that are only characters
    assert (mrpc["sentence1"], mrpc["label"]) == ('Anna said Irène bought " the chair " in the museum .', 1)
    rte = load_task(config("rte", glue)).train[0]
    assert (rte["sentence2"], rte["label"]) == ("Nobody drew the drum.", 1)  # not_entailment
    mnli = load_task(config("mnli", glue))
    assert (mnli.train[0]["hypothesis"], mnli.train[0]["label"]) == ("Anna sold the chair for the first time.", 1)
    mismatched = mnli.evaluation["validation_mismatched"][0]
    assert (mismatched["premise"], mismatched["label"]) == ("Elena found the map in the library.", 0)
    stsb = load_task(config("stsb", glue)).evaluation["validation"][0]
    assert (stsb["sentence2"], stsb["label"]) == ("The ladder in the café was what Carla took.", 4.2)
    sst2 = load_task(config("sst2", glue)).train[0]
    assert sst2["sentence"] == "the film is often rich and moving . "
    ax = load_task(config("ax", glue, num_train_epochs=0))
    assert ax.train is None and ax.evaluation["test"][0]["hypothesis"] == "Someone bought the bottle."


def test_the_files_are_what_the_committed_script_makes(glue, tmp_path):
    build(tmp_path)
    made, kept = ({p.relative_to(root): p.read_bytes() for p in root.rglob("*.tsv")} for root in (tmp_path, Path(glue)))
    assert made == kept and sum(map(len, kept.values())) < 300_000


def broken(tmp_path, glue, name, change) -> Path:
    shutil.copytree(f"{glue}/{name}", tmp_path / name)
    path = tmp_path / name / "train.tsv"
    lines = path.read_text(encoding="utf-8-sig").split("\n")
    change(lines)
    path.write_text("\n".join(lines), encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize(
    "task, name, change, words",
    [
        ("rte", "RTE", lambda x: x.__setitem__(6, x[6] + "\textra"), ["train.tsv, line 7", "5 columns where 4"]),
        ("rte", "RTE", lambda x: x.__setitem__(2, x[2].rpartition("\t")[0] + "\tmaybe"), ["line 3", "'maybe'"]),
        ("rte", "RTE", lambda x: x.__setitem__(0, "index\ta\tb\tlabel"), ["no column 'sentence1'"]),
        ("stsb", "STS-B", lambda x: x.__setitem__(1, x[1].rpartition("\t")[0] + "\t7.5"), ["line 2", "'7.5'", "0..5"]),
        ("cola", "CoLA", lambda x: x.__setitem__(0, x[0].replace("\t1\t", "\t2\t")), ["line 1", "'2'"]),
        ("rte", "RTE", lambda x: x.__delitem__(slice(1, None)), ["no rows"]),
    ],
)
def test_a_malformed_file_stops_with_its_place(tmp_path, glue, task, name, change, words):
    folder = broken(tmp_path, glue, name, change)
    with pytest.raises(UsageError) as error:
        load_task(config(task, folder))
    assert all(word in str(error.value) for word in words), str(error.value)


def test_a_folder_without_the_task_says_what_is_there(tmp_path):
    (tmp_path / "SST-2").mkdir()
    with pytest.raises(UsageError, match=r"looked for a folder RTE, found SST-2"):
        load_task(config("rte", tmp_path))
    with pytest.raises(UsageError, match=r"no train\.tsv"):
        load_task(config("sst2", tmp_path))
    with pytest.raises(UsageError, match="not there"):
        load_task(config("sst2", tmp_path / "nowhere"))


def test_save_to_disk_is_the_same_data(tmp_path, glue):
    loaded = load_task(config("wnli", glue))
    DatasetDict(train=loaded.train, validation=loaded.evaluation["validation"]).save_to_disk(tmp_path / "wnli")
    again = load_task(config("wnli", tmp_path))
    assert again.info.digest == loaded.info.digest


def test_demo_data_are_small_and_qnli_only(monkeypatch, tmp_path):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    demo = load_task(resolve(RunConfig(task="qnli", optim="adam", data="demo")))
    assert (demo.train.num_rows, demo.evaluation["validation"].num_rows) == (2000, 800)
    assert not any(tmp_path.iterdir())  # read where it lies
    assert sum(f.stat().st_size for f in data.DEMO_FOLDER.iterdir()) < 2**20
    with pytest.raises(UsageError, match="qnli only"):
        load_task(resolve(RunConfig(task="rte", optim="adam", data="demo")))


def test_the_hub_out_of_reach_names_the_ways_out():
    with pytest.raises(UsageError, match=r"--data DIR .* or --demo"):
        load_task(resolve(RunConfig(task="rte", optim="adam")))


class Answering(BaseHTTPRequestHandler):
    def do_HEAD(self):
        self.send_response(200)
        self.end_headers()

    def log_message(self, *args):
        pass


@pytest.mark.parametrize("answers", [True, False])
def test_the_hub_is_reachable_where_it_answers_in_time(answers, monkeypatch):
    hub = data.hub
    with HTTPServer(("127.0.0.1", 0), Answering) as server:  # takes connections, and is silent until it serves
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        monkeypatch.setattr(hub.constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(hub.constants, "ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setattr(hub, "TIMEOUT_SECONDS", 600 if answers else 0.2)
        if answers:
            threading.Thread(target=server.handle_request, daemon=True).start()
        assert hub.reachable.__wrapped__() is answers


def test_nothing_is_asked_of_a_hub_that_does_not_answer(monkeypatch):
    """Why `datasets.config` is set for the while: `load_dataset` has no argument for it, and waits for minutes where
    the network swallows what it asks."""
    asked = []
    monkeypatch.setattr(data.hub.datasets.config, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(data.hub, "reachable", lambda: False)
    monkeypatch.setattr(socket.socket, "connect", lambda self, address: asked.append(address) or self.close())
    monkeypatch.setattr(socket, "getaddrinfo", lambda host, *_, **__: asked.append(host) or [])
    with pytest.raises(UsageError, match="the Hub cannot be reached"):
        load_task(resolve(RunConfig(task="rte", optim="adam")))
    assert asked == []
    assert data.hub.datasets.config.HF_HUB_OFFLINE is False


def test_lines_of_qqp_that_break_off_are_left_out_as_on_the_hub(tmp_path, caplog):
    header, row = "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate", "1\t2\t3\tWhy?\tWhat?\t1"
    path = tmp_path / "train.tsv"
    path.write_text("\n".join([header, row, "2\t3\t4", 'and so on"\tHow?\t0', row]) + "\n")
    assert read_split(get_task("qqp"), path)["label"] == [1, 1]
    assert "train.tsv: 2 lines that break off are left out, as on the Hub (the first is line 3)" in caplog.text
    path.write_text("\n".join([header, f"{row}\tmore"]) + "\n")
    with pytest.raises(UsageError, match="line 2: 7 columns where 6 belong"):
        read_split(get_task("qqp"), path)


def test_tokens_are_cut_anew_on_the_other_side(glue, tiny_models):
    split, task = load_task(config("rte", glue)).train, get_task("rte")
    tokenizer = AutoTokenizer.from_pretrained(tiny_models["bert"])
    right = encode(split, task, tokenizer, 8).columns["input_ids"]
    tokenizer.truncation_side = "left"
    assert not np.array_equal(right, encode(split, task, tokenizer, 8).columns["input_ids"])


def test_targets_that_hardly_differ_are_read_as_they_are(tiny_models):
    tokenizer = AutoTokenizer.from_pretrained(tiny_models["bert"])
    for target in (4.000001, 4.000002):
        rows = Dataset.from_dict({"sentence1": ["a"], "sentence2": ["b"], "label": [target], "idx": [0]})
        assert encode(rows, get_task("stsb"), tokenizer, 8)[0]["labels"] == np.float32(target)


def test_subsets_are_the_same_rows_for_every_seed(glue):
    rows = [load_task(config("rte", glue, max_train_samples=50, seed=s)).train["idx"] for s in (1, 2)]
    assert list(rows[0]) == list(rows[1]) == sorted(set(rows[0]))
    assert len(rows[0]) == 50 and list(rows[0]) != list(range(50))


def test_holdout_is_stratified_and_disjoint(glue):
    loaded = load_task(config("cola", glue, holdout_fraction=0.2))
    train, held = loaded.train, loaded.evaluation["holdout"]
    assert sorted([*train["idx"], *held["idx"]]) == list(range(192))
    assert abs(np.mean(train["label"]) - np.mean(held["label"])) < 1 / len(held)
    assert loaded.info.holdout and "validation" not in loaded.evaluation
    with pytest.raises(UsageError, match="holdout_fraction"):
        split_holdout(get_task("rte"), Dataset.from_dict({"label": [0, 1]}), 0.5, 0)


def test_tokenized_once_by_several_threads(glue, tmp_path, monkeypatch):
    monkeypatch.setenv("GLUE_MVA_CACHE", str(tmp_path))
    made = []
    original = encoding._encode_to
    monkeypatch.setattr(encoding, "_encode_to", lambda *a: (made.append(1), original(*a)))
    split = load_task(config("wnli", glue)).train
    tokenizer = AutoTokenizer.from_pretrained(model_path(DEMO_MODEL))
    results = []
    work = [
        threading.Thread(target=lambda: results.append(encode(split, get_task("wnli"), tokenizer, 32)))
        for _ in range(4)
    ]
    [t.start() for t in work], [t.join() for t in work]
    encode(split, get_task("wnli"), tokenizer, 32)  # by now the tokenizer remembers a truncation
    assert len(made) == 1 and len(results) == 4
    row = results[0][0]
    text = tokenizer.decode(row["input_ids"])
    assert text.startswith("[CLS] boris could not put the map into the box") and results[0].lengths.max() <= 32
    assert row["token_type_ids"].sum() > 0  # the second sentence


def test_targets_are_scaled(glue):
    split = load_task(config("stsb", glue)).evaluation["validation"].select(range(20))
    tokenizer = AutoTokenizer.from_pretrained(model_path(DEMO_MODEL))
    scaled = encode(split, get_task("stsb"), tokenizer, 32, target_scale=0.2)
    np.testing.assert_allclose(scaled.labels, np.asarray(split["label"]) / 5, rtol=1e-6)
