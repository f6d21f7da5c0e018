"""Which runs a sweep has, and which hyperparameters win: against counts and medians worked out by hand."""

import math
import random
import subprocess
import sys
from collections.abc import Callable

import pytest

from glue_mva import paper
from glue_mva.config.resolve import resolve
from glue_mva.config.run import RunConfig
from glue_mva.record import RunRecord
from glue_mva.sweep import (
    Hparams,
    Outcome,
    SweepConfig,
    SweepRun,
    cells,
    chosen,
    expand,
    final_runs,
    known_runs,
    load_sweep,
)
from glue_mva.sweep.plan import make_plan
from glue_mva.sweep.protocol import gather
from tests.report.factory import make_record

GRID = {"tasks": ["rte"], "optimizers": ["adam"], "lr": [1e-5, 2e-5], "weight_decay": [0.1, 0.2]}
KEY = ("rte", "adam")


def scored(sweep: SweepConfig, scores: dict[tuple[float, float], list[float | None]], status: str = "ok"):
    """Outcomes of a one-cell sweep's search runs: point -> score per seed."""
    table = cells(sweep)
    outcomes = {}
    for point, values in scores.items():
        runs = [run for run in table[KEY].search_runs() if run.hparams == Hparams(*point)]
        outcomes |= {run.run_id: Outcome(status, value) for run, value in zip(runs, values, strict=True)}
    return table, outcomes


def test_size_of_the_papers_table():
    assert len(expand(load_sweep("table3"))) == 8 * 4 * 24
    assert len(expand(load_sweep("table3", {"search_seeds": 3}))) == 8 * 4 * 24 * 3
    assert len(expand(load_sweep("table3", {"protocol": "grid"}))) == 8 * 4 * 24 * 4 == 3072
    assert len(expand(load_sweep("table3", {"protocol": "fixed"}))) == 8 * 4 * 4


def test_expand_is_a_function_of_the_file_alone():
    first, second = expand(load_sweep("smoke")), expand(load_sweep("smoke"))
    assert [run.run_id for run in first] == [run.run_id for run in second]
    assert len({run.run_id for run in first}) == len(first)


def test_importing_needs_neither_torch_nor_ray():
    code = "import sys, glue_mva.sweep.plan, glue_mva.sweep.view; print({'torch', 'ray', 'pandas'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "set()\n"


def test_highest_median_wins_not_highest_score():
    sweep = SweepConfig(**GRID, search_seeds=3)
    table, outcomes = scored(sweep, {
        (1e-5, 0.1): [70.0, 71.0, 72.0],  # median 71
        (1e-5, 0.2): [60.0, 60.0, 99.0],  # median 60, highest score
        (2e-5, 0.1): [73.0, 71.5, 10.0],  # median 71.5
        (2e-5, 0.2): [71.0, 71.0, 71.0],
    })  # fmt: skip
    assert chosen(table, KEY, outcomes) == Hparams(2e-5, 0.1)
    final = final_runs(table, KEY, outcomes)
    assert [(run.config.lr, run.config.weight_decay) for run in final] == [(2e-5, 0.1)] * 4
    assert not {run.config.seed for run in final} & {run.config.seed for run in table[KEY].search_runs()}


def test_ties_go_to_the_smaller_lr_then_the_smaller_decay():
    table, outcomes = scored(SweepConfig(**{**GRID, "lr": [2e-5, 1e-5], "weight_decay": [0.2, 0.1]}),
                             {(lr, wd): [70.0] for lr in (1e-5, 2e-5) for wd in (0.1, 0.2)})  # fmt: skip
    assert chosen(table, KEY, outcomes) == Hparams(1e-5, 0.1)


@pytest.mark.parametrize("bad", [None, float("nan"), float("inf")])
def test_a_score_that_is_no_number_never_wins(bad: float | None):
    scores = {(1e-5, 0.1): [bad], (1e-5, 0.2): [bad], (2e-5, 0.1): [-3.0], (2e-5, 0.2): [bad]}
    table, outcomes = scored(SweepConfig(**GRID), scores)
    assert chosen(table, KEY, outcomes) == Hparams(2e-5, 0.1)


def test_a_diverged_run_counts_as_the_worst_score():
    sweep = SweepConfig(**{**GRID, "weight_decay": 0.1}, search_seeds=3)
    table, outcomes = scored(sweep, {(1e-5, 0.1): [70.0, 70.0, 70.0], (2e-5, 0.1): [90.0, 90.0, 90.0]})
    runs = [run.run_id for run in table[KEY].search_runs() if run.hparams.lr == 2e-5]
    one = {**outcomes, runs[0]: Outcome("diverged", 95.0)}
    two = {**one, runs[1]: Outcome("diverged", 95.0)}
    assert chosen(table, KEY, one) == Hparams(2e-5, 0.1)  # median of (none, 90, 90)
    assert chosen(table, KEY, two) == Hparams(1e-5, 0.1)


def test_nothing_is_chosen_before_the_search_is_finished_or_where_all_diverged():
    table, outcomes = scored(SweepConfig(**GRID), {(1e-5, 0.1): [70.0], (1e-5, 0.2): [70.0], (2e-5, 0.1): [70.0]})
    last = next(run.run_id for run in table[KEY].search_runs() if run.hparams == Hparams(2e-5, 0.2))
    assert chosen(table, KEY, outcomes) is None
    assert chosen(table, KEY, {**outcomes, last: Outcome("failed", None)}) is None
    assert chosen(table, KEY, {**outcomes, last: Outcome("diverged", None)}) == Hparams(1e-5, 0.1)
    assert chosen(table, KEY, {run_id: Outcome("diverged", None) for run_id in [*outcomes, last]}) is None


def searched(sweep: SweepConfig, score_of: Callable[[Hparams], float | None]) -> tuple[list[float], Hparams | None]:
    """Learning rates in the order in which they are searched, and the point that wins."""
    table = cells(sweep)
    asked: list[SweepRun] = []

    def look(runs: list[SweepRun]) -> dict[str, Outcome]:
        asked.extend(run for run in runs if run.stage == "search")
        scores = {run.run_id: score_of(run.hparams) for run in runs}
        return {run_id: Outcome("diverged" if s is None else "ok", s) for run_id, s in scores.items()}

    outcomes = gather(table, look)
    assert len({run.run_id for run in asked}) == len(asked)
    assert {run.run_id for run in final_runs(table, KEY, outcomes)} <= outcomes.keys()
    return list(dict.fromkeys(run.hparams.lr for run in asked)), chosen(table, KEY, outcomes)


@pytest.mark.parametrize(
    "rates, peak, times, tried, best",
    [
        ([1e-5, 2e-5, 4e-5], 2e-5, 3, [1e-5, 2e-5, 4e-5], 2e-5),
        ([1e-5, 2e-5, 4e-5], 8e-5, 3, [1e-5, 2e-5, 4e-5, 8e-5, 1.6e-4], 8e-5),
        ([1e-5, 2e-5, 4e-5], 8e-5, 1, [1e-5, 2e-5, 4e-5, 8e-5], 8e-5),
        ([1e-5, 2e-5, 4e-5], 1.0, 3, [1e-5, 2e-5, 4e-5, 8e-5, 1.6e-4, 3.2e-4], 3.2e-4),
        ([4e-5, 1e-5, 2e-5], 4e-6, 2, [4e-5, 1e-5, 2e-5, 5e-6, 2.5e-6], 5e-6),
        ([1e-5, 3e-5], 1e-6, 1, [1e-5, 3e-5, 3.33e-6], 3.33e-6),
        ([1e-5], 1.0, 3, [1e-5], 1e-5),
        ([1e-5, 2e-5], 1.0, 0, [1e-5, 2e-5], 2e-5),
    ],
    ids=["inside", "above", "as often as it may", "never inside", "below, unsorted", "ratio of 3", "one rate", "not"],
)
@pytest.mark.parametrize("protocol", ["paper", "heldout", "grid"])
def test_a_search_goes_on_beyond_the_end_where_its_best_rate_lies(
    rates: list[float], peak: float, times: int, tried: list[float], best: float, protocol: str
):
    values = {**GRID, "lr": rates, "extend_lr": times, "protocol": protocol, "search_seeds": 2}
    found = searched(SweepConfig(**values), lambda point: 90 - abs(math.log(point.lr / peak)) - point.weight_decay)
    assert found == (tried, Hparams(best, 0.1))


def test_each_added_rate_is_searched_with_every_other_value_and_every_seed():
    sweep = SweepConfig(**GRID, extend_lr=2, search_seeds=2)
    table, outcomes = scored(sweep, {(lr, wd): [1e5 * lr] * 2 for lr in (1e-5, 2e-5) for wd in (0.1, 0.2)})
    runs = table[KEY].search_runs(outcomes)[8:]
    assert [(run.hparams, run.config.seed) for run in runs] == [
        (Hparams(4e-5, wd), seed) for wd in (0.1, 0.2) for seed in (1001, 1002)
    ]
    assert chosen(table, KEY, outcomes) is None and final_runs(table, KEY, outcomes) == []
    half = {**outcomes, runs[0].run_id: Outcome("ok", 99.0)}
    assert table[KEY].search_runs(half)[8:] == runs and chosen(table, KEY, half) is None


def test_a_search_does_not_go_on_where_every_run_diverged_or_one_is_missing():
    sweep = SweepConfig(**GRID, extend_lr=2)
    assert searched(sweep, lambda point: None) == ([1e-5, 2e-5], None)
    assert searched(sweep, lambda point: None if point.lr > 2e-5 else 1e5 * point.lr) == (
        [1e-5, 2e-5, 4e-5],
        Hparams(2e-5, 0.1),
    )
    table, outcomes = scored(sweep, {(1e-5, 0.1): [1.0], (1e-5, 0.2): [1.0], (2e-5, 0.1): [2.0]})
    assert len(table[KEY].search_runs(outcomes)) == 4


def test_a_plan_says_what_may_follow():
    sweep = SweepConfig(**{**GRID, "optimizers": ["adam", "madam"]}, extend_lr=2, search_seeds=2)
    assert make_plan(sweep, {}).beyond == 2 * 2 * (2 * 2)  # rows, rates, and per rate decays and seeds
    _, outcomes = scored(sweep, {(lr, wd): [1e5 * lr] * 2 for lr in (1e-5, 2e-5) for wd in (0.1, 0.2)})
    plan = make_plan(sweep, outcomes)
    assert [line.runs for line in plan.lines if line.stage == "search"] == [12, 8] and plan.beyond == 4 + 8
    ends = {run.run_id: Outcome("ok", 0.0) for run in cells(sweep)[KEY].search_runs(outcomes)[8:]}
    assert make_plan(sweep, {**outcomes, **ends}).beyond == 8


def test_one_point_needs_no_search():
    sweep = SweepConfig(**{**GRID, "lr": 1e-5, "weight_decay": 0.1})
    assert [run.config.seed for run in expand(sweep)] == [1, 2, 3, 4]


def test_heldout_searches_on_training_rows_and_only_final_runs_see_the_dev_set():
    sweep = SweepConfig(**GRID, protocol="heldout", holdout_fraction=0.2, holdout_seed=7)
    table, outcomes = scored(sweep, {(lr, wd): [70.0] for lr in (1e-5, 2e-5) for wd in (0.1, 0.2)})
    assert {(r.config.holdout_fraction, r.config.holdout_seed) for r in table[KEY].search_runs()} == {(0.2, 7)}
    assert {run.config.holdout_fraction for run in final_runs(table, KEY, outcomes)} == {0.0}


def test_grid_selects_among_its_own_runs_and_adds_none():
    sweep = SweepConfig(**GRID, protocol="grid", final_seeds=2)
    table, outcomes = scored(sweep, {(lr, wd): [lr, 70.0 + lr] for lr in (1e-5, 2e-5) for wd in (0.1, 0.2)})
    assert {run.run_id for run in known_runs(table, outcomes)} == set(outcomes)
    assert {run.hparams for run in final_runs(table, KEY, outcomes)} == {Hparams(2e-5, 0.1)}


def test_fixed_takes_the_papers_best_points():
    runs = expand(load_sweep("table3", {"protocol": "fixed"}))
    best = {(task, optim, *points[task]) for optim, points in paper.BEST_HPARAMS.items() for task in points}
    assert {(run.task, run.config.optim, run.hparams.lr, run.hparams.weight_decay) for run in runs} == best
    assert len(best) == 32


def test_matched_row_scales_lr_by_the_ratio_of_step_sizes():
    sweep = load_sweep("figure5")
    table = cells(sweep)
    matched = ("sst2", "adam-eta'")
    outcomes: dict[str, Outcome] = {}
    sizes = {"adam": [2.0e-6, 3.0e-6, 2.0e-6, 3.0e-6], "madam": [4.0e-6, 4.0e-6, 4.0e-6, 4.2e-6]}
    for name, values in sizes.items():
        assert final_runs(table, matched, outcomes) == []
        runs = final_runs(table, ("sst2", name), outcomes)
        outcomes |= {run.run_id: Outcome("ok", 90.0, size) for run, size in zip(runs, values, strict=True)}
    # Adam's lr 1e-5, times mean 4.05e-6 over mean 2.5e-6 = 1.62
    assert {(run.config.lr, run.config.weight_decay) for run in final_runs(table, matched, outcomes)} == {(1.6e-5, 0.1)}
    assert all(run.config.optim == "adam" for run in final_runs(table, matched, outcomes))


def test_step_size_of_a_record_is_the_mean_of_its_curve():
    config = resolve(RunConfig(task="rte", optim="adam"))
    record = RunRecord(run_id="x", status="failed", config=config, curves={"step_size": [1.0, None, 3.0]})
    assert Outcome.of(record).step_size == 2.0


def test_step_sizes_compare_between_a_compact_embedding_and_a_whole_one():
    """The same step, recorded over the 400 parameters that were trained or over all 1000, whose others do not move."""
    whole = make_record("rte", "adam", curves=True)
    model, execution = whole.model, whole.execution
    assert model is not None and execution is not None
    sizes = {}
    for trained, recorded in ((1000, 2.0), (400, 5.0)):
        changes = {
            "model": model.model_copy(update={"parameters": 1000}),
            "execution": execution.model_copy(update={"trained_parameters": trained}),
            "curves": {"step_size": [recorded]},
        }
        sizes[trained] = Outcome.of(whole.model_copy(update=changes)).step_size
    assert sizes[1000] == sizes[400] == 2.0


def test_order_of_outcomes_does_not_matter():
    sweep = SweepConfig(**GRID, search_seeds=2)
    draw = random.Random(0)
    table, outcomes = scored(
        sweep, {(lr, wd): [draw.random(), draw.random()] for lr in (1e-5, 2e-5) for wd in (0.1, 0.2)}
    )
    shuffled = list(outcomes.items())
    draw.shuffle(shuffled)
    assert chosen(table, KEY, dict(shuffled)) == chosen(table, KEY, outcomes)
