"""Data that somebody else made: datasets saved to disk, with other types, other rows, and damage; a damaged cache."""

import logging
from pathlib import Path

import numpy as np
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, Value
from transformers import AutoTokenizer

from glue_mva.config.identity import DEMO_MODEL, model_path
from glue_mva.config.resolve import ResolvedConfig, resolve
from glue_mva.config.run import RunConfig
from glue_mva.data.encode import encode, tokens_folder
from glue_mva.data.load import digest_rows, load_task
from glue_mva.data.saved import checked
from glue_mva.errors import UsageError
from glue_mva.sweep import SweepConfig
from glue_mva.sweep.plan import make_plan
from glue_mva.tasks import get_task

PAIR = {"sentence1": ["a b", "c d", "e f"], "sentence2": ["g", "h", "i"]}


def config(task: str, source: Path) -> ResolvedConfig:
    return resolve(RunConfig(task=task, optim="adam", data=str(source)))


def save(folder: Path, labels: list, names: list[str] | None = None, **columns: list) -> Path:
    rows = Dataset.from_dict({**PAIR, "label": labels, **columns})
    if names is not None:
        rows = rows.cast(Features({**rows.features, "label": ClassLabel(names=names)}))
    DatasetDict(train=rows, validation=rows).save_to_disk(folder)
    return folder


def test_rows_of_another_task_are_refused_by_the_names_of_its_labels(tmp_path):
    saved = save(tmp_path, [0, 1, 1], ["entailment", "not_entailment"])  # RTE's; WNLI's columns, and the same words
    assert list(load_task(config("rte", saved)).train["label"]) == [0, 1, 1]
    for task in ("wnli", "mrpc"):
        with pytest.raises(UsageError, match="its labels are entailment, not_entailment, those of"):
            load_task(config(task, saved))


def test_a_warning_where_nothing_shows_whose_rows_they_are(tmp_path, caplog):
    saved = save(tmp_path, [0, 1, 1])
    with caplog.at_level(logging.WARNING):
        load_task(config("rte", saved))
    assert "nothing shows that its rows are RTE's" in caplog.text


def test_a_sweep_over_a_saved_dataset_is_planned_by_its_rows(tmp_path):
    save(tmp_path / "rte", [0, 1, 1], ["entailment", "not_entailment"])
    sweep = SweepConfig(output=str(tmp_path / "runs"), tasks=["rte"], optimizers=["adam"], lr=1e-5, weight_decay=0.1,
                        run={"data": str(tmp_path), "train_batch_size": 1, "num_train_epochs": 2})  # fmt: skip
    (line,) = make_plan(sweep, {}).lines
    assert line.unit.updates == 6


@pytest.mark.parametrize("task", ["rte", "stsb"])
def test_numbers_and_words_become_the_types_of_the_task(task, tmp_path):
    spellings = [[0, 1, 1], [0.0, 1.0, 1.0], ["0", "1", "1"]]
    loaded = [load_task(config(task, save(tmp_path / str(i), x))) for i, x in enumerate(spellings)]
    kind = float if task == "stsb" else int
    assert all(list(d.train["label"]) == [0, 1, 1] and type(d.train["label"][0]) is kind for d in loaded)
    assert len({d.info.digest for d in loaded}) == 1
    names = load_task(config("rte", save(tmp_path / "names", ["entailment", "not_entailment", "not_entailment"])))
    assert list(names.train["label"]) == [0, 1, 1]


@pytest.mark.parametrize(
    ("labels", "columns", "said"),
    [
        ([True, False, True], {}, "not bool"),
        ([[0], [1], [1]], {}, "not list"),
        ([{"x": 0}] * 3, {}, "labels are numbers or names of classes"),
        ([0, None, 1], {}, "row 1: no label"),
        ([None] * 3, {}, "row 0: no label"),
        ([0, 0.5, 1], {}, "label 0.5 is no class number"),
        ([0, float("nan"), 1], {}, "label nan"),
        (["yes", "no", "no"], {}, "label 'yes' is none of"),
        ([0, 2, 1], {}, "label 2 is outside 0..1"),
        ([0, 1, 1], {"sentence2": ["a", None, "b"]}, "row 1: no text in 'sentence2'"),
        ([0, 1, 1], {"sentence2": [1, 2, 3]}, "'sentence2' holds no texts but int64"),
        ([0, 1, 1], {"sentence2": [["a"], ["b"], ["c"]]}, "'sentence2' holds no texts but list"),
    ],
)
def test_what_no_task_holds_is_refused_in_one_line(labels, columns, said, tmp_path):
    with pytest.raises(UsageError, match=r"^[^\n]+$") as refused:
        load_task(config("rte", save(tmp_path, labels, **columns)))
    assert said in str(refused.value)


def test_test_rows_in_another_order_are_refused():
    """Predictions are numbered by row; a dataset that was shuffled or sorted would be scored as noise."""
    rows = Dataset.from_dict({**PAIR, "label": [-1, -1, -1], "idx": [0, 1, 2]})
    assert checked(get_task("rte"), "test", rows, "x").num_rows == 3
    with pytest.raises(UsageError, match="x, split test: its rows are not in the official order"):
        checked(get_task("rte"), "test", rows.select([2, 0, 1]), "x")


@pytest.mark.parametrize("damage", ["truncated", "deleted", "garbage", "no state", "state of words"])
def test_a_damaged_dataset_is_refused_in_one_line(damage, tmp_path):
    save(tmp_path, [0, 1, 1])
    (rows,) = (tmp_path / "train").glob("*.arrow")
    {
        "truncated": lambda: rows.write_bytes(rows.read_bytes()[:100]),
        "deleted": rows.unlink,
        "garbage": lambda: rows.write_bytes(b"garbage"),
        "no state": (tmp_path / "train" / "state.json").unlink,
        "state of words": lambda: (tmp_path / "train" / "state.json").write_text("words"),
    }[damage]()
    with pytest.raises(UsageError, match="cannot be read as a dataset saved to disk"):
        load_task(config("rte", tmp_path))


def test_a_separator_inside_a_text_moves_no_row():
    one, other = ({"": Dataset.from_dict({"sentence": texts})} for texts in (["a\x1fb", "c"], ["a", "b\x1fc"]))
    assert digest_rows(one) != digest_rows(other)
    assert digest_rows({"": Dataset.from_dict({"sentence": ["a", "b"]})}) == "7548b5511eb277ed"  # as in older records


@pytest.fixture
def tokenizer():
    return AutoTokenizer.from_pretrained(model_path(DEMO_MODEL))


def test_classes_and_targets_share_no_cache(tokenizer, tmp_path, monkeypatch):
    monkeypatch.setenv("GLUE_MVA_CACHE", str(tmp_path))
    integers = Dataset.from_dict({**PAIR, "label": [0, 1, 1]})
    numbers = integers.cast(Features({**integers.features, "label": Value("float64")}))
    classes, targets = (
        encode(integers, get_task("rte"), tokenizer, 16),
        encode(numbers, get_task("stsb"), tokenizer, 16),
    )
    assert (classes.labels.dtype, targets.labels.dtype) == (np.int64, np.float32)
    assert len(list(tmp_path.glob("*.lock"))) == 2


@pytest.mark.parametrize("damage", ["truncated", "deleted", "one byte", "half cleaned", "a file"])
def test_a_damaged_cache_is_made_again(damage, tokenizer, tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("GLUE_MVA_CACHE", str(tmp_path))
    split = Dataset.from_dict({**PAIR, "label": [0, 1, 1]})
    whole = encode(split, get_task("rte"), tokenizer, 16)
    (folder,) = (path for path in tokens_folder().iterdir() if path.is_dir())
    (rows,) = folder.glob("*.arrow")
    content = rows.read_bytes()
    place = content.index(np.asarray(whole.columns["input_ids"], np.int32).tobytes())
    {
        "truncated": lambda: rows.write_bytes(content[:-400]),
        "deleted": rows.unlink,
        "one byte": lambda: rows.write_bytes(content[: place + 4] + b"\x07" + content[place + 5 :]),
        "half cleaned": lambda: [path.unlink() for path in folder.glob("*.json")],
        "a file": lambda: (folder.rename(tmp_path / "x"), folder.write_text("")),
    }[damage]()
    again = encode(split, get_task("rte"), tokenizer, 16)
    assert "damaged: tokenizing again" in caplog.text
    assert all(np.array_equal(again.columns[name], column) for name, column in whole.columns.items())
    caplog.clear()
    encode(split, get_task("rte"), tokenizer, 16)
    assert not caplog.text


def test_a_cache_that_cannot_be_written_is_named(tokenizer, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("GLUE_MVA_CACHE", str(tmp_path / "file"))
    with pytest.raises(UsageError, match="GLUE_MVA_CACHE names another folder"):
        encode(Dataset.from_dict({**PAIR, "label": [0, 1, 1]}), get_task("rte"), tokenizer, 16)
