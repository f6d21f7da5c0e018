"""Packed training that is broken on purpose is not taken."""

import json
import logging

import pytest
import torch
from transformers import AutoModelForSequenceClassification

from glue_mva import RunConfig, UsageError, checks, native, run
from glue_mva.models import attention, kernels, selfcheck
from glue_mva.models.packing import FAMILIES
from glue_mva.models.padding import set_padding
from tests.tiny import CONFIGS

PRECISIONS = ["fp32", "bf16"]


@pytest.fixture(autouse=True)
def a_machine_that_was_never_checked(monkeypatch, tmp_path):
    monkeypatch.setattr(checks, "_verdicts", {})
    folder = native.cache_folder()
    monkeypatch.setattr(native, "cache_folder", lambda: folder)  # what is compiled stays
    monkeypatch.setattr(checks, "cache_folder", lambda: tmp_path)


@pytest.fixture
def fresh_library():
    kernels.library.cache_clear()
    yield
    kernels.library.cache_clear()


def model_of(family="roberta"):
    return AutoModelForSequenceClassification.from_config(CONFIGS[family]())


def warnings_of(caplog):
    return [record.message for record in caplog.records if record.levelno >= logging.WARNING]


def break_c(monkeypatch, tmp_path, old, new):
    text = kernels._SOURCE.read_text()
    assert text.count(old) >= 1
    source = tmp_path / "broken.c"
    source.write_text(text.replace(old, new, 1))
    monkeypatch.setattr(kernels, "_SOURCE", source)
    monkeypatch.setattr(native, "cache_folder", lambda: tmp_path)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_proves_itself_in_silence(family, precision, caplog):
    with checks.collected() as found:
        assert set_padding("auto", model_of(family), "cpu", precision) == "none"
    (name,) = found
    layers = "attention" if family == "modernbert" else "layers in C"
    assert name == f"packing: {layers} ({family}, heads of 8, {precision}, cpu)"
    assert found[name].ok and 0 < found[name].difference <= found[name].tolerance
    assert not warnings_of(caplog)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("family", FAMILIES)
def test_packing_with_the_layers_of_transformers(family, precision, caplog, monkeypatch, fresh_library):
    monkeypatch.setattr(native, "compiler", lambda: (_ for _ in ()).throw(OSError("no compiler")))
    with checks.collected() as found:
        assert set_padding("auto", model_of(family), "cpu", precision) == "none"
    assert list(found) == [f"packing: attention ({family}, heads of 8, {precision}, cpu)"]
    assert not warnings_of(caplog)


def test_wrong_layers_in_c_give_way_to_those_of_transformers(monkeypatch, tmp_path, caplog, fresh_library):
    break_c(monkeypatch, tmp_path, "(float)x->scale", "1.2f * (float)x->scale")
    model = model_of()
    with checks.collected() as found:
        assert set_padding("auto", model, "cpu", "fp32") == "none"
    assert [verdict.ok for verdict in found.values()] == [False, True]
    assert "forward" not in vars(model.base_model.encoder)  # its own
    (warning,) = warnings_of(caplog)
    assert warning.startswith("packing: layers in C (roberta, heads of 8, fp32, cpu) is not used here: ")
    assert "differ from the plain path's by 0." in warning and "\n" not in warning
    assert warning.endswith("where 0.0001 is allowed; taking transformers' layers instead")


def scaled(q, k, v, layout, p, scale, window):
    return attention.GroupedAttention.apply(q, k, v, layout, p, 1.1 * scale, window)


def without_the_last(q, k, v, layout, p, scale, window):
    return (
        attention.GroupedAttention.apply(q, k, v, layout, p, scale, window) * (torch.arange(len(q)) > 0)[:, None, None]
    )


def raising(*args):
    raise RuntimeError("no kernel image is available for execution on the device")


def other_mask_in_backward(q, k, v, layout, p, scale, window):
    out = attention.GroupedAttention.apply(q, k, v, layout, p, scale, window)
    return (
        out.detach() + (other := attention.GroupedAttention.apply(q, k, v, layout, p, scale, window)) - other.detach()
    )


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize(
    ("broken", "said"),
    [
        (scaled, "differ from the plain path's by"),
        (without_the_last, "differ from the plain path's by"),
        (raising, "it raises RuntimeError: no kernel image is available for execution on the device"),
        (other_mask_in_backward, "outputs and gradients under dropout differ from the plain path's by"),
    ],
)
def test_wrong_attention_gives_way_to_padding(broken, said, precision, monkeypatch, caplog, fresh_library):
    """The operator that FlashAttention stands for, too: what is called in its place is broken."""
    monkeypatch.setattr(native, "compiler", lambda: (_ for _ in ()).throw(OSError("no compiler")))
    monkeypatch.setattr(attention, "has_flash", lambda q: q.dtype != torch.float32)
    monkeypatch.setattr(attention, "_flash", broken)
    monkeypatch.setattr(attention, "_grouped", broken)
    model = model_of()
    assert set_padding("auto", model, "cpu", precision) == "longest"
    assert model.config._attn_implementation != attention.PACKED
    (warning,) = warnings_of(caplog)
    assert said in warning and warning.endswith("taking padding instead")


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_window_that_is_not_respected_gives_way_to_padding(precision, monkeypatch, caplog):
    grouped = attention._grouped
    monkeypatch.setattr(attention, "_grouped", lambda *args: grouped(*args[:-1], None))
    assert set_padding("auto", model_of("roberta"), "cpu", precision) == "none"  # looks everywhere anyway
    assert set_padding("auto", model_of("modernbert"), "cpu", precision) == "longest"
    (warning,) = warnings_of(caplog)
    assert "packing: attention (modernbert" in warning and warning.endswith("taking padding instead")


def test_the_verdict_is_kept_on_disk(monkeypatch, tmp_path):
    set_padding("auto", model_of(), "cpu", "fp32")
    (stored,) = (json.loads(path.read_text()) for path in tmp_path.rglob("*.json"))
    checks.forget()
    monkeypatch.setattr(selfcheck, "compare", lambda *_: pytest.fail("compared again"))
    with checks.collected() as found:
        set_padding("auto", model_of(), "cpu", "fp32")
    assert [vars(verdict) for verdict in found.values()] == [stored]


def test_on_a_gpu_batches_are_padded_unless_asked_for():
    assert set_padding("auto", model_of(), "cuda", "bf16") == "longest"
    with pytest.raises(UsageError, match="padding none on a GPU is for bf16 and fp16"):
        set_padding("none", model_of(), "cuda", "fp32")


def test_the_random_numbers_of_the_run_are_left_alone():
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    model = model_of()
    torch.manual_seed(1)
    set_padding("auto", model, "cpu", "fp32")
    assert torch.equal(torch.rand(3), expected)


def test_a_run_is_padded_where_packing_is_wrong(tiny_models, tmp_path, monkeypatch, caplog, fresh_library):
    """A run asks the same question, and its record says what ran."""
    monkeypatch.setattr(native, "compiler", lambda: (_ for _ in ()).throw(OSError("no compiler")))
    monkeypatch.setattr(attention, "_grouped", raising)
    record = run(RunConfig(task="qnli", optim="adam", data="demo", model=tiny_models["bert"], max_train_samples=32,
                           max_eval_samples=32, max_steps=2, max_length=32, train_batch_size=16,
                           output=str(tmp_path / "runs")))  # fmt: skip
    assert record.status == "ok" and record.execution.padding == "longest"
    assert any("taking padding instead" in warning for warning in warnings_of(caplog))
