"""Kill sweeps many times, at random moments, and compare with one that was left alone.

    python tests/slow/kill_sweeps.py [--driver 10] [--cluster 10] [--seed 0]

`--driver`: kill -9 of the sweep's first process, then the same command again. `--cluster`: kill -9 of workers and whole
Ray nodes in turn, while one sweep is at work. Runs write checkpoints all the time, so that killed ones are resumed.
Takes about ten minutes on two cores; ends with an error where a record differs.
"""

import argparse
import os
import random
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))
os.environ["PYTHONPATH"] = str(ROOT)
os.environ["OMP_NUM_THREADS"] = "1"

from glue_mva.sweep import load_sweep  # noqa: E402
from glue_mva.sweep.engine import InlineEngine  # noqa: E402
from glue_mva.sweep.launch import launch  # noqa: E402
from tests.sweep.kills import Saboteur, kill_driver_after, results, run_sabotaged, sweep_process  # noqa: E402
from tests.sweep.material import make_material, make_sweep  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--driver", type=int, default=10)
    parser.add_argument("--cluster", type=int, default=10)
    parser.add_argument("--seed", type=int, default=None)
    chosen = parser.parse_args()
    random.seed(chosen.seed)
    folder = make_material(Path(tempfile.mkdtemp()))
    os.environ["GLUE_MVA_CACHE"] = str(folder / "cache")
    make_sweep(folder)
    text = (folder / "sweep.toml").read_text().replace("num_train_epochs = 1.0", "num_train_epochs = 8.0")
    (folder / "sweep.toml").write_text(text + "checkpoint_minutes = 0.0\n")
    os.chdir(folder)

    launch(load_sweep("sweep.toml", {"output": "alone"}), InlineEngine, Saboteur(None, {}))
    alone = comparable(folder / "alone")
    resumed = 0
    kills, round_ = 0, 0
    while kills < chosen.driver:
        round_ += 1
        while kills < chosen.driver:
            process = sweep_process(folder, "--output", f"driver-{round_}")
            try:
                kill_driver_after(process, runs=random.randint(0, 3), delay=4 * random.random())
            except AssertionError as error:
                if "ended after" not in str(error):
                    raise
                break
            kills += 1
            print(f"driver killed {kills} times; {len(results(folder / f'driver-{round_}'))} records", flush=True)
        output, _ = sweep_process(folder, "--output", f"driver-{round_}").communicate()
        assert "24 of 24 runs done" in output, output
        assert comparable(folder / f"driver-{round_}") == alone
        resumed += count_resumed(folder / f"driver-{round_}")

    kills, round_ = 0, 0
    while kills < chosen.cluster:
        round_ += 1
        moments = sorted(random.sample(range(1, 22), min(8, chosen.cluster - kills)))
        plan = {moment: ("worker", "node")[number % 2] for number, moment in enumerate(moments)}
        progress, saboteur = run_sabotaged(load_sweep("sweep.toml", {"output": f"cluster-{round_}"}), plan)
        kills += len(saboteur.done)
        print(f"killed in the cluster: {', '.join(saboteur.done)}; failed: {progress.failed}", flush=True)
        assert progress.is_complete
        assert comparable(folder / f"cluster-{round_}") == alone
        resumed += count_resumed(folder / f"cluster-{round_}")
    print(f"every record equal to the uninterrupted sweep's; {resumed} runs were resumed from a checkpoint")


def comparable(folder: Path) -> dict:
    found = results(folder)
    for result in found.values():
        del result["config"]
    return found


def count_resumed(folder: Path) -> int:
    return sum('"resumed_from_step": null' not in path.read_text() for path in folder.glob("*/record.json"))


if __name__ == "__main__":
    main()
