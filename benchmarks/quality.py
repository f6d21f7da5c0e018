"""Dev scores of fast and plain training: the same runs with and without what makes training fast.

    python benchmarks/quality.py --data ../shared/glue --out reports/speed/quality-cpu.md

Plain is dynamic padding in float32; fast is what `auto` chooses (packed batches, bfloat16 where the hardware has it).
Same rows, batches, optimizer and learning rate; dropout draws other masks, so single runs differ as seeds do.
"""

import argparse
from pathlib import Path

import numpy as np

from glue_mva import RunConfig, environment, run
from glue_mva.identity import DEMO_MODEL

SETTINGS = {"plain": {"padding": "longest", "precision": "fp32"}, "fast": {"padding": "auto", "precision": "auto"}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="folder with the official TSV files")
    parser.add_argument("--model", default=DEMO_MODEL)
    parser.add_argument("--tasks", default="sst2,mrpc")
    parser.add_argument("--rows", type=int, default=2000, help="training rows")
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--lr", type=float, default=1e-4)
    parser.add_argument("--runs", default="runs/quality", help="folder of records; finished runs are used again")
    parser.add_argument("--out", type=Path, help="also write the table to this file")
    options = parser.parse_args()
    lines = [
        f"Model {options.model}, LaMAdam, lr {options.lr:g}, {options.rows} training rows, 1 epoch, {options.seeds} "
        f"seeds; {environment.device_name(environment.device_type())}. Score on the dev set: mean (standard error).",
        "",
        "| task | plain | fast | difference (its standard error) |",
        "|---|---|---|---|",
    ]
    for task in options.tasks.split(","):
        scores = {}
        for name, setting in SETTINGS.items():
            common = {"task": task, "optim": "lamadam", "data": options.data, "model": options.model, "lr": options.lr}
            size = {"max_train_samples": options.rows, "num_train_epochs": 1.0, "max_length": 128}
            records = [
                run(RunConfig(**common, **size, **setting, seed=seed, output=options.runs))
                for seed in range(1, options.seeds + 1)
            ]
            scores[name] = np.array([record.score for record in records])
        shown = {name: f"{s.mean():.2f} ({standard_error(s):.2f})" for name, s in scores.items()}
        difference = scores["fast"].mean() - scores["plain"].mean()
        error = np.hypot(*(standard_error(s) for s in scores.values()))
        lines.append(f"| {task} | {shown['plain']} | {shown['fast']} | {difference:+.2f} ({error:.2f}) |")
        print(lines[-1], flush=True)
    table = "\n".join([*lines, ""])
    print(table)
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text("# Scores of fast and plain training\n\n" + table)


def standard_error(values: np.ndarray) -> float:
    return float(values.std(ddof=1) / np.sqrt(len(values)))


if __name__ == "__main__":
    main()
