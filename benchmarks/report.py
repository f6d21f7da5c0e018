"""Time and memory of `glue-mva report` on 3,072 made-up records: the paper's table with 4 seeds per grid point.

    python benchmarks/report.py

8 tasks x 4 optimizers x 24 points x 4 seeds (protocol `grid`), with curves of 100 points, and predictions on 1,000 rows
for the runs at the chosen points. The command runs as a process of its own; all it does counts, imports included.
Memory is that of all its processes together, what they share counted once, looked at ten times a second (Linux).
"""

import contextlib
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil

sys.path.insert(0, str(Path(__file__).parents[1]))

from glue_mva import paper
from tests.report import factory

LIMIT_SECONDS, LIMIT_BYTES = 10, 500e6


def write_records(runs: Path) -> int:
    """Write the records; returns how many."""
    rng = np.random.default_rng(0)
    number = 0
    for task in paper.TABLE3_TASKS:
        for optim in paper.TABLE3_OPTIMIZERS:
            best = (float(rng.choice(paper.LR_GRID)), float(rng.choice(paper.WEIGHT_DECAY_GRID)))
            for lr in paper.LR_GRID:
                for decay in paper.WEIGHT_DECAY_GRID:
                    for seed in range(1, 5):
                        config = {"lr": lr, "weight_decay": decay, "seed": seed}
                        if (lr, decay) == best:
                            factory.write_predicted_run(runs, task, optim, 0.95, rows=1000, points=100, **config)
                        else:
                            score = float(rng.normal(60, 3))
                            record = factory.make_record(task, optim, score=score, points=100, partial=True, **config)
                            factory.write_run(runs, record)
                        number += 1
    return number


def memory_of(process: psutil.Process) -> int:
    """Bytes that a process and its children hold at this moment."""
    total = 0
    for each in (process, *process.children(recursive=True)):
        with contextlib.suppress(psutil.Error):  # it may have ended meanwhile
            total += each.memory_full_info().pss
    return total


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        runs, out = Path(name) / "runs", Path(name) / "report"
        print(f"{write_records(runs):,} records")
        sweep = Path(name) / "table3-grid.toml"
        text = (Path(__file__).parent.parent / "configs" / "table3.toml").read_text(encoding="utf-8")
        sweep.write_text(text.replace('protocol = "paper"', 'protocol = "grid"'), encoding="utf-8")
        command = [sys.executable, "-m", "glue_mva", "report", str(runs), "--out", str(out), "--sweep", str(sweep)]
        start = time.perf_counter()
        process = psutil.Popen(command, stdout=subprocess.DEVNULL)
        peak = 0
        while process.poll() is None:
            peak = max(peak, memory_of(process))
            time.sleep(0.1)
        seconds = time.perf_counter() - start
        if process.returncode:
            sys.exit("the report failed")
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        busy = usage.ru_utime + usage.ru_stime
        figures = len(list((out / "figures").iterdir()))
        print(f"{seconds:.1f} s (limit {LIMIT_SECONDS}), of which {busy:.1f} s of processor time")
        print(f"{peak / 1e6:.0f} MB at most (limit {LIMIT_BYTES / 1e6:.0f})")
        print(f"{figures} figure files")


if __name__ == "__main__":
    main()
