"""Where runs are carried out: in this process, or by Ray on this machine or a cluster. Ray is imported when needed.

An engine starts what it is given and reports what has ended; which run is next is decided in `launch`. Queueing,
placement, warm workers, their recycling, and retries after the death of a worker or node are Ray's.
"""

import contextlib
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from glue_mva.config.resolve import ResolvedConfig
from glue_mva.errors import UsageError, first_line
from glue_mva.machine import available_cores
from glue_mva.sweep.protocol import Outcome
from glue_mva.sweep.store import write_failed
from glue_mva.sweep.worker import Finished, execute, prepare

RETRIES = 2
"""How often Ray repeats a run whose worker or node died."""

RUNS_PER_WORKER = 25
"""After so many runs a worker process is replaced by a fresh one, so that no leak adds up."""

OBJECT_STORE_BYTES = 100 * 2**20
"""Ray's shared memory; a sweep passes nothing but configs and outcomes through it."""


CONNECT_SECONDS = 5
"""How long a cluster's port may take to answer; Ray itself would wait for ever."""

HTTP2_GREETING = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
"""How a client of gRPC, which Ray speaks, begins: a preface, and an empty SETTINGS frame, whose fourth byte says what
it is. The other side has to begin with such a frame too (RFC 9113, 3.4)."""


@dataclass(frozen=True)
class Resources:
    """What one run gets."""

    runs_per_gpu: int = 1
    threads: int = 1
    """CPU threads per run."""


class Engine(Protocol):
    """Carries out runs."""

    def slots(self) -> int:
        """How many runs can be under way at once, now."""

    def prepare(self, configs: Sequence[ResolvedConfig]) -> list[str]:
        """Tokenize the data these need and load their models once; returns the problems found."""

    def submit(self, config: ResolvedConfig, run_id: str) -> None:
        """Start a run, or have it start as soon as there is room."""

    def wait(self, seconds: float) -> list[Finished]:
        """The runs that have ended; waits for the first, but no longer than this."""

    def close(self) -> None:
        """Stop what is under way."""


class InlineEngine:
    """One run after another in this process; for debugging."""

    def __init__(self) -> None:
        self._next: list[tuple[ResolvedConfig, str]] = []

    def slots(self) -> int:
        return 1

    def prepare(self, configs: Sequence[ResolvedConfig]) -> list[str]:
        return [problem for config in configs if (problem := prepare(config)) is not None]

    def submit(self, config: ResolvedConfig, run_id: str) -> None:
        self._next.append((config, run_id))

    def wait(self, seconds: float) -> list[Finished]:
        return [execute(*self._next.pop(0))] if self._next else []

    def close(self) -> None:
        self._next.clear()


class RayEngine:
    """Runs as Ray tasks, on this machine (`address=None`) or on a running cluster.

    Raises:
        UsageError: no cluster at the address, or no machine with as many cores as a run is to have.
    """

    def __init__(self, resources: Resources, address: str | None = None) -> None:
        self._threads = resources.threads
        if address is None:
            self._check_threads(available_cores())
        else:
            _check_address(address)
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        os.environ.setdefault("RAY_task_oom_retries", "0")  # `launch` repeats those with smaller batches
        os.environ.setdefault("RAY_worker_niceness", "0")  # else a run is as slow as whatever else runs lets it be
        import ray

        logging.getLogger("ray").setLevel(logging.ERROR)
        self._ray = ray
        local: dict[str, Any] = {"include_dashboard": False, "num_cpus": available_cores(),
                                 "object_store_memory": OBJECT_STORE_BYTES}  # fmt: skip
        try:
            with interrupts_held(), _children_outlast_a_terminal():
                # "local": with no address at all Ray would join a cluster that it finds here or in RAY_ADDRESS
                ray.init(address or "local", log_to_driver=False, configure_logging=False, **({} if address else local))
            self._check_threads(max(node["Resources"].get("CPU", 0) for node in ray.nodes() if node["Alive"]))
        except UsageError:
            ray.shutdown()
            raise
        except ConnectionError as error:
            raise UsageError(f"no Ray cluster at {address!r}: {first_line(error)}") from None
        self._on_gpu = ray.cluster_resources().get("GPU", 0) > 0
        self._runs_per_gpu = resources.runs_per_gpu
        # Ray counts in ten thousandths and rounds, so that six times 1/6 would be more than one card.
        share = (10_000 // resources.runs_per_gpu) / 10_000 if self._on_gpu else 0
        self._pending: dict[Any, tuple[ResolvedConfig, str]] = {}
        # CUDA reads once per process which card is its own; without a card, imports are worth keeping.
        reuse = ray.remote(max_calls=1 if self._on_gpu else RUNS_PER_WORKER)
        options = {"num_cpus": self._threads, "num_gpus": share, "max_retries": RETRIES,
                   "runtime_env": {"env_vars": worker_environment(self._threads)}}  # fmt: skip
        self._execute = reuse(_execute_in_worker).options(**options)
        self._prepare = reuse(_prepare_in_worker).options(**options)

    def _check_threads(self, most: float) -> None:
        if self._threads > most:
            raise UsageError(f"threads_per_run {self._threads}: no machine here has more than {most:g} cores")

    def slots(self) -> int:
        with interrupts_held():
            found = self._ray.cluster_resources()
        by_cpu = int(found.get("CPU", 0) // self._threads)
        return max(1, min(by_cpu, int(found.get("GPU", 0)) * self._runs_per_gpu) if self._on_gpu else by_cpu)

    def prepare(self, configs: Sequence[ResolvedConfig]) -> list[str]:
        here = str(Path.cwd())
        with interrupts_held():
            asked = [(config, self._prepare.remote(config, here, self._threads)) for config in configs]
        for _, reference in asked:
            while not self._ready([reference], 1):
                pass
        return [problem for config, reference in asked if (problem := self._problem(config, reference)) is not None]

    def _problem(self, config: ResolvedConfig, reference: Any) -> str | None:
        try:
            return self._ray.get(reference)
        except self._ray.exceptions.RayTaskError:
            raise
        except self._ray.exceptions.RayError as error:  # its process or machine died
            return f"{config.optim} on {config.task}: it could not be prepared: {first_line(error)}"

    def submit(self, config: ResolvedConfig, run_id: str) -> None:
        with interrupts_held():
            reference = self._execute.remote(config, run_id, str(Path.cwd()), self._threads)
            self._pending[reference] = (config, run_id)

    def wait(self, seconds: float) -> list[Finished]:
        if not self._pending:
            return []
        ready = self._ready(list(self._pending), seconds)
        with interrupts_held():
            return [self._collect(reference) for reference in ready]

    def _ready(self, references: list[Any], seconds: float) -> list[Any]:
        """The first of them to end, as soon as it has and at the latest after so many seconds."""
        with interrupts_held():
            return self._ray.wait(references, num_returns=1, timeout=seconds)[0]

    def _collect(self, reference: Any) -> Finished:
        config, run_id = self._pending.pop(reference)
        try:
            return self._ray.get(reference)
        except self._ray.exceptions.RayError as error:
            out_of_memory = isinstance(error, self._ray.exceptions.OutOfMemoryError)
            message = f"{'host out of memory' if out_of_memory else 'the worker died'}: {first_line(error)}"
            try:
                write_failed(config, run_id, message)
            except OSError:
                return Finished(run_id, Outcome("failed", None, error=message), "storage")
            return Finished(run_id, Outcome("failed", None, error=message), "memory" if out_of_memory else "other")

    def close(self) -> None:
        # Ray ends what a leaving driver had under way, on a cluster too. `ray.cancel` would do it one by one, but takes
        # this process down where a run ends at that moment (ray-project/ray#54738).
        self._pending.clear()
        with interrupts_held():
            self._ray.shutdown()


def _check_address(address: str) -> None:
    """Raise `UsageError` where nothing listens, or something that does not speak as Ray does."""
    where = os.environ.get("RAY_ADDRESS", address) if address == "auto" else address
    if where == "auto":
        return  # Ray looks for one on this machine, and says at once where there is none
    host, _, port = where.removeprefix("ray://").rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_SECONDS) as connection:
            if os.environ.get("RAY_USE_TLS", "0") == "0":  # else nobody answers before certificates are exchanged
                _greet(connection)
    except TimeoutError:
        reason = f"no answer within {CONNECT_SECONDS} seconds"
    except (OSError, ValueError, OverflowError) as error:
        reason = first_line(error)
    else:
        return
    raise UsageError(f"no Ray cluster at {where!r}: {reason}; give auto or HOST:PORT")


def _greet(connection: socket.socket) -> None:
    """Raise `ValueError` where the answer is not gRPC's, `OSError` where there is none."""
    connection.sendall(HTTP2_GREETING)
    answer = b""
    while len(answer) < 4 and (received := connection.recv(4 - len(answer))):
        answer += received
    if answer[3:] != b"\x04":
        raise ValueError("something else listens there")


@contextlib.contextmanager
def interrupts_held() -> Iterator[None]:
    """Ctrl-C, SIGTERM and SIGHUP wait for the end of a call of Ray: an exception raised in the middle of one leaves
    Ray in a state that nobody knows. Elsewhere than in the main thread nothing is raised anyway."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    for number, handler in before.items():
        if handler != signal.SIG_IGN:
            signal.signal(number, lambda number, _: came.append(number))
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if came:
        signal.raise_signal(came[0])


@contextlib.contextmanager
def _children_outlast_a_terminal() -> Iterator[None]:
    """A terminal that is closed sends SIGHUP to what Ray starts too, which must outlast this process: it is held back
    here, and so for good there. Ray's own handler of SIGTERM would end this process on the spot: an interrupt here."""
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
    try:
        yield
    except SystemExit:  # that handler
        raise KeyboardInterrupt from None
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _execute_in_worker(config: ResolvedConfig, run_id: str, folder: str, threads: int) -> Finished:
    _enter(folder, threads)
    return execute(config, run_id)


def _prepare_in_worker(config: ResolvedConfig, folder: str, threads: int) -> str | None:
    _enter(folder, threads)
    return prepare(config)


def _enter(folder: str, threads: int) -> None:
    """Paths of a config mean what they mean to the sweep: relative to its working directory."""
    import torch

    from glue_mva.training.contexts import keep_freed_memory

    os.chdir(folder)
    if folder not in sys.path:  # as on the sweep's side: optimizers may lie in modules there
        sys.path.append(folder)
    keep_freed_memory()
    if torch.get_num_threads() != threads:
        torch.set_num_threads(threads)


def worker_environment(threads: int) -> dict[str, str]:
    """Environment of a worker, set before torch is imported: its share of the cores, and waiting threads that sleep."""
    return {
        "OMP_NUM_THREADS": str(threads),
        "MKL_NUM_THREADS": str(threads),
        "OMP_WAIT_POLICY": "PASSIVE",
        "TOKENIZERS_PARALLELISM": "false",
    }
