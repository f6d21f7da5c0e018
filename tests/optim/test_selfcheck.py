"""Implementations that are broken on purpose are not taken."""

import json
import logging

import pytest
import torch

from glue_mva import LaMAdam, LaProp, MAdam, checks, native
from glue_mva.optim import dispatch, selfcheck
from glue_mva.optim.kernels import cpu, cuda, foreach


@pytest.fixture(autouse=True)
def a_machine_that_was_never_checked(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(checks, "_verdicts", {})
    monkeypatch.setattr(cpu, "_loaded", {})


def step(cls=MAdam, n=3, size=200, **flags):
    p = torch.nn.Parameter(torch.ones(size))
    optimizer = cls([p], lr=0.1, **flags)
    generator = torch.Generator().manual_seed(0)
    for _ in range(n):
        p.grad = torch.randn(size, generator=generator)
        optimizer.step()
    return p.detach()


def warnings_of(caplog):
    return [record.message for record in caplog.records if record.levelno >= logging.WARNING]


def break_c(monkeypatch, tmp_path, old, new):
    text = cpu._SOURCE.read_text()
    assert text.count(old) == 1
    source = tmp_path / "broken.c"
    source.write_text(text.replace(old, new))
    monkeypatch.setattr(cpu, "_SOURCE", source)


@pytest.mark.parametrize("cls", [MAdam, LaMAdam, LaProp])
def test_sound_implementations_are_taken_in_silence(cls, caplog):
    with checks.collected() as found:
        step(cls, fused=True)
        step(cls, foreach=True)
    name = cls.__name__
    assert set(found) == {f"optimizer: {how} ({name}, float32, cpu)" for how in ("C kernel", "foreach")}
    assert all(verdict.ok and verdict.difference == verdict.tolerance == 0.0 for verdict in found.values())
    assert not warnings_of(caplog)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("param[i] * decay - delta", "param[i] * decay - 1.0001f * delta"),
        ("w = w + (1.0f - w) * gamma", "w = w + (0.9999f - w) * gamma"),
        ("b = gamma / w;", "b = gamma;"),
        ("if (first >= last) continue;", "if (k || first >= last) continue;"),
    ],
)
def test_a_wrong_c_kernel_is_not_taken(old, new, monkeypatch, tmp_path, caplog):
    expected = step(foreach=False)
    break_c(monkeypatch, tmp_path, old, new)
    assert torch.equal(step(fused=True), expected)
    (warning,) = warnings_of(caplog)
    assert warning.startswith(
        "optimizer: C kernel (MAdam, float32, cpu) is not used here: parameters and state differ from"
    )
    assert warning.endswith("where 0 is allowed; taking the foreach implementation instead") and "\n" not in warning


def test_the_verdict_outlives_the_process(monkeypatch, tmp_path, caplog):
    break_c(monkeypatch, tmp_path, "- delta", "- 2 * delta")
    step(fused=True)
    (stored,) = (json.loads(p.read_text()) for p in tmp_path.rglob("*.json") if not json.loads(p.read_text())["ok"])
    assert stored["difference"] > 0
    checks.forget()
    monkeypatch.setattr(selfcheck, "_walk", lambda *_: pytest.fail("compared again"))
    step(fused=True)
    first, second = warnings_of(caplog)
    assert first == second


def test_another_machine_or_source_is_checked_anew(monkeypatch):
    step(foreach=True)
    compared = []
    walk = selfcheck._walk
    monkeypatch.setattr(selfcheck, "_walk", lambda *args: compared.append(1) or walk(*args))
    checks.forget()
    step(foreach=True)
    assert not compared
    identity = checks.device_identity
    monkeypatch.setattr(checks, "device_identity", lambda device: {**identity(device), "device": "another CPU"})
    checks.forget()
    step(foreach=True)
    assert compared == [1, 1]


def test_a_verdict_is_of_one_class_and_not_of_another_by_its_name(caplog):
    """As where a cell of a notebook defines a class anew, with an update that is not the kernel's."""
    for factor in (1.0, 0.5):

        class Mine(MAdam):
            @staticmethod
            def update(x, by, c, factor=factor):
                MAdam.update(x, by._replace(step_size=by.step_size * factor), c)

        plain = step(Mine, foreach=False)
        assert torch.equal(step(Mine, foreach=True), plain) and torch.equal(step(Mine, fused=True), plain)
    assert any("another class of that name" in text for text in warnings_of(caplog))
    kept = [json.loads(path.read_text()) for path in (checks.cache_folder() / "checks").glob("*.json")]
    assert kept == []  # its code lies in no file under its name


def test_one_that_raises_is_not_taken_and_is_tried_again(monkeypatch, tmp_path, caplog):
    def fail(*args):
        raise ZeroDivisionError("as asked\nwith details")

    monkeypatch.setattr(foreach, "step", fail)
    assert torch.equal(step(foreach=True), step(foreach=False))
    assert warnings_of(caplog) == [
        "optimizer: foreach (MAdam, float32, cpu) is not used here: it raises ZeroDivisionError: as asked; "
        "taking the for-loop implementation instead"
    ]
    monkeypatch.undo()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    checks.forget()
    with checks.collected() as found:
        step(foreach=True)
    assert [verdict.ok for verdict in found.values()] == [True]


def test_a_wrong_triton_kernel_is_not_taken(monkeypatch, caplog):
    """In Triton's interpreter; a launch that leaves the last tensor out."""
    monkeypatch.setattr(dispatch, "choose", lambda group, params: "cuda")
    launch = cuda._launch
    monkeypatch.setattr(cuda, "_launch", lambda table, *rest: launch(table._replace(blocks=table.blocks[:-2]), *rest))
    assert torch.equal(step(fused=True), step(foreach=False))
    (warning,) = warnings_of(caplog)
    assert "optimizer: Triton kernel (MAdam" in warning and "taking the foreach implementation instead" in warning


@pytest.mark.parametrize(
    ("dtype", "ulps", "state", "taken"),
    [
        (torch.bfloat16, 1, 0.0, True),
        (torch.float16, 1, 0.0, True),
        (torch.bfloat16, 3, 0.0, False),
        (torch.float16, 3, 0.0, False),
        (torch.float32, 30, 0.0, True),
        (torch.float32, 3000, 0.0, False),
        (torch.bfloat16, 0, 1e-4, False),  # float32 whatever the parameters are
    ],
)
def test_parameters_on_a_gpu_may_be_rounded_the_other_way(dtype, ulps, state, taken, monkeypatch):
    """The plain path, and beside it the same with the largest parameter off by some units in its last place."""
    walk, walked = selfcheck._walk, []

    def nudged(*args):
        params, states = walked[0] if walked else walk(selfcheck._forced(MAdam, "for-loop"), *args[1:])
        walked.append((params, states))
        values = params[0].detach().clone()
        largest = values.view(-1)[values.abs().argmax()]
        largest += (len(walked) - 1) * ulps * torch.finfo(dtype).eps * 2.0 ** (torch.frexp(largest.float())[1] - 1)
        return [values, *params[1:]], [x * (1 + (len(walked) - 1) * state) for x in states]

    monkeypatch.setattr(selfcheck, "_walk", nudged)
    assert selfcheck.sound("cuda", MAdam, False, [torch.zeros(3, dtype=dtype)]) == taken
    assert len(walked) == 2


def test_the_triton_kernel_contracts_nothing(monkeypatch):
    launched = []

    class Kernel:
        def __getitem__(self, grid):
            return lambda *args, **options: launched.append(options)

    monkeypatch.setattr(cuda, "_step", Kernel())
    monkeypatch.setattr(dispatch, "choose", lambda group, params: "cuda")
    monkeypatch.setattr(selfcheck, "sound", lambda *_: True)
    step(fused=True, n=1)
    assert [options["enable_fp_fusion"] for options in launched] == [False]


class Halved(MAdam):
    """Somebody's variant, which the kernels do not know."""

    @staticmethod
    def update(x, by, c):
        MAdam.update(x, by._replace(step_size=by.step_size / 2), c)


def test_a_subclass_with_an_update_of_its_own_is_stepped_by_it(caplog):
    assert torch.equal(step(Halved), step(Halved, foreach=False))
    assert not torch.equal(step(Halved), step(MAdam))
    assert any("(Halved, float32, cpu) is not used here" in message for message in warnings_of(caplog))


def a_file(monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("GLUE_MVA_CACHE", str(tmp_path / "file" / "cache"))


def no_home(monkeypatch, tmp_path):
    """As in a container that is run as a user whom it does not know."""

    def unknown(uid):
        raise KeyError(f"getpwuid(): uid not found: {uid}")

    monkeypatch.setattr("pwd.getpwuid", unknown)
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME")


@pytest.mark.parametrize("flag", ["foreach", "fused"])
@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (a_file, "verdicts in '{folder}/file/cache': Not a directory; GLUE_MVA_CACHE names another folder"),
        (no_home, "verdicts: Could not determine home directory; GLUE_MVA_CACHE names another folder"),
    ],
    ids=["a file", "no home"],
)
@pytest.mark.parametrize("cls", [MAdam, LaMAdam, LaProp])
def test_a_cache_that_cannot_be_written_costs_nothing_but_time(cls, fault, said, flag, monkeypatch, tmp_path, caplog):
    monkeypatch.setattr(native, "_warned", [])
    fault(monkeypatch, tmp_path)
    assert torch.equal(step(cls, **{flag: True}), step(cls, foreach=False))
    (warning,) = warnings_of(caplog)
    assert warning.startswith("cannot keep compiled code and ") and warning.endswith(said.format(folder=tmp_path))


def test_a_check_leaves_the_random_numbers_of_the_run_alone():
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    step(foreach=True, size=3)
    assert torch.equal(torch.rand(3), expected)
