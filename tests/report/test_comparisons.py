"""Two optimizers side by side: the numbers, and sentences that say no more than they do."""

import math
from pathlib import Path

import pytest

from glue_mva.record import read_record, write_record
from glue_mva.report import suite
from glue_mva.report.aggregate import Row, Study, study
from glue_mva.report.comparisons import Comparison, Pair, comparison_table, verdict_table
from glue_mva.report.comparisons import compare as compare_all
from glue_mva.report.load import load_runs
from glue_mva.report.pairs import default_pairs
from glue_mva.report.tables import table3
from glue_mva.report.verdicts import judge, of_task, sentence
from glue_mva.sweep.config import SweepConfig
from tests.report.factory import make_record, write_predicted_run, write_run

MADAM, ADAM = Row("madam", "madam"), Row("adam", "adam")


def compare(made: Study, pair: tuple[Row, Row], **options) -> Pair:
    return compare_all(made, [pair], **options)[0]


def make_study(folder: Path, madam: list[float], adam: list[float], *, first_seed_of_adam: int = 1) -> Study:
    for seed, score in enumerate(madam, start=1):
        write_run(folder, make_record("sst2", "madam", score=score, seed=seed))
    for seed, score in enumerate(adam, start=first_seed_of_adam):
        write_run(folder, make_record("sst2", "adam", score=score, seed=seed))
    return study(load_runs([folder]), None)


def test_numbers_of_one_task(tmp_path: Path) -> None:
    made = make_study(tmp_path, [95.0, 95.2, 95.4, 95.8], [94.5, 94.9, 94.7, 95.1])
    (c,) = compare(made, (MADAM, ADAM)).tasks
    assert c.paired
    assert c.difference_of_medians == pytest.approx(95.3 - 94.8)
    assert c.difference_of_means == pytest.approx(0.55)
    assert c.difference_in_examples == pytest.approx(0.005 * 872)
    assert c.p == c.p_holm == pytest.approx(0.125)
    assert c.smallest_p == pytest.approx(0.125)
    # differences .5 .3 .7 .7: mean .55, standard deviation .19149, t = 3.182446
    half = 3.182446 * 0.191485 / 2
    assert (c.means_low, c.means_high) == pytest.approx((0.55 - half, 0.55 + half), rel=1e-5)
    assert c.medians_low != c.medians_low  # no predictions, no bootstrap


def test_other_seeds_are_compared_unpaired(tmp_path: Path) -> None:
    made = make_study(tmp_path, [95.0, 95.2, 95.4, 95.8], [94.5, 94.9, 94.7, 94.8], first_seed_of_adam=11)
    (c,) = compare(made, (MADAM, ADAM)).tasks
    assert not c.paired
    assert c.p == pytest.approx(2 / 70)


def test_pairing_is_by_seed_not_by_order(tmp_path: Path) -> None:
    """Adam's records are written in another order; every seed is about 1 lower than its partner."""
    for seed, score in ((1, 95.0), (2, 90.0), (3, 93.0), (4, 91.0)):
        write_run(tmp_path, make_record("sst2", "madam", score=score, seed=seed, created=f"2026-01-0{seed}"))
        write_run(tmp_path, make_record("sst2", "adam", score=score - 0.9 - seed % 2 / 5, seed=seed,
                                       created=f"2026-01-0{9 - seed}"))  # fmt: skip
    (c,) = compare(study(load_runs([tmp_path]), None), (MADAM, ADAM)).tasks
    half = 3.182446 * 0.1 / math.sqrt(3)  # t of 3 degrees of freedom, times the standard error
    assert (c.means_low, c.means_high) == pytest.approx((1 - half, 1 + half))


def test_bootstrap_reads_the_stored_predictions(tmp_path: Path) -> None:
    for optim, quality in (("madam", 0.9), ("adam", 0.6)):
        for seed in (1, 2, 3):
            write_predicted_run(tmp_path, "cola", optim, quality, seed=seed)
    (c,) = compare(study(load_runs([tmp_path]), None), (MADAM, ADAM)).tasks
    assert 0 < c.bootstrap_means_low < c.difference_of_means < c.bootstrap_means_high
    assert c.medians_low < c.difference_of_medians < c.medians_high
    assert c.difference_in_examples != c.difference_in_examples  # Matthews is no share of examples


def test_predictions_on_other_rows_are_not_compared(tmp_path: Path) -> None:
    write_predicted_run(tmp_path, "rte", "madam", 0.9, seed=1, rows=100)
    write_predicted_run(tmp_path, "rte", "adam", 0.9, seed=1, rows=99)
    (c,) = compare(study(load_runs([tmp_path]), None), (MADAM, ADAM)).tasks
    assert c.bootstrap_means_low != c.bootstrap_means_low


def test_holm_counts_the_tasks_that_were_compared(tmp_path: Path) -> None:
    for task in ("rte", "sst2", "mrpc"):
        for seed in range(1, 9):
            write_run(tmp_path, make_record(task, "madam", score=80.0 + seed / 10, seed=seed))
            if task != "mrpc" or seed < 5:
                write_run(tmp_path, make_record(task, "adam", score=75.0 + seed / 7, seed=seed))
    pair = compare(study(load_runs([tmp_path]), None, seeds=8), (MADAM, ADAM))
    p = {c.task: (c.p, c.p_holm) for c in pair.tasks}
    assert p["rte"] == pytest.approx((2 / 256, 4 / 256))
    missing = next(c for c in pair.tasks if c.task == "mrpc")
    assert missing.missing == "Adam: 4 of 8 seeds"
    assert missing.verdict == "MRPC: not compared (Adam: 4 of 8 seeds)."
    assert pair.sentence.endswith("; 1 of 3 tasks were not compared.")


def test_verdict_when_seeds_cannot_show_anything(tmp_path: Path) -> None:
    made = make_study(tmp_path, [95.0, 95.2, 95.4, 95.8], [94.5, 94.9, 94.7, 95.1])
    pair = compare(made, (MADAM, ADAM))
    assert pair.tasks[0].verdict == (
        "SST-2: the median of MAdam is 0.50 above that of Adam, 4.4 of 872 dev examples; over 4 shared seeds no "
        "difference of means is shown (p = .125), and this many seeds cannot show one at all: the smallest p they can "
        "reach is .125; about 6 seeds each would show a true difference of this size."
    )
    # The t interval leaves out 0, but four pairs of one task cannot show a difference: the verdict does not either.
    assert (pair.verdict, pair.p, pair.seeds_to_decide) == ("not decided", pytest.approx(0.125), 6)


def test_the_smallest_p_is_said_before_and_after_holm(tmp_path: Path) -> None:
    for task in ("rte", "sst2"):
        for seed in (1, 2, 3):
            write_run(tmp_path, make_record(task, "madam", score=80.0 + seed, seed=seed))
            write_run(tmp_path, make_record(task, "adam", score=75.0 - seed, seed=seed))
    for c in compare(study(load_runs([tmp_path]), None), (MADAM, ADAM)).tasks:
        assert "(p = .250, .500 after Holm over 2 tasks)" in c.verdict
        assert "the smallest p they can reach is .250, .500 after Holm; " in c.verdict


def test_what_seeds_would_decide_counts_all_pairs(tmp_path: Path) -> None:
    """Six shared seeds reach p = 2/64, which survives no adjustment over three pairs; seven do."""
    for optim, more in (("adam", 0.0), ("laprop", 5.0), ("madam", 9.0), ("lamadam", 13.0)):
        for seed in range(1, 7):
            write_run(tmp_path, make_record("sst2", optim, score=70 + more + seed * (1 + more / 100), seed=seed))
    made = study(load_runs([tmp_path]), None)
    rows = {row.name: row for row in made.rows}
    found = compare_all(made, [(rows["laprop"], rows["adam"]), (rows["madam"], ADAM), (rows["lamadam"], ADAM)])
    assert [pair.p for pair in found] == pytest.approx([2 / 64] * 3)
    assert {pair.verdict for pair in found} == {"not decided"} and {pair.seeds_to_decide for pair in found} == {7}
    assert all("about 7 seeds each would probably show a difference" in pair.sentence for pair in found)


def test_one_seed_says_how_many_could_show_something(tmp_path: Path) -> None:
    pair = compare(make_study(tmp_path, [95.0], [94.0]), (MADAM, ADAM))
    assert "6 seeds each are the fewest that could show it" in pair.sentence


def test_seeds_that_diverged_are_told_wherever_the_others_are_compared(tmp_path: Path) -> None:
    make_study(tmp_path, [95.0, 95.2, 95.4, 95.8], [94.5, 94.9, 94.7, 95.1])
    write_run(tmp_path, make_record("sst2", "madam", status="diverged", seed=5))
    made = study(load_runs([tmp_path]), None, seeds=4)
    pair = compare(made, (MADAM, ADAM))
    assert pair.tasks[0].left_out == "1 diverged of MAdam"
    assert "over 4 shared seeds (1 diverged of MAdam not counted)" in pair.tasks[0].verdict
    assert pair.sentence.endswith("; not counted: SST-2, 1 diverged of MAdam.")
    assert "SST-2, MAdam: 1 diverged of 5 runs, not in the median" in table3(made).notes


def test_equal_on_average_names_the_tasks_that_differ(tmp_path: Path) -> None:
    for task, gap in (("rte", 6.0), ("cola", -5.9)):
        for seed in range(1, 10):
            write_run(tmp_path, make_record(task, "madam", score=60 + gap + (seed % 3) / 50, seed=seed))
            write_run(tmp_path, make_record(task, "adam", score=60.0 + (seed % 2) / 50, seed=seed))
    pair = compare(study(load_runs([tmp_path]), None), (MADAM, ADAM))
    assert pair.verdict == "practically equal"
    assert "; a difference is shown on RTE, CoLA alone" in pair.sentence


def test_equal_scores_stay_equal_whatever_their_last_digits(tmp_path: Path) -> None:
    """Medians of (k-1, k-1, k+1, k+1) and (k, k, k, k) of 277 examples, which differ by rounding alone."""
    for k in range(100, 110):
        folder = tmp_path / str(k)
        scores = [[round(100 * n / 277, 10) for n in each] for each in ((k - 1, k - 1, k + 1, k + 1), (k, k, k, k))]
        (c,) = compare(make_study(folder, *scores), (MADAM, ADAM)).tasks
        assert c.difference_of_medians == 0 == c.difference_of_means and c.seeds_needed == math.inf


def shown(low: float, high: float) -> Comparison:
    return Comparison("sst2", "madam", "adam", 8, 8, True, difference_of_medians=0.5, difference_of_means=0.4,
                      dev_rows=872, p=0.0078, p_holm=0.016, smallest_p=2 / 256, bootstrap_means_low=low,
                      bootstrap_means_high=high, seeds_needed=7)  # fmt: skip


def test_verdict_over_seeds_and_over_examples_are_two_things() -> None:
    certain = of_task(shown(0.1, 0.7), MADAM, ADAM, 2)
    assert "a difference of means is shown (p = .008, .016 after Holm over 2 tasks)" in certain
    assert "leaves out 0" in certain
    doubtful = of_task(shown(-0.2, 1.0), MADAM, ADAM, 2)
    assert "on other dev examples it could be none, or the other way (95 % interval -0.20 to +1.00)" in doubtful


def test_verdict_names_means_that_differ_the_other_way_and_equal_medians() -> None:
    c = Comparison("sst2", "madam", "adam", 8, 8, True, difference_of_medians=0.5, difference_of_means=-0.1,
                   p=0.9, p_holm=0.9, smallest_p=2 / 256, seeds_needed=200)  # fmt: skip
    text = of_task(c, MADAM, ADAM, 1)
    assert "(the means differ the other way, -0.10)" in text
    assert "about 200 seeds each" in text
    assert "cannot show" not in text
    c.difference_of_medians = 0.0
    assert "MAdam and Adam have the same median" in of_task(c, MADAM, ADAM, 1)


def test_one_seed_is_no_test(tmp_path: Path) -> None:
    pair = compare(make_study(tmp_path, [95.0], [94.0]), (MADAM, ADAM))
    assert pair.tasks[0].verdict.endswith("8.7 of 872 dev examples; with one seed there is nothing to test.")
    assert pair.verdict == "not decided"
    assert pair.sentence == (
        "MAdam against Adam is not decided: +1.00 points on SST-2, and with one seed there is nothing to test; 6 seeds "
        "each are the fewest that could show it."
    )


def test_nothing_compared(tmp_path: Path) -> None:
    write_run(tmp_path, make_record("sst2", "madam", seed=1))
    write_run(tmp_path, make_record("rte", "adam", seed=1))
    pair = compare(study(load_runs([tmp_path]), None), (MADAM, ADAM))
    assert (pair.verdict, pair.sentence) == ("not compared", "MAdam and Adam were compared on no task.")
    table = verdict_table([pair])
    assert table["tasks"].tolist() == [0]
    assert table["difference"].isna().all()


def over_tasks(folder: Path, gain: float, spread: float, seeds: int = 4) -> Study:
    """Four tasks; MAdam's scores are Adam's plus a gain, up to a spread that sums to 0."""
    for task in ("rte", "sst2", "mrpc", "cola"):
        for seed in range(1, seeds + 1):
            wobble = spread * (seed - (seeds + 1) / 2)
            write_run(folder, make_record(task, "adam", score=80.0 + seed, seed=seed))
            write_run(folder, make_record(task, "madam", score=80.0 + seed + gain + wobble, seed=seed))
    return study(load_runs([folder]), None)


@pytest.mark.parametrize(
    ("gain", "spread", "verdict", "words"),
    [
        (2.0, 0.5, "better", "MAdam is better than Adam: +2.00 points on average over 4 tasks (95 % interval "),
        (-2.0, 0.5, "worse", "MAdam is worse than Adam: -2.00 points"),
        (0.1, 0.2, "practically equal", "; the whole interval lies within 0.5 points."),
        (0.3, 0.1, "practically equal", "; the whole interval lies within 0.5 points, though it leaves out 0."),
        (0.6, 1.0, "not decided", " seeds each would probably show a difference."),
        (0.0, 1.0, "not decided", " seeds each would probably show practical equality."),
    ],
)
def test_verdict_over_tasks(tmp_path: Path, gain: float, spread: float, verdict: str, words: str) -> None:
    pair = compare(over_tasks(tmp_path, gain, spread), (MADAM, ADAM))
    assert pair.difference is not None
    assert pair.difference.value == pytest.approx(gain)
    assert pair.verdict == verdict
    assert words in pair.sentence


def test_differences_without_any_spread_are_not_decided(tmp_path: Path) -> None:
    """A t interval of width 0 says nothing about other seeds."""
    pair = compare(over_tasks(tmp_path, 0.3, 0.0), (MADAM, ADAM))
    assert pair.verdict == "not decided"
    said = ", and its spread is not known, since on a task all seeds differ by the same (p < .001)."
    assert f"+0.30 points on average over 4 tasks{said}" in pair.sentence
    assert math.isnan(pair.difference.interval[0]) and "interval" not in pair.sentence


def test_the_rest_of_a_row_that_diverged_is_neither_better_nor_equal(tmp_path: Path) -> None:
    for gain, (leader, other), verdict in (
        (2.0, ("madam", "adam"), "better"),
        (0.1, ("madam", "adam"), "practically equal"),
        (0.1, ("adam", "madam"), "practically equal"),
    ):
        for diverged in (other, leader):
            folder = tmp_path / f"{gain} {leader} {diverged}"
            over_tasks(folder, gain if leader == "madam" else -gain, 0.2)
            assert compare(study(load_runs([folder]), None), (MADAM, ADAM)).verdict == verdict
            write_run(folder, make_record("rte", diverged, score=None, status="diverged", seed=5))
            pair = compare(study(load_runs([folder]), None), (MADAM, ADAM))
            (of_rte,) = (c for c in pair.tasks if c.task == "rte")
            assert (of_rte.diverged_a, of_rte.diverged_b) == ((1, 0) if diverged == "madam" else (0, 1))
            if verdict == "better" and diverged == other:
                assert pair.verdict == "better"
                continue
            assert pair.verdict == "not decided" and math.isnan(pair.seeds_to_decide)
            label = "MAdam" if diverged == "madam" else "Adam"
            assert f"; no number of seeds would decide it, since {label} diverged in 1 run" in pair.sentence


def test_scores_that_chose_among_more_points_do_not_win(tmp_path: Path) -> None:
    over_tasks(tmp_path, 2.0, 0.5)
    for lr in (1e-6, 2e-6):
        write_run(tmp_path, make_record("rte", "madam", score=50.0, lr=lr, seed=1))
    found = compare(study(load_runs([tmp_path]), None), (MADAM, ADAM))
    assert found.verdict == "not decided"
    said = "since the scores of MAdam chose its point, among more than the other row had"
    assert f"; no number of seeds would decide it, {said}" in found.sentence
    assert "; the same scores chose the points, among 3 of MAdam and 1 of Adam, and flatter" in found.sentence
    turned = compare(study(load_runs([tmp_path]), None), (ADAM, MADAM))
    assert turned.verdict == "not decided"
    for lr in (1e-6, 2e-6):
        write_run(tmp_path, make_record("rte", "adam", score=50.0, lr=lr, seed=1))
    assert compare(study(load_runs([tmp_path]), None), (MADAM, ADAM)).verdict == "better"
    grid = SweepConfig(tasks=["rte", "sst2", "mrpc", "cola"], optimizers=[{"optim": "madam"}, {"optim": "adam"}],
                       protocol="grid", lr=[1e-6, 2e-6], weight_decay=0.1, final_seeds=1)  # fmt: skip
    made = study(load_runs([tmp_path]), grid)
    assert made.chosen_among["rte", "madam"] == 2 and made.chosen_on_final


def test_seeds_that_share_a_start_say_so(tmp_path: Path) -> None:
    over_tasks(tmp_path, 2.0, 0.5)
    for path in tmp_path.glob("*/record.json"):
        record = read_record(path)
        assert record.model is not None
        if record.config.task == "rte":
            start = f"sha256:{record.config.optim}"
            record = record.model_copy(update={"model": record.model.model_copy(update={"start": start})})
            write_record(record, path.parent)
    pair = compare(study(load_runs([tmp_path]), None), (MADAM, ADAM))
    assert [c.task for c in pair.tasks if c.own_starts] == ["rte"]
    assert pair.sentence.endswith(
        "; on RTE all seeds of a row start from one model, whose luck is in no interval and no p."
    )


def test_another_margin_changes_what_is_practically_equal(tmp_path: Path) -> None:
    made = over_tasks(tmp_path, 0.3, 0.1)
    assert compare(made, (MADAM, ADAM), margin=0.2).verdict == "better"
    assert compare(made, (MADAM, ADAM), margin=0.5).verdict == "practically equal"


def test_a_verdict_needs_holm_over_all_pairs(tmp_path: Path) -> None:
    pair = compare(over_tasks(tmp_path, 2.0, 0.5), (MADAM, ADAM))
    assert judge(pair, 0.5) == "better"
    pair.p_holm = 0.06  # as with many other pairs
    assert judge(pair, 0.5) == "not decided"


def test_seeds_and_examples_together(tmp_path: Path) -> None:
    """Over dev examples too, where there are predictions on every task; tasks vary independently."""
    for optim, quality in (("madam", 0.9), ("adam", 0.6)):
        for task in ("rte", "sst2"):
            for seed in (1, 2, 3):
                write_predicted_run(tmp_path, task, optim, quality, seed=seed)
    pair = compare(study(load_runs([tmp_path]), None), (MADAM, ADAM))
    assert pair.difference is not None
    assert 0 < pair.examples_low < pair.difference.value < pair.examples_high
    width = pair.examples_high - pair.examples_low
    alone = [c.bootstrap_means_high - c.bootstrap_means_low for c in pair.tasks]
    assert width == pytest.approx(math.hypot(*alone) / 2, rel=0.1)
    assert len(comparison_table([pair])) == 2


def test_seeds_too_few_to_show_anything_are_said_to_be(tmp_path: Path) -> None:
    """Two tasks with two pairs each: 16 arrangements. Of three pairs of rows the smallest p is then 3 x 2 / 16."""
    for task in ("rte", "sst2"):
        for optim in ("adam", "laprop", "madam", "lamadam"):
            for seed in (1, 2):
                write_run(tmp_path, make_record(task, optim, score=80.0 + len(optim) * seed, seed=seed))
    made = study(load_runs([tmp_path]), None)
    (pair, *_) = compare_all(made, default_pairs(made.rows))
    said = "; this many seeds cannot show a difference: the smallest p they can reach is .125, .375 after Holm; about "
    assert pair.verdict == "not decided" and said in pair.sentence


def test_a_bootstrap_narrower_than_the_t_interval_is_no_further_evidence() -> None:
    found = suite.Difference(2.0, 0.3, 9, 4)
    low, high = found.interval
    tasks = [shown(0.1, 0.7)]
    for wider in (False, True):
        margin = 0.1 if wider else -0.1
        pair = Pair(MADAM, ADAM, tasks, found, examples_low=low - margin, examples_high=high + margin, p=0.01,
                    p_holm=0.01, verdict="better")  # fmt: skip
        assert ("leaves out 0 too" in sentence(pair, 0.5, 1)) == wider
