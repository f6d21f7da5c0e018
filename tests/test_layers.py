"""A room knows only the rooms below it, and no two modules import each other: read from the source."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "glue_mva"

ROOMS = (
    ("errors", "files", "machine", "native", "checks", "paper", "tasks", "style", "text"),  # the ground
    ("optim",),
    ("config",),
    ("record",),
    ("data",),
    ("models",),
    ("training",),
    ("inference",),
    ("sweep",),
    ("report",),
    ("submission",),
    ("simulate",),
    ("cli",),
    ("__init__", "__main__"),
)
"""From the ground up; the one place where the order is written."""

LEVEL = {name: level for level, names in enumerate(ROOMS) for name in names}

TORCH_FREE = ("config", "record", "report", "submission")
"""Rooms that must not reach those that import torch; each also has a test that looks at what is loaded."""


def modules() -> dict[str, Path]:
    """Dotted name inside the package -> file; a package by the name of its folder."""
    files = {".".join(p.relative_to(PACKAGE).with_suffix("").parts): p for p in PACKAGE.rglob("*.py")}
    return {name.removesuffix(".__init__") if "." in name else name: path for name, path in files.items()}


def imports(path: Path, known: set[str]) -> Iterator[tuple[str, int]]:
    """(module of the package that a file imports, line), in functions too; not what is for type checkers only."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    hidden = {
        id(node)
        for test in ast.walk(tree)
        if isinstance(test, ast.If) and ast.unparse(test.test) == "TYPE_CHECKING"
        for node in ast.walk(test)
    }
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            head, _, rest = name.partition(".")
            if head != "glue_mva" or id(node) in hidden:
                continue
            yield next((m for m in (rest, rest.rpartition(".")[0]) if m in known), "__init__"), node.lineno


FOUND = modules()
GRAPH = {name: list(imports(path, set(FOUND))) for name, path in FOUND.items()}


def room(module: str) -> str:
    return module.partition(".")[0]


def test_every_module_lies_in_a_room() -> None:
    assert {room(name) for name in FOUND} == set(LEVEL)


@pytest.mark.parametrize("name", sorted(FOUND))
def test_imports_go_down(name: str) -> None:
    upward = [f"line {line}: {other}" for other, line in GRAPH[name] if LEVEL[room(other)] > LEVEL[room(name)]]
    assert not upward


def test_there_is_no_circle() -> None:
    done: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, " -> ".join([*path[path.index(name) :], name])
        if name not in done:
            for other, _ in GRAPH[name]:
                if other != name:
                    visit(other, (*path, name))
            done.add(name)

    for name in FOUND:
        visit(name, ())


@pytest.mark.parametrize("name", sorted(n for n in FOUND if room(n) in TORCH_FREE))
def test_what_is_free_of_torch_imports_no_room_that_has_it(name: str) -> None:
    assert not [other for other, _ in GRAPH[name] if room(other) in ("data", "models", "training")]


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_file_is_longer_than_400_lines(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400
