"""The CPU of this machine, as the system describes it. Importing this loads nothing but the standard library."""

import functools
import platform
from pathlib import Path


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


def available_cores() -> int:
    """Cores that this process may use: those it is bound to, within what its container is allowed."""
    import joblib  # scikit-learn's; knows of affinity and of cgroup quotas

    return joblib.cpu_count()
