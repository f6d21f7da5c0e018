"""Where compiled code lies, what it depends on, and whose threads it works on."""

import ctypes
from pathlib import Path

import datasets
import pytest
import torch

from glue_mva import checks, machine, native
from glue_mva.data.encode import tokens_folder

SAME = checks.Difference("results", 0.0, 0.0)
WORK = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


def test_the_threads_are_torchs():
    """Among several OpenMP runtimes in one process: torch's is the one that `set_num_threads` speaks to."""
    pytest.importorskip("sklearn.utils._openmp_helpers")  # brings a runtime of its own
    address = native.openmp_parallel.__wrapped__()
    if address is None:
        pytest.skip("no OpenMP runtime to find")
    parallel = ctypes.CFUNCTYPE(None, WORK, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint)(address)
    threads, seen = torch.get_num_threads(), []
    torch.set_num_threads(threads + 2)
    try:
        parallel(WORK(seen.append), None, 0, 0)  # 0: as many threads as that runtime is set to
    finally:
        torch.set_num_threads(threads)
    assert len(seen) == threads + 2


@pytest.fixture
def another_compiler(monkeypatch, tmp_path):
    """The same compiler under another name."""
    tool = tmp_path / "another"
    tool.write_text(f'#!/bin/sh\nexec {native.compiler()} "$@"\n')
    tool.chmod(0o755)
    return lambda: monkeypatch.setenv("CC", str(tool))


def fast_math(monkeypatch):
    monkeypatch.setattr(native, "FLAGS", (*native.FLAGS, "-ffast-math"))


def arm(monkeypatch, features):
    monkeypatch.setattr(machine, "cpu_info", lambda: {"Features": features, "CPU part": "0xd0c"})
    native._fingerprint.cache_clear()


@pytest.mark.parametrize("change", ["compiler", "flags", "ARM"])
def test_another_library_has_another_name_and_a_verdict_of_its_own(change, monkeypatch, tmp_path, another_compiler):
    monkeypatch.setattr(checks, "cache_folder", lambda: tmp_path / "verdicts")
    if change == "ARM":
        arm(monkeypatch, "fp asimd")
    source, compared = tmp_path / "x.c", []
    source.write_text("")

    def look():
        checks.forget()
        check = checks.Check(lambda: compared.append(1) or [SAME], "the other", torch.device("cpu"), (source,))
        checks.verdict("a path", lambda: check)
        return native.library_path(source)

    try:
        first = look()
        assert look() == first and len(compared) == 1
        {"compiler": another_compiler, "flags": lambda: fast_math(monkeypatch),
         "ARM": lambda: arm(monkeypatch, "fp asimd sve")}[change]()  # fmt: skip
        assert look() != first and len(compared) == 2
        source.write_text("int x;")
        assert look() not in (first, None) and len(compared) == 3
    finally:
        checks.forget()
        native._fingerprint.cache_clear()


def test_looking_for_a_library_at_every_step_reads_nothing(monkeypatch, tmp_path):
    source = tmp_path / "x.c"
    source.write_text("")
    native.load(source, compile_now=False)
    monkeypatch.setattr(Path, "read_bytes", lambda path: pytest.fail(f"read {path}"))
    monkeypatch.setattr(native.shutil, "which", lambda *args, **_: pytest.fail("looked for a compiler"))
    assert native.load(source, compile_now=False) is None


def test_one_variable_names_the_folder_of_all_that_is_kept(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert native.cache_folder() == tmp_path / "xdg" / "glue-mva"
    assert tokens_folder() == Path(datasets.config.HF_DATASETS_CACHE) / "glue-mva"
    monkeypatch.setenv("GLUE_MVA_CACHE", str(tmp_path / "own"))
    assert native.cache_folder() == tokens_folder() == tmp_path / "own"


def test_the_cache_may_be_the_working_folder(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GLUE_MVA_CACHE", ".")
    (tmp_path / "x.c").write_text("int answer(void) { return 42; }")
    try:
        native.compiler()
    except OSError:
        pytest.skip("no compiler")
    assert native.load(tmp_path / "x.c").answer() == 42
