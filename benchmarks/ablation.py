"""What each part of the fast path gains on a CPU: `glue-mva run` as it is, and with one part switched off.

    python benchmarks/ablation.py --data DIR --out reports/speed/ablation-cpu.md

Whole training steps of LaMAdam, curves and all, in processes of their own that train in turn (`train.py` says how);
medians over rounds. Below 100 % is what a part gains.
"""

import json
import os
import sys
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

from common import add_out, make_parser, show
from train import BATCH, WITHOUT, clocked, rounds, work

from glue_mva.machine import cpu_name

OPTIMIZER = "lamadam"


def _set(module: str, name: str, value: Any) -> Callable[[], None]:
    return lambda: setattr(__import__(module, fromlist=[name]), name, value)


def _no(*args: Any, **kwargs: Any) -> bool:
    return False


PARTS: dict[str, list[Callable[[], None]]] = {
    "packing": [],  # by its option, in CONFIG
    "layers in C": [_set("glue_mva.models.padding", "has_packed_encoder", _no)],
    "kept memory": [_set("glue_mva.training.contexts", "keep_freed_memory", _no)],
    "optimizer in C": [_set("glue_mva.optim.kernels.cpu", "ready", _no)],
    "compact vocabulary": [_set("glue_mva.training.runner", "can_compact", _no)],
}
"""What can be switched off -> how, before the package is used."""
CONFIG = {f"{OPTIMIZER}{WITHOUT}packing": {"padding": "longest"}}


def main() -> None:
    if sys.argv[1:2] == ["--worker"]:
        order = json.loads(sys.argv[2])
        for switch_off in PARTS.get(order["name"].partition(WITHOUT)[2], []):
            switch_off()
        work(order)
        return
    parser = make_parser(__doc__)
    parser.add_argument("--tasks", default="rte,cola,sst2")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="threads of a run")
    parser.add_argument("--updates", type=int, default=20, help="updates of a round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--cpu-time", action="store_true", help="rate per CPU second, for a look on a busy machine")
    add_out(parser)
    parser.set_defaults(script=__file__, config=CONFIG)
    options = parser.parse_args()
    names = [OPTIMIZER, *(f"{OPTIMIZER}{WITHOUT}{part}" for part in PARTS)]
    say = clocked()
    rates = rounds(names, options, options.threads, 1, say)
    lines = [
        f"Model {options.model}, max length 128, {options.threads} threads, {cpu_name()}, torch {version('torch')}; "
        f"examples per second of LaMAdam, median of {options.rounds} interleaved rounds.",
        "",
        f"| | {' | '.join(f'{task}, batch {BATCH[task]}' for task in rates)} |",
        "|---" * (1 + len(rates)) + "|",
    ]
    for name in names:
        cells = [f"{rates[task][name]:.1f} ({rates[task][name] / rates[task][OPTIMIZER]:.0%})" for task in rates]
        lines.append(f"| {name.removeprefix(OPTIMIZER).strip() or 'as it is'} | {' | '.join(cells)} |")
    show("What each part gains", lines, options.out)


if __name__ == "__main__":
    main()
