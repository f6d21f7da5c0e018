"""Training with `compile = true` beside the same training without it: examples per second, interleaved in one process.

    python benchmarks/compiled.py --data ../shared/glue

Same model, rows, batches and updates; each makes `--steps` counted updates per round, in turn, after as many uncounted
ones as in `train.py`. Compilation happens in a round before the first and is timed apart.
"""

import statistics
import tempfile
import time

import torch
from common import make_parser
from train import contender, speed

from glue_mva.models.load import compile_encoder
from glue_mva.training import environment


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--task", default="cola")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--steps", type=int, default=20, help="counted updates per round")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    device = environment.device_type()
    with tempfile.TemporaryDirectory() as folder:
        trainers = {
            name: contender("ours", options.task, options.data, options.model, options.batch, options.steps, folder)
            for name in ("plain", "compiled")
        }
        compile_encoder(trainers["compiled"].model, device, cuda_graphs=device == "cuda")
        start = time.perf_counter()
        speed(trainers["compiled"])
        print(f"first round, with compilation: {time.perf_counter() - start:.0f} s")
        rounds: dict[str, list[float]] = {name: [] for name in trainers}
        for _ in range(options.rounds):
            for name, trainer in trainers.items():
                rounds[name].append(speed(trainer))
    print(
        f"{options.task}, batch {options.batch}, {environment.device_name(device)}, {torch.get_num_threads()} threads"
    )
    for name, rates in rounds.items():
        print(f"{name}: {statistics.median(rates):.1f} examples per second")


if __name__ == "__main__":
    main()
