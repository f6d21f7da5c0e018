"""What this machine can do for a run, and whether every fast path is right on it."""

import contextlib
import importlib.metadata
import importlib.util
import os
import shutil
import statistics
import subprocess
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import constants
from torch import Tensor
from transformers import AutoConfig, AutoModelForSequenceClassification, PreTrainedModel

from glue_mva import checks, native
from glue_mva.data import hub
from glue_mva.machine import available_cores
from glue_mva.models import attention, kernels
from glue_mva.models.encoder import has_packed_encoder
from glue_mva.models.packing import FAMILIES
from glue_mva.models.padding import set_padding
from glue_mva.models.precision import ACTIVATIONS, resolve_precision
from glue_mva.models.selfcheck import packing_is_sound
from glue_mva.optim import LaMAdam, LaProp, MAdam, selfcheck
from glue_mva.optim.kernels import cpu
from glue_mva.training import environment
from glue_mva.training.results import finite

HEADS = (64, 32)
"""Head sizes that are checked: of RoBERTa-base and of MiniLM."""


@dataclass(frozen=True)
class Choice:
    """What `auto` takes, and why."""

    taken: str
    reason: str


@dataclass(frozen=True)
class Diagnosis:
    """All that was found."""

    versions: dict[str, str | None]
    """Of Python, the packages, and the commit of a checkout."""
    device: str
    """Kind of the device that a run takes: `cpu`, `cuda`, `mps`."""
    devices: list[str]
    cores: int
    """Cores that this process may use."""
    memory_gb: float | None
    tools: dict[str, str]
    """Compiler, Hub, Ray: what is there, or why it is not."""
    free_gb: dict[str, float]
    """Folder -> free space of its disk."""
    auto: dict[str, Choice]
    checks: dict[str, checks.Verdict]
    """Every fast path of this machine, compared anew."""
    rates: dict[str, float]
    """Matrix products in GFLOP/s by precision, and a large copy in GB/s, read and written."""
    problems: list[str]
    """What should work here and does not."""

    def to_dict(self) -> dict[str, Any]:
        """As JSON takes it: a difference that is not finite is `null`."""
        found = asdict(self)
        for verdict in found["checks"].values():
            verdict["difference"] = finite(verdict["difference"])
        return found


def examine() -> Diagnosis:
    """Look at the machine, compare every fast path with the plain one, and measure. Takes about ten seconds."""
    device = environment.device_type()
    precision = resolve_precision("auto", device)
    problems: list[str] = []
    compiler, broken = _compiler()
    problems += broken
    with checks.anew(), checks.collected() as found:
        optimizers = _optimizers(device)
        padding = _padding(device, precision)
        _check_packing(device, precision)
    problems += [f"{name}: {verdict.detail}" for name, verdict in found.items() if not verdict.ok]
    return Diagnosis(
        versions=dict(environment.describe()),
        device=device,
        devices=_devices(),
        cores=available_cores(),
        memory_gb=_memory_gb(),
        tools={"C compiler": compiler, "Hub": _hub(), "Ray": _ray()},
        free_gb={str(path): round(shutil.disk_usage(path).free / 1e9, 1) for path in _folders()},
        auto={"precision": _precision(precision), **padding, **optimizers},
        checks=dict(found),
        rates=_rates(torch.device(device), precision),
        problems=problems,
    )


def _compiler() -> tuple[str, list[str]]:
    """The compiler, and what it fails at."""
    try:
        tool = native.compiler()
    except OSError as error:
        return f"none: {error}; slower, and the results are the same", []
    version = subprocess.run([tool, "--version"], capture_output=True, text=True).stdout.partition("\n")[0]
    failed = [] if cpu.ready(0, eager=True) else [f"{tool} is there, but does not compile optim/kernels/cpu.c"]
    if not kernels.library(torch.float32):
        failed.append(f"{tool} is there, but does not compile models/encoder.c")
    if failed and (trouble := native.cache_trouble()) is not None:
        failed = [trouble]
    return f"{tool} ({version})", failed


def _hub() -> str:
    if constants.HF_HUB_OFFLINE:
        return "not asked: HF_HUB_OFFLINE is set"
    return f"{constants.ENDPOINT} answers" if hub.reachable() else f"{constants.ENDPOINT} does not answer"


def _ray() -> str:
    version = importlib.metadata.version("ray")
    return f"{version}, cluster at {os.environ['RAY_ADDRESS']}" if "RAY_ADDRESS" in os.environ else version


def _folders() -> list[Path]:
    """The working folder, the cache of compiled code, and the Hub's; the nearest folder that is there."""
    wanted = [Path(), Path(constants.HF_HUB_CACHE)]
    with contextlib.suppress(OSError):  # a user without a home
        wanted.insert(1, native.cache_folder())
    found = (next(p for p in (path.absolute(), *path.absolute().parents) if p.is_dir()) for path in wanted)
    return list(dict.fromkeys(found))


def _devices() -> list[str]:
    gpus = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
    driver = checks.device_identity(torch.device("cuda"))["driver"] if gpus else ""
    shown = [f"{gpu.name}, {gpu.total_memory / 2**30:.0f} GiB, {gpu.major}.{gpu.minor}, {driver}" for gpu in gpus]
    return [*shown, environment.device_name("cpu")]


def _memory_gb() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1)
    except (AttributeError, ValueError, OSError):
        return None


# ---------------------------------------------------------------------------------------------------- what auto takes


def _precision(taken: str) -> Choice:
    reasons = {
        "bf16": "bfloat16 matrices are multiplied in hardware here",
        "fp16": "this GPU has no bfloat16; losses are scaled",
        "fp32": "there is no half precision in hardware here",
    }
    return Choice(taken, reasons[taken])


def _padding(device: str, precision: str) -> dict[str, Choice]:
    model = _model(FAMILIES[0], HEADS[0])
    taken = set_padding("auto", model, device, precision)
    if device != "cpu":
        reason = "packing was never measured on this kind of device; padding = none takes it, where its check passes"
        return {"padding": Choice(taken, reason), "attention": Choice("sdpa", "what transformers takes")}
    if taken != "none":
        return {
            "padding": Choice(taken, "packed training does not agree with padded here"),
            "attention": Choice("sdpa", "what transformers takes"),
        }
    padding = Choice(taken, f"verified for {', '.join(FAMILIES)}; other families: longest")
    if model.config._attn_implementation == attention.PACKED and has_packed_encoder(model, ACTIVATIONS[precision]):
        return {"padding": padding, "attention": Choice("C", "all between matrix products, compiled here")}
    return {"padding": padding, "attention": Choice("groups of similar length", "no layers in C here")}


def _optimizers(device: str) -> dict[str, Choice]:
    """Optimizer -> its implementation; all that can be had here are checked."""
    found = {"optimizer Adam": Choice("fused", "torch's own")}
    reasons = {"cpu": "one pass over memory, compiled here", "foreach": "torch's operators over lists of tensors"}
    for cls in (LaProp, MAdam, LaMAdam):
        param = torch.nn.Parameter(torch.zeros(8, device=device))
        for name in _implementations(device):
            selfcheck.sound(name, cls, False, [param])
        optimizer = cls([param], fused=True if device == "cpu" else None)
        taken = optimizer.implementation_for(optimizer.param_groups[0], [param])
        reason = reasons.get(taken, "the others are wrong here")
        found[f"optimizer {cls.__name__}"] = Choice(selfcheck.LABELS[taken], reason)
    return found


def _implementations(device: str) -> list[str]:
    """Those that there are beside the for-loop."""
    found = ["foreach"]
    if device == "cpu" and cpu.ready(0, eager=True):
        found.append("cpu")
    if device == "cuda" and importlib.util.find_spec("triton"):
        found.append("cuda")
    return found


def _check_packing(device: str, precision: str) -> None:
    """Every way of packing that there is on this device, for two sizes of heads."""
    target = torch.device(device)
    if device == "cuda" and precision == "fp32":
        return
    for size in HEADS:
        model = _model(FAMILIES[0] if size != HEADS[0] else FAMILIES[1], size)
        packing_is_sound(model, target, precision, own_layers=False)
        if device == "cpu" and has_packed_encoder(model, ACTIVATIONS[precision]):
            packing_is_sound(model, target, precision, own_layers=True)


def _model(family: str, head_size: int) -> PreTrainedModel:
    """A model of one layer and two heads."""
    config = AutoConfig.for_model(family, hidden_size=2 * head_size, num_attention_heads=2, num_hidden_layers=1,
                                  intermediate_size=16, vocab_size=200)  # fmt: skip
    return AutoModelForSequenceClassification.from_config(config)


# -------------------------------------------------------------------------------------------------------- measurement


def _rates(device: torch.device, precision: str) -> dict[str, float]:
    kinds = dict.fromkeys(("fp32", precision))
    found = {f"matrix products {kind}, GFLOP/s": matrix_rate(device, ACTIVATIONS[kind]) / 1e9 for kind in kinds}
    return {**found, "copy, GB/s": copy_bandwidth(device) / 1e9}


def matrix_rate(device: torch.device, dtype: torch.dtype, size: int | None = None) -> float:
    """Operations per second of a product of two square matrices, the best of a few."""
    size = size or (8192 if device.type == "cuda" else 1024)
    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    return 2 * size**3 / min(_seconds(lambda: a @ b, a) for _ in range(7))


def copy_bandwidth(device: torch.device, elements: int = 2**26) -> float:
    """Bytes per second, read and written, of a large copy of float32."""
    source = torch.ones(elements, device=device)
    target = torch.empty_like(source)
    return 2 * source.nbytes / statistics.median(_seconds(lambda: target.copy_(source), source) for _ in range(7))


def _seconds(work: Callable[[], object], on: Tensor) -> float:
    synchronize(on.device)
    start = time.perf_counter()
    work()
    synchronize(on.device)
    return time.perf_counter() - start


def synchronize(device: torch.device) -> None:
    """Wait until the device has done what was asked of it."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
