"""C sources of the package, compiled at first use with the system's compiler. Installing the package compiles nothing.

A library goes to the user's cache under a name made of its source, the compiler and the CPU, so what lies there fits.
Loads nothing but the standard library.
"""

import contextlib
import ctypes
import functools
import hashlib
import logging
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from glue_mva.machine import cpu_info, cpu_instructions

log = logging.getLogger(__name__)

FLAGS = ("-O3", "-std=c11", "-shared", "-fPIC", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=off")
"""Every operation is rounded on its own, as torch rounds it."""


def chosen_cache() -> Path | None:
    """`$GLUE_MVA_CACHE`: where everything lies that the package keeps for later; None where it is not set."""
    chosen = os.environ.get("GLUE_MVA_CACHE")
    return Path(chosen) if chosen else None


def cache_folder() -> Path:
    """Of compiled code and verdicts: `$GLUE_MVA_CACHE`, else `$XDG_CACHE_HOME/glue-mva`, else `~/.cache/glue-mva`; made
    by whoever writes there.

    Raises:
        OSError: none is set, and this user has no home.
    """
    if (chosen := chosen_cache()) is not None:
        return chosen
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "glue-mva"
    except RuntimeError as error:
        raise OSError(str(error)) from None


@contextlib.contextmanager
def keeping() -> Iterator[None]:
    """Within it, something is written to the cache; where that fails, one warning says so, and the error goes on."""
    try:
        yield
    except OSError as error:
        if not _warned:
            _warned.append(_trouble(error))
            log.warning("%s", *_warned)
        raise


_warned: list[str] = []


def cache_trouble() -> str | None:
    """In one line, why nothing can be kept in the cache; None where something can."""
    try:
        folder = cache_folder()
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return None
    except OSError as error:
        return _trouble(error)


def _trouble(error: OSError) -> str:
    where = ""
    with contextlib.suppress(OSError):
        where = f" in {str(cache_folder())!r}"
    reason = (error.strerror or str(error)).rstrip(".")
    return f"cannot keep compiled code and verdicts{where}: {reason}; GLUE_MVA_CACHE names another folder"


def compiler() -> str:
    """Path of a C compiler: of `$CC`, else of cc, gcc or clang.

    Raises:
        OSError: there is none.
    """
    return _compiler(os.environ.get("CC", ""), os.environ.get("PATH"))


@functools.cache
def _compiler(wanted: str, path: str | None) -> str:
    for name in (wanted, "cc", "gcc", "clang"):
        found = shutil.which(name, path=path) if name else None
        if found:
            return found
    raise OSError("no C compiler found (CC, cc, gcc, clang)")


def fingerprint() -> str:
    """Digest of what makes one library differ from another of the same source: compiler, `FLAGS` and CPU.

    Raises:
        OSError: there is no compiler.
    """
    return _fingerprint(compiler(), FLAGS)


@functools.cache
def _fingerprint(tool: str, flags: Sequence[str]) -> str:
    path = Path(tool).resolve()
    stat = path.stat()
    cpu = (platform.machine(), cpu_info().get("model name", ""), cpu_instructions())  # -march=native
    parts = (str(path), str(stat.st_size), str(stat.st_mtime_ns), *flags, *cpu)
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def library_path(source: Path, defines: Sequence[str] = ()) -> Path:
    """Where the library of a source lies or will lie. An optimizer asks at every step until it is there.

    Args:
        source: the C file.
        defines: further options of the compiler (`-DNAME=...`).

    Raises:
        OSError: there is no compiler, or no folder for a cache.
    """
    digest = _digest(source, source.stat().st_mtime_ns, fingerprint(), *defines)
    return cache_folder() / f"{source.stem}-{digest}.so"


@functools.cache
def _digest(source: Path, changed: int, *parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode() + source.read_bytes()).hexdigest()[:16]


def load(source: Path, defines: Sequence[str] = (), *, compile_now: bool = True) -> ctypes.CDLL | None:
    """The library of a source, from the cache or the compiler; None where it is not in the cache and not `compile_now`.

    Raises:
        OSError, subprocess.SubprocessError: no compiler, it failed, or the cache cannot be written.
    """
    path = library_path(source, defines)
    if not path.exists():
        if not compile_now:
            return None
        _compile(source, defines, path)
    return ctypes.CDLL(str(path.absolute()))


def _compile(source: Path, defines: Sequence[str], path: Path) -> None:
    """Compiles to a file of its own and renames it, so that processes that do the same at once do not meet."""
    with keeping():
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(suffix=".so", dir=path.parent)
    os.close(handle)
    try:
        for native in (["-march=native"], []):
            command = [compiler(), *FLAGS, *defines, *native, "-o", name, str(source), "-lm"]
            done = subprocess.run(command, capture_output=True, text=True, timeout=120)
            if done.returncode == 0:
                Path(name).replace(path)
                return
        raise OSError(f"{command[0]} failed: {done.stderr.strip()[-500:]}")
    finally:
        Path(name).unlink(missing_ok=True)


@functools.cache
def openmp_parallel() -> int | None:
    """Address of `GOMP_parallel` in torch's OpenMP runtime: a library that calls it works on torch's threads, where one
    compiled with -fopenmp would bring a second runtime. None where there is none, or no /proc to find it by.

    Other packages bring runtimes of their own (scikit-learn does), so torch's library is asked first, which answers for
    the one that it is linked to; then whatever runtime is loaded, for a torch that is linked in another way.
    """
    try:
        paths = {line.split(maxsplit=5)[-1] for line in Path("/proc/self/maps").read_text().splitlines()}
    except OSError:
        return None
    for path in sorted(path for path in paths if Path(path).name == "libtorch_cpu.so") + sorted(
        path for path in paths if Path(path).name.startswith(("libgomp", "libiomp5", "libomp"))
    ):
        try:
            library = ctypes.CDLL(path, mode=os.RTLD_NOLOAD | os.RTLD_NOW)
            return ctypes.cast(library.GOMP_parallel, ctypes.c_void_p).value
        except (OSError, AttributeError):
            continue
    return None
