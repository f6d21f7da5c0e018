"""Optimizers that fail in every way a run can fail; named in sweeps as `tests.sweep.faulty:Class`. With a weight decay
above 0 their step is tried, and they are refused, before the first run."""

import os
import signal
import threading
import weakref
from pathlib import Path
from typing import Any

import torch


def _attempt(name: str) -> int:
    """Count the attempts in a file of the working directory, across processes."""
    with Path(f"{name}.attempts").open("a") as stream:
        stream.write("x")
    return len(Path(f"{name}.attempts").read_text())


class Stopping(torch.optim.AdamW):
    """Sends SIGTERM to its process while Python calls back from C, where an exception is printed and lost."""

    def step(self, closure: Any = None) -> Any:
        if not self.state:
            doomed = torch.nn.Module()
            self.watch = weakref.ref(doomed, lambda _: os.kill(os.getpid(), signal.SIGTERM))
            del doomed
        return super().step(closure)


class Broken(torch.optim.AdamW):
    def step(self, closure: Any = None) -> Any:
        raise RuntimeError("no such step")


class Telling(torch.optim.AdamW):
    """Leaves its process and the card that Ray gave it in the working directory."""

    def step(self, closure: Any = None) -> Any:
        if not self.state:
            with Path("telling.places").open("a") as stream:
                stream.write(f"{os.getpid()} {os.environ.get('CUDA_VISIBLE_DEVICES')}\n")
        return super().step(closure)


class Endless(torch.optim.AdamW):
    """Says its process in the named pipe `endless` of the working directory, and never ends its first step."""

    def step(self, closure: Any = None) -> Any:
        Path("endless").write_text(str(os.getpid()))
        threading.Event().wait()


class Interrupted(torch.optim.AdamW):
    """Ctrl-C at its eighth step, once."""

    steps = 0

    def step(self, closure: Any = None) -> Any:
        self.steps += 1
        if self.steps == 8 and _attempt("interrupted") == 1:
            raise KeyboardInterrupt
        return super().step(closure)


class Hungry(torch.optim.AdamW):
    """Out of memory at its first attempt."""

    def step(self, closure: Any = None) -> Any:
        if not self.state and _attempt("hungry") == 1:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")
        return super().step(closure)


class Starved(torch.optim.AdamW):
    """Out of memory at every attempt."""

    def step(self, closure: Any = None) -> Any:
        _attempt("starved")
        raise torch.OutOfMemoryError("CUDA out of memory")


class Doomed(torch.optim.AdamW):
    """Takes its whole process down at every attempt."""

    def step(self, closure: Any = None) -> Any:
        _attempt("doomed")
        print("about to die", flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
