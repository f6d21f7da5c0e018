"""The fused implementation on CPU: one pass over memory in C, compiled at first use (see `glue_mva.native`).

It gives the same bits as the other implementations, so nothing depends on whether there is a compiler, apart from time.
"""

import array
import ctypes
import functools
import itertools
import logging
import os
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch

from glue_mva import native
from glue_mva.optim.kernels import foreach
from glue_mva.optim.state import Constants, Scalars, Slot, Tensors, chunks, flat

logger = logging.getLogger(__name__)

WORTH_COMPILING = 10**8
"""Elements that a process steps before compiling (half a second) pays; a library in the cache is used at once."""
_LAYOUT = (
    f"-DTENSOR_FIELDS={', *restrict '.join(Tensors._fields)}",
    f"-DSCALAR_FIELDS={', '.join(Scalars._fields)}",
)
"""The structs of cpu.c have the fields of these tuples, in their order."""
_SOURCE = Path(__file__).with_name("cpu.c")
_PIECE = 2**15
"""Elements converted at a time where parameters are not float32."""
_PER_THREAD = 2**16
"""Fewest elements worth a thread of their own."""

_stepped = 0
"""Elements stepped by this process on CPU while no library was loaded."""


def ready(numel: int, *, eager: bool) -> bool:
    """Whether the kernel can step `numel` elements now; compiles it if that pays.

    Args:
        numel: elements of the coming step.
        eager: compile at once (the user asked for `fused=True`) instead of after `WORTH_COMPILING` elements.
    """
    global _stepped
    _stepped += numel
    return _library(compile_now=eager or _stepped >= WORTH_COMPILING) is not None


def step(slots: list[Slot], c: Constants) -> None:
    """Steps every slot in place; what the kernel does not take (float64, unusual layouts) goes to foreach."""
    direct: list[Slot] = []
    converted: list[Slot] = []
    others: list[Slot] = []
    for slot in slots:
        x = flat(slot.tensors)
        if x is None or x.exp_avg.dtype != torch.float32:
            others.append(slot)
        elif x.param.dtype == x.grad.dtype == torch.float32:
            direct.append(Slot(x, slot.scalars))
        else:
            converted.append(Slot(x, slot.scalars))
    _call(direct, c)
    for piece in itertools.chain.from_iterable(chunks(converted, _PIECE)):
        x = piece.tensors
        work = x._replace(param=x.param.float(), grad=x.grad.float())
        _call([Slot(work, piece.scalars)], c)
        x.param.copy_(work.param)
    if others:
        foreach.step(others, c)


def _call(slots: list[Slot], c: Constants) -> None:
    total = sum(slot.tensors.param.numel() for slot in slots)
    if not total:
        return
    library = _library(compile_now=True)
    if library is None:
        raise RuntimeError("the compiled kernel was chosen, but cannot be had")
    tensors = array.array("q")
    scalars = array.array("d")
    for x, by in slots:
        tensors.append(x.param.numel())
        tensors.extend(0 if tensor is None else tensor.data_ptr() for tensor in x)
        scalars.extend(by)  # type: ignore[arg-type]
    constants = array.array("d", (1 - c.beta1, 1 - c.beta2, c.eps, -1.0 if c.maximize else 1.0))
    addresses = [block.buffer_info()[0] for block in (tensors, scalars, constants)]

    def share(start: int, stop: int) -> None:
        library.step(*addresses, len(slots), start, stop, int(c.normalise_first))

    threads = min(torch.get_num_threads(), -(-total // _PER_THREAD))
    if threads == 1:
        share(0, total)
        return
    bounds = [total * i // threads // 16 * 16 for i in range(threads)] + [total]
    list(_pool(os.getpid(), threads).map(share, bounds[:-1], bounds[1:]))


@functools.lru_cache(maxsize=1)
def _pool(pid: int, threads: int) -> ThreadPoolExecutor:
    """Threads of this process; ctypes releases the interpreter lock. (OpenMP: a second runtime beside torch's.)"""
    return ThreadPoolExecutor(threads, thread_name_prefix=f"glue-mva-{pid}")


_loaded: dict[str, ctypes.CDLL | None] = {}


def _library(*, compile_now: bool) -> ctypes.CDLL | None:
    """The kernel, from this process, the cache or the compiler; None where it cannot be had (or not yet)."""
    if "library" not in _loaded:
        try:
            library = native.load(_SOURCE, _LAYOUT, compile_now=compile_now)
            if library is None:
                return None
            library.step.argtypes = [ctypes.c_void_p] * 3 + [ctypes.c_int64] * 3 + [ctypes.c_int]
            library.step.restype = None
            _loaded["library"] = library
        except (OSError, subprocess.SubprocessError, AttributeError) as error:
            logger.debug("no fused CPU kernel, using the foreach implementation: %s", error)
            _loaded["library"] = None
    return _loaded["library"]
