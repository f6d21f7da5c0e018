"""Which runs a sweep has, and which hyperparameters win: against counts and medians worked out by hand."""

import math
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

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
    view,
)
from glue_mva.sweep.launch import read_progress
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
    final = final_runs(table, KEY, outcomes)
    assert len(final) == (0 if chosen(table, KEY, outcomes) is None else sweep.final_seeds)
    assert {run.run_id for run in final} <= outcomes.keys()
    seeds = {"paper": {1001, 1002}, "heldout": {1001, 1002}, "grid": {1, 2, 3, 4}}[sweep.protocol]
    assert {run.config.seed for run in asked} <= seeds
    assert {run.config.holdout_fraction for run in asked} == {0.1 if sweep.protocol == "heldout" else 0.0}
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


@pytest.mark.parametrize(
    "scores",
    [{1e-5: 80.0, 2e-5: 80.0, 4e-5: 70.0}, {1e-5: 70.0, 2e-5: 80.0, 4e-5: 80.0}, {1e-5: 50.0, 2e-5: 50.0, 4e-5: 50.0}],
    ids=["at the low end", "at the high end", "everywhere"],
)
def test_a_tie_with_a_rate_further_in_is_not_followed(scores: dict[float, float]):
    sweep = SweepConfig(**{**GRID, "lr": list(scores), "weight_decay": 0.1}, extend_lr=3)
    tried, best = searched(sweep, lambda point: scores.get(point.lr, 80.0))
    assert tried == list(scores) and best == Hparams(
        min(lr for lr in scores if scores[lr] == max(scores.values())), 0.1
    )


@pytest.mark.parametrize("rates", [[1e-5, 1.001e-5], [1.0012e-5, 1.0014e-5], [1.0, 1e200], [1e-200, 1.0]])
@pytest.mark.parametrize("up", [1, -1], ids=["up", "down"])
def test_rates_close_together_or_far_apart_end_in_a_choice(rates: list[float], up: int):
    """Added rates lie outside of those that are there, and are rates."""
    sweep = SweepConfig(**{**GRID, "lr": rates}, extend_lr=3)
    tried, best = searched(sweep, lambda point: 50 + up * math.log10(point.lr))
    added = tried[2:]
    assert best is not None and best.lr == (max(tried) if up == 1 else min(tried)) and len(set(tried)) == len(tried)
    assert all(0 < rate < math.inf for rate in added)
    assert added == sorted(added, reverse=up == -1)
    assert not added or (min(added) > max(rates) if up == 1 else max(added) < min(rates))


def test_each_added_rate_is_searched_with_every_other_value_and_every_seed():
    entry = {"optim": "adam", "beta1": [0.8, 0.9]}
    sweep = SweepConfig(**{**GRID, "optimizers": [entry]}, extend_lr=2, search_seeds=2)
    table = cells(sweep)
    outcomes = {run.run_id: Outcome("ok", 1e5 * run.hparams.lr) for run in table[KEY].search_runs()}
    runs = table[KEY].search_runs(outcomes)[16:]
    assert [(run.hparams, run.config.seed) for run in runs] == [
        (Hparams(4e-5, wd, (("beta1", beta),)), seed)
        for wd in (0.1, 0.2)
        for beta in (0.8, 0.9)
        for seed in (1001, 1002)
    ]
    assert chosen(table, KEY, outcomes) is None and final_runs(table, KEY, outcomes) == []
    half = {**outcomes, runs[0].run_id: Outcome("ok", 99.0)}
    assert table[KEY].search_runs(half)[16:] == runs and chosen(table, KEY, half) is None
    failed = {**outcomes, **{run.run_id: Outcome("ok", 0.0) for run in runs}, runs[3].run_id: Outcome("failed", None)}
    assert table[KEY].search_runs(failed)[16:] == runs and chosen(table, KEY, failed) is None


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
    assert [change[:2] for change in plan.savings] == [change[:2] for change in make_plan(sweep, {}).savings]
    ends = {run.run_id: Outcome("ok", 0.0) for run in cells(sweep)[KEY].search_runs(outcomes)[8:]}
    assert make_plan(sweep, {**outcomes, **ends}).beyond == 8
    lost = {run_id: Outcome("diverged", None) for run_id in outcomes}
    assert make_plan(sweep, lost).beyond == 8


def test_matched_rows_and_tasks_that_start_from_another_follow_the_added_rate():
    rows = ["adam", "madam", {"optim": "adam", "match_step_size": "madam"}]
    sweep = SweepConfig(tasks=["mnli", "rte"], optimizers=rows, init_from={"rte": "mnli"}, lr=[1e-5, 2e-5],
                        weight_decay=0.1, extend_lr=1, final_seeds=2)  # fmt: skip
    table = cells(sweep)

    def look(runs: list[SweepRun]) -> dict[str, Outcome]:
        return {run.run_id: Outcome("ok", 1e5 * run.hparams.lr, step_size=run.hparams.lr) for run in runs}

    outcomes = gather(table, look)
    for task in sweep.tasks:
        best = {row: chosen(table, (task, row), outcomes) for row in ("adam", "madam", "adam-matched")}
        assert best == dict.fromkeys(best, Hparams(4e-5, 0.1))
    runs = known_runs(table, outcomes)
    assert len(outcomes) == len(runs) == 2 * (2 * (3 + 2) + 2) - 2 * 2  # a matched row's runs are the plain row's here
    assert {bool(run.config.init_from) for run in runs if run.task == "rte"} == {True}


def test_a_row_that_is_not_searched_shows_no_score_of_a_search(tmp_path: Path):
    rows = [{"optim": "adam", "name": "several"}, {"optim": "adam", "name": "one", "lr": 1e-5}]
    sweep = SweepConfig(**{**GRID, "optimizers": rows, "weight_decay": 0.1}, output=str(tmp_path), extend_lr=1)
    progress = read_progress(sweep)[0]
    progress.outcomes = {run.run_id: Outcome("ok", 50.0) for run in progress.table["rte", "several"].search_runs()}
    assert [(row.name, row.best) for row in view.rows(progress)] == [("several", 50.0), ("one", None)]


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
