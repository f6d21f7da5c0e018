"""How many cores there are for this process. Imports nothing heavy."""

import os


def available_cores() -> int:
    """Cores that this process may use: those it is bound to, where the system tells."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
