"""What the docs say of the program is so: commands, files, lines of code, and the picture of the rooms."""

import functools
import re
import shlex
import tomllib
from pathlib import Path

import pytest
import typer

from glue_mva.cli import app
from tests.pages import PAGES, ROOT, blocks, commands
from tests.processes import script
from tools.draw_rooms import PICTURE, draw

CODE_OF_UPDATE = re.compile(r"\| `([^`]+)` \|$", re.MULTILINE)
FILE = re.compile(
    r"(?<![\w./-])(?:(?:glue_mva|tests|benchmarks|tools|examples|configs|reports/speed|reports/simulations|optim|cli|config"
    r"|data|models|training|sweep|report|submission)/)+[\w/-]+\.(?:py|toml|c|md|svg|png)\b"
)
"""A file of the source tree, as the pages name one; that of the package also without its first folder."""
LINK = re.compile(r"\]\(([^)#:]+)(?:#[^)]*)?\)")


def all_commands() -> list:
    """Every command in the docs or at the head of a sweep file, with the place where it stands."""
    found = []
    for path in [*PAGES, *sorted((ROOT / "configs").glob("*.toml"))]:
        if path.name == "cli.md":  # generated from the commands themselves
            continue
        text = path.read_text(encoding="utf-8")
        codes = [text] if path.suffix == ".toml" else [code for _, code in blocks(text)]
        for line in [line for code in codes for line in commands(code)]:
            found.append(pytest.param(line, id=f"{path.stem}: {line[:50]}"))
    return found


ALL_COMMANDS = all_commands()


@pytest.mark.parametrize("line", [p for p in ALL_COMMANDS if "glue-mva " in p.values[0]])
def test_every_command_in_the_docs_is_one_that_the_program_takes(line: str, monkeypatch):
    monkeypatch.chdir(ROOT)
    words = shlex.split(line[line.index("glue-mva ") :])[1:]
    command = typer.main.get_command(app)
    while children := getattr(command, "commands", None):
        assert words and words[0] in children, f"no command {words[:1]} in {list(children)}"
        command = children[words.pop(0)]
    command.make_context(command.name, words)  # raises where an option is unknown or a value is refused


@pytest.mark.parametrize("line", [p for p in ALL_COMMANDS if p.values[0].startswith("make ")])
def test_every_target_in_the_docs_is_one_of_the_makefile(line: str):
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert set(line.split()[1:]) <= set(targets)


@pytest.mark.parametrize("line", [p for p in ALL_COMMANDS if "python " in p.values[0]])
def test_every_script_in_the_docs_is_there_and_takes_the_options(line: str):
    path, *words = line[line.index("python ") :].split()[1:]
    said = help_of(path)
    assert [word for word in words if word.startswith("--") and word.split("=")[0] not in said] == []


@functools.cache
def help_of(path: str) -> str:
    done = script(ROOT / path, "--help")
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("line", [p for p in ALL_COMMANDS if "pip install" in p.values[0]])
def test_every_extra_in_the_docs_is_one_of_the_package(line: str):
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    named = re.findall(r"(?:glue-mva|\.)\[([\w,]+)\]", line)
    assert {extra for group in named for extra in group.split(",")} <= set(extras)


def test_every_line_of_the_update_is_one_of_the_program():
    source = "".join(path.read_text() for path in (ROOT / "glue_mva" / "optim").glob("*.py"))
    lines = CODE_OF_UPDATE.findall((ROOT / "docs" / "update.md").read_text())
    assert len(lines) > 15
    assert [line for line in lines if line not in source] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files(page: Path):
    targets = LINK.findall(re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL))
    assert [target for target in targets if not (page.parent / target).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_of_the_source_tree_that_a_page_names_are_there(page: Path):
    named = re.findall(FILE, page.read_text(encoding="utf-8"))
    assert [name for name in named if not ((ROOT / name).exists() or (ROOT / "glue_mva" / name).exists())] == []


def test_the_picture_of_the_rooms_is_drawn_from_the_imports():
    assert PICTURE.read_text(encoding="utf-8") == draw(), "run: python tools/draw_rooms.py"
