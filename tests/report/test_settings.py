"""Settings that runs of one table may differ in, and what a row is called for them."""

from pathlib import Path

import pytest

from glue_mva.errors import UsageError
from glue_mva.report.aggregate import study
from glue_mva.report.load import load_runs
from glue_mva.report.results import results
from glue_mva.report.tables import table3_markdown
from glue_mva.sweep.config import SweepConfig
from glue_mva.sweep.protocol import expand
from tests.report.factory import make_record, write_run


def test_optimizers_with_a_schedule_of_their_own_stand_in_one_table(tmp_path: Path) -> None:
    """And the caption says which; another schedule than an optimizer's usual one is refused beside it."""
    for optim in ("adam", "adafactor"):
        write_run(tmp_path, make_record("rte", optim, seed=1))
    caption = table3_markdown(results(tmp_path).table)
    assert "As usual with an optimizer: Adafactor lr_scheduler constant." in caption
    write_run(tmp_path, make_record("rte", "adafactor", seed=2, lr_scheduler="linear"))
    with pytest.raises(UsageError, match=r'RTE: runs with different lr_scheduler \("constant", "linear"\)'):
        results(tmp_path)


def test_changed_constants_are_part_of_a_rows_name(tmp_path: Path) -> None:
    """With the sweep's file as without, so that such a row never stands for the paper's."""
    changed = {"optim": "madam", "beta2_min": 0.9}
    usual = {"optim": "adam", "optim_args": {"betas": (0.9, 0.98)}}
    sweep = SweepConfig(tasks=["rte"], optimizers=["madam", changed, usual], protocol="fixed", final_seeds=1)
    for run in expand(sweep):
        write_run(tmp_path, make_record("rte", run.config.optim, seed=1, optim_args=run.config.optim_args))
    for found in (sweep, None):
        rows = study(load_runs([tmp_path]), found).rows
        assert [row.label for row in rows] == ["Adam", "MAdam", "MAdam (beta2_min=0.9)"]


def test_conditions_look_into_tables_and_at_what_was_given(tmp_path: Path) -> None:
    write_run(tmp_path, make_record("rte", "madam", seed=1))
    write_run(tmp_path, make_record("rte", "madam", seed=1, optim_args={"beta1": 0.8}))
    started = make_record("rte", "madam", seed=1, init_from="runs/mnli")
    assert started.model is not None
    write_run(tmp_path, started.model_copy(update={"model": started.model.model_copy(update={"start": "sha256:1"})}))
    for condition, count in (("optim_args.beta1=0.9", 2), ("optim_args.beta1=0.8", 1), ("init_from=runs/mnli", 1)):
        assert len(load_runs([tmp_path], [condition]).table) == count
