"""What README and docs/ tell a reader to type is typed: page by page, in the order of the page, on small data.

The words of the page stay as they are. Stand-ins take the places of what they name: `table3` is a sweep of sixteen
small runs, the Hub's RoBERTa a tiny one, and options that make a run short follow those of the page. What cannot be
typed here stands in `NOT_TYPED` with the reason.
"""

import functools
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

import glue_mva
from glue_mva import RunConfig
from glue_mva.cli import app
from glue_mva.simulate import nonconvex, quadratic
from glue_mva.submission import archive, build
from glue_mva.sweep import load_sweep
from tests.pages import PAGES, blocks, commands
from tests.tiny import GLUE, TinyModels

NOT_TYPED = {
    r"^make ": "what the Makefile runs is run by whoever runs this",
    r"pip install": "takes packages from an index",
    r"^ray |srun|--address": "several machines",
    r"^accelerate launch -": "several GPUs; tests/training/test_run.py starts two processes so",
    r"--runs-per-gpu": "a GPU",
    r"python benchmarks/": "a quiet machine for hours",
    r"examples/\w+\.py": "data sets and hours; tests/examples runs the demos",
}
"""Pattern of a command -> what it needs that is not here."""

ELSEWHERE = ("cli.md", "own-data.md")
"""Pages that are not typed here: one is generated, the other's worked example is typed by tests/test_own_task.py."""

SHORT = {
    "run --demo": "--max-steps 2 --max-eval-samples 16",
    "run --config": "--model roberta --data GLUE_FOLDER --max-train-samples 32 --num-train-epochs 1",
    "run": "--model roberta --data GLUE_FOLDER --max-train-samples 32 --max-eval-samples 16 --num-train-epochs 1",
    "sweep": "--engine inline",
    "simulate": "--repeats 2 --steps 50",
    "simulate all": "--repeats 2",
}
"""First words of a command -> options that follow those of the page; the longest that fits."""

SWEEP = """
output = "runs/table3"
tasks = ["mnli", "qnli", "qqp", "rte", "sst2", "mrpc", "cola", "stsb"]
optimizers = ["adam", "lamadam"]
lr = [1e-3]
weight_decay = [0.1]
final_seeds = 1
[run]
model = "roberta"
data = "GLUE_FOLDER"
max_train_samples = 32
max_eval_samples = 16
num_train_epochs = 1.0
predict_test = true
"""
LION = """
import torch

class Lion(torch.optim.SGD):
    def __init__(self, params, lr, weight_decay=0.0, betas=(0.9, 0.99)):
        super().__init__(params, lr=lr, weight_decay=weight_decay)
"""
TEXTS = [("A dog barks.", "An animal makes a noise."), ("It rains.", "The sun shines.")]


class Reader:
    """Types what a page says, in one folder, and nothing twice."""

    def __init__(self) -> None:
        self.typed: set[str] = set()

    def type(self, line: str) -> None:
        if line in self.typed or any(re.search(pattern, line) for pattern in NOT_TYPED):
            return
        self.typed.add(line)
        before, _, command = line.rpartition("| ")
        given = subprocess.run(["bash", "-c", before], check=True, capture_output=True).stdout if before else None
        _, *words = shlex.split(command)
        first = max((key for key in SHORT if " ".join(words).startswith(key)), key=len, default=None)
        done = CliRunner().invoke(app, [*words, *shlex.split(SHORT[first] if first else "")], input=given)
        assert done.exit_code == 0, f"{line}\n{done.output}\n{done.exception!r}"


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds whatever the pages take for granted: data, models, a sweep, texts, somebody's optimizer."""
    folder = tmp_path_factory.mktemp("reader")
    TinyModels(folder)["roberta"]
    (folder / "GLUE_FOLDER").symlink_to(GLUE)
    (folder / "DIR").symlink_to(GLUE)
    (folder / "configs").mkdir()
    for name in ("table3", "configs/table3.toml"):
        (folder / name).write_text(SWEEP)
    (folder / "mypackage").mkdir()
    (folder / "mypackage" / "optim.py").write_text(LION)
    (folder / "pairs.tsv").write_text("sentence1\tsentence2\n" + "".join(f"{a}\t{b}\n" for a, b in TEXTS))
    (folder / "pairs.jsonl").write_text("".join(f'{{"sentence1": "{a}", "sentence2": "{b}"}}\n' for a, b in TEXTS))
    (folder / "reviews.txt").write_text("".join(f"{a}\n" for a, _ in TEXTS))
    (folder / "reviews.tsv").write_text("".join(f"{i}\t{a}\n" for i, (a, _) in enumerate(TEXTS)))
    return folder


@pytest.fixture(scope="module")
def reader(workshop: Path) -> Reader:
    """Has typed what the pages on reports and models start from: the sweep, and a run that kept its weights."""
    reader = Reader()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(workshop)
        reader.type("glue-mva sweep table3")
        reader.type("glue-mva run --task sst2 --optim lamadam --save-model --output kept")
        (kept,) = (workshop / "kept").iterdir()
        shutil.copytree(kept, workshop / "runs" / "sst2-lamadam-0123456789ab")
        shutil.copytree(kept / "model", workshop / "sst2-model")
        reader.type("glue-mva run --task mnli --optim lamadam --save-model")
        (mnli,) = (path.parent for path in (workshop / "runs").glob("mnli-lamadam-*/model"))
        shutil.copytree(mnli, workshop / "runs" / "mnli-lamadam-0123456789ab")
        (rte,) = (workshop / "runs" / "table3").glob("rte-lamadam-*")
        shutil.copytree(rte, workshop / "runs" / "rte-lamadam-e4533fd97056")
    return reader


@pytest.fixture
def small(workshop: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """The folder as the working directory, everything long made short; names that the snippets take for granted."""
    monkeypatch.chdir(workshop)
    monkeypatch.syspath_prepend(workshop)
    for module in (nonconvex, quadratic):
        monkeypatch.setattr(module, "STEPS", 50)
    rows = {name: len(path.read_text("utf-8-sig").splitlines()) - 1 for name, path in official_test_files().items()}
    for module in (archive, build):
        monkeypatch.setattr(module, "official_rows", lambda: rows)
    values = {"model": "roberta", "data": "GLUE_FOLDER", "max_train_samples": 32, "max_eval_samples": 16,
              "num_train_epochs": 1.0}  # fmt: skip
    monkeypatch.setattr(glue_mva, "RunConfig", functools.partial(RunConfig, **values), raising=False)
    yield {"model": torch.nn.Linear(2, 2)}


def official_test_files() -> dict[str, Path]:
    special = {"MNLI-m": "MNLI/test_matched", "MNLI-mm": "MNLI/test_mismatched", "AX": "AX/diagnostic"}
    stems = {name: name.removesuffix(".tsv") for name in archive.official_rows()}
    return {name: GLUE / f"{special.get(stem, f'{stem}/test')}.tsv" for name, stem in stems.items()}


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if page.name not in ELSEWHERE], ids=lambda page: page.name)
def test_a_page_can_be_typed_from_top_to_bottom(page: Path, workshop: Path, reader: Reader, small: dict[str, Any]):
    found = blocks(page.read_text(encoding="utf-8"))
    for code in [code for language, code in found if language == "toml"]:  # a command before it may name the file
        is_sweep = "\ntasks = " in f"\n{code}"
        (workshop / ("my-sweep.toml" if is_sweep else "my-run.toml")).write_text(code)
        if is_sweep:
            load_sweep("my-sweep.toml")
    for language, code in found:
        if language == "python" and page.name != "optimizers.md":  # tests/optim/test_docs.py looks at what those make
            exec(compile(code, f"{page.name}: {code.splitlines()[0]}", "exec"), dict(small))
        elif language == "":
            for line in commands(code):
                reader.type(line)


def test_nothing_is_left_out_without_need():
    lines = [line for page in PAGES for _, code in blocks(page.read_text(encoding="utf-8")) for line in commands(code)]
    assert [pattern for pattern in NOT_TYPED if not any(re.search(pattern, line) for line in lines)] == []
