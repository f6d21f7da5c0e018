"""The synthetic problems: their definition, what is accumulated, and what the paper says of them, at reduced size."""

import dataclasses
import math

import numpy as np
import pytest
import torch

from glue_mva.simulate import nonconvex, quadratic
from glue_mva.simulate.stepping import Setting

MADAM = quadratic.SETTINGS["madam"][0]


def test_drawn_factors_are_one_large_in_eleven():
    factors = torch.cat(list(nonconvex.draw_factors(2500, 40, seed=3)))
    assert factors.shape == (2500, 40)
    assert set(factors.unique().tolist()) == {-1.0, 11.0}
    assert (factors > 0).double().mean().item() == pytest.approx(1 / 11, abs=0.004)  # 4.4 standard errors


def test_objective_is_the_integral_of_the_summed_gradients():
    theta = np.linspace(-3, 3, 6001)
    gradient = (11 - 10) * np.clip(theta, -1, 1)  # all eleven losses
    integral = np.concatenate([[0], np.cumsum((gradient[1:] + gradient[:-1]) / 2 * np.diff(theta))])
    assert np.allclose(nonconvex.objective(theta) - nonconvex.objective(theta[0]), integral, atol=1e-6)
    assert nonconvex.objective(np.zeros(1)) == 0


def scalar_run(optim: str, lr: float, factors: list[float]) -> tuple[float, float, float, float]:
    """Theta, Term A, Term B and s2 of one repeat, from the paper's equations, in Python floats."""
    theta, u, v, w = 2.0, 0.0, 0.0, 0.0
    largest = 0.0
    before = a = b = s2 = 0.0
    for t, factor in enumerate(factors, start=1):
        g = factor * max(-1.0, min(1.0, theta))
        beta = 0.9
        if optim == "madam" and t > 1:
            d, s = (g - u / w) ** 2, v / w - (u / w) ** 2
            denominator = w * (d - s) + d + s
            beta = min(max((d + s) / denominator, 0.5), 1.0) if denominator > 0 else 0.5
        u, v, w = beta * u + (1 - beta) * g, beta * v + (1 - beta) * g * g, beta * w + (1 - beta)
        largest = max(largest, v)
        second = (largest if optim == "amsgrad" else v) / w
        inverse = 1 / (math.sqrt(second) + 1e-8)
        a, s2 = a + (g * inverse) ** 2, s2 + inverse
        b += abs(inverse - before) if t > 1 else 0.0
        before = inverse
        theta -= lr * g * inverse
    return theta, a, b, s2


@pytest.mark.parametrize("optim", ["adam", "amsgrad", "madam"])
def test_nonconvex_equals_the_equations_written_as_scalars(optim):
    steps, lr = 300, 0.9
    result = nonconvex.simulate(optim, (0.5, lr), repeats=4, steps=steps, seed=5)
    factors = torch.cat(list(nonconvex.draw_factors(steps, 4, seed=5)))
    for repeat in range(4):
        expected = scalar_run(optim, lr, factors[:, repeat].tolist())
        got = [table[-1, 1, repeat] for table in (result.theta, result.term_a, result.term_b, result.s2)]
        assert np.allclose(got, expected, rtol=1e-6, atol=1e-9)


def test_record_points_hold_first_and_last_step():
    points = nonconvex.record_points(100_000)
    assert points[0] == 1 and points[-1] == 100_000 and (np.diff(points) > 0).all() and len(points) <= 160


def test_success_rates_of_the_paper_at_reduced_size():
    size = {"repeats": 40, "steps": 10_000, "seed": 1}
    assert nonconvex.simulate("madam", (1.2,), **size).success.mean() >= 0.8
    amsgrad = nonconvex.simulate("amsgrad", (0.8, 1.2), **size).success.mean(axis=1)
    assert amsgrad[0] >= 0.5 and amsgrad[1] <= 0.2
    adam = nonconvex.simulate("adam", (0.01, 0.8), **size)
    assert not adam.success.any() and (adam.objective[-1] > adam.objective[0]).all()


@pytest.mark.parametrize(("normalised", "plain"), [("lamadam", "madam"), ("laprop", "adam")])
def test_without_momentum_normalising_first_changes_nothing(normalised, plain):
    a, b = (nonconvex.simulate(name, (0.4,), repeats=20, steps=300) for name in (normalised, plain))
    assert np.allclose(a.theta, b.theta, rtol=1e-6, atol=1e-12)


def test_a_seed_gives_the_same_result_and_another_seed_another():
    first, again, other = (nonconvex.simulate("madam", (0.9,), repeats=5, steps=200, seed=s).theta for s in (0, 0, 1))
    assert (first == again).all() and (first != other).any()
    first, again, other = (quadratic.simulate(MADAM, repeats=5, steps=50, seed=s).theta for s in (0, 0, 1))
    assert (first == again).all() and (first != other).any()


def test_learning_rates_and_cells_do_not_influence_each_other():
    grid = quadratic.simulate(MADAM, (0.01, 0.1), (2.0, 20.0), (0.1, 0.2), repeats=6, steps=80)
    alone = quadratic.simulate(MADAM, (0.1,), (20.0,), (0.2,), repeats=6, steps=80)
    assert np.allclose(grid.theta[1, 1, 1], alone.theta[0, 0, 0], rtol=0, atol=1e-12)


@pytest.mark.parametrize("optim", ["adam", "laprop", "madam", "lamadam"])
def test_the_quadratic_trajectory_does_not_depend_on_h(optim):
    setting = quadratic.SETTINGS[optim][-1]
    setting = dataclasses.replace(setting, args={**setting.args, "eps": 1e-30})
    result = quadratic.simulate(setting, (0.005, 0.05), (1.0, 20.0, 256.0), (0.2,), repeats=20, steps=400)
    assert np.allclose(result.theta, result.theta[:, :1], rtol=0, atol=1e-13)
    assert (result.theta[:, 0] == result.theta[:, 2]).all()  # a power of two scales without rounding
    assert (result.loss[:, 2] > result.loss[:, 0]).all()


def test_quadratic_loss_by_hand():
    theta = np.array([[[[[3.0, 2.0]]]]])
    result = quadratic.QuadraticResult(
        Setting("adam"), (0.1,), (20.0,), (0.2,), theta, np.zeros((1, 1, 2)), (20.0, 0.2)
    )
    assert result.loss == pytest.approx(0.5 * (9 + 20 * 4))


def test_madam_beats_adams_best_on_the_paper_cell():
    size = {"lrs": (0.005,), "h2s": (20.0,), "sigmas": (0.2,), "repeats": 400, "seed": 2}
    madam = quadratic.simulate(MADAM, **size).loss
    adam = min((quadratic.simulate(s, **size).loss for s in quadratic.SETTINGS["adam"]), key=np.mean)
    assert 0.5 < madam.mean() / adam.mean() < 0.68
    assert madam.std() < adam.std()
