"""Generated input, most of it wrong: it is taken, or refused in the words that a user reads; never a traceback.

What is generated is near to what is right: a valid record, file or command in which a few things are something else. Of
what is all noise, nothing gets past the first check.

The cases are the same in every run; `pytest --hypothesis-profile default` draws new ones.
"""

import copy
import json
import math
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from glue_mva.config.run import RunConfig
from glue_mva.data.tsv import file_of, read_split
from glue_mva.errors import UsageError
from glue_mva.inference.texts import FORMATS, read_table
from glue_mva.record import RecordError, read_record
from glue_mva.report.build import build_report
from glue_mva.report.results import results
from glue_mva.sweep.config import SweepConfig, load_sweep
from glue_mva.sweep.launch import read_progress
from glue_mva.sweep.plan import make_plan
from glue_mva.tasks import TASKS
from tests.command import call
from tests.report.factory import make_record

pytestmark = pytest.mark.slow

many = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
few = settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))

TEXT = st.one_of(
    st.text(max_size=30),
    st.sampled_from(["", "\0", "~", "..", "../x", "\r", "\t", "\x1f", "\ufeff", "<script>", "|", "$", "nan", "-0",
                     "1e309", "NULL", "\\", "_" * 300, "\u202e", "a\nb"]),
)  # fmt: skip
NUMBER = st.one_of(
    st.integers(),
    st.floats(),
    st.sampled_from([0, -1, 1, 2**31, 2**63, 10**400, 1e-320, 1e308, math.inf, -math.inf, math.nan, True]),
)
SCALAR = st.one_of(NUMBER, TEXT, st.none(), st.booleans())
VALUE = st.recursive(
    SCALAR, lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(TEXT, inner, max_size=3)), max_leaves=6
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in nested lists and tables."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, item in inner for place in places(item, (*path, key)))]


def changed(value: Any, data: st.DataObject, others: st.SearchStrategy[Any]) -> Any:
    """A copy in which one to three places hold something else, or nothing."""
    value = copy.deepcopy(value)
    for _ in range(data.draw(st.integers(1, 3))):
        found = places(value)[1:]
        if not found:
            return value
        *path, last = data.draw(st.sampled_from(found))
        inside = value
        for key in path:
            inside = inside[key]
        if data.draw(st.booleans()):
            inside[last] = data.draw(others)
        else:
            del inside[last]
    return value


def one_line(error: Exception) -> bool:
    return len(str(error).splitlines()) == 1


GOOD_RECORD = json.loads(make_record("rte", "lamadam").to_json())


@many
@given(st.data())
def test_records(data: st.DataObject) -> None:
    stored = changed(GOOD_RECORD, data, VALUE)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "record.json"
        path.write_text(json.dumps(stored))
        try:
            record = read_record(path)
        except RecordError as error:
            assert one_line(error)
        else:
            assert read_record_of(record.to_json(), folder) == record


def read_record_of(text: str, folder: str) -> Any:
    path = Path(folder) / "again.json"
    path.write_text(text)
    return read_record(path)


@few
@given(st.data())
def test_reports_of_records_that_can_be_read(data: st.DataObject) -> None:
    """Three whole records, one of them strange; beside it predictions that are anything."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for seed in (1, 2, 3):
            stored = json.loads(make_record("rte", "adam", seed=seed).to_json())
            if seed == 2:
                stored = changed(stored, data, VALUE)
            run = folder / "runs" / str(seed)
            run.mkdir(parents=True)
            (run / "record.json").write_text(json.dumps(stored))
        (folder / "runs" / "2" / "predictions.npz").write_bytes(data.draw(st.binary(max_size=50)))
        try:
            found = results(folder / "runs")
            build_report(found, folder / "report")
        except UsageError as error:
            assert one_line(error)
        else:
            assert (folder / "report" / "report.html").stat().st_size > 1000


def toml(value: Any) -> str:
    """A value as TOML, as far as it can be."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {toml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return json.dumps(value) if value is not None else "2020-01-01"


def as_file(values: dict[str, Any]) -> str:
    return "".join(f"{json.dumps(key)} = {toml(value)}\n" for key, value in values.items())


GOOD_SWEEP = {
    "output": "runs", "tasks": ["rte", "mrpc"], "lr": [1e-5, 2e-5], "weight_decay": [0.1], "final_seeds": 2,
    "optimizers": ["adam", {"optim": "madam", "optim_args": {"eps": 1e-6}}], "run": {"max_length": 64, "recipe": "hf"},
}  # fmt: skip
GOOD_RUN = {"task": "rte", "optim": "lamadam", "lr": 1e-5, "max_steps": 10, "optim_args": {"eps": 1e-8}, "data": "demo"}


@many
@given(st.data())
def test_sweep_files(data: st.DataObject) -> None:
    keys = st.sampled_from([*SweepConfig.model_fields, *RunConfig.model_fields])
    values = changed(GOOD_SWEEP, data, VALUE) | data.draw(st.dictionaries(keys, VALUE, max_size=1))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "sweep.toml"
        path.write_text(as_file(values), encoding="utf-8", errors="surrogatepass")
        try:
            sweep = load_sweep(path, {"output": folder})
            if len(sweep.lr) * len(sweep.weight_decay) * sweep.search_seeds * len(sweep.tasks) < 100:
                make_plan(sweep, read_progress(sweep)[0].outcomes)
        except UsageError as error:
            assert one_line(error)


@many
@given(st.data())
def test_run_files_and_what_comes_over_them(data: st.DataObject) -> None:
    """Refused before any data or model is loaded, so that the last word is about what is never there."""
    values = changed(GOOD_RUN, data, VALUE) | data.draw(
        st.dictionaries(st.sampled_from([*RunConfig.model_fields]), VALUE, max_size=1)
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run.toml"
        path.write_text(as_file(values), encoding="utf-8", errors="surrogatepass")
        done = call("run", "--config", str(path), "--data", f"{folder}/nowhere", "--output", f"{folder}/runs")
        assert done.refused_in_one_line, done


@many
@given(st.data())
def test_options(data: st.DataObject) -> None:
    command = data.draw(st.sampled_from(["run", "plan", "status"]))
    words = [command] if command == "run" else [command, "smoke"]
    fields = RunConfig.model_fields if command == "run" else SweepConfig.model_fields
    flags = [name for name in fields if name not in ("optim_args", "run", "data", "output")]
    for name in data.draw(st.lists(st.sampled_from(flags), max_size=3)):
        words += [f"--{name.replace('_', '-')}={data.draw(st.one_of(SCALAR.map(str), VALUE.map(toml)))}"]
    for name in data.draw(st.lists(st.sampled_from([*fields]), max_size=2)):
        words += ["--set", f"{name}{data.draw(st.sampled_from(['', '.a', '.0', '.']))}={data.draw(VALUE.map(toml))}"]
    done = call(*words, "--data=/nowhere", "--output=/nowhere/runs")
    assert done.code == 0 or done.refused_in_one_line, (words, done)


@many
@given(st.data())
def test_tsv_files(glue: str, data: st.DataObject) -> None:
    """Of GLUE with a few bytes, fields or lines that are something else."""
    task = TASKS[data.draw(st.sampled_from(["rte", "cola", "stsb", "mrpc"]))]
    path = Path(glue, task.folder, file_of(task, data.draw(st.sampled_from(["train", "test"]))))
    lines = [line.split(b"\t") for line in path.read_bytes().split(b"\n")[:6]]
    noise = st.one_of(st.binary(max_size=8), TEXT.map(lambda text: text.encode("utf-8", "surrogatepass")))
    content = b"\n".join(b"\t".join(fields) for fields in changed(lines, data, noise) if isinstance(fields, list))
    if data.draw(st.booleans()):
        content = content.replace(b"\n", b"\r\n")
    with tempfile.TemporaryDirectory() as folder:
        damaged = Path(folder) / path.name
        damaged.write_bytes(content)
        try:
            columns = read_split(task, damaged)
        except UsageError as error:
            assert one_line(error)
        else:
            assert len({len(column) for column in columns.values()}) == 1
            assert all(isinstance(text, str) for name in task.text for text in columns[name])


@many
@given(st.sampled_from(FORMATS), st.one_of(st.binary(max_size=200), TEXT.map(str.encode)), st.data())
def test_texts_to_label(kind: str, noise: bytes, data: st.DataObject) -> None:
    good = {
        "text": b"one\ntwo\n",
        "tsv": b"sentence\tid\none\t1\ntwo\t2\n",
        "csv": b'sentence,id\n"one, two",1\ntwo,2\n',
        "jsonl": b'{"sentence": "one"}\n{"sentence": "two"}\n',
    }[kind]
    place = data.draw(st.integers(0, len(good)))
    try:
        content = good[:place] + noise + good[place + data.draw(st.integers(0, 3)) :]
        texts = read_table("file", content, kind).texts()
    except UsageError as error:
        assert one_line(error)
    else:
        assert all(text.strip() for text in texts.column(0))
