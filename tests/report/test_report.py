"""The whole report: the golden one, its files, its figures, its page in a browser, and the command."""

import base64
import gc
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread

from glue_mva.config.identity import run_id
from glue_mva.config.resolve import resolve
from glue_mva.config.run import RunConfig
from glue_mva.errors import UsageError
from glue_mva.record import RunRecord
from glue_mva.report import drawing
from glue_mva.report.aggregate import study
from glue_mva.report.build import build_report
from glue_mva.report.curves import band, cell_band
from glue_mva.report.load import load_runs
from glue_mva.report.results import results
from glue_mva.style import new_figure
from glue_mva.sweep import SweepConfig
from glue_mva.sweep.kept import keep_sweep
from tests.pages import ROOT
from tests.processes import command
from tests.report.factory import make_record, write_predicted_run, write_run
from tests.report.make_golden import REPORT, TABLES, TEXTS, make_report

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture(scope="module")
def golden(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report, with its figures drawn by other processes."""
    out = tmp_path_factory.mktemp("golden") / "report"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(drawing, "available_cores", lambda: 3)
        make_report(out)
    return out


@pytest.mark.parametrize("name", TEXTS)
def test_golden_texts(golden: Path, name: str) -> None:
    """Made anew by `python -m tests.report.make_golden`; look at the difference before committing it."""
    assert (golden / name).read_text(encoding="utf-8") == (REPORT / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", TABLES)
def test_golden_tables(golden: Path, name: str) -> None:
    """Made anew by `python -m tests.report.make_golden`; numbers may differ in the last digits between platforms."""
    pd.testing.assert_frame_equal(pd.read_csv(golden / name), pd.read_csv(REPORT / name), rtol=1e-5)


@pytest.mark.parametrize("name", [name for name in TABLES if name != "table3.csv"])
def test_every_column_is_named_in_the_docs(golden: Path, name: str) -> None:
    text = (ROOT / "docs" / "report.md").read_text(encoding="utf-8")
    columns = [re.sub(r"((best|last) )\w+/\w+$", r"\1<split>/<metric>", column)
               for column in pd.read_csv(golden / name, nrows=0)]  # fmt: skip
    assert [column for column in columns if f"`{column}`" not in text] == []


def test_every_figure_is_there_in_both_formats_and_not_blank(golden: Path) -> None:
    names = {"forest", "scores", "expected-best", "heatmap", "curves-rte", "curves-stsb"}
    assert {p.name for p in (golden / "figures").iterdir()} == {f"{n}.{e}" for n in names for e in ("png", "svg")}
    for name in names:
        pixels = imread(golden / "figures" / f"{name}.png")
        assert pixels[..., :3].std() > 0.05
        assert pixels[:3, :, :3].min() == pixels[:, -3:, :3].min() == 1  # nothing runs off the edge


@pytest.mark.filterwarnings("error:constrained_layout not applied")
def test_the_same_records_give_the_same_bytes(golden: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where no other process draws the figures."""
    monkeypatch.setattr(drawing, "available_cores", lambda: 1)
    make_report(tmp_path / "again")
    files = [p.relative_to(golden) for p in golden.rglob("*") if p.is_file()]
    assert len(files) > 20
    for file in files:
        assert (golden / file).read_bytes() == (tmp_path / "again" / file).read_bytes(), file


@pytest.mark.skipif(sys.platform != "linux", reason="figures are drawn by other processes on Linux only")
def test_a_killed_process_costs_no_figure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drawing, "available_cores", lambda: 2)
    parent = os.getpid()

    def draw() -> Figure:
        if os.getpid() != parent:
            os.kill(os.getpid(), signal.SIGKILL)
        return new_figure()

    found = [drawing.Drawing(name, f"figure {name}", draw) for name in "abc"]
    assert drawing.draw_all(found, tmp_path) == ({"a": "figure a", "b": "figure b", "c": "figure c"}, [])
    assert {p.name for p in tmp_path.iterdir()} == {f"{n}.{e}" for n in "abc" for e in ("png", "svg")}
    assert gc.get_freeze_count() == 0


def test_the_page_is_one_file(golden: Path) -> None:
    page = (golden / "report.html").read_text(encoding="utf-8")
    sources = re.findall(r'<img[^>]* src="([^"]*)"', page)
    assert len(sources) == 6
    for source in sources:
        assert b"<svg " in base64.b64decode(source.removeprefix("data:image/svg+xml;base64,"))[:600]
    assert "http" not in re.sub(r'src="[^"]*"|http-equiv', "", page)
    assert "figures/" not in page


LOOK = """
f.onload = () => {
  const page = f.contentDocument, size = e => { const r = e.getBoundingClientRect(); return [r.width, r.height]; };
  const column = () => [...page.querySelectorAll("table")[1].rows].slice(1).map(r => r.cells[1].textContent);
  const before = column();
  page.querySelectorAll("table")[1].querySelectorAll("th")[1].click();
  o.textContent = JSON.stringify({
    images: [...page.images].map(i => [i.naturalWidth, ...size(i)]),
    tables: [...page.querySelectorAll("table")].map(t => [t.rows.length, ...size(t)]),
    links: [...page.querySelectorAll("nav a")].map(a => page.querySelector(a.getAttribute("href")).textContent),
    page: page.documentElement.scrollWidth, window: f.contentWindow.innerWidth, before: before, sorted: column() });
};"""


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
@pytest.mark.parametrize("width", [390, 1200])
def test_the_page_in_a_browser(golden: Path, tmp_path: Path, width: int) -> None:
    """Images and tables have a size, text a legible one; the page is not wider than the window; its contents lead to
    its sections; a click sorts; and the console has no error."""
    frame = tmp_path / "frame.html"  # a headless window is never narrower than 500 px: a frame can be
    frame.write_text(f'<iframe id="f" style="border:0" width="{width}" height="900"></iframe><pre id="o"></pre>'
                     f'<script>{LOOK} f.src = "{(golden / "report.html").as_uri()}";</script>')  # fmt: skip
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
               "--disable-background-networking", "--disable-component-update", "--disable-sync",
               "--allow-file-access-from-files", f"--user-data-dir={tmp_path / 'profile'}", "--enable-logging=stderr",
               "--virtual-time-budget=10000", "--window-size=1400,1000", "--dump-dom", frame.as_uri()]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    found = re.search(r'<pre id="o">(\{.*?\})</pre>', done.stdout)
    assert found, done.stderr
    assert ":CONSOLE" not in done.stderr
    seen = json.loads(found.group(1))
    assert len(seen["images"]) == 6
    assert all(natural > 100 and shown >= min(300, width / 2) and high > 80 for natural, shown, high in seen["images"])
    assert len(seen["tables"]) >= 5
    assert all(rows > 1 and wide > 100 and high > 40 for rows, wide, high in seen["tables"])
    assert seen["page"] <= seen["window"] == width
    assert seen["links"][:2] == ["Verdict", "Table 3"]
    values = [float(text.split()[0]) for text in seen["sorted"] if text != "-"]
    assert sorted(seen["before"]) == sorted(seen["sorted"])
    assert values == sorted(values) and seen["sorted"] != seen["before"]


def test_report_and_submission_import_no_torch(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    write_predicted_run(runs, "rte", "adam", 0.8, seed=1)
    write_predicted_run(runs, "rte", "madam", 0.9, seed=1)
    code = (
        "import sys; from pathlib import Path; from glue_mva.report.build import build_report; "
        "import glue_mva, glue_mva.cli.report, glue_mva.cli.submit, glue_mva.submission; "
        "build_report(glue_mva.results(sys.argv[1]), Path(sys.argv[2])); "
        "print(sorted({'torch', 'transformers', 'datasets', 'ray'} & set(sys.modules)))"
    )
    command = [sys.executable, "-c", code, str(runs), str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert (tmp_path / "out" / "report.html").is_file()


def test_the_command(tmp_path: Path) -> None:
    for optim in ("adam", "madam"):
        for seed in (1, 2):
            write_run(tmp_path / "runs" / "mine", make_record("rte", optim, score=70.0 + seed, seed=seed))
    done = command(tmp_path, "report", "runs/mine", "--seeds", "2")
    assert done.returncode == 0, done.stderr
    assert "| Adam | **71.50 (.50)** |" in done.stdout
    assert "\nMAdam against Adam is not decided: 0.00 points on RTE" in done.stdout
    assert "reports/mine/report.html" in done.stdout
    page = (tmp_path / "reports" / "mine" / "report.md").read_text()
    assert "glue-mva report runs/mine --seeds 2" in page


def test_the_command_refuses_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for arguments in (["empty"], ["nothing"], ["empty", "--sweep", "no-such-sweep"], ["empty", "--set", "x=1"]):
        done = command(tmp_path, "report", *arguments)
        assert done.returncode == 2
        assert done.stderr.count("\n") == 1
        assert done.stderr.startswith("glue-mva: error: ")
    assert [p.name for p in tmp_path.iterdir()] == ["empty"]


def test_a_new_report_replaces_the_old_one_and_nothing_else(tmp_path: Path) -> None:
    runs, out = tmp_path / "runs", tmp_path / "out"
    write_run(runs, make_record("rte", "adam", score=70.0, seed=1))
    sst2 = write_run(runs, make_record("sst2", "adam", score=90.0, seed=1))
    build_report(results(runs), out)
    (out / "mine.txt").write_text("kept")
    assert (out / "figures" / "curves-sst2.png").is_file()
    shutil.rmtree(sst2)
    build_report(results(runs), out)
    assert not (out / "figures" / "curves-sst2.png").exists()
    assert (out / "mine.txt").read_text() == "kept"
    before = (out / "report.md").read_bytes()
    write_run(runs, make_record("rte", "adam", score=70.0, seed=2, recipe="hf"))
    with pytest.raises(UsageError, match="2 recipes"):
        build_report(results(runs), out)
    assert (out / "report.md").read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out", "runs"]


def test_all_runs_of_a_cell_diverged(tmp_path: Path) -> None:
    for seed in (1, 2):
        write_run(tmp_path / "runs", make_record("rte", "adam", score=70.0 + seed, seed=seed))
        write_run(tmp_path / "runs", make_record("rte", "madam", score=None, status="diverged", seed=seed))
    build_report(results(tmp_path / "runs"), tmp_path / "out")
    text = (tmp_path / "out" / "report.md").read_text()
    assert "| MAdam | - |" in text
    assert "RTE, MAdam: diverged (all 2 runs)" in text
    assert "RTE: not compared (MAdam: diverged (all 2 runs))." in text


def test_nothing_but_diverged_runs(tmp_path: Path) -> None:
    write_run(tmp_path / "runs", make_record("rte", "adam", score=None, status="diverged", seed=1))
    build_report(results(tmp_path / "runs"), tmp_path / "out")
    assert "RTE, Adam: diverged" in (tmp_path / "out" / "table3.md").read_text()


def test_every_run_of_a_sweep_with_one_point_diverged(tmp_path: Path) -> None:
    """The search is finished, so there is a chosen point, and no column of scores."""
    runs, point = tmp_path / "runs", {"lr": 1e-5, "weight_decay": 0.1}
    for seed in (1, 2):
        write_run(runs, make_record("rte", "adam", score=None, status="diverged", seed=seed, curves=False, **point))
    keep_sweep(SweepConfig(tasks=["rte"], optimizers=["adam"], final_seeds=2, output=str(runs), **point))
    build_report(results(runs), tmp_path / "out")
    assert "| RTE | Adam | 1e-5 | 0.1 |" in (tmp_path / "out" / "report.md").read_text()
    assert {path.name for path in (tmp_path / "out").iterdir()} == {*TEXTS, *TABLES, "report.html", "figures"}


def test_a_run_that_failed_at_once_has_a_record_without_parts(tmp_path: Path) -> None:
    """As the sweep writes it for a worker that died."""
    for optim in ("adam", "madam"):
        write_run(tmp_path / "runs", make_record("rte", optim, score=70.0, seed=1, curves=False))
    config = resolve(RunConfig(task="rte", optim="madam", seed=2))
    write_run(tmp_path / "runs", RunRecord(run_id=run_id(config), status="failed", config=config, error="died"))
    build_report(results(tmp_path / "runs"), tmp_path / "out")
    assert "| Adam | **70.00** |" in (tmp_path / "out" / "report.md").read_text()
    assert "died" in (tmp_path / "out" / "runs.csv").read_text()


def test_band_is_mean_and_range_over_seeds_at_common_steps() -> None:
    step = np.array([0.0, 10.0, 20.0])
    shorter = (np.array([5.0, 15.0]), np.array([1.0, 3.0]))
    made = band([(step, np.array([0.0, 4.0, np.nan])), shorter])
    assert made is not None
    assert made.step.tolist() == [10.0]
    assert (made.mean[0], made.low[0], made.high[0], made.seeds) == (3.0, 2.0, 4.0, 2)
    assert band([]) is None
    assert band([(np.array([1.0]), np.array([np.nan]))]) is None


def test_diverged_runs_are_not_in_the_curves(tmp_path: Path) -> None:
    write_run(tmp_path, make_record("rte", "adam", score=70.0, seed=1))
    write_run(tmp_path, make_record("rte", "adam", score=None, status="diverged", seed=2))
    made = study(load_runs([tmp_path]), None)
    curve = cell_band(made, "rte", made.rows[0], "loss")
    assert curve is not None
    assert curve.seeds == 1
