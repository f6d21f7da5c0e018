"""Dev scores of fast and plain training: the same runs with and without what makes training fast.

    python benchmarks/quality.py --data DIR --out reports/speed/quality-cpu.md

Plain is dynamic padding in float32; fast is what `auto` chooses (packed batches, bfloat16 where the hardware has it).
Same rows, batches, optimizer and learning rate; dropout draws other masks, so single runs differ as seeds do.
"""

import numpy as np
from common import add_out, make_parser, show

from glue_mva import RunConfig, run
from glue_mva.training import environment

SETTINGS = {"plain": {"padding": "longest", "precision": "fp32"}, "fast": {"padding": "auto", "precision": "auto"}}


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--tasks", default="sst2,mrpc")
    parser.add_argument("--rows", type=int, default=2000, help="training rows")
    parser.add_argument("--epochs", type=float, default=3.0)
    parser.add_argument("--seeds", default="4,8", help="how many seeds; one row of the table for each number")
    parser.add_argument("--lr", type=float, default=2e-4)
    parser.add_argument("--runs", default="runs/quality", help="folder of records; finished runs are used again")
    add_out(parser)
    options = parser.parse_args()
    numbers = [int(number) for number in options.seeds.split(",")]
    lines = [
        f"Model {options.model}, LaMAdam, lr {options.lr:g}, {options.rows} training rows, {options.epochs:g} epochs; "
        f"{environment.device_name(environment.device_type())}. Score on the dev set: mean (standard error) over seeds "
        "1, 2, ...",
        "",
        "| task | seeds | plain | fast | difference (its standard error) |",
        "|---|---|---|---|---|",
    ]
    for task in options.tasks.split(","):
        scores = {}
        for name, setting in SETTINGS.items():
            common = {"task": task, "optim": "lamadam", "data": options.data, "model": options.model, "lr": options.lr}
            size = {"max_train_samples": options.rows, "num_train_epochs": options.epochs, "max_length": 128}
            records = [
                run(RunConfig(**common, **size, **setting, seed=seed, output=options.runs))
                for seed in range(1, max(numbers) + 1)
            ]
            scores[name] = np.array([record.score for record in records])
        for number in numbers:
            plain, fast = scores["plain"][:number], scores["fast"][:number]
            error = np.hypot(standard_error(plain), standard_error(fast))
            shown = [f"{s.mean():.2f} ({standard_error(s):.2f})" for s in (plain, fast)]
            lines.append(
                f"| {task} | {number} | {shown[0]} | {shown[1]} | {fast.mean() - plain.mean():+.2f} ({error:.2f}) |"
            )
    show("Scores of fast and plain training", lines, options.out)


def standard_error(values: np.ndarray) -> float:
    return float(values.std(ddof=1) / np.sqrt(len(values)))


if __name__ == "__main__":
    main()
