"""What a run ran on: device, versions, memory. For the record."""

import contextlib
import importlib.metadata
import os
import platform
import resource
import subprocess
import sys
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from glue_mva.machine import cpu_name, process_place
from glue_mva.models.start import Start
from glue_mva.optim.base import Base
from glue_mva.optim.registry import RIVALS
from glue_mva.optim.routed import RoutedOptimizer
from glue_mva.record import ModelInfo

PACKAGES = ("glue-mva", "torch", "transformers", "accelerate", "datasets", "evaluate", "numpy", "scikit-learn", "scipy")


@lru_cache(maxsize=1)
def describe() -> dict[str, str | None]:
    """Package versions, Python, platform, and the commit where the program runs from a git checkout."""
    versions: dict[str, str | None] = {name.replace("-", "_"): importlib.metadata.version(name) for name in PACKAGES}
    for name in RIVALS:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    return {
        **versions,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "commit": _commit(),
    }


def _commit() -> str | None:
    folder = Path(__file__).parents[1]
    command = ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    environment = {**os.environ, "GIT_OPTIONAL_LOCKS": "0"}  # only look: many runs may ask at once
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True, env=environment)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() if (folder.parent / ".git").exists() else None


def device_type() -> str:
    """`cuda`, `mps`, ... or `cpu`: the kind of device that the Trainer will take."""
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    return "cpu" if accelerator is None or os.environ.get("ACCELERATE_USE_CPU") == "true" else accelerator.type


def take_own_card(device: str) -> None:
    """Of several processes of one run each has a card of its own, as accelerate will give them; until it does, all that
    CUDA sets up would lie on the first card."""
    if device == "cuda" and process_place()[1] > 1:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]) % torch.cuda.device_count())


def device_name(device: str) -> str:
    """Name of the GPU, or model name of the CPU with its number of cores."""
    if device == "cuda":
        return torch.cuda.get_device_name()
    return f"{cpu_name()} ({os.cpu_count()} cores)" if device == "cpu" else device


def describe_model(name: str, digest: str | None, model: PreTrainedModel, start: Start | None) -> ModelInfo:
    """Name as given, architecture and size of the model; the digest of a local folder, or the commit on the Hub."""
    return ModelInfo(
        name=name,
        architecture=type(model).__name__,
        model_type=model.config.model_type,
        parameters=sum(p.numel() for p in model.parameters()),
        digest=digest or getattr(model.config, "_commit_hash", None),
        start=start.digest if start else None,
        kept_head=start.kept_head if start else None,
    )


_runs = 0
"""How many runs this process has begun."""


def begin_measuring_memory(device: str) -> None:
    """Called at the start of a run's training."""
    global _runs
    _runs += 1
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()


def peak_memory(device: str) -> int | None:
    """Bytes: most memory allocated on the GPU during the run. On a CPU the process's peak resident size, of its first
    run only: the system keeps one peak per process, and freed memory is kept for the next run."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return peak if _runs == 1 else None


def kernel_of(optimizer: Any) -> str:
    """Which implementation steps an optimizer: one of `dispatch.ALL` for those of this package; for others, by the
    flags that torch's optimizers share; `own` of a class without them. Several are joined by `+`."""
    if isinstance(optimizer, RoutedOptimizer):
        return "+".join(sorted({kernel_of(part) for part in optimizer.optimizers}))
    groups = optimizer.param_groups
    if isinstance(optimizer, Base):
        return "+".join(sorted({optimizer.implementation_for(group, group["params"]) for group in groups}))
    if any(group.get("fused") for group in groups):
        return "fused"
    flags = {group.get("foreach", "own") for group in groups}
    if flags == {"own"}:
        return "own"
    on_gpu = all(p.is_cuda for group in groups for p in group["params"])
    return "foreach" if flags == {True} or (flags == {None} and on_gpu) else "for-loop"
