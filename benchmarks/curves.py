"""What the curves cost: seconds of an update with a point of the curves, less those of an update without one.

    python benchmarks/curves.py --data DIR --out reports/speed/curves-cpu.md

One run of `glue_mva.run` per task, LaMAdam as shipped, whose updates are timed from one start to the next. A point's
cost is the difference of the medians; shares are of a run with the points that `logging_steps = "auto"` gives.
"""

import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from typing import Any

from common import add_out, make_parser, show
from train import BATCH
from transformers import TrainerCallback

from glue_mva import RunConfig, run
from glue_mva.machine import cpu_name, shorten_waits
from glue_mva.training.arguments import BETWEEN_POINTS, CURVES_POINTS
from glue_mva.training.contexts import keep_freed_memory

WARM_UP = 10
"""Updates that are not counted."""
RUNS = (250, 2000)
"""Updates of the runs whose shares are shown: the demo has 250."""


class Times(TrainerCallback):
    """When each update began."""

    def __init__(self) -> None:
        self.begun: list[float] = []

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.begun.append(time.perf_counter())


def main() -> None:
    if shorten_waits(os.environ):  # as `glue-mva run` does, before torch is loaded
        sys.exit(subprocess.call([sys.executable, *sys.argv]))
    parser = make_parser(__doc__)
    parser.add_argument("--tasks", default="rte,cola,sst2")
    parser.add_argument("--updates", type=int, default=600, help="updates of a run; every tenth has a point")
    add_out(parser)
    options = parser.parse_args()
    keep_freed_memory()  # as the command line does
    every = 10
    lines = [
        f"Model {options.model}, LaMAdam, max length 128, {os.cpu_count()} threads, {cpu_name()}, "
        f"torch {version('torch')}; medians over {options.updates} updates, every tenth with a point.",
        "",
        f"| task, batch | update, ms | point, ms | {' | '.join(f'share of {updates:,} updates' for updates in RUNS)} |",
        "|---|---:|---:|---:|---:|",
    ]
    for task in options.tasks.split(","):
        times = Times()
        with tempfile.TemporaryDirectory() as folder:
            run(
                RunConfig(
                    task=task, optim="lamadam", data=options.data, model=options.model, max_length=128,
                    max_steps=options.updates, max_eval_samples=32, logging_steps=every, output=folder,
                ),
                [times],
            )  # fmt: skip
        taken = [after - before for before, after in zip(times.begun, times.begun[1:], strict=False)]
        with_point, without = (
            [s for update, s in enumerate(taken, 1) if update > WARM_UP and (update % every == 0) == has_point]
            for has_point in (True, False)
        )
        update = statistics.median(without)
        point = statistics.median(with_point) - update
        shares = []
        for updates in RUNS:
            points = updates // max(BETWEEN_POINTS, math.ceil(updates / CURVES_POINTS))
            shares.append(f"{points * point / (updates * update):.1%}")
        lines.append(f"| {task}, {BATCH[task]} | {1e3 * update:.1f} | {1e3 * point:.1f} | {' | '.join(shares)} |")
        print(lines[-1], flush=True)
    show("What the curves cost", lines, options.out)


if __name__ == "__main__":
    main()
