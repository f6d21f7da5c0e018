"""The compiled CPU kernel and the choice of implementation."""

import logging
import os

import pytest
import torch

from glue_mva import LaMAdam, LaProp, MAdam, native
from glue_mva.optim import dispatch
from glue_mva.optim.kernels import cpu
from glue_mva.optim.state import compute_dtype
from tests.processes import PROCESSES


@pytest.fixture
def fresh_cache(monkeypatch, tmp_path):
    """No library loaded, none in the cache, nothing stepped yet."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(cpu, "_loaded", {})
    monkeypatch.setattr(cpu, "_stepped", 0)
    return tmp_path


def walk(cls, dtype, steps=60, **kwargs):
    torch.manual_seed(0)
    params = [torch.randn(150, 101), torch.randn(7), torch.randn(4, 5).t(), torch.empty(0), torch.randn(9, 8)[:, ::2]]
    params = [torch.nn.Parameter(x.to(dtype)) for x in params]
    optimizer = cls(params, 1e-2, **kwargs)
    for _ in range(steps):
        for p in params:
            p.grad = torch.randn_like(p)
        optimizer.step()
    return params, optimizer


@pytest.mark.parametrize("settings", [{}, {"amsgrad": True}, {"maximize": True, "weight_decay": 0.1}], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("cls", [MAdam, LaMAdam, LaProp])
def test_all_cpu_implementations_give_the_same_bits(cls, dtype, settings, monkeypatch):
    """With and without `weight_sum` (dropped after 47 steps), on one thread and two."""
    if cls is not LaProp:
        settings = {**settings, "beta2_max": 0.7}
    params, optimizer = walk(cls, dtype, foreach=False, **settings)
    threads = torch.get_num_threads()
    for flags, count in (({"foreach": True}, 1), ({"fused": True}, 1), ({"fused": True}, 2)):
        monkeypatch.setattr(cpu, "_PER_THREAD", 64)
        torch.set_num_threads(count)
        try:
            others, other = walk(cls, dtype, **flags, **settings)
        finally:
            torch.set_num_threads(threads)
        for p, q in zip(params, others, strict=True):
            assert torch.equal(p, q)
            assert optimizer.state[p].keys() == other.state[q].keys()
            for name, value in optimizer.state[p].items():
                assert torch.equal(value, other.state[q][name])
                assert name == "step" or value.dtype == compute_dtype(p)


def test_a_run_too_small_does_not_compile(fresh_cache):
    walk(MAdam, torch.float32)
    assert not list(fresh_cache.rglob("*.so"))


def test_compiles_once_it_pays(fresh_cache, monkeypatch):
    monkeypatch.setattr(cpu, "WORTH_COMPILING", 10**5)
    p = torch.nn.Parameter(torch.zeros(60_000))
    optimizer = MAdam([p])
    p.grad = torch.ones(60_000)
    optimizer.step()
    assert not list(fresh_cache.rglob("*.so"))
    optimizer.step()
    assert {file.suffix for file in fresh_cache.rglob("*") if file.is_file()} - {".json"} == {".so"}  # no leftovers


def test_a_library_in_the_cache_is_used_at_once(fresh_cache, monkeypatch):
    walk(MAdam, torch.float32, steps=1, fused=True)
    monkeypatch.setattr(cpu, "_loaded", {})
    monkeypatch.setattr(native, "_compile", lambda *_: pytest.fail("compiled again"))
    assert cpu.ready(1, eager=False)


@pytest.mark.parametrize("fault", ["no compiler", "broken compiler", "cache is a file"])
def test_without_a_compiler_it_steps_all_the_same(fresh_cache, monkeypatch, caplog, fault):
    expected, _ = walk(MAdam, torch.float32, steps=3, foreach=False)
    if fault == "no compiler":
        monkeypatch.setenv("PATH", "")
        monkeypatch.delenv("CC", raising=False)
    elif fault == "broken compiler":
        monkeypatch.setenv("CC", "false")
    else:
        (fresh_cache / "glue-mva").write_text("")
    with caplog.at_level(logging.DEBUG, logger="glue_mva"):
        params, _ = walk(MAdam, torch.float32, steps=3, fused=True)
    assert all(torch.equal(p, q) for p, q in zip(params, expected, strict=True))
    (message,) = [record for record in caplog.records if record.name == "glue_mva.optim.kernels.cpu"]
    assert message.levelno == logging.DEBUG
    assert "using the foreach implementation" in message.message


def compile_and_step(cache):
    os.environ["XDG_CACHE_HOME"] = cache
    p = torch.nn.Parameter(torch.zeros(9))
    p.grad = torch.ones(9)
    assert "library" not in cpu._loaded
    MAdam([p], fused=True).step()
    assert cpu._loaded["library"] is not None


def test_processes_that_compile_at_once_do_not_meet(tmp_path):
    processes = [PROCESSES.Process(target=compile_and_step, args=(str(tmp_path),)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0, 0]
    assert sorted(file.suffix for file in tmp_path.rglob("*") if file.is_file()) == [".json", ".so"]


def test_flags_choose_as_in_torch(monkeypatch):
    monkeypatch.setattr(cpu, "ready", lambda numel, eager: eager)
    params = [torch.nn.Parameter(torch.zeros(2))]

    def choose(foreach=None, fused=None, capturable=False):
        return dispatch.choose({"foreach": foreach, "fused": fused, "capturable": capturable}, params)

    assert choose() == "foreach"
    assert choose(foreach=False) == choose(fused=False) == choose(foreach=False, fused=False) == "for-loop"
    assert choose(foreach=True) == choose(foreach=True, fused=False) == "foreach"
    assert choose(fused=True) == choose(fused=True, foreach=False) == "cpu"
    assert choose(fused=True, capturable=True) == "foreach"


class SignOfGradient(MAdam):
    """An update that only the for-loop knows."""

    implementations = ("for-loop",)

    @staticmethod
    def update(x, by, c):
        x.param.sub_(by.step_size * x.grad.sign())


@pytest.mark.parametrize("flags", [{}, {"foreach": True}, {"fused": True}], ids=str)
def test_an_update_that_the_kernels_do_not_know_is_stepped_by_itself(flags):
    p = torch.nn.Parameter(torch.zeros(3))
    optimizer = SignOfGradient([p], lr=0.5, beta1=0.0, **flags)
    p.grad = torch.tensor([2.0, -3.0, 0.0])
    optimizer.step()
    assert p.tolist() == [-0.5, 0.5, 0.0]


def test_temporary_memory_is_bounded():
    """4 million elements with state are 96 MB; a step in foreach adds less than 8."""
    p = torch.nn.Parameter(torch.zeros(4_000_000))
    p.grad = torch.ones_like(p)
    optimizer = MAdam([p], foreach=True)
    optimizer.step()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        optimizer.step()
    level = peak = 0
    for event in profile.profiler.kineto_results.events():
        if event.name() == "[memory]":
            level += event.nbytes()
            peak = max(peak, level)
    assert 0 < peak < 8 * 2**20
