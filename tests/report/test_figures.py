"""Figures with long and hostile names, one epoch, one seed, no score; and the look of each row."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

from glue_mva.report import drawing
from glue_mva.report.aggregate import Row, ordered
from glue_mva.report.plots import balanced, forest_figure, looks
from glue_mva.report.results import results
from glue_mva.report.search_plots import line_figure
from glue_mva.style import OPTIMIZER_COLORS, figure_text
from glue_mva.sweep import SweepConfig
from glue_mva.sweep.kept import keep_sweep
from tests.report.factory import make_record, write_run

pytestmark = pytest.mark.filterwarnings("error:constrained_layout not applied")

LONG = {"optim_args": {"momentum": 0.9, "nesterov": True, "dampening": 0.0, "maximize": False}}
HOSTILE = "own:Opt$x_{\\frac$ 漢字 \\\\ & <b>" + "x" * 200


@pytest.fixture(autouse=True)
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that warnings are seen."""
    monkeypatch.setattr(drawing, "available_cores", lambda: 1)


def draw(runs: Path, out: Path) -> set[str]:
    """Draw all figures of a folder of runs; checks that none is lost, blank or cut off at its edges."""
    out.mkdir()
    drawn, lost = drawing.draw_all(drawing.drawings(results(runs)), out)
    assert lost == []
    for name in drawn:
        pixels = imread(out / f"{name}.png")[..., :3]
        assert pixels.std() > 0.03
        assert {float(edge.min()) for edge in (pixels[:2], pixels[-2:], pixels[:, :2], pixels[:, -2:])} == {1.0}, name
    return set(drawn)


def test_long_names(tmp_path: Path) -> None:
    """Three runs of SGD with momentum and nesterov: the report ended with a negative width."""
    for seed in (1, 2, 3):
        write_run(tmp_path / "runs", make_record("rte", "torch.optim:SGD", score=70.0 + seed, seed=seed, **LONG))
        write_run(tmp_path / "runs", make_record("rte", "adam", score=71.0 + seed, seed=seed))
    assert draw(tmp_path / "runs", tmp_path / "out") == {"forest", "scores", "curves-rte"}


def test_names_that_would_be_mathematics_or_have_no_glyph(tmp_path: Path) -> None:
    """A record cannot bring one, but the file of a sweep can."""
    point = {"lr": 1e-5, "weight_decay": 0.1}
    for optim in ("adam", "torch.optim:SGD"):
        for seed in (1, 2):
            write_run(tmp_path / "runs", make_record("rte", optim, score=71.0 + seed, seed=seed, **point))
    rows = ["adam", {"optim": "torch.optim:SGD", "name": HOSTILE}]
    keep_sweep(SweepConfig(tasks=["rte"], optimizers=rows, final_seeds=2, output=str(tmp_path / "runs"), **point))
    assert "forest" in draw(tmp_path / "runs", tmp_path / "out")


def test_one_epoch_one_seed_one_task_one_row(tmp_path: Path) -> None:
    record = make_record("rte", "madam", score=70.0, seed=1, points=1)
    write_run(tmp_path / "runs", record.model_copy(update={"epochs": record.epochs[2:3], "best_epoch": 0}))
    assert draw(tmp_path / "runs", tmp_path / "out") == {"scores", "curves-rte"}


def test_large_and_small_numbers_have_room_for_their_ticks(tmp_path: Path) -> None:
    for factor, seed in ((1e-9, 1), (1e6, 2)):
        record = make_record("rte", "adam", score=70.0 + seed, seed=seed)
        scaled = {name: [factor * (v or 0) for v in record.curves[name]] for name in ("loss", "step_size")}
        write_run(tmp_path / "runs", record.model_copy(update={"curves": record.curves | scaled}))
    assert draw(tmp_path / "runs", tmp_path / "out") == {"scores", "curves-rte"}


@pytest.mark.parametrize("decays", [[0.1], [0.0, 0.1]])
def test_a_search_over_one_hyperparameter_is_drawn_as_lines_over_two_as_a_map(tmp_path: Path, decays: list) -> None:
    for optim in ("adam", "madam"):
        for lr in (1e-5, 2e-5, 4e-5):
            for decay in decays:
                for seed in (1, 2):
                    status = "diverged" if lr == 4e-5 and optim == "adam" else "ok"
                    score = 70.0 + 1e5 * lr + seed if status == "ok" else None
                    fields = {"lr": lr, "weight_decay": decay, "seed": seed}
                    write_run(tmp_path / "runs", make_record("rte", optim, score=score, status=status, **fields))
    drawn = draw(tmp_path / "runs", tmp_path / "out")
    assert ("search" in drawn, "heatmap" in drawn) == ((True, False) if len(decays) == 1 else (False, True))


def test_a_figure_that_cannot_be_drawn_costs_itself_only(tmp_path: Path) -> None:
    def fail() -> None:
        raise ValueError("width must be\nnon-negative")

    found = [drawing.Drawing("bad", "", fail), drawing.Drawing("none", "", lambda: None)]
    drawn, lost = drawing.draw_all(found, tmp_path)
    assert drawn == {}
    assert lost == ["figure bad could not be drawn: ValueError: width must be non-negative"]
    assert list(tmp_path.iterdir()) == []


def test_no_two_rows_look_alike_and_the_papers_keep_their_colours() -> None:
    names = ["adam", "laprop", "madam", "lamadam", *(f"m:Opt{k}" for k in range(25)), "madam (beta2_min=0.3)"]
    rows = ordered([*(Row(name, name.partition(" ")[0]) for name in names), Row("adam-eta'", "adam", "madam")])
    look = looks(rows)
    assert len(set(look.values())) == len(rows)
    assert all(look[name].color == OPTIMIZER_COLORS[name] for name in ("adam", "laprop", "madam", "lamadam"))
    others = [look[row.name] for row in rows if row.name not in OPTIMIZER_COLORS and not row.matched][:8]
    assert len({own.color for own in others}) == len({own.marker for own in others}) == 8
    assert (look["adam-eta'"].color, look["adam-eta'"].line, look["adam-eta'"].filled) == ("#0072B2", "--", False)


def test_matched_rows_of_one_optimizer_do_not_look_alike() -> None:
    rows = [Row("adam", "adam"), Row("m:Mine", "m:Mine"), *(Row(f"adam to {k}", "adam", k) for k in "abc")]
    look = looks(rows)
    assert len(set(look.values())) == len(rows)
    assert look["adam to a"] == look["adam"].as_control()
    assert all((look[f"adam to {k}"].line, look[f"adam to {k}"].filled) == ("--", False) for k in "abc")
    assert look["m:Mine"].as_control() not in look.values()  # as which a row of that optimizer would look


def test_every_pair_has_a_line_in_every_panel_with_its_own_values(tmp_path: Path) -> None:
    for task, spread in (("rte", 1.0), ("stsb", 0.1)):
        for optim in ("adam", "laprop", "madam", "lamadam"):
            for seed in (1, 2, 3):
                score = 70.0 + spread * (len(optim) + seed ** len(optim) % 5)
                write_run(tmp_path, make_record(task, optim, score=score, seed=seed))
    found = results(tmp_path, compare=["lamadam:adam", "lamadam:madam"])
    figure = forest_figure(found.made, found.pairs, found.margin)
    assert figure is not None and [pair.a.name for pair in found.pairs].count("lamadam") == 3
    assert [ax.get_title() for ax in figure.axes] == ["RTE (Acc)", "STS-B (Pearson)", "all tasks"]
    names = [label.get_text().replace("\n", " ") for label in figure.axes[0].get_yticklabels()]
    assert names == [pair.name for pair in found.pairs]
    for ax, task in zip(figure.axes, ("rte", "stsb", None), strict=True):
        dots = {line.get_ydata()[0]: line.get_xdata()[0] for line in ax.lines if line.get_marker() not in ("", "None")}
        for place, pair in enumerate(found.pairs):
            assert pair.difference is not None
            of_task = {c.task: c.difference_of_means for c in pair.compared}
            assert dots[place] == pytest.approx(of_task[task] if task else pair.difference.value)


def test_a_run_that_fell_apart_does_not_flatten_the_search(tmp_path: Path) -> None:
    """The panel ends above it, and an arrow stands for it."""
    for lr, score in ((1e-5, 84.0), (2e-5, 86.0), (4e-5, 87.0), (8e-5, 86.5), (1.6e-4, 15.0)):
        for seed in (1, 2, 3):
            write_run(tmp_path, make_record("rte", "adam", score=score + seed / 10 - 0.2, lr=lr, weight_decay=0.1,
                                            seed=1000 + seed))  # fmt: skip
    write_run(tmp_path, make_record("rte", "adam", score=87.0, lr=4e-5, weight_decay=0.1, seed=1))
    found = results(tmp_path)
    figure = line_figure(found.searches, found.made.rows)
    assert figure is not None
    low, high = figure.axes[0].get_ylim()
    arrows = [line for line in figure.axes[0].lines if line.get_marker() == "v" and len(line.get_xdata())]
    assert 15.1 < low < 83.8 and 87.1 < high < 2 * 87.1 - low
    assert [list(line.get_xdata()) for line in arrows] == [[1.6e-4] * 3]


def test_further_colours_can_be_told_apart() -> None:
    """Neighbours in the order in which they are given out differ clearly in red, green and blue."""
    rows = ordered([Row(f"m:Opt{k}", f"m:Opt{k}") for k in range(8)])
    colors = [look.color for look in looks(rows).values()]
    rgb = [np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)]) for color in colors]
    assert min(np.abs(a - b).sum() for a, b in pairwise(rgb)) > 120


def test_panels_fill_their_lines_as_equally_as_can_be() -> None:
    assert [balanced(count, 4) for count in range(1, 10)] == [1, 2, 3, 4, 3, 3, 4, 4, 3]


def test_figure_text_is_wrapped_and_no_mathematics() -> None:
    assert figure_text("SGD (momentum=0.9, nesterov=true)", 18) == "SGD (momentum=0.9,\nnesterov=true)"
    assert figure_text("a$b$", 18) == r"a\$b\$"
    assert max(len(line) for line in figure_text("x" * 500, 18).split("\n")) == 18
