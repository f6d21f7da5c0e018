"""Updates and seconds to the baseline's best score."""

import math
from pathlib import Path

from glue_mva.report.aggregate import study
from glue_mva.report.load import load_runs
from glue_mva.report.speed import reaches, speed_markdown
from tests.report.factory import make_record, write_run


def test_a_baseline_that_has_one_itself_is_measured_by_its_own_score_too(tmp_path: Path) -> None:
    """LaProp is compared with Adam, LaMAdam with LaProp: the last table begins with LaProp's way to its own best."""
    best = {"adam": 80.0, "laprop": 81.0, "lamadam": 82.0}
    for optim, score in best.items():
        write_run(tmp_path, make_record("rte", optim, score=score, seed=1))
    made = study(load_runs([tmp_path]), None)
    found = {(reach.row, reach.baseline): reach for reach in reaches(made)}
    assert list(found) == [("adam", "adam"), ("laprop", "laprop"), ("laprop", "adam"), ("lamadam", "laprop")]
    assert {pair: reach.target for pair, reach in found.items()} == {
        pair: max(made.runs.curves[run]["dev_score"].max() for run in made.final("rte", pair[1])["run_id"])
        for pair in found
    }
    _, of_laprop = speed_markdown(list(found.values()), made).split("To reach LaProp's best")
    (own,) = (line for line in of_laprop.splitlines() if line.startswith("| LaProp"))
    assert f"{found['laprop', 'laprop'].updates:.0f} (" in own


def test_updates_to_the_target_are_those_of_the_first_evaluation_that_is_there(tmp_path: Path) -> None:
    """Evaluations at updates 10, 20, 30, 40; dev scores 20 and 5 below the best, the best, and 1 below it."""
    best = {"adam": (80.0, 80.0, 80.0), "laprop": (86.0, 86.0, 70.0), "lamadam": (79.0, 79.0, 90.0)}
    for optim, scores in best.items():
        for seed, score in enumerate(scores, start=1):
            write_run(tmp_path, make_record("rte", optim, score=score, seed=seed))
    found = {(r.row, r.baseline): r for r in reaches(study(load_runs([tmp_path]), None))}
    ways = {pair: (r.target, r.updates, r.seeds_there, r.seeds) for pair, r in found.items()}
    assert ways == {
        ("adam", "adam"): (80, 30, 3, 3),
        ("laprop", "laprop"): (86, 30, 2, 3),
        ("laprop", "adam"): (80, 20, 2, 3),  # 81 at its second evaluation
        ("lamadam", "laprop"): (86, math.inf, 1, 3),
    }
    assert found["laprop", "adam"].seconds == 20 * 30 / 40  # 30 seconds of training for 40 updates
