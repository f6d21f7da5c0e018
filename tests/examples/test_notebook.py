"""The notebook of the examples, executed as it stands on a folder of records."""

from pathlib import Path

import pytest

from tests.report.factory import make_record, write_run

NOTEBOOK = Path(__file__).parents[2] / "examples" / "compare.ipynb"


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    for task in ("rte", "mrpc"):
        for optim, better in (("adam", 0.0), ("madam", 2.0)):
            for seed in (1, 2, 3, 1001):
                write_run(tmp_path / "runs", make_record(task, optim, score=70 + better + seed % 10 / 2, seed=seed))
    return tmp_path / "runs"


def test_the_notebook_goes_from_records_to_table_and_figure(runs: Path) -> None:
    import nbformat  # not at the top: every worker reads this file, and one runs it
    from nbclient import NotebookClient

    notebook = nbformat.read(NOTEBOOK, as_version=4)
    assert len(notebook.cells) <= 10
    first = next(cell for cell in notebook.cells if cell.cell_type == "code")
    assert 'RUNS = "../runs/smoke"' in first.source
    first.source = first.source.replace("../runs/smoke", str(runs))
    NotebookClient(notebook, timeout=600, kernel_name="python3").execute()
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    assert not [output for output in outputs if output.output_type == "error" or output.get("name") == "stderr"]
    texts = [output.get("text") or output.data.get("text/plain", "") for output in outputs]
    assert texts[0] == "Results(16 runs, 2 tasks, 2 rows)"
    assert "73.00 (.29)" in texts[1] and "MRPC (Acc)" in texts[1]
    assert r"\textbf{73.00 (.29)}" in texts[2]
    assert "not decided" in texts[3]  # every seed differs by the same
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 1
