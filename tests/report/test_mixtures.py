"""What the final runs of a table do not share: stated under it, by cell, in every form of the table."""

from pathlib import Path
from typing import Any

from glue_mva.record import CheckResult
from glue_mva.report.results import results
from glue_mva.sweep.config import SweepConfig
from tests.report.factory import make_execution, make_record, write_run


def write(runs: Path, task: str, optim: str, seed: int, *, versions: dict | None = None, score: float = 75.0,
          lr: float = 2e-5, **execution: Any) -> None:  # fmt: skip
    record = make_record(task, optim, seed=seed, score=score + seed / 10, lr=lr)
    changes: dict[str, Any] = {"execution": make_execution(seed, **execution)}
    changes["environment"] = record.environment | (versions or {})
    write_run(runs, record.model_copy(update=changes))


def test_runs_that_are_alike_have_no_note(tmp_path: Path) -> None:
    for optim, kernel in (("adam", "fused"), ("madam", "cpu")):
        for seed in (1, 2):
            write(tmp_path, "rte", optim, seed, kernel=kernel, optimizer=optim)
    assert results(tmp_path).table.notes == []


def test_each_mixture_is_stated_by_cell_and_once_for_tasks_that_share_it(tmp_path: Path) -> None:
    for task in ("rte", "mrpc"):
        for seed in (1, 2, 3):
            write(tmp_path, task, "adam", seed, precision="bf16" if seed == 3 else "fp32")
            write(tmp_path, task, "madam", seed, kernel="cpu" if seed == 1 else "for-loop",
                  versions={"torch": "2.14.0"} if task == "rte" else None)  # fmt: skip
    found = results(tmp_path)
    assert found.table.notes == [
        "RTE, MRPC: precision bf16 (Adam 1), fp32 (Adam 2, MAdam 3)",
        "RTE: torch 2.13.0 (Adam 3), 2.14.0 (MAdam 3)",
        "RTE, MRPC: optimizer kernel cpu (MAdam 1), for-loop (MAdam 2)",
    ]
    assert "precision bf16 (Adam 1), fp32 (Adam 2, MAdam 3)" in found.table3.to_markdown()
    assert "torch 2.13.0 (Adam 3), 2.14.0 (MAdam 3)." in found.table3.to_latex()


def test_only_final_runs_count_and_many_values_are_counted(tmp_path: Path) -> None:
    for seed in (1, 2, 3, 4, 5):
        write(tmp_path, "rte", "adam", seed, versions={"commit": f"commit{seed}"})
    write(tmp_path, "rte", "adam", 1001, device="another")
    assert results(tmp_path).table.notes == ["RTE: commit: 5 different ones"]


def test_a_search_in_another_precision_is_stated(tmp_path: Path) -> None:
    sweep = SweepConfig(output=str(tmp_path), tasks=["rte"], optimizers=["adam"], lr=[1e-5, 2e-5], weight_decay=0.1,
                        final_seeds=2)  # fmt: skip
    write(tmp_path, "rte", "adam", 1001, precision="bf16", device="another")
    write(tmp_path, "rte", "adam", 1001, precision="fp32", lr=1e-5, score=60.0)
    for seed in (1, 2):
        write(tmp_path, "rte", "adam", seed, precision="fp32")
    assert results(tmp_path, sweep=sweep).table.notes == [
        "RTE: precision of the search: bf16 (1), fp32 (1), of the final runs: fp32"]  # fmt: skip


def test_fast_paths_that_failed_their_check_are_named(tmp_path: Path) -> None:
    wrong = CheckResult(ok=False, detail="gradients differ")
    for seed in (1, 2):
        checks = {"packed attention, cpu": wrong if seed == 2 else CheckResult(ok=True), "fused": CheckResult(ok=True)}
        write(tmp_path, "rte", "adam", seed, checks=checks)
    assert results(tmp_path).table.notes == ["RTE, Adam: 1 of 2 runs took the plain path, since a check of a fast one "
                                             "failed: packed attention, cpu"]  # fmt: skip


def test_seeds_that_did_not_learn_are_named_and_a_cell_of_them_is_marked_and_not_bold(tmp_path: Path) -> None:
    for seed in (1, 2, 3):
        write(tmp_path, "rte", "adam", seed, score=75.0)
        write(tmp_path, "rte", "madam", seed, score=49.0 if seed == 2 else 76.0)
        write(tmp_path, "rte", "laprop", seed, score=49.0)
    found = results(tmp_path)
    constant = "no better than a constant prediction"
    assert found.table.notes == [f"RTE, LaProp: 3 of 3 seeds (1, 2, 3) are {constant}",
                                 f"RTE, MAdam: 1 of 3 seeds (2) is {constant}"]  # fmt: skip
    entries = {row.name: found.table.entries["rte", row.name] for row in found.table.rows}
    assert {name: entry.constant for name, entry in entries.items()} == {"adam": False, "laprop": True, "madam": False}
    assert "49.20 (.06)\N{DAGGER}" in found.table3.to_markdown()
