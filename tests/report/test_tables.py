"""Table 3 as printed: equal to the paper's for the paper's numbers, honest about what is missing."""

import csv
from pathlib import Path

import pytest

from glue_mva import paper, text
from glue_mva.record import CONSTANT
from glue_mva.report import tables
from glue_mva.report.aggregate import Study, study
from glue_mva.report.frames import run_table
from glue_mva.report.load import load_runs
from glue_mva.sweep.config import SweepConfig
from glue_mva.tasks import TASKS
from tests.report.factory import four_scores, make_record, write_run

PRINTED = """\
Reported (Liu et al. 2019),87.6,92.8,91.9,78.7,94.8,90.2,63.6,91.2
Adam,87.70 (.03),92.85 (.06),91.80 (.03),79.25 (.71),94.75 (.08),88.50 (.24),61.92 (1.1),91.17 (.13)
LaProp,87.80 (.04),92.85 (.13),91.80 (.03),78.00 (.46),94.65 (.11),89.20 (.20),63.01 (.61),91.17 (.06)
MAdam,87.90 (.08),92.95 (.07),91.85 (.03),79.60 (.66),94.85 (.12),89.70 (.17),63.33 (.60),91.28 (.03)
LaMAdam,87.80 (.03),93.05 (.05),91.85 (.05),80.15 (.64),95.15 (.15),90.20 (.20),63.84 (.85),91.36 (.04)
"""
"""Table 3 of the paper, copied from its page."""
AVERAGES = ["86.35", "85.99", "86.06", "86.43", "86.68"]
"""Of its lines, by hand."""


def read(folder: Path, **options) -> Study:
    return study(load_runs([folder]), None, **options)


@pytest.fixture(scope="module")
def papers_runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four seeds per cell with the median and standard error of the paper."""
    runs = tmp_path_factory.mktemp("paper")
    for optim, row in paper.TABLE3.items():
        for task, (median, error) in row.items():
            for seed, score in enumerate(four_scores(median, error), start=1):
                write_run(runs, make_record(task, optim, score=score, seed=seed, curves=False))
    return runs


def test_records_with_the_papers_numbers_print_the_papers_table(papers_runs: Path) -> None:
    table = tables.table3(read(papers_runs))
    header, *lines = tables.table3_csv(table).splitlines()
    assert [line.rpartition(",")[0] for line in lines] == PRINTED.splitlines()
    assert [line.rpartition(",")[2].partition(" ")[0] for line in lines] == AVERAGES
    assert (
        header == "Method,MNLI (Acc),QNLI (Acc),QQP (Acc),RTE (Acc),SST-2 (Acc),MRPC (Acc),CoLA (Mcc),STS-B (Pearson),"
        "Average"
    )
    assert table.notes == []


def test_the_best_of_each_column_is_bold_and_equals_share_it(papers_runs: Path) -> None:
    markdown = tables.table3_markdown(tables.table3(read(papers_runs)))
    lines = {line.split("|")[1].strip(): line for line in markdown.splitlines() if line.startswith("|")}
    assert lines["MAdam"].count("**") == 2 * 2  # MNLI, and QQP with LaMAdam
    assert lines["LaMAdam"].count("**") == 2 * 8
    assert "**91.85 (.03)**" in lines["MAdam"]
    assert "**91.85 (.05)**" in lines["LaMAdam"]
    assert "**" not in lines["Adam"] + lines["LaProp"] + lines["Reported (Liu et al. 2019)"]


def test_latex_has_the_same_cells_and_balanced_braces(papers_runs: Path) -> None:
    latex = tables.table3_latex(tables.table3(read(papers_runs), with_paper=True))
    for rule in (r"\toprule", r"\midrule", r"\bottomrule"):
        assert latex.count(rule) == 1
    rows = [line for line in latex.splitlines() if line.endswith(r"\\")]
    assert {row.count("&") for row in rows} == {9}
    assert rows[0].startswith("    Method & MNLI & QNLI &")
    assert rows[1].startswith("     & (Acc) & (Acc) &")
    assert r"\textbf{80.15 (.64)}" in latex
    assert latex.count("{") == latex.count("}")


def test_with_paper_puts_values_and_difference_beneath(papers_runs: Path) -> None:
    lines = list(csv.reader(tables.table3_csv(tables.table3(read(papers_runs), with_paper=True)).splitlines()))
    names = [line[0] for line in lines]
    place = names.index("MAdam")
    assert names[place + 1 : place + 3] == ["MAdam, paper", "MAdam, ours minus paper"]
    assert lines[place + 1][1:-1] == lines[place][1:-1]
    assert lines[place + 1][-1] == "86.43"
    assert set(lines[place + 2][1:]) == {"0.00"}


def test_error_is_printed_as_in_the_paper() -> None:
    assert [text.error(v) for v in (0.034, 0.6, 0.994, 0.9951, 1.1, 12.34)] == [
        ".03",
        ".60",
        ".99",
        "1.0",
        "1.1",
        "12.3",
    ]


def test_rates_are_short_and_exact() -> None:
    assert [text.rate(v) for v in (1e-4, 1.28e-3, 1e-5 * 0.2, 0.025, 0.1, 0.0)] == [
        "1e-4",
        "1.28e-3",
        "2e-6",
        "0.025",
        "0.1",
        "0",
    ]


def test_missing_cells_say_why_and_are_never_averaged_over_fewer_seeds(tmp_path: Path) -> None:
    for seed in (1, 2, 3, 4):
        write_run(tmp_path, make_record("rte", "adam", score=70.0 + seed, seed=seed))
        write_run(tmp_path, make_record("sst2", "adam", score=90.0 + seed, seed=seed))
        status = "diverged" if seed > 2 else "ok"
        write_run(tmp_path, make_record("rte", "laprop", score=70.0 if seed < 3 else None, status=status, seed=seed))
        write_run(tmp_path, make_record("rte", "madam", score=None, status="diverged", seed=seed))
        if seed < 3:
            write_run(tmp_path, make_record("rte", "lamadam", score=80.0, seed=seed))
    made = read(tmp_path)
    table = tables.table3(made)
    assert table.entries["rte", "adam"].text == "72.50 (.65)"
    assert [table.entries["rte", o].text for o in ("laprop", "madam", "lamadam")] == ["-", "-", "-"]
    assert table.notes == [
        "RTE, LaProp: 2 of 4 seeds (2 diverged)",
        "SST-2, LaProp: not run",
        "RTE, MAdam: diverged (all 4 runs)",
        "SST-2, MAdam: not run",
        "RTE, LaMAdam: 2 of 4 seeds",
        "SST-2, LaMAdam: not run",
    ]
    assert "0.00" not in tables.table3_csv(table)
    assert tables.table3(read(tmp_path, seeds=2)).entries["rte", "lamadam"].text == "80.00 (.00)"


def test_one_seed_has_no_standard_error(tmp_path: Path) -> None:
    write_run(tmp_path, make_record("rte", "adam", score=70.0, seed=1))
    assert tables.table3(read(tmp_path)).entries["rte", "adam"].text == "70.00"


def test_caption_says_another_model_and_partial_data(tmp_path: Path) -> None:
    record = make_record("rte", "adam", model_name="build/small", partial=True, max_train_samples=100)
    assert record.data is not None
    data = record.data.model_copy(update={"rows": {"train": 100, "validation": 50}})
    write_run(tmp_path, record.model_copy(update={"data": data}))
    caption = tables.table3(read(tmp_path)).caption
    assert "build/small (125 million parameters), not the paper's RoBERTa-base" in caption
    assert "RTE (100 of 2,490 training rows, 50 of 277 dev rows)" in caption


def test_caption_says_how_hyperparameters_were_chosen(tmp_path: Path) -> None:
    for lr in (1e-5, 2e-5):
        write_run(tmp_path, make_record("rte", "adam", score=70.0, lr=lr, seed=1))
    assert "selected by the very scores that are shown" in tables.table3(read(tmp_path)).caption
    point = SweepConfig(output="runs", tasks=["rte"], optimizers=["adam"], lr=1e-5, weight_decay=0.1, final_seeds=1)
    searched = point.replace(lr=[1e-5, 2e-5], protocol="grid")
    for sweep, said in ((point, "No hyperparameter was searched"), (searched, "and with the same seeds")):
        write_run(tmp_path, make_record("rte", "adam", score=70.0, lr=1e-5, weight_decay=0.1, seed=1))
        assert said in tables.table3(study(load_runs([tmp_path]), sweep)).caption


def test_caption_names_settings_that_are_not_the_recipes(tmp_path: Path) -> None:
    """And the paper's numbers then do not stand beside them, though model and data are the paper's."""
    usual, changed, other = tmp_path / "usual", tmp_path / "changed", tmp_path / "other"
    write_run(usual, make_record("rte", "adam", seed=1, num_train_epochs=10.0, precision="bf16"))
    write_run(changed, make_record("rte", "adam", seed=1, num_train_epochs=3, max_length=128, layer_decay=0.9))
    write_run(changed, make_record("cola", "adam", seed=1, max_steps=50, max_length=128))
    write_run(other, make_record("rte", "adam", seed=1, recipe="hf"))
    assert "recipe" not in tables.table3(read(usual)).caption and tables.is_papers_setting(read(usual))
    caption = tables.table3(read(changed)).caption
    said = "num_train_epochs 3 (RTE), layer_decay 0.9 (RTE), max_length 128, max_steps 50 (CoLA)"
    assert f"Not as in the recipe: {said}." in caption
    assert "Recipe: hf." in tables.table3(read(other)).caption
    assert not tables.is_papers_setting(read(changed)) and not tables.is_papers_setting(read(other))


def test_a_matched_row_says_whose_step_size_it_was_given_and_how_much_of_it_it_has(tmp_path: Path) -> None:
    """The paper's Figure 5; made-up steps are lr x 0.2 for Adam and lr x 0.12 for MAdam."""
    fixed = {"weight_decay": 0.1, "seed": 1}
    matched = {"name": "adam-eta'", "optim": "adam", "match_step_size": "madam"}
    sweep = SweepConfig(output="runs", tasks=["rte"], optimizers=["adam", "madam", matched], lr=2e-5, weight_decay=0.1,
                        final_seeds=1)  # fmt: skip
    for optim, lr in (("adam", 2e-5), ("madam", 2e-5), ("adam", 1.2e-5)):
        write_run(tmp_path, make_record("rte", optim, lr=lr, **fixed))
    table = tables.table3(study(load_runs([tmp_path]), sweep))
    eta = "RTE, Adam-\N{GREEK SMALL LETTER ETA}\N{PRIME}"
    assert f"{eta}: learning rate 1.2e-5, set for MAdam's average step size, of which it reached 1.00" in table.notes
    assert "Not searched, but set for the average step size of another row: Adam-" in table.caption


def test_caption_of_the_papers_model_and_data_names_neither(papers_runs: Path) -> None:
    caption = tables.table3(read(papers_runs)).caption
    assert "Model:" not in caption
    assert "Partial" not in caption


def test_other_optimizers_and_constants_are_rows_of_their_own_after_the_papers(tmp_path: Path) -> None:
    write_run(tmp_path, make_record("rte", "torch.optim:SGD", seed=1))
    write_run(tmp_path, make_record("rte", "madam", seed=1, optim_args={"beta2_min": 0.3}))
    write_run(tmp_path, make_record("rte", "madam", seed=1))
    write_run(tmp_path, make_record("rte", "adam", seed=1))
    labels = [row.label for row in read(tmp_path).rows]
    assert labels == ["Adam", "MAdam", "MAdam (beta2_min=0.3)", "SGD"]


def test_warnings_of_final_runs_stand_under_the_table(tmp_path: Path) -> None:
    for seed in (1, 2, 3, 4):
        record = make_record("rte", "adam", seed=seed)
        write_run(tmp_path, record.model_copy(update={"warnings": [CONSTANT]} if seed < 3 else {}))
    made = read(tmp_path)
    assert tables.table3(made).notes == [f"RTE, Adam: 2 of 4 runs: {CONSTANT}"]
    assert run_table(made)["warnings"].notna().sum() == 2


def test_a_warning_hides_no_other_seed_that_is_no_better_than_a_constant_prediction(tmp_path: Path) -> None:
    """Seed 1 says itself that it did not learn, seed 2 warns of something else, seed 3 of nothing; seed 4 learned."""
    unknown = "6 % of the tokens are not known"
    for seed, score, warnings in ((1, 50.0, [unknown, CONSTANT]), (2, 50.0, [unknown]), (3, 49.0, []), (4, 70.0, [])):
        record = make_record("rte", "adam", score=score, seed=seed)
        write_run(tmp_path, record.model_copy(update={"warnings": warnings}))
    assert tables.table3(read(tmp_path)).notes == [
        f"RTE, Adam: 1 of 4 runs: {unknown}; {CONSTANT}",
        f"RTE, Adam: 1 of 4 runs: {unknown}",
        "RTE, Adam: 2 of 4 seeds (2, 3) are no better than a constant prediction",
    ]


def test_no_row_mixes_two_versions_of_an_optimizer(tmp_path: Path) -> None:
    for seed, source, created in ((1, "old", "01"), (2, "old", "02"), (3, "new", "03"), (4, "new", "04")):
        record = make_record("rte", "m:Mine", seed=seed, score=60.0 + seed, created=f"2026-01-{created}T00:00:00Z")
        write_run(tmp_path, record.model_copy(update={"optimizer_source": source}))
    made = read(tmp_path)
    assert sorted(made.scores("rte", "m:Mine")) == [63.0, 64.0]
    assert "m:Mine: 2 runs of another version than the latest left out" in made.runs.notes


def test_columns_are_the_papers() -> None:
    assert [t for t in TASKS if t in paper.TABLE3_TASKS] == list(paper.TABLE3_TASKS)


def test_the_caption_counts_the_seeds_that_each_cell_has(tmp_path: Path) -> None:
    for optim, seeds in (("adam", 5), ("madam", 6)):
        for seed in range(1, seeds + 1):
            write_run(tmp_path, make_record("rte", optim, score=60.0 + seed, seed=seed))
    assert "over 5 to 6 seeds." in tables.table3(read(tmp_path)).caption


def test_a_fixed_row_that_the_paper_lacks_is_not_at_its_best(tmp_path: Path) -> None:
    sweep = SweepConfig(tasks=["rte"], optimizers=["adam", "sgd"], protocol="fixed", final_seeds=1)
    for optim in ("adam", "sgd"):
        write_run(tmp_path, make_record("rte", optim, seed=1))
    made = study(load_runs([tmp_path]), sweep)
    caption = tables.caption(made, tables.table3(made))
    assert "Hyperparameters are the paper's best; nothing was searched. The paper has none for SGD: Adam's" in caption
