"""Which run counts for which cell: with and without a sweep, duplicates, mixtures, unusable records."""

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest

from glue_mva.config.identity import identity
from glue_mva.errors import UsageError
from glue_mva.record import read_record
from glue_mva.report.aggregate import Study, missing_reason, study
from glue_mva.report.build import build_report
from glue_mva.report.frames import cell_table, run_table
from glue_mva.report.load import check_comparable, load_runs
from glue_mva.report.results import results
from glue_mva.report.tables import table3
from glue_mva.sweep.config import SweepConfig
from glue_mva.sweep.hparams import Hparams
from glue_mva.sweep.kept import keep_sweep
from glue_mva.sweep.protocol import Outcome, cells, known_runs
from tests.report.factory import UPDATES, make_execution, make_record, write_run

GRID = {"lr": [1e-5, 2e-5, 4e-5], "weight_decay": [0.1, 0.2]}


def search_score(optim: str, lr: float, decay: float) -> float:
    """Best at lr 2e-5 and decay 0.2; final seeds are to score 2 less."""
    return {1e-5: 70.0, 2e-5: 75.0, 4e-5: 72.0}[lr] + 10 * decay + len(optim)


def run_sweep(sweep: SweepConfig, folder: Path, *, rounds: int = 3) -> None:
    """Write the records of a sweep stage by stage, as the engine would."""
    outcomes: dict[str, Outcome] = {}
    for _ in range(rounds):
        for run in known_runs(cells(sweep), outcomes):
            if run.run_id in outcomes:
                continue
            c = run.config
            lr = min(GRID["lr"], key=lambda known: abs(known - run.hparams.lr))
            score = search_score(c.optim, lr, run.hparams.weight_decay)
            if c.seed < 1000 and sweep.protocol != "grid":
                score += c.seed / 10 - 2
            record = make_record(c.task, c.optim, score=score, lr=c.lr, weight_decay=c.weight_decay, seed=c.seed,
                                 optim_args=c.optim_args, routes=c.routes,
                                 holdout_fraction=c.holdout_fraction)  # fmt: skip
            write_run(folder, record)
            outcomes[run.run_id] = Outcome.of(record)


def sweep_of(**values) -> SweepConfig:
    return SweepConfig(**({"tasks": ["rte"], "optimizers": ["adam", "madam"]} | GRID | values))


def test_paper_protocol_selects_by_search_seeds_and_shows_other_seeds(tmp_path: Path) -> None:
    sweep = sweep_of(search_seeds=2)
    run_sweep(sweep, tmp_path)
    made = study(load_runs([tmp_path]), sweep)
    assert made.chosen["rte", "adam"] == Hparams(2e-5, 0.2)
    assert list(made.scores("rte", "adam").index) == [1, 2, 3, 4]
    assert made.scores("rte", "adam").median() == pytest.approx(75 + 2 + 4 - 2 + 0.25)
    assert len(made.of("rte", "adam", "search")) == 12
    assert missing_reason(made, "rte", "adam") is None


def test_heldout_protocol_keeps_the_two_kinds_of_scores_apart(tmp_path: Path) -> None:
    sweep = sweep_of(protocol="heldout")
    run_sweep(sweep, tmp_path)
    made = study(load_runs([tmp_path]), sweep)
    check_comparable(made.runs, made.runs.table["optim"])
    assert set(made.of("rte", "adam", "search")["split"]) == {"holdout"}
    assert set(made.final("rte", "adam")["split"]) == {"validation"}


def test_grid_protocol_uses_the_same_runs_to_select_and_to_show(tmp_path: Path) -> None:
    sweep = sweep_of(protocol="grid", final_seeds=3)
    run_sweep(sweep, tmp_path)
    made = study(load_runs([tmp_path]), sweep)
    assert len(made.of("rte", "madam", "search")) == 18
    assert set(made.final("rte", "madam")["run_id"]) <= set(made.of("rte", "madam", "search")["run_id"])
    table = run_table(made)
    assert len(table) == 36
    assert set(table["stage"]) == {"search", "final+search"}


def test_a_matched_row_gets_its_own_runs(tmp_path: Path) -> None:
    entries = ["adam", "madam", {"name": "adam-eta'", "optim": "adam", "match_step_size": "madam"}]
    sweep = SweepConfig(tasks=["rte"], optimizers=entries, **GRID)
    run_sweep(sweep, tmp_path)
    made = study(load_runs([tmp_path]), sweep)
    assert made.chosen["rte", "adam-eta'"].lr == pytest.approx(1.2e-5)  # the factory's step sizes are 0.12 and 0.2 x lr
    assert [row.label for row in made.rows] == ["Adam", "MAdam", "Adam-η\N{PRIME}"]
    assert len(made.scores("rte", "adam-eta'")) == 4


def test_a_row_with_routes_is_one_of_its_own(tmp_path: Path) -> None:
    """With the sweep's file by its name; without, by what it is. Its class is another version of nothing."""
    routes = [{"match": "layer", "optim": "tests.optim.test_rivals:Own"}, {"match": "embed", "optim": "muon"}]
    routed = {"name": "inside", "optim": "adam", "routes": routes}
    sweep = sweep_of(optimizers=["adam", routed])
    run_sweep(sweep, tmp_path)
    for record in [read_record(path) for path in tmp_path.glob("*/record.json")]:
        write_run(tmp_path, record.model_copy(update={"optimizer_source": identity(record.config).optimizer_source}))
    runs = load_runs([tmp_path])
    check_comparable(runs, runs.table["optim"])
    made = study(runs, sweep)
    assert [row.label for row in made.rows] == ["Adam", "inside"] and not made.runs.notes
    assert [len(made.final("rte", row)) for row in ("adam", "inside")] == [4, 4]
    assert not set(made.final("rte", "adam")["run_id"]) & set(made.final("rte", "inside")["run_id"])
    plain, other = study(runs, None).rows
    assert plain.name == "adam" and other.name == f"adam (routes={json.dumps(routes)})"


def test_records_are_found_where_the_models_folder_is_not(tmp_path: Path) -> None:
    """`run_id` holds a digest of the model; the report must work on a machine that has only the records."""
    sweep = sweep_of()
    run_sweep(sweep, tmp_path)
    moved = sweep.replace(run={"model": "folder/elsewhere", "data": "elsewhere"})
    assert len(study(load_runs([tmp_path]), moved).scores("rte", "adam")) == 4


def test_unfinished_stages_are_named(tmp_path: Path) -> None:
    sweep = sweep_of()
    run_sweep(sweep, tmp_path, rounds=1)
    made = study(load_runs([tmp_path]), sweep)
    assert missing_reason(made, "rte", "adam") == "final seeds not run"
    more = sweep.replace(lr=[*GRID["lr"], 5e-5], optimizers=["adam", "madam", "laprop"])
    made = study(load_runs([tmp_path]), more)
    assert missing_reason(made, "rte", "adam") == "search not finished (6 of 8 runs)"
    assert missing_reason(made, "rte", "laprop") == "not run"
    matched = sweep.replace(optimizers=["adam", "madam", {"name": "eta", "optim": "adam", "match_step_size": "madam"}])
    made = study(load_runs([tmp_path]), matched)
    assert missing_reason(made, "rte", "eta") == "waits for the final seeds of its optimizer's plain row and of madam"


def test_runs_of_another_sweep_in_the_same_folder_do_not_count(tmp_path: Path) -> None:
    sweep = sweep_of()
    run_sweep(sweep, tmp_path)
    write_run(tmp_path, make_record("rte", "adam", score=99.0, lr=2e-5, weight_decay=0.2, seed=77))
    write_run(tmp_path, make_record("rte", "adam", score=99.0, lr=2e-5, weight_decay=0.2, seed=1, num_train_epochs=3.0))
    made = study(load_runs([tmp_path]), sweep.replace(run={"num_train_epochs": 10.0}))
    assert made.scores("rte", "adam").max() < 90
    assert any("no part of this sweep" in note for note in made.notes)


@pytest.mark.parametrize(
    ("run", "said"),
    [
        (
            {"num_train_epochs": 1.0},
            r"44 runs were made with other settings .*: num_train_epochs = 10\.0 \(file: 1\.0\)",
        ),
        ({"max_length": 64, "recipe": "hf"}, r"max_length = 512 \(file: 64\).*--as-found"),
        ({"precision": "bf16"}, r'precision = "auto" \(file: "bf16"\)'),
    ],
)
def test_a_file_that_contradicts_the_records_is_refused_with_the_settings(tmp_path: Path, run: dict, said: str) -> None:
    """Also where the file names a setting that the recipe gave the runs."""
    sweep = sweep_of(search_seeds=3)
    run_sweep(sweep, tmp_path)
    other = sweep.replace(run=run)
    with pytest.raises(UsageError, match=said):
        study(load_runs([tmp_path]), other)
    made = study(load_runs([tmp_path]), other, as_found=True)
    assert len(made.scores("rte", "adam")) == 4
    assert any("taken as found" in note for note in made.runs.notes)


def test_a_file_that_leaves_out_a_setting_of_the_records_contradicts_them(tmp_path: Path) -> None:
    for seed in (1, 2):
        write_run(tmp_path, make_record("rte", "adam", lr=1e-5, weight_decay=0.1, seed=seed, num_train_epochs=2.0))
    sweep = SweepConfig(tasks=["rte"], optimizers=["adam"], lr=1e-5, weight_decay=0.1, final_seeds=2)
    with pytest.raises(UsageError, match=r"2 runs were .*: num_train_epochs = 2\.0 \(file: 10\.0\)"):
        study(load_runs([tmp_path]), sweep)
    write_run(tmp_path, make_record("rte", "adam", score=71.0, lr=1e-5, weight_decay=0.1, seed=1))
    made = study(load_runs([tmp_path]), sweep)
    assert made.scores("rte", "adam").to_dict() == {1: 71.0}
    assert any("2 runs were made with other settings" in note and "left out" in note for note in made.runs.notes)


def test_with_the_kept_sweep_search_seeds_are_not_pooled_wherever_the_folder_lies(tmp_path: Path) -> None:
    sweep = sweep_of(output=str(tmp_path / "runs"), search_seeds=2, final_seeds=2, tasks=["rte"])
    run_sweep(sweep, tmp_path / "runs")
    keep_sweep(sweep)
    whole = results(tmp_path / "runs")
    assert list(whole.made.scores("rte", "adam").index) == [1, 2]
    assert whole.made.planned["rte", "adam", "search"] == 12
    assert all("predictions.npz" in note for note in whole.notes)  # of which these runs have none
    shutil.move(tmp_path / "runs", tmp_path / "elsewhere" / "renamed")
    moved = results(tmp_path / "elsewhere" / "renamed")
    assert moved.table3.to_markdown() == whole.table3.to_markdown()
    pd.testing.assert_frame_equal(moved.cells, whole.cells)
    # Two halves of it, as from two machines, and one of them twice.
    halves = [tmp_path / "half", tmp_path / "other half"]
    for number, folder in enumerate(sorted(p for p in (tmp_path / "elsewhere" / "renamed").iterdir() if p.is_dir())):
        shutil.copytree(folder, halves[number % 2] / folder.name)
    for half in halves:
        shutil.copy(tmp_path / "elsewhere" / "renamed" / "sweep.json", half)
    merged = results(*halves, halves[0])
    assert merged.table3.to_markdown() == whole.table3.to_markdown()


def test_without_a_sweep_search_seeds_are_not_pooled(tmp_path: Path) -> None:
    """Also where the search had as many seeds as were asked for, and a better score."""
    for seed in (1001, 1002, 1003):
        write_run(tmp_path, make_record("rte", "adam", score=80.0, lr=1e-5, seed=seed))
    for seed in (1, 2):
        write_run(tmp_path, make_record("rte", "adam", score=70.0 + seed, lr=1e-5, seed=seed))
    made = results(tmp_path).made
    assert made.scores("rte", "adam").to_dict() == {1: 71.0, 2: 72.0}
    assert made.of("rte", "adam", "search")["seed"].tolist() == [1001, 1002, 1003]


def test_no_record_of_the_sweep_is_an_error(tmp_path: Path) -> None:
    write_run(tmp_path, make_record("rte", "laprop", seed=3))
    with pytest.raises(UsageError, match="none of 1 records belongs to the sweep"):
        study(load_runs([tmp_path]), sweep_of())


def test_without_a_sweep_the_best_median_with_enough_seeds_counts(tmp_path: Path) -> None:
    for seed in (1, 2, 3, 4):
        write_run(tmp_path, make_record("rte", "adam", score=70.0 + seed, lr=1e-5, seed=seed))
        write_run(tmp_path, make_record("rte", "adam", score=60.0 + seed, lr=2e-5, seed=seed))
    write_run(tmp_path, make_record("rte", "adam", score=95.0, lr=4e-5, seed=1))  # one lucky seed
    made = study(load_runs([tmp_path]), None)
    assert made.chosen["rte", "adam"].lr == 1e-5
    assert made.final_seeds == 4
    assert "no sweep file" in made.notes[0]


def test_without_a_sweep_a_diverged_run_is_the_worst_of_its_point(tmp_path: Path) -> None:
    """As in a sweep: half of the runs at 2e-5 diverged, so 1e-5 is the better point, whatever the others came to."""
    for seed in range(1, 5):
        write_run(tmp_path, make_record("rte", "adam", score=70.0 + seed, lr=1e-5, seed=seed))
        lost = {"score": None, "status": "diverged"} if seed > 2 else {"score": 90.0 + seed}
        write_run(tmp_path, make_record("rte", "adam", lr=2e-5, seed=seed, **lost))
    made = study(load_runs([tmp_path]), None)
    assert made.chosen["rte", "adam"].lr == 1e-5 and made.chosen_among == {("rte", "adam"): 2}
    assert made.values("rte", "adam").tolist() == [71, 72, 73, 74] and made.chosen_on_final


def test_a_seed_that_lies_there_twice_counts_once_the_latest(tmp_path: Path) -> None:
    write_run(tmp_path / "a", make_record("rte", "adam", score=70.0, seed=1, created="2026-01-01T00:00:00Z"))
    write_run(tmp_path / "b", make_record("rte", "adam", score=80.0, seed=1, created="2026-02-01T00:00:00Z"))
    write_run(tmp_path / "b", make_record("rte", "adam", score=75.0, seed=2))
    runs = load_runs([tmp_path])
    made = study(runs, None)
    assert made.scores("rte", "adam").to_dict() == {1: 80.0, 2: 75.0}
    assert any("different scores" in note for note in runs.notes)
    # Another run_id, but the same settings and seed (the model under another path).
    write_run(
        tmp_path / "c", make_record("rte", "adam", score=90.0, seed=2, data="demo", created="2026-03-01T00:00:00Z")
    )
    made = study(load_runs([tmp_path]), None)
    assert made.scores("rte", "adam").to_dict() == {1: 80.0, 2: 90.0}
    assert any("(2) count once" in note for note in made.notes)


def test_a_failed_copy_does_not_hide_a_finished_run(tmp_path: Path) -> None:
    write_run(tmp_path / "a", make_record("rte", "adam", score=70.0, seed=1, created="2026-01-01T00:00:00Z"))
    failed = make_record("rte", "adam", score=None, status="failed", seed=1, created="2026-02-01T00:00:00Z")
    write_run(tmp_path / "b", failed)
    assert study(load_runs([tmp_path]), None).scores("rte", "adam").to_dict() == {1: 70.0}


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"model_name": "other/model"}, r"2 models .*FacebookAI/roberta-base \(1 run\).*--where model=NAME"),
        ({"recipe": "hf"}, "2 recipes .*--where recipe=NAME"),
        ({"train_batch_size": 64}, r"RTE: runs with different train_batch_size \(16, 64\)"),
        ({"max_train_samples": 100}, "RTE: runs on 2 different sets of rows"),
    ],
)
def test_mixtures_are_refused_with_the_way_out(tmp_path: Path, other: dict, message: str) -> None:
    write_run(tmp_path, make_record("rte", "adam", seed=1))
    write_run(tmp_path, make_record("rte", "madam", seed=2, **other))
    with pytest.raises(UsageError, match=message):
        check_comparable(runs := load_runs([tmp_path]), runs.table["optim"])


def test_one_model_under_several_paths_is_one_model_with_one_name(tmp_path: Path) -> None:
    def write(optim: str, seed: int, name: str, digest: str | None, **values: str) -> None:
        record = make_record("rte", optim, seed=seed, **values)
        assert record.model is not None
        model = record.model.model_copy(update={"name": name, "digest": digest})
        write_run(tmp_path, record.model_copy(update={"model": model}))

    write("adam", 1, "/a/small", "sha256:1")
    write("madam", 1, "/a/small", "sha256:1")
    write("adam", 2, "/b/small", "sha256:1")
    write("madam", 2, "/b/small", None)  # which model lies there, another run says
    made = study(load_runs([tmp_path]), None)
    assert set(made.members["model"]) == {"/a/small"} and len(made.runs.table) == 4
    assert "Model: /a/small (125 million parameters), not the paper's" in table3(made).caption
    write("laprop", 1, "/d/small", "sha256:2")
    write("laprop", 2, "/c/small", "sha256:2")
    write("laprop", 3, "/c/small", "sha256:2")
    with pytest.raises(UsageError, match=r"2 models .*: /a/small \(4 runs\), /c/small \(3 runs\)"):
        study(load_runs([tmp_path]), None)


def test_two_models_of_one_name_are_refused(tmp_path: Path) -> None:
    for seed, digest in ((1, "sha256:1"), (2, "sha256:2")):
        record = make_record("rte", "adam", seed=seed)
        assert record.model is not None
        write_run(tmp_path, record.model_copy(update={"model": record.model.model_copy(update={"digest": digest})}))
    with pytest.raises(UsageError, match="2 different models of one name"):
        study(load_runs([tmp_path]), None)


def test_times_of_resumed_runs_are_not_known(tmp_path: Path) -> None:
    """A record has those since it was resumed; means are of the other runs."""
    for optim, resumed in (("adam", (3,)), ("madam", (1, 2, 3))):
        for seed in (1, 2, 3):
            record = make_record("rte", optim, seed=seed)
            execution = make_execution(seed, **({"resumed_from_step": 20, "total_seconds": 1.0, "train_seconds": 0.5,
                                                 "eval_seconds": 0.1} if seed in resumed else {}))  # fmt: skip
            write_run(tmp_path, record.model_copy(update={"execution": execution}))
    found = results(tmp_path)
    runs = found.runs.set_index(["row", "seed"]).sort_index()
    for name in ("seconds", "train_seconds", "eval_seconds"):
        assert runs.loc["adam", name].isna().tolist() == [False, False, True] and runs.loc["madam", name].isna().all()
    assert runs["examples_per_second"].notna().all()
    seconds = table_of(found.made)["seconds"].xs("final", level="stage")
    assert seconds["adam"] == (42 + 43) / 2 and pd.isna(seconds["madam"])
    speed = found.speed.set_index("row")
    assert speed.loc["adam", "seconds"] == pytest.approx(30 / UPDATES * speed.loc["adam", "updates"])
    assert speed.loc["madam", "updates"] > 0 and pd.isna(speed.loc["madam", "seconds"])
    build_report(found, tmp_path / "report")


def test_where_picks_one_of_a_mixture(tmp_path: Path) -> None:
    write_run(tmp_path, make_record("rte", "adam", seed=1))
    write_run(tmp_path, make_record("rte", "madam", seed=2, recipe="hf"))
    runs = load_runs([tmp_path], ["recipe=hf"])
    check_comparable(runs, runs.table["optim"])
    assert list(runs.table["optim"]) == ["madam"]
    assert list(load_runs([tmp_path], ["task=RTE", "optim=AdamW"]).table["optim"]) == ["adam"]
    with pytest.raises(UsageError, match="no such key of a run; did you mean 'recipe'"):
        load_runs([tmp_path], ["recipes=hf"])
    with pytest.raises(UsageError, match="none of 2 records meets"):
        load_runs([tmp_path], ["recipe=none"])


def test_unusable_records_are_named_and_left_out(tmp_path: Path) -> None:
    write_run(tmp_path, make_record("rte", "adam", score=70.0, seed=1))
    for name, content in (("empty", ""), ("cut", '{"run_id": "x'), ("old", '{"schema_version": 0}')):
        (tmp_path / name).mkdir()
        (tmp_path / name / "record.json").write_text(content)
    runs = load_runs([tmp_path])
    assert len(runs.table) == 1
    (note,) = runs.notes
    assert "3 records could not be read" in note
    assert "old/record.json: schema version 0" in note
    (tmp_path / runs.table["run_id"].iloc[0] / "record.json").unlink()
    with pytest.raises(UsageError, match="no record that can be read"):
        load_runs([tmp_path])


def test_no_folder_and_no_records(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such folder"):
        load_runs([tmp_path / "nothing"])
    with pytest.raises(UsageError, match=r"no record that can be read: looked for record\.json"):
        load_runs([tmp_path])


def table_of(made: Study) -> pd.DataFrame:
    return cell_table(made).set_index(["row", "stage"])


def test_cells_have_counts_metrics_and_costs(tmp_path: Path) -> None:
    for seed, score in ((1, 70.0), (2, 72.0), (3, None)):
        status = "ok" if score else "diverged"
        write_run(tmp_path, make_record("rte", "adam", score=score, status=status, seed=seed))
    line = table_of(study(load_runs([tmp_path]), None)).loc["adam", "final"]
    assert (line["runs"], line["ok"], line["diverged"], line["failed"]) == (3, 2, 1, 0)
    assert line["seeds"] == "1 2 3"
    assert (line["median"], line["mean"], line["standard_error"]) == pytest.approx((71.0, 71.0, 1.0))
    assert line["interval_high"] == pytest.approx(71 + 12.7062, rel=1e-5)  # t of one degree of freedom
    assert line["median_last_score"] == pytest.approx(70.0)
    assert (line["best_epoch"], line["last_epoch"]) == (3, 4)
    assert line["mean best validation/accuracy"] == pytest.approx(0.71)
    assert line["majority_score"] == pytest.approx(50.0)
    assert line["peak_memory_bytes"] == 2**30
    assert line["seconds"] == pytest.approx((42 + 43 + 44) / 3)
