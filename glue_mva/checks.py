"""Fast paths that prove themselves: each is compared with the plain path once per machine, before its first use.

A path that raises or disagrees is not taken; one warning says so. Verdicts lie in the user's cache under a digest of
all that they depend on: device, driver, versions, compiler, and the source of the path. Loads nothing but the standard
library.
"""

import contextlib
import hashlib
import importlib.metadata
import json
import logging
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from glue_mva import native
from glue_mva.errors import kind_and_line
from glue_mva.files import atomic_write
from glue_mva.machine import cpu_instructions, cpu_name
from glue_mva.native import cache_folder

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)


class Difference(NamedTuple):
    """How far a fast path is from the plain one in one respect."""

    what: str
    value: float
    """Relative to the largest value of the plain path."""
    tolerance: float
    """The value up to which it counts as right."""

    @property
    def ok(self) -> bool:
        return self.value <= self.tolerance  # not, where it is NaN


@dataclass(frozen=True)
class Verdict:
    """What came of a comparison."""

    ok: bool
    difference: float | None
    """The one closest to its tolerance, or furthest beyond it; None where the path raised."""
    tolerance: float | None
    detail: str = ""
    """In one line, what is wrong with it."""


@dataclass(frozen=True)
class Check:
    """A fast path and how to prove it."""

    compare: Callable[[], Sequence[Difference]]
    """Runs both paths on small tensors."""
    instead: str
    """What is taken where it is wrong."""
    device: "torch.device"
    sources: tuple[Path, ...]
    """Files and folders with the code that it depends on."""
    lasting: bool = True
    """Whether that code lies in these files, so that the verdict may be kept for other processes."""


_verdicts: dict[str, Verdict] = {}
_collectors: list[dict[str, Verdict]] = []
_use_stored = True


def verdict(name: str, make: Callable[[], Check]) -> Verdict:
    """The verdict on a path: of this process, else of the cache, else of a comparison now.

    Args:
        name: of path, variant and device, for people; one check per name and process.
        make: gives the check; called where this process has no verdict yet.
    """
    found = _verdicts.get(name)
    if found is None:
        check = make()
        found = _verdicts[name] = _stored_or_new(name, check)
        if not found.ok:
            log.warning("%s is not used here: %s; taking %s instead", name, found.detail, check.instead)
    for collector in _collectors:
        collector[name] = found
    return found


@contextlib.contextmanager
def collected() -> Iterator[dict[str, Verdict]]:
    """Within it, name -> verdict of every path that is asked for."""
    found: dict[str, Verdict] = {}
    _collectors.append(found)
    try:
        yield found
    finally:
        _collectors[:] = [collector for collector in _collectors if collector is not found]


@contextlib.contextmanager
def anew() -> Iterator[None]:
    """Within it, every path is compared again, whatever is known of it."""
    global _use_stored
    known, _use_stored = dict(_verdicts), False
    _verdicts.clear()
    try:
        yield
    finally:
        _use_stored = True
        for name, verdict in known.items():
            _verdicts.setdefault(name, verdict)


def forget() -> None:
    """Forget the verdicts of this process; those in the cache stay."""
    _verdicts.clear()


def relative(got: "torch.Tensor", expected: "torch.Tensor", least: float = 0.0) -> float:
    """max |got - expected| / max |expected|; infinite where either is not finite.

    Args:
        least: the divisor is at least this.
    """
    got, expected = got.cpu().double(), expected.cpu().double()  # not all devices have float64
    scale = max(expected.abs().max().item(), least)
    difference = (got - expected).abs().max().item()
    if difference == 0.0:
        return 0.0
    value = difference / scale if scale > 0.0 else math.inf
    return value if math.isfinite(value) else math.inf


def _stored_or_new(name: str, check: Check) -> Verdict:
    place = f"checks/{_digest(name, check)}.json"
    if _use_stored and check.lasting:
        with contextlib.suppress(OSError, ValueError, TypeError):
            return Verdict(**json.loads((cache_folder() / place).read_text()))
    try:
        differences = check.compare()
    except Exception as error:  # whatever a broken path does
        return Verdict(False, None, None, f"it raises {kind_and_line(error)}")  # not stored: may pass
    worst = max(differences, key=lambda d: (not d.ok, d.value / d.tolerance if d.tolerance else d.value))
    detail = f"{worst.what} differ from the plain path's by {worst.value:.2g}, where {worst.tolerance:.2g} is allowed"
    found = Verdict(worst.ok, worst.value, worst.tolerance, "" if worst.ok else detail)
    if check.lasting:
        with contextlib.suppress(OSError), native.keeping(), atomic_write(cache_folder() / place) as stream:
            stream.write(json.dumps(asdict(found)).encode())
    return found


def _digest(name: str, check: Check) -> str:
    """Of everything that a verdict depends on."""
    parts = [name, *device_identity(check.device).values()]
    if check.device.type == "cpu":
        with contextlib.suppress(OSError):  # no compiler, nothing compiled
            parts.append(native.fingerprint())
    for package in ("glue-mva", "torch", "transformers"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            parts.append(f"{package} {importlib.metadata.version(package)}")
    files = (file for source in check.sources for file in (sorted(source.rglob("*")) if source.is_dir() else [source]))
    for file in (*files, Path(__file__), Path(native.__file__)):
        if file.suffix in (".py", ".c"):
            parts.append(hashlib.sha256(file.read_bytes()).hexdigest())
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:24]


def device_identity(device: "torch.device") -> dict[str, str]:
    """`device` (its name), `driver`, and for a CPU the instructions that it has."""
    if device.type != "cuda":
        return {"device": cpu_name(), "instructions": cpu_instructions()}
    import torch

    driver = ""
    with contextlib.suppress(OSError):
        driver = Path("/proc/driver/nvidia/version").read_text().splitlines()[0]
    return {"device": torch.cuda.get_device_name(device), "driver": driver or f"CUDA {torch.version.cuda}"}
