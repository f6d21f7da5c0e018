"""Where compiled code lies, what it depends on, and whose threads it works on."""

import ctypes

import pytest
import torch

from glue_mva import native

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
