"""Tasks that start from the best run of the same row on another (`init_from`): which runs, in which order, and what is
said of them."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from glue_mva.config.identity import run_id, weights_digest
from glue_mva.errors import UsageError
from glue_mva.record import read_record
from glue_mva.report.results import results
from glue_mva.sweep import Outcome, SweepConfig, cells, chosen, final_runs, known_runs, load_sweep
from glue_mva.sweep.engine import InlineEngine
from glue_mva.sweep.launch import launch, read_progress
from glue_mva.sweep.plan import Machines, make_plan
from glue_mva.sweep.protocol import search_runs, start
from glue_mva.sweep.worker import Finished
from glue_mva.training.export import make_again
from tests.command import call
from tests.report.factory import make_record, write_run

from .conftest import Notes

CHAIN = {"tasks": ["stsb", "rte", "mnli"], "optimizers": ["adam", "madam"], "lr": [1e-5, 2e-5], "weight_decay": 0.1,
         "final_seeds": 2, "init_from": {"rte": "MNLI", "STS-B": "rte"}}  # fmt: skip


def finish(runs, scores) -> dict[str, Outcome]:
    return {run.run_id: Outcome("ok" if score else "diverged", score) for run, score in zip(runs, scores, strict=True)}


def test_runs_follow_from_the_best_final_run_of_the_same_row():
    table, key, source = cells(SweepConfig(**CHAIN)), ("rte", "adam"), ("mnli", "adam")
    assert {run.task for run in known_runs(table, {})} == {"mnli"}
    outcomes = finish(search_runs(table, source, {}), [70.0, 71.0])
    final = final_runs(table, source, outcomes)
    assert [(run.config.lr, run.config.save_model) for run in final] == [(2e-5, True)] * 2
    assert not any(run.config.save_model for run in search_runs(table, source, outcomes))
    outcomes |= finish(final[:1], [80.0])
    assert start(table, key, outcomes) is None  # one is not finished
    outcomes |= finish(final[1:], [81.0])
    assert start(table, key, outcomes) == f"runs/{final[1].run_id}"
    searching = search_runs(table, key, outcomes)
    assert [run.config.init_from for run in searching] == [f"runs/{final[1].run_id}"] * 2
    assert search_runs(table, ("rte", "madam"), outcomes) == []  # its own MNLI runs are not made yet
    assert search_runs(table, ("stsb", "adam"), outcomes) == []
    outcomes |= finish(searching, [60.0, 61.0])
    assert chosen(table, key, outcomes).lr == 2e-5
    final = final_runs(table, key, outcomes)
    assert all(run.config.save_model and run.config.init_from for run in final)  # STS-B starts from these
    outcomes |= finish(final, [62.0, 61.0])
    assert start(table, ("stsb", "adam"), outcomes) == f"runs/{final[0].run_id}"
    assert not any(run.config.save_model for run in search_runs(table, ("stsb", "adam"), outcomes))


def test_of_equal_runs_the_smaller_seed_and_none_without_a_score():
    table, source = cells(SweepConfig(**CHAIN, protocol="fixed")), ("mnli", "adam")
    final = final_runs(table, source, {})
    for scores, best in (([70.0, 70.0], 0), ([None, 70.0], 1)):
        assert start(table, ("rte", "adam"), finish(final, scores)) == f"runs/{final[best].run_id}"
    assert start(table, ("rte", "adam"), finish(final, [None, None])) is None


def test_a_matched_row_starts_from_its_own_run():
    rows = ["adam", "madam", {"name": "eta", "optim": "adam", "match_step_size": "madam"}]
    table = cells(SweepConfig(**{**CHAIN, "optimizers": rows, "lr": 1e-5}))
    outcomes: dict[str, Outcome] = {}
    for name, size in (("adam", 2e-6), ("madam", 3e-6)):
        outcomes |= {run.run_id: Outcome("ok", 80.0, size) for run in final_runs(table, ("mnli", name), outcomes)}
    own = final_runs(table, ("mnli", "eta"), outcomes)
    assert [run.config.lr for run in own] == [1.5e-5] * 2
    outcomes |= {run.run_id: Outcome("ok", 80.0 + run.config.seed, 3e-6) for run in own}
    for name in ("adam", "madam"):
        outcomes |= {run.run_id: Outcome("ok", 70.0, 2e-6) for run in final_runs(table, ("rte", name), outcomes)}
    (begin,) = {run.config.init_from for run in final_runs(table, ("rte", "eta"), outcomes)}
    assert begin == f"runs/{own[1].run_id}"


def test_a_model_is_the_start_of_all_rows_and_goes_over_the_one_of_all_tasks():
    sweep = SweepConfig(**{**CHAIN, "init_from": {"rte": "models/mnli", "stsb": ""}}, run={"init_from": "a/b"})
    found = {(run.task, run.config.init_from, run.config.save_model) for run in known_runs(cells(sweep), {})}
    assert found == {("rte", "models/mnli", False), ("mnli", "a/b", False), ("stsb", "", False)}
    assert sweep.starts == ["RTE starts from the model models/mnli"]


def test_plan_counts_what_is_to_come_keeps_sources_and_knows_the_order():
    sweep = SweepConfig(**CHAIN)
    plan = make_plan(sweep, {}, Machines(1000), 1000.0)
    assert plan.runs == 3 * 2 * (2 + 2)
    assert plan.weights_bytes == 4 * 125e6 * 2 * (2 + 2)  # final runs of MNLI and of RTE, two rows
    each = {line.task: line.seconds for line in plan.lines}
    assert plan.wall_seconds == pytest.approx(2 * sum(each.values()))
    assert not any("--tasks" in change for change, _, _ in plan.savings)  # none can go without another


@pytest.fixture(scope="module")
def started(material: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a small sweep in which MRPC starts from RTE; made on one thread, as what goes on with it."""
    output, engine, threads = tmp_path_factory.mktemp("starts") / "runs", InOrder(), torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(material)
        assert launch(small(output), lambda: engine, Notes()).is_complete
    torch.set_num_threads(threads)
    assert engine.tasks == ["rte"] * 6 + ["mrpc"] * 6  # though MRPC stands first in the file
    return output


class InOrder(InlineEngine):
    """Remembers the tasks in the order in which they were run."""

    def __init__(self) -> None:
        super().__init__()
        self.tasks: list[str] = []

    def wait(self, seconds: float) -> list[Finished]:
        self.tasks += [config.task for config, _ in self._next[:1]]
        return super().wait(seconds)


def small(output: Path) -> SweepConfig:
    rows = [{"optim": "adam", "lr": 1e-3}, "lamadam"]  # the first is not searched
    values = {"tasks": ["mrpc", "rte"], "optimizers": rows, "search_seeds": 1, "init_from": {"mrpc": "rte"}}
    return load_sweep("sweep.toml", {"output": str(output), **values})


@pytest.fixture
def copied(started: Path, here: Path, tmp_path: Path) -> Path:
    shutil.copytree(started, tmp_path / "copied")
    return tmp_path / "copied"


def of_task(folder: Path, task: str, optim: str) -> list[Path]:
    return sorted(folder.glob(f"{task}-{optim}-*"))


def test_every_run_starts_from_the_best_source_run_of_its_row(started: Path, here: Path):
    for optim, runs in (("adam", 2), ("lamadam", 4)):
        sources = [read_record(folder) for folder in of_task(started, "rte", optim)]
        kept = [record for record in sources if record.weights]
        assert sorted(record.config.seed for record in kept) == [1, 2]
        best = max(sorted(kept, key=lambda record: record.config.seed), key=lambda record: record.score)
        assert best.weights == weights_digest(started / best.run_id / "model")
        targets = [read_record(folder) for folder in of_task(started, "mrpc", optim)]
        assert [record.model.start for record in targets] == [best.weights] * runs
        assert [run_id(record.config) for record in targets] == [record.run_id for record in targets]


def test_a_copy_goes_on_with_what_is_missing_and_makes_lost_weights_again(copied: Path):
    engine = InOrder()
    shutil.rmtree(of_task(copied, "mrpc", "adam")[0])
    lost = next(folder for folder in of_task(copied, "rte", "lamadam") if (folder / "model").is_dir())
    before = read_record(lost)
    (lost / "model" / "model.safetensors").unlink()
    assert not read_progress(small(copied))[0].is_complete
    assert launch(small(copied), lambda: engine, Notes()).is_complete
    assert engine.tasks == ["rte", "mrpc"]  # with the same weights as before: what started from them stands
    again = read_record(lost)
    assert again.created >= before.created and (again.score, again.weights) == (before.score, before.weights)
    engine.tasks.clear()
    assert launch(small(copied), lambda: engine, Notes()).is_complete and not engine.tasks


def test_source_weights_that_changed_start_other_runs(copied: Path):
    engine = InOrder()
    for folder in of_task(copied, "rte", "adam"):
        path = folder / "record.json"
        record = json.loads(path.read_text())
        record["score"] = 1.0 if record["model"] and record["config"]["seed"] == best_seed(copied) else 99.0
        path.write_text(json.dumps(record))
    assert launch(small(copied), lambda: engine, Notes()).is_complete
    assert engine.tasks == ["mrpc"] * 2
    made = results(copied, sweep=small(copied))
    assert len(made.runs) == 12 and made.notes == ["2 runs in the folder are no part of this sweep and were left out"]


def best_seed(folder: Path) -> int:
    start = read_record(of_task(folder, "mrpc", "adam")[0]).model.start
    return next(r.config.seed for r in map(read_record, of_task(folder, "rte", "adam")) if r.weights == start)


def test_the_report_says_it_and_needs_neither_weights_nor_place(copied: Path, here: Path):
    plain = load_sweep("sweep.toml", {"output": str(copied), "tasks": ["mrpc"], "optimizers": ["adam"], "lr": 1e-3})
    launch(plain.replace(final_seeds=1), InlineEngine, Notes())  # MRPC from the pretrained model, in the same folder
    for model in copied.glob("*/model"):
        shutil.rmtree(model)
    moved = copied.rename(copied.with_name("moved"))
    made = results(moved, sweep=small(Path("nowhere")))
    assert "MRPC starts from the row's best RTE run." in made.table3.to_markdown()
    assert set(made.cells[made.cells["stage"] == "final"]["runs"]) == {2} and len(made.runs) == 12
    assert made.runs["start"].notna().sum() == 6
    assert made.notes == ["1 runs in the folder are no part of this sweep and were left out"]


def test_the_report_of_a_source_under_way_says_what_is_waited_for(copied: Path):
    for folder in (*copied.glob("mrpc-*"), of_task(copied, "rte", "adam")[0]):
        shutil.rmtree(folder)
    notes = results(copied).table.notes
    assert "MRPC, Adam: waits for the RTE run that it starts from" in notes and "MRPC, LaMAdam: not run" in notes


def test_the_command_line_says_what_starts_from_what(copied: Path):
    said = "MRPC starts from the row's best RTE run"
    plan, status = call("plan", str(copied)), call("status", str(copied))
    assert said in plan.stdout.splitlines() and "12 runs, 12 done" in plan.stdout
    assert said in status.stdout.splitlines() and "12 of 12 runs done" in status.stdout
    new = call("plan", "sweep.toml", "--output", str(copied.parent / "new"), "--set", "init_from.rte=MRPC")
    assert "RTE starts from the row's best MRPC run" in new.stdout and "of weights that are kept" in new.stdout
    refused = call("plan", str(copied), "--tasks", "mrpc")
    assert refused.refused_in_one_line and "mrpc starts from rte, which is not among the tasks" in refused.stderr


def test_a_run_is_made_again_from_the_source_that_lies_beside_it(copied: Path, here: Path, tmp_path: Path):
    moved = copied.rename(copied.with_name("moved"))
    folder = of_task(moved, "mrpc", "adam")[0]
    path = folder / "record.json"
    path.write_text(path.read_text().replace("/runs/rte-", "/gone/rte-"))
    again = make_again(read_record(folder), folder, tmp_path / "again")
    assert again.record.score == read_record(folder).score and again.largest_difference == 0


def test_a_row_without_a_start_is_named(copied: Path):
    for folder in of_task(copied, "rte", "adam"):
        path = folder / "record.json"
        record = json.loads(path.read_text())
        path.write_text(json.dumps({**record, "status": "diverged", "score": None, "error": "the loss was not finite"}))
    done = call("sweep", str(copied), "--engine", "inline")
    assert done.code == 1 and "mrpc adam cannot start: no final run that it would start from has a score" in done.stdout


def test_a_table_of_runs_that_start_from_a_model_says_so_and_stands_beside_no_numbers_of_the_paper(tmp_path: Path):
    sweep = SweepConfig(tasks=["rte"], optimizers=["adam"], lr=1e-5, weight_decay=0.1, final_seeds=2)
    for seed in (1, 2):
        record = make_record("rte", "adam", lr=1e-5, weight_decay=0.1, seed=seed)
        started = record.model.model_copy(update={"start": "sha256:0123456789abcdef"})
        write_run(tmp_path / "plain", record)
        write_run(tmp_path / "started", record.model_copy(update={"model": started}))
    assert "starts from" not in results(tmp_path / "plain", sweep=sweep).table3.to_markdown()
    of_model = sweep.replace(init_from={"rte": "models/mnli"})
    for given, said in (
        (of_model, "RTE starts from the model models/mnli."),
        (None, "RTE: runs start from a fine-tuned"),
    ):
        table = results(tmp_path / "started", sweep=given).table
        assert said in table.caption and not table.with_reported
        assert table.entries["rte", "adam"].seeds == 2
    for folder, other in (("plain", of_model), ("started", sweep)):
        with pytest.raises(UsageError, match="none of 2 records belongs to the sweep"):
            results(tmp_path / folder, sweep=other)
