"""The search: chosen points, edges, noise, and what the choice flatters."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from glue_mva.report.aggregate import study
from glue_mva.report.load import load_runs
from glue_mva.report.selection import edges, median_noise, seed_deviation, selection_markdown, selections
from glue_mva.sweep.config import SweepConfig
from glue_mva.sweep.hparams import Hparams
from tests.report.factory import make_record, write_run

POINTS = pd.DataFrame([(lr, decay) for lr in (1e-5, 2e-5, 4e-5) for decay in (0.1, 0.2)],
                      columns=["lr", "weight_decay"])  # fmt: skip


def test_edges_of_the_grid() -> None:
    assert edges(POINTS, Hparams(2e-5, 0.1)) == ["weight decay is the lowest"]
    assert edges(POINTS, Hparams(4e-5, 0.2)) == ["lr is the highest", "weight decay is the highest"]
    assert edges(POINTS[POINTS["weight_decay"] == 0.1], Hparams(2e-5, 0.1)) == []


def test_noise_of_a_median() -> None:
    assert median_noise(2.0, 1) == 2.0
    assert median_noise(2.0, 2) == pytest.approx(2 / math.sqrt(2))
    assert median_noise(1.0, 3) == pytest.approx(0.6698, rel=0.02)  # exact: sqrt(0.4487)
    assert median_noise(1.0, 5) == pytest.approx(0.5356, rel=0.02)  # exact: sqrt(0.2868)


@pytest.fixture
def searched(tmp_path: Path) -> Path:
    """One search seed per point, best 75 at the highest lr; finals 72, 73, 74; one point diverged."""
    for lr, score in ((1e-5, 70.0), (2e-5, 72.0), (4e-5, 75.0), (5e-5, None)):
        status = "ok" if score else "diverged"
        fields = {"lr": lr, "weight_decay": 0.1}
        write_run(tmp_path, make_record("rte", "adam", score=score, status=status, seed=1001, **fields))
        if lr == 4e-5:
            for seed in (1, 2, 3):
                write_run(tmp_path, make_record("rte", "adam", score=71.0 + seed, seed=seed, **fields))
    return tmp_path


SWEEP = SweepConfig(tasks=["rte"], optimizers=["adam"], lr=[1e-5, 2e-5, 4e-5, 5e-5], weight_decay=[0.1], final_seeds=3)


def test_search_score_against_final_median(searched: Path) -> None:
    (found,) = selections(study(load_runs([searched]), SWEEP))
    assert found.chosen == Hparams(4e-5, 0.1)
    assert (found.search_score, found.final_median, found.comparable) == (75.0, 73.0, True)
    assert found.edges == []  # 5e-5 was tried, and diverged
    # Seed noise from the chosen point's 4 runs: 75, 72, 73, 74.
    runs = study(load_runs([searched]), SWEEP).members.drop_duplicates("run_id")
    assert seed_deviation(runs) == pytest.approx(np.std([75, 72, 73, 74], ddof=1))
    assert 0 < found.flattery.low < found.flattery.high


def test_points_are_compared_as_the_sweep_compares_them(tmp_path: Path) -> None:
    """A diverged run is the worst of its point's, not left out of the median."""
    for lr, scores in ((1e-5, (70.0, 71.0, 72.0)), (2e-5, (92.0, 68.0, None)), (4e-5, (95.0, None, None))):
        for seed, score in enumerate(scores, start=1001):
            status = "ok" if score else "diverged"
            write_run(tmp_path, make_record("rte", "adam", score=score, status=status, seed=seed, lr=lr,
                                            weight_decay=0.1))  # fmt: skip
    sweep = SWEEP.replace(lr=[1e-5, 2e-5, 4e-5], search_seeds=3)
    (found,) = selections(study(load_runs([tmp_path]), sweep))
    assert found.chosen == Hparams(1e-5, 0.1) and found.search_score == 71.0
    medians = dict(zip(found.points["lr"], found.points["median"], strict=True))
    assert (medians[1e-5], medians[2e-5]) == (71.0, 68.0) and math.isnan(medians[4e-5])


def test_noise_is_that_of_points_where_every_run_learned(tmp_path: Path) -> None:
    for lr, scores in ((1e-5, (70.0, 72.0)), (2e-5, (50.0, 80.0))):  # 50 is the score of a constant prediction
        for seed, score in enumerate(scores, start=1):
            write_run(tmp_path, make_record("rte", "adam", score=score, seed=seed, lr=lr))
    assert seed_deviation(load_runs([tmp_path]).table.assign(further="")) == pytest.approx(math.sqrt(2))


def test_a_search_on_other_held_out_rows_is_another_search(tmp_path: Path) -> None:
    """Two sweeps in one folder that differ in the seed of the split: each has its own choice."""
    for split, better in ((0, 1e-5), (1, 2e-5)):
        for lr in (1e-5, 2e-5):
            write_run(tmp_path, make_record("rte", "adam", score=80.0 if lr == better else 70.0, lr=lr, seed=1001,
                                            weight_decay=0.1, holdout_fraction=0.1, holdout_seed=split))  # fmt: skip
    values = {"lr": [1e-5, 2e-5], "protocol": "heldout", "final_seeds": 1, "holdout_fraction": 0.1}
    for split, better in ((0, 1e-5), (1, 2e-5)):
        made = study(load_runs([tmp_path]), SWEEP.replace(**values, holdout_seed=split))
        assert made.chosen["rte", "adam"].lr == better


def test_a_search_on_held_out_rows_is_not_compared_with_the_dev_set(tmp_path: Path) -> None:
    for lr, score in ((1e-5, 70.0), (2e-5, 75.0)):
        write_run(tmp_path, make_record("rte", "adam", score=score, lr=lr, weight_decay=0.1, seed=1001,
                                        holdout_fraction=0.1, holdout_seed=0))  # fmt: skip
    write_run(tmp_path, make_record("rte", "adam", score=72.0, lr=2e-5, weight_decay=0.1, seed=1))
    sweep = SWEEP.replace(lr=[1e-5, 2e-5], protocol="heldout", final_seeds=1, holdout_fraction=0.1, holdout_seed=0)
    (found,) = selections(study(load_runs([tmp_path]), sweep))
    assert (found.search_score, found.final_median, found.comparable) == (75.0, 72.0, False)
    assert "| 75.00 | 72.00 | - |" in selection_markdown([found])


def test_expected_best_counts_diverged_runs_as_the_constant_prediction(searched: Path) -> None:
    (found,) = selections(study(load_runs([searched]), SWEEP))
    assert len(found.best_of) == 4
    assert found.best_of[0] == pytest.approx((70 + 72 + 75 + 50) / 4)


def test_the_page_warns_at_the_edge(searched: Path) -> None:
    narrow = SWEEP.replace(lr=[1e-5, 2e-5, 4e-5])
    text = selection_markdown(selections(study(load_runs([searched]), narrow)))
    assert "RTE, Adam: the chosen lr is the highest that was searched" in text
    assert "| RTE | Adam | 3 | 4e-5 | 0.1 | 75.00 | 73.00 | +2.00 |" in text


def test_no_search_no_table(tmp_path: Path) -> None:
    write_run(tmp_path, make_record("rte", "adam", score=70.0, seed=1))
    assert selections(study(load_runs([tmp_path]), None)) == []


def test_rates_that_the_search_added_are_no_part_of_the_expected_best(searched: Path) -> None:
    """The file has three rates; 8e-5 was added beyond the best of them."""
    write_run(searched, make_record("rte", "adam", score=73.0, lr=8e-5, weight_decay=0.1, seed=1001))
    extended = SWEEP.replace(lr=[1e-5, 2e-5, 4e-5], extend_lr=1)
    (found,) = selections(study(load_runs([searched]), extended))
    assert found.added == [8e-5] and len(found.points) == 4
    assert found.best_of[0] == pytest.approx((70 + 72 + 75) / 3) and len(found.best_of) == 3
    assert "left out of the expected best" in selection_markdown([found])
