"""`glue-mva doctor` on this machine, on one whose compiler is broken, and where a path is wrong."""

import json

import pytest

from glue_mva import checks, native
from glue_mva.optim.kernels import foreach
from glue_mva.training import doctor
from tests.processes import command


def test_as_json():
    done = command(".", "doctor", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout)
    assert found["problems"] == [] and found["device"] == "cpu" and found["cores"] >= 1
    assert {"torch", "transformers", "python", "glue_mva"} <= set(found["versions"])
    assert found["auto"]["padding"]["taken"] == "none"
    assert all(entry["reason"] for entry in found["auto"].values())
    assert all(verdict["ok"] for verdict in found["checks"].values())
    names = " ".join(found["checks"])
    assert all(f"optimizer: {how} ({cls}," in names for how in ("foreach",) for cls in ("MAdam", "LaMAdam", "LaProp"))
    assert "packing: attention (roberta, heads of 64" in names
    assert all(rate > 0 for rate in found["rates"].values()) and len(found["rates"]) >= 2


def test_a_compiler_that_does_not_compile_is_a_problem(tmp_path):
    done = command(".", "doctor", CC="false", XDG_CACHE_HOME=str(tmp_path))
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "does not compile optim/kernels/cpu.c" in done.stdout
    assert "optimizer: foreach (MAdam, float32, cpu)" in done.stdout.replace("\n", " ")


def test_a_cache_that_cannot_be_written_is_no_fault_of_the_compiler(monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("GLUE_MVA_CACHE", str(tmp_path / "file"))
    monkeypatch.setattr(native, "_warned", [])
    monkeypatch.setattr(doctor.cpu, "_loaded", {})
    monkeypatch.setattr(doctor.kernels, "library", doctor.kernels.library.__wrapped__)
    _, problems = doctor._compiler()
    assert [problem.partition(":")[0] for problem in problems] == [
        f"cannot keep compiled code and verdicts in '{tmp_path / 'file'}'"
    ]


@pytest.fixture
def quick(monkeypatch, tmp_path):
    monkeypatch.setattr(checks, "cache_folder", lambda: tmp_path)
    monkeypatch.setattr(checks, "_verdicts", {})
    monkeypatch.setattr(doctor, "HEADS", (8,))
    monkeypatch.setattr(doctor, "_rates", lambda *args: {})
    monkeypatch.setattr(doctor.hub, "reachable", lambda: False)


def test_without_a_compiler_nothing_is_wrong(quick, monkeypatch):
    monkeypatch.setattr(doctor.native, "compiler", lambda: (_ for _ in ()).throw(OSError("no C compiler found")))
    monkeypatch.setattr(doctor.cpu, "_loaded", {"library": None})
    monkeypatch.setattr(doctor, "has_packed_encoder", lambda *args: False)
    monkeypatch.setattr("glue_mva.models.padding.has_packed_encoder", lambda *args: False)
    found = doctor.examine()
    assert found.problems == []
    assert "no C compiler found" in found.tools["C compiler"]
    assert found.auto["optimizer MAdam"].taken == "foreach"
    assert found.auto["attention"].taken == "groups of similar length"


def test_a_wrong_path_is_a_problem_though_it_was_right_before(quick, monkeypatch):
    assert doctor.examine().problems == []
    step = foreach.step
    monkeypatch.setattr(foreach, "step", lambda slots, c: step(slots, c._replace(eps=0.1)))
    problems = doctor.examine().problems
    assert len(problems) == 3 and all("parameters and state differ from the plain path's by" in p for p in problems)


def test_a_difference_that_is_not_finite_is_null():
    verdict = checks.Verdict(ok=False, difference=float("inf"), tolerance=1e-6, detail="not a number")
    found = doctor.Diagnosis({}, "cpu", [], 1, None, {}, {}, {}, {"a": verdict}, {}, [])
    assert json.loads(json.dumps(found.to_dict(), allow_nan=False))["checks"]["a"]["difference"] is None
    assert found.checks["a"].difference == float("inf")
