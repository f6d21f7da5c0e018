"""The CPU of this machine as the system describes it, and what the environment says to a process.

Importing this loads nothing but the standard library.
"""

import functools
import os
import platform
from collections.abc import MutableMapping
from pathlib import Path

from glue_mva.errors import UsageError

LAUNCHERS = ("RANK", "LOCAL_RANK", "WORLD_SIZE")
"""Environment variables by which `accelerate launch` and `torchrun` tell a process its place; all three, or none."""


@functools.cache
def cpu_info() -> dict[str, str]:
    """Fields of the first processor in /proc/cpuinfo (`model name`, `flags`, ...); empty where there is none."""
    try:
        text = Path("/proc/cpuinfo").read_text(errors="replace")
    except OSError:
        return {}
    fields = (line.partition(":") for line in text.partition("\n\n")[0].splitlines())
    return {name.strip(): value.strip() for name, _, value in fields}


def cpu_name() -> str:
    """Model name of the CPU."""
    return cpu_info().get("model name") or platform.processor() or platform.machine()


def cpu_instructions() -> str:
    """What instructions the CPU has, as /proc/cpuinfo says it on x86 (`flags`) or ARM (`Features`, `CPU part`)."""
    return " ".join(filter(None, map(cpu_info().get, ("flags", "Features", "CPU part"))))


def available_cores() -> int:
    """Cores that this process may use: those it is bound to, within what its container is allowed."""
    import joblib  # scikit-learn's; knows of affinity and of cgroup quotas

    return joblib.cpu_count()


def shorten_waits(environment: MutableMapping[str, str]) -> bool:
    """Let OpenMP's threads spin for less time before they sleep, unless it is set how they wait: by default they spin
    so long that two runs on one machine crawl.

    Args:
        environment: of a process that has not loaded torch yet.

    Returns:
        Whether it was changed.
    """
    if "OMP_WAIT_POLICY" in environment or "GOMP_SPINCOUNT" in environment:
        return False
    environment["GOMP_SPINCOUNT"] = "2000"
    return True


def process_place() -> tuple[int, int]:
    """(number of this process, number of processes) of a run, as its launcher has set them; (0, 1) without one.

    Raises:
        UsageError: some of the variables are set and others are not, or one is no number: nothing was launched, and the
            batch would be divided among processes that are not there.
    """
    found = {name: os.environ[name] for name in LAUNCHERS if name in os.environ}
    if not found:
        return 0, 1
    if len(found) < len(LAUNCHERS) or not all(value.isdecimal() for value in found.values()):
        shown = ", ".join(f"{name}={value}" for name, value in found.items())
        raise UsageError(f"the environment has {shown}, but a launcher sets {', '.join(LAUNCHERS)}: unset it, or start "
                         "with accelerate launch")  # fmt: skip
    return int(found["RANK"]), int(found["WORLD_SIZE"])
