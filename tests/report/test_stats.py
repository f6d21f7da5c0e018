"""Every statistic against a value computed by hand, by brute force, or printed in the literature."""

import itertools
import math

import numpy as np
import pytest

from glue_mva.report import stats

# Student's sleep data (1908), as in R's `sleep`; its t.test prints the intervals below.
SLEEP_A = [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0]
SLEEP_B = [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4]

# Darwin's maize (Fisher, The Design of Experiments, section 21): 15 differences in height, eighths of an inch.
DARWIN = [49, -67, 8, 16, 6, 23, 28, 41, 14, 29, 56, 24, 75, 60, -48]


def test_standard_error_divides_by_n_minus_one() -> None:
    assert stats.standard_error([1, 2, 3, 4]) == pytest.approx(math.sqrt(5 / 3) / 2)
    assert math.isnan(stats.standard_error([1.0]))


def test_mean_interval_uses_students_t() -> None:
    half = 3.182446 * math.sqrt(5 / 3) / 2  # t of 3 degrees of freedom, 97.5 %
    assert stats.mean_interval([1, 2, 3, 4]) == pytest.approx((2.5 - half, 2.5 + half), rel=1e-6)
    assert all(map(math.isnan, stats.mean_interval([7, 7, 7])))  # of their spread nothing is known


def test_difference_intervals_of_students_sleep_data() -> None:
    assert stats.difference_interval(SLEEP_A, SLEEP_B, paired=True) == pytest.approx((-2.4598858, -0.7001142))
    assert stats.difference_interval(SLEEP_A, SLEEP_B, paired=False) == pytest.approx((-3.3654832, 0.2054832))


def test_paired_permutation_test_of_darwins_maize() -> None:
    # Fisher counted 863 of 2^15 arrangements with a sum at least as large, on one side.
    assert stats.permutation_p(DARWIN, [0] * 15, paired=True) == pytest.approx(2 * 863 / 2**15)


@pytest.mark.parametrize("paired", [True, False])
def test_no_p_is_below_the_smallest_and_complete_separation_reaches_it(paired: bool) -> None:
    a, b = [5.0, 6.0, 7.5, 8.0], [1.0, 2.0, 3.0, 4.5]
    expected = 2 / 16 if paired else 2 / 70
    assert stats.smallest_p(4, 4, paired=paired) == pytest.approx(expected)
    assert stats.permutation_p(a, b, paired=paired) == pytest.approx(expected)


def test_scores_that_are_equal_up_to_rounding_are_ties() -> None:
    step = 100 / 872
    a = [90 + k * step for k in (1, 2, 3, 4)]
    assert stats.permutation_p(a, list(reversed(a)), paired=False) == 1.0


def test_permutation_test_of_many_seeds_is_sampled_and_repeatable() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(0.0, 1, 30), rng.normal(0.2, 1, 30)
    assert stats.arrangements(30, 30, paired=False) > stats.EXACT_LIMIT
    p = stats.permutation_p(a, b, paired=False)
    assert p == stats.permutation_p(a, b, paired=False)
    assert 0.01 < p < 1


def test_holm_by_hand_and_missing_tests_do_not_count() -> None:
    assert stats.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert stats.holm([0.01, math.nan, 0.03]) == pytest.approx([0.02, math.nan, 0.03], nan_ok=True)
    assert np.isnan(stats.holm([math.nan])).all()


def test_sign_test() -> None:
    assert stats.sign_test_p(7, 1) == pytest.approx(2 * 9 / 256)
    assert math.isnan(stats.sign_test_p(0, 0))


@pytest.mark.parametrize(("effect", "paired", "published"), [(0.5, False, 64), (0.8, False, 26), (0.5, True, 34)])
def test_seeds_needed_are_cohens(effect: float, paired: bool, published: int) -> None:
    assert stats.seeds_needed(effect, 1.0, paired=paired) == published


def test_seeds_needed_at_the_ends() -> None:
    assert stats.seeds_needed(0.0, 1.0, paired=True) == math.inf
    assert math.isnan(stats.seeds_needed(1.0, math.nan, paired=True))
    # Fewer cannot reach 5 % in the permutation test, however large the difference: 2/2^5 > .05 >= 2/2^6.
    assert stats.seeds_needed(50.0, 0.0, paired=True) == 6
    assert stats.seeds_needed(50.0, 0.0, paired=False) == 4
    # Normal approximation for tiny effects: 2 * ((1.959964 + 0.841621) / 0.0099)^2.
    assert stats.seeds_needed(0.0099, 1.0, paired=False) == pytest.approx(160_166, rel=1e-4)
    assert stats.seeds_needed(0.001, 1.0, paired=False) == math.inf


def test_seeds_needed_as_one_of_several_tests() -> None:
    # 2/2^n x 3 <= .05 from n = 7 on; z approximation at .05/3: ((2.393980 + 0.841621) / 0.5)^2 = 41.9, t a little more
    assert stats.seeds_needed(50.0, 0.0, paired=True, tests=3) == stats.fewest_seeds(1, paired=True, tests=3) == 7
    assert 42 <= stats.seeds_needed(0.5, 1.0, paired=True, tests=3) <= 46


def test_pooled_deviation() -> None:
    assert stats.pooled_deviation([1, 2, 3], [10, 14]) == pytest.approx(math.sqrt((2 + 8) / 3))


def test_expected_best_by_enumeration() -> None:
    scores = [60.0, 71.0, 71.0, 80.0]
    for k, value in enumerate(stats.expected_best(scores), start=1):
        assert value == pytest.approx(np.mean([max(draw) for draw in itertools.product(scores, repeat=k)]))


def test_flattery_of_equal_cells_is_the_expected_maximum_of_normals() -> None:
    # Expected maximum of 5 standard normals: 1.16296 (Harter 1961).
    equal = stats.flattery([70.0] * 5, noise=2.0, draws=200_000)
    assert equal.high == pytest.approx(2 * 1.16296, rel=0.01)
    assert equal.low == pytest.approx(equal.high, rel=0.01)


def test_flattery_of_one_clear_winner_and_of_a_single_cell_is_none() -> None:
    assert stats.flattery([70.0, 90.0, 71.0], noise=0.5).low == pytest.approx(0.0, abs=0.02)
    assert stats.flattery([70.0], noise=1.0) == stats.Flattery(0.0, 0.0)
    assert math.isnan(stats.flattery([70.0, 71.0], noise=math.nan).high)
