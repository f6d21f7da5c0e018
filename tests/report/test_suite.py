"""Statistics over tasks against rliable's and scipy's numbers, by hand, and by simulation."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats as sps

from glue_mva.report import stats, suite

# Scores (seeds, tasks) and what rliable 1.2.0 gives for them: `get_interval_estimates` with `aggregate_iqm` (50,000
# resamples) and `probability_of_improvement` (20,000). rliable pins libraries that do not go
# with this package's, so its numbers stand here; two scores of X occur in Y too.
X = [[87.81, 92.89, 80.74, 95.12, 63.16], [87.84, 93.03, 81.05, 94.96, 62.28], [87.74, 92.9, 77.77, 95.06, 62.3],
     [87.73, 92.85, 79.78, 95.18, 65.05]]  # fmt: skip
Y = [[87.69, 92.89, 78.43, 94.87, 63.98], [87.71, 92.83, 78.18, 95.06, 63.16], [87.6, 92.88, 78.94, 94.91, 63.16],
     [87.74, 92.83, 78.97, 94.96, 64.69], [87.57, 93.05, 80.45, 94.96, 63.22]]  # fmt: skip
RLIABLE_IQM = {"x": (87.133, 86.6, 87.295), "y": (86.65615385, 86.43230769, 86.93076923)}
RLIABLE_IMPROVEMENT = (0.695, 0.545, 0.84)


def tasks(scores: list[list[float]]) -> list[np.ndarray]:
    return list(np.array(scores).T)


@pytest.mark.parametrize(("name", "scores"), [("x", X), ("y", Y)])
def test_interquartile_mean_is_rliables(name: str, scores: list) -> None:
    value, low, high = suite.estimate(suite.interquartile_mean, tasks(scores))
    assert value == pytest.approx(RLIABLE_IQM[name][0], abs=1e-8)
    assert (low, high) == pytest.approx(RLIABLE_IQM[name][1:], abs=0.05)  # other random numbers


def test_mean_has_the_t_interval_of_one_task_and_averages_over_several() -> None:
    (scores,) = tasks([[v] for v in (70.0, 71.0, 75.0, 72.0)])
    alone, both = suite.mean([scores]), suite.mean([scores, scores + 10])
    assert (alone.value, both.value) == pytest.approx((72, 77))
    assert alone.interval == pytest.approx(stats.mean_interval(scores))
    assert (both.error, both.freedom) == pytest.approx((sps.sem(scores) / math.sqrt(2), 6))
    assert np.isnan(suite.mean([scores, scores * 0 + 50]).interval).all()  # all seeds alike: not known


def test_probability_of_improvement_is_rliables_and_scipys() -> None:
    value, low, high = suite.estimate(suite.probability_of_improvement, tasks(X), tasks(Y))
    assert value == pytest.approx(RLIABLE_IMPROVEMENT[0])
    assert (low, high) == pytest.approx(RLIABLE_IMPROVEMENT[1:], abs=0.015)
    shares = [sps.mannwhitneyu(a, b).statistic / (len(a) * len(b)) for a, b in zip(tasks(X), tasks(Y), strict=True)]
    assert value == pytest.approx(np.mean(shares))


def test_bootstrap_error_of_a_median_is_scipys() -> None:
    (scores,) = tasks([[v] for v in (70.0, 71.0, 75.0, 72.0)])
    found = suite.bootstrap_error(suite.mean_of_medians, [scores])
    expected = sps.bootstrap((scores,), np.median, n_resamples=5000, rng=np.random.default_rng(1)).standard_error
    assert found == pytest.approx(expected, rel=0.05)


def test_resamples_are_stratified_by_task() -> None:
    """With one seed's scores far from the others, every resample still has as many scores of each task."""
    far = [np.array([0.0, 1.0]), np.array([100.0, 101.0])]
    drawn = suite.bootstrap(suite.mean_of_medians, far)
    assert set(drawn) <= {50 + k / 4 for k in range(5)}


def test_average_is_the_mean_of_the_medians() -> None:
    assert suite.mean_of_medians(tasks(X)) == pytest.approx(np.mean([87.775, 92.895, 80.26, 95.09, 62.73]))


def test_one_task_gives_the_usual_t_intervals() -> None:
    a, b = np.array(X).T[2], np.array(Y).T[2]
    welch = suite.difference([a], [b], [False])
    test = sps.ttest_ind(a, b, equal_var=False)
    assert welch.interval == pytest.approx(tuple(test.confidence_interval()))
    paired = suite.difference([a], [b[:4]], [True])
    test = sps.ttest_rel(a, b[:4])
    assert paired.interval == pytest.approx(tuple(test.confidence_interval()))
    assert (paired.freedom, paired.seeds) == (pytest.approx(3), 4)


def test_tasks_that_vary_alike_add_up_their_degrees_of_freedom() -> None:
    values = np.array([-1.0, 0.0, 1.0, 2.0])
    found = suite.difference([values + 1, values + 3], [0 * values, 0 * values], [True, True])
    assert (found.value, found.freedom) == pytest.approx((2.5, 6))
    assert found.error == pytest.approx(values.std(ddof=1) / 2 / math.sqrt(2))


@pytest.mark.parametrize("paired", [True, False])
def test_intervals_over_tasks_cover_the_true_difference(paired: bool) -> None:
    """Eight tasks as unlike as GLUE's, four seeds: 95 of 100 intervals hold the truth, 0.3."""
    rng = np.random.default_rng(0)
    spread = np.array([0.08, 0.1, 0.06, 1.3, 0.2, 0.5, 1.6, 0.15])
    held = 0
    for _ in range(1500):
        scores = rng.normal(0, spread[:, None, None], (8, 2, 4))
        low, high = suite.difference(list(scores[:, 0] + 0.3), list(scores[:, 1]), [paired] * 8).interval
        held += low < 0.3 < high
    assert 0.935 < held / 1500 < 0.975


def test_equal_scores_differ_by_nothing() -> None:
    found = suite.difference(tasks(X), tasks(X), [True] * 5)
    assert found.value == found.error == 0 and all(map(math.isnan, found.interval))
    assert suite.permutation_p(tasks(X), tasks(X), [True] * 5) == 1
    assert suite.estimate(suite.probability_of_improvement, tasks(X), tasks(X)).value == 0.5


def test_a_task_whose_seeds_all_differ_by_the_same_has_no_known_spread() -> None:
    varying, shifted = np.array([80.0, 80.4, 81.0]), np.array([80.5, 80.6, 80.9])
    assert suite.difference([varying], [shifted], [True]).error > 0
    for a, b in ((varying + 0.36, varying), (varying, varying), (varying * 0 + 1, varying * 0)):
        found = suite.difference([varying, a], [shifted, b], [True, True])
        assert found.error == 0 and all(map(math.isnan, found.interval))
    constant = np.full(3, 56.34)  # as on WNLI, where every run predicts the same class: known to be equal
    alone, beside = (suite.difference([varying, *c], [shifted, *c], [True] * (1 + len(c))) for c in ([], [constant]))
    assert beside.error == pytest.approx(alone.error / 2)
    one_seed = suite.difference([varying[:1], varying], [shifted[:1], varying], [True, True])
    assert math.isnan(one_seed.error)


def test_one_seed_gives_values_without_intervals() -> None:
    x, y = tasks(X[:1]), tasks(Y[:1])
    found = suite.difference(x, y, [True] * 5)
    assert found.value == pytest.approx(np.mean(np.array(X[0]) - np.array(Y[0])))
    assert np.isnan([*found.interval, suite.permutation_p(x, y, [True] * 5), suite.seeds_to_decide(found, 0.5)]).all()
    assert np.isnan(suite.estimate(suite.interquartile_mean, x)[1:]).all()
    assert math.isnan(suite.bootstrap_error(suite.mean_of_medians, x))


@pytest.mark.parametrize("paired", [True, False])
def test_permutation_test_over_tasks_by_enumeration(paired: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """All arrangements within each task, all combinations of them."""
    a, b = (
        [np.array([5.0, 6.1, 7.0]), np.array([70.2, 70.9, 71.3])],
        [np.array([4.9, 5.2, 6.8]), np.array([69.9, 71, 70])],
    )
    gaps = []
    for x, y in zip(a, b, strict=True):
        pool = np.concatenate([x, y])
        splits = [np.isin(range(6), c) for c in itertools.combinations(range(6), 3)]
        flips = [np.mean(np.array(signs) * (x - y)) for signs in itertools.product((-1, 1), repeat=3)]
        gaps.append(flips if paired else [pool[s].mean() - pool[~s].mean() for s in splits])
    seen = sum(x.mean() - y.mean() for x, y in zip(a, b, strict=True))
    exact = np.mean([abs(sum(each)) >= abs(seen) - 1e-9 for each in itertools.product(*gaps)])
    assert suite.permutation_p(a, b, [paired] * 2) == pytest.approx(exact)
    with monkeypatch.context() as patched:
        patched.setattr(suite, "EXACT_LIMIT", 0)  # random arrangements
        assert suite.permutation_p(a, b, [paired] * 2) == pytest.approx(exact, abs=0.02)
    assert suite.permutation_p(a[:1], b[:1], [paired]) == pytest.approx(
        np.mean([abs(g) >= abs(a[0].mean() - b[0].mean()) - 1e-9 for g in gaps[0]])
    )


def test_fewest_seeds_of_the_permutation_test() -> None:
    assert [stats.fewest_seeds(t, paired=True) for t in (1, 2, 3, 8)] == [6, 3, 2, 2]  # 2^(n tasks) >= 40
    assert [stats.fewest_seeds(t, paired=False) for t in (1, 2)] == [4, 3]


def simulated_power(value: float, error: float, n: int, margin: float) -> tuple[float, float]:
    """How often n pairs on one task show a difference, and lie within the margin with their whole interval."""
    rng = np.random.default_rng(1)
    draws = rng.normal(value, error * 2, (20_000, n))  # `error` was that of four pairs
    half = sps.t.ppf(0.975, n - 1) * draws.std(axis=1, ddof=1) / math.sqrt(n)
    mean = draws.mean(axis=1)
    return float((np.abs(mean) > half).mean()), float(((mean - half > -margin) & (mean + half < margin)).mean())


@pytest.mark.parametrize(("value", "error", "by"), [(0.6, 0.4, "difference"), (0.05, 0.4, "margin")])
def test_seeds_to_decide_have_the_power_that_is_promised(value: float, error: float, by: str) -> None:
    found = suite.Difference(value, error, freedom=3, seeds=4)
    n = int(suite.seeds_to_decide(found, margin=0.5))
    shown, within = simulated_power(value, error, n, 0.5)
    assert (shown if by == "difference" else within) == pytest.approx(0.8, abs=0.03)
    assert max(simulated_power(value, error, n - 2, 0.5)) < 0.8


def test_seeds_to_decide_at_the_ends() -> None:
    assert suite.seeds_to_decide(suite.Difference(0.5, 0.4, 3, 4), margin=0.5) < math.inf  # by the difference
    assert suite.seeds_to_decide(suite.Difference(5.0, 0.1, 3, 4), margin=0.5) == 2
    assert suite.seeds_to_decide(suite.Difference(5.0, 0.1, 3, 4), margin=0.5, fewest=6) == 6
    one, three = (suite.seeds_to_decide(suite.Difference(1.5, 0.8, 3, 4), margin=0.5, tests=n) for n in (1, 3))
    assert one < three < math.inf  # a stricter level takes more
    assert suite.seeds_to_decide(suite.Difference(0.0, 0.4, 3, 4), margin=0.0) == math.inf
    assert math.isnan(suite.seeds_to_decide(suite.Difference(0.3, 0.0, math.nan, 4), margin=0.5))


def test_ranks_share_ties() -> None:
    medians = [[90.0, 91.0, 91.0], [70.0, 72.0, 71.0]]
    assert suite.mean_ranks(medians).tolist() == [3.0, 1.25, 1.75]


def test_friedman_by_hand_and_where_it_says_nothing() -> None:
    # Five tasks, three rows, always the same order: chi2 = 12 / (5 * 3 * 4) * (5^2 + 10^2 + 15^2) - 3 * 5 * 4 = 10.
    same = [[3.0, 2.0, 1.0]] * 5
    assert suite.friedman_p(same) == pytest.approx(sps.chi2.sf(10, 2))
    orders = [list(order) for order in itertools.permutations([1.0, 2.0, 3.0])]
    assert suite.friedman_p(orders) == pytest.approx(1.0)
    assert suite.friedman_p([[1.0, 1.0, 1.0]] * 5) == 1.0
    assert math.isnan(suite.friedman_p(same[:4]))
    assert math.isnan(suite.friedman_p(np.array(same)[:, :2]))
