"""Table and figure of the examples, from records made by hand."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from glue_mva import UsageError
from glue_mva.style import FURTHER_COLORS, FURTHER_MARKERS, MUTED, OPTIMIZER_COLORS, OPTIMIZER_MARKERS


def test_every_optimizer_is_drawn_and_sgd_looks_like_no_other(
    examples: SimpleNamespace, add: Callable[..., None], tmp_path: Path
) -> None:
    for optim in examples.report.LABELS:
        add(optim)
        add(optim, seed=2, test=71.5)
    text = examples.report.write(tmp_path, examples.image_classification.PRESETS)
    assert all(f"| {label} " in text for label in examples.report.LABELS.values())
    assert (tmp_path / "curves.png").stat().st_size and (tmp_path / "report.md").read_text() == text
    colors, markers = list(OPTIMIZER_COLORS.values()), list(OPTIMIZER_MARKERS.values())
    assert [*colors, *FURTHER_COLORS, MUTED].count(OPTIMIZER_COLORS["sgd"]) == 1
    assert [*markers, *FURTHER_MARKERS].count(OPTIMIZER_MARKERS["sgd"]) == 1


def test_the_table_is_there_where_the_figure_cannot_be_drawn(
    examples: SimpleNamespace, add: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add("adam")
    monkeypatch.setattr(examples.report, "curves", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        examples.report.write(tmp_path, examples.image_classification.PRESETS)
    assert "Adam" in (tmp_path / "report.md").read_text()


def test_a_learning_rate_is_chosen_on_the_seeds_that_all_have_and_without_diverged_runs(
    examples: SimpleNamespace, add: Callable[..., None], tmp_path: Path
) -> None:
    for seed, validation in enumerate((60, 70, 99), start=1):
        add("adam", 1e-3, seed, validation)  # better only by the seed that the other lacks
    for seed, validation in enumerate((65, 72), start=1):
        add("adam", 2e-3, seed, validation)
    for seed in (1, 2, 3):
        add("adam", 4e-3, seed, 95, diverged=seed == 2)
        add("madam", 8e-3, seed, diverged=seed == 1)
    chosen = examples.report.choose(examples.report.load(tmp_path))
    assert list(chosen) == [("adam", "")] and set(chosen["adam", ""]["lr"]) == {2e-3}
    text = examples.report.write(tmp_path, examples.image_classification.PRESETS)
    assert "Unfinished: Adam lr 0.002 decay 0.1 has 2 of 3 seeds." in text
    assert "Diverged: Adam lr 0.004 seed 2, MAdam lr 0.008 seed 1." in text
    assert "No row for MAdam: each of its learning rates has a diverged run." in text
    search = text.partition("## Search")[2]
    rows = [line.replace(" ", "").split("|")[1:-1] for line in search.splitlines()]
    assert ["Adam", "0.001", "0.1", "2", "65.00"] in rows and ["Adam", "0.002", "0.1", "2", "**68.50**"] in rows
    assert "(edge)" not in text.splitlines()[4]


def test_cells_that_share_no_seed_are_not_compared(
    examples: SimpleNamespace, add: Callable[..., None], tmp_path: Path
) -> None:
    add("adam", 1e-3, 1)
    add("adam", 1e-3, 2)
    add("adam", 2e-3, 3, 99)
    assert set(examples.report.choose(examples.report.load(tmp_path))["adam", ""]["lr"]) == {1e-3}


def test_the_best_of_whole_sets_is_chosen_by_its_median(
    examples: SimpleNamespace, add: Callable[..., None], tmp_path: Path
) -> None:
    for seed, (one, other) in enumerate(((99, 70), (60, 71), (61, 72)), start=1):
        add("sgd", 0.1, seed, one, test=99)
        add("sgd", 0.2, seed, other, test=1)
    assert set(examples.report.choose(examples.report.load(tmp_path))["sgd", ""]["lr"]) == {0.2}


def test_a_step_size_is_matched_with_whole_sets_only_and_the_ratio_reached_is_reported(
    examples: SimpleNamespace, add: Callable[..., None], tmp_path: Path
) -> None:
    matched, seeds = examples.report.matched, (1, 2)
    for seed in seeds:
        add("laprop", 5e-4, seed, steps=(1e-3, 3e-3), decay=0.2)
        add("laprop", 1e-3, seed, validation=10, steps=(1, 1))
    add("lamadam", 1e-3, 1, steps=(4e-3, 6e-3))
    with pytest.raises(UsageError, match=r"--match lamadam: LaMAdam lr 0\.001 decay 0.1 has 1 of 2 seeds"):
        matched(tmp_path, "laprop", "lamadam", seeds)
    add("lamadam", 1e-3, 2, steps=(4e-3, 6e-3))
    assert matched(tmp_path, "laprop", "lamadam", seeds) == (1.25e-3, 0.2)  # 5e-4 times 5e-3 / 2e-3
    with pytest.raises(UsageError, match="has no finished runs of MAdam"):
        matched(tmp_path, "laprop", "madam", seeds)
    for seed in seeds:
        add("laprop", 1.25e-3, seed, steps=(4e-3, 5e-3), decay=0.2, matched="lamadam")
    assert matched(tmp_path, "laprop", "lamadam", seeds) == (1.25e-3, 0.2)
    text = examples.report.write(tmp_path, examples.image_classification.PRESETS)
    assert "reached: LaProp-\N{GREEK SMALL LETTER ETA}\N{PRIME} 0.90 times LaMAdam's." in text
    add("lamadam", 1e-3, 2, steps=(8e-3, 10e-3))
    with pytest.raises(UsageError, match=r"LaProp's lr is 0.00175, but .* has runs matched at 0.00125"):
        matched(tmp_path, "laprop", "lamadam", seeds)


def test_title_and_paper_are_those_of_the_runs_and_departures_are_said(
    examples: SimpleNamespace, add: Callable[..., None], tmp_path: Path
) -> None:
    presets = examples.image_classification.PRESETS
    own = presets["imagenet"].settings() | {"epochs": 15}
    add("sgd", **own, preset="imagenet")
    text = examples.report.write(tmp_path, presets)
    assert text.startswith("# ImageNet, ResNet-18: accuracy (%)")
    assert "Not as in the paper: epochs 15 (paper: 90), training rows 1260 (paper: 1281167);" in text
    assert [line.split("|")[1].strip() for line in text.splitlines()[4:6]] == ["SGD", "Adam (the paper copied it)"]
    assert "70.18" in text and "66.54" in text
    with pytest.raises(UsageError, match="has runs of preset imagenet, and this script has iwslt14"):
        examples.report.write(tmp_path, examples.translation.PRESETS)


def test_the_report_says_how_translations_are_scored(
    examples: SimpleNamespace, add: Callable[..., None], tmp_path: Path
) -> None:
    add("laprop", preset="demo")
    text = examples.report.write(tmp_path, examples.translation.PRESETS)
    assert "The table's BLEU is from beam search, the figure's from greedy search." in text
    assert "the last weights are scored" in text
