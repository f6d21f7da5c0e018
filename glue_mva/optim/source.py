"""What an optimizer of somebody else's is made of: a digest of its source, found without running it. No torch.

So that the record of one version of a class never stands for another. Own files count by their content: the class's
module and whatever it imports, itself or through others, that is no part of an installed package. Installed packages
count by name and version; those whose versions every record has (`EVERYWHERE`) only where they hold the class. What is
imported under a name that is put together while the program runs is not seen.
"""

import ast
import hashlib
import importlib.metadata
import importlib.util
import sys
from collections.abc import Iterator
from functools import lru_cache
from importlib.machinery import PathFinder
from pathlib import Path
from typing import NamedTuple

from glue_mva.errors import UsageError

EVERYWHERE = ("glue_mva", "torch", "numpy")


class _Stamp(NamedTuple):
    """By which a file is taken for unchanged while the process lives."""

    mtime_ns: int
    size: int


_known: dict[str, tuple[str, dict[Path, _Stamp]]] = {}
"""Path of a class -> its digest, and the files that it was taken from."""
_imported: dict[str, str | None] = {}
"""Path of a class -> its digest when this process imported it."""


def source_digest(path: str) -> str | None:
    """Digest of what defines `pkg.module:Class`, or `name==version` of the installed package that it is part of; `None`
    where its module cannot be found."""
    module = path.partition(":")[0]
    if package := _package(module):
        return package
    digest, stamps = _known.get(path, ("", {}))
    if _file(module) in stamps and all(_stamp(file) == stamp for file, stamp in stamps.items()):
        return digest
    files: dict[str, Path] = {}
    packages: set[str] = set()
    left = [module]
    while left:
        name = left.pop()
        top = name.partition(".")[0]
        if name in files or top in sys.stdlib_module_names:
            continue
        if package := _package(name):
            packages |= {package} if top not in EVERYWHERE else set()
        elif file := _file(name):
            files[name] = file
            left += [name.rpartition(".")[0], *_imports(name, file)]
    if module not in files:
        return None
    content = [f"{name}={hashlib.sha256(files[name].read_bytes()).hexdigest()}" for name in sorted(files)]
    digest = f"sha256:{hashlib.sha256(chr(0).join([*content, *sorted(packages)]).encode()).hexdigest()[:16]}"
    _known[path] = digest, {file: stamp for file in files.values() if (stamp := _stamp(file)) is not None}
    return digest


def note_import(path: str) -> None:
    """Remember the source of a class that was just imported.

    Raises:
        UsageError: it was imported before, and its source has changed since: this process still has the old one.
    """
    digest = source_digest(path)
    if _imported.setdefault(path, digest) != digest:
        raise UsageError(f"the source of optimizer {path!r} was changed after this process imported it: start anew")


def _stamp(file: Path) -> _Stamp | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return _Stamp(found.st_mtime_ns, found.st_size)


def _file(module: str) -> Path | None:
    """The file that a module is or would be loaded from; neither it nor its packages are loaded for that."""
    if not module:
        return None
    if module == "__main__":
        found = getattr(sys.modules["__main__"], "__file__", None)
        return Path(found) if found and Path(found).is_file() else None
    top, *rest = module.split(".")
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):
        return None
    name = top
    for part in rest:
        name = f"{name}.{part}"
        locations = spec.submodule_search_locations if spec is not None else None
        spec = PathFinder.find_spec(name, list(locations)) if locations is not None else None
    return Path(spec.origin) if spec is not None and spec.has_location and spec.origin else None


def _package(module: str) -> str | None:
    """`name==version` of the installed package that a module belongs to; `None` for own files. The version is without
    its local part (`+cpu`), so that machines with and without a GPU agree."""
    top = module.partition(".")[0]
    file = _file(top)
    if top != "glue_mva" and (file is None or not {"site-packages", "dist-packages"} & set(file.parts)):
        return None
    for name in (*_distributions().get(top, ()), top):
        try:
            return f"{name}=={importlib.metadata.version(name).partition('+')[0]}"
        except importlib.metadata.PackageNotFoundError:
            continue
    return None


@lru_cache(maxsize=1)
def _distributions() -> dict[str, list[str]]:
    return dict(importlib.metadata.packages_distributions())


def _imports(module: str, file: Path) -> Iterator[str]:
    """Names of modules that a Python file may import."""
    try:
        tree = ast.parse(file.read_bytes() if file.suffix == ".py" else b"")
    except (SyntaxError, ValueError):  # it is refused when it is imported
        return
    parts = module.split(".")
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = parts[: len(parts) - node.level + (file.name == "__init__.py")] if node.level else []
            base = [*parents, *([node.module] if node.module else [])]
            yield ".".join(base)
            yield from (".".join([*base, alias.name]) for alias in node.names)  # which may be modules too
