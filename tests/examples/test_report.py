"""Table and figure of the examples, from records made by hand."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from glue_mva.style import FURTHER_COLORS, FURTHER_MARKERS, MUTED, OPTIMIZER_COLORS, OPTIMIZER_MARKERS


def test_every_optimizer_is_drawn_and_sgd_looks_like_no_other(
    examples: SimpleNamespace, add: Callable[..., None], tmp_path: Path
) -> None:
    for optim in examples.report.LABELS:
        add(optim)
        add(optim, seed=2, test=71.5)
    text = examples.report.write(tmp_path, examples.image_classification.PRESETS["demo"])
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
        examples.report.write(tmp_path, examples.image_classification.PRESETS["demo"])
    assert "Adam" in (tmp_path / "report.md").read_text()
