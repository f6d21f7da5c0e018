"""Verdicts, intervals and what the command writes."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from glue_mva.cli.simulate import app
from glue_mva.errors import UsageError
from glue_mva.simulate.claims import judge, nonconvex_claims, settled_at
from glue_mva.simulate.intervals import mean_interval, rate_interval, ratio_interval
from glue_mva.simulate.nonconvex import NonconvexResult


def result(optim, lrs, successes, repeats=100):
    theta = np.full((3, len(lrs), repeats), 2.0)
    for k, count in enumerate(successes):
        theta[-1, k, :count] = 0.01
    ones = np.ones_like(theta)
    return NonconvexResult(optim, lrs, np.array([1, 10, 100]), theta, ones, ones, ones)


def test_intervals_by_hand():
    assert rate_interval(np.ones(100, dtype=bool)) == pytest.approx((0.025 ** (1 / 100), 1.0))
    mean, error, low, high = mean_interval(np.array([1.0, 2.0, 3.0, 4.0]))
    assert (mean, error) == pytest.approx((2.5, np.sqrt(5 / 3) / 2))
    assert (low, high) == pytest.approx((2.5 - 3.182446 * error, 2.5 + 3.182446 * error))
    below = np.random.default_rng(1).gamma(2, size=50)
    assert ratio_interval(0.6 * below, below) == pytest.approx((0.6, 0.6, 0.6))  # paired: no spread


def test_verdicts():
    assert [judge(p) for p in ([True, True], [True, False], [False], [])] == [
        "reproduced", "in part", "not reproduced", "not tested"]  # fmt: skip
    claims = nonconvex_claims([result("madam", (1.2,), [80]), result("amsgrad", (0.8, 0.9, 1.2), [100, 65, 40]),
                               result("adam", (0.1, 1.0, 1.6), [0, 0, 100])])  # fmt: skip
    assert [c.verdict for c in claims[:3]] == ["not reproduced", "in part", "reproduced"]
    assert [c.verdict for c in nonconvex_claims([result("madam", (0.5,), [1])])] == ["not tested"] * 6


def test_settled_step_counts_from_the_last_time_outside():
    run = result("madam", (1.2,), [0], repeats=3)
    run.theta[:, 0] = np.array([[0.0, 2.0, 2.0], [2.0, 0.0, 0.0], [0.0, 0.0, 2.0]])
    assert settled_at(run, 0).tolist() == [100, 10, np.inf]


def test_a_page_links_what_was_written_and_no_other_run_s(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for command in (["nqm", "--optim", "la_prop", "--lr", "0.1", "--h2", "20", "--sigma", "0.2", "--steps", "20"],
                    ["nonconvex", "--optim", "adamw", "--lr", "0.8", "--steps", "20"]):  # fmt: skip
        outcome = CliRunner().invoke(app, [*command, "--repeats", "2"])
        assert outcome.exit_code == 0, outcome.output
        page = Path("simulations", command[0], f"{command[0]}.md")
        links = re.findall(r"\]\(([^)]*)\)", page.read_text())
        assert links and all((page.parent / link).is_file() for link in links)
    assert "|theta| < 0.1" in outcome.output and "\\" not in outcome.output


def test_commands_write_the_same_files_twice(tmp_path):
    runs = {"nonconvex": ["--steps", "300", "--lr", "0.8", "--lr", "1.2", "--optim", "madam", "--optim", "amsgrad"],
            "nqm": ["--steps", "50", "--lr", "0.005", "--lr", "0.1", "--h2", "20", "--sigma", "0.2"]}  # fmt: skip
    for folder in ("first", "again"):
        for command, options in runs.items():
            outcome = CliRunner().invoke(app, [command, *options, "--repeats", "6", "--out", str(tmp_path / folder)])
            assert outcome.exit_code == 0, outcome.output
    first = {p.name: p.read_bytes() for p in (tmp_path / "first").iterdir()}
    assert first == {p.name: p.read_bytes() for p in (tmp_path / "again").iterdir()}
    assert {"nonconvex.md", "nqm.md", "nonconvex_curves.png", "nqm.svg", "nqm_grid.png"} <= first.keys()
    table = pd.read_csv(tmp_path / "first" / "nqm.csv")
    assert len(table) == 7 * 2 and (table["low"] <= table["mean"]).all()
    page = (tmp_path / "first" / "nonconvex.md").read_text()
    assert "300 steps (paper: 100,000)" in page and "**not tested**" in page


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--lr", "-1", "--lr must be a positive number up"),
        ("--lr", "nan", "got nan"),
        ("--sigma", "0", "got 0"),
        ("--optim", "sgd", "'sgd'"),
    ],
)
def test_bad_options_are_refused_and_nothing_is_written(option, value, said, tmp_path):
    outcome = CliRunner().invoke(app, ["nqm", option, value, "--out", str(tmp_path / "out")])
    assert isinstance(outcome.exception, UsageError)
    assert said in str(outcome.exception)
    assert not (tmp_path / "out").exists()
