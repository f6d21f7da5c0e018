"""What the docs say of the program is so: commands, files, lines of code, and the picture of the rooms."""

import re
import shlex
from pathlib import Path

import pytest
import typer

from glue_mva.cli import app
from tools.draw_rooms import PICTURE, draw

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
CODE_OF_UPDATE = re.compile(r"\| `([^`]+)` \|$", re.MULTILINE)
LINK = re.compile(r"\]\(([^)#:]+)(?:#[^)]*)?\)")


def commands() -> list:
    """Every `glue-mva ...` that stands in the docs or opens a sweep file, with the place where it stands."""
    found = []
    for path in [*PAGES, *sorted((ROOT / "configs").glob("*.toml"))]:
        if path.name == "cli.md":  # generated from the commands themselves
            continue
        blocks = code_blocks(path.read_text(encoding="utf-8")) if path.suffix == ".md" else path.read_text("utf-8")
        for line in blocks.splitlines():
            match = re.match(r"(?:#|[\w-]+\$)?\s*(?:cd \S+ && )?(glue-mva .*)", line)
            if match and not re.search(r" \[-|\.\.\.", match[1]):  # a synopsis is no command
                found.append(pytest.param(match[1].split("  ")[0].rstrip(" &"), id=f"{path.stem}: {match[1][:50]}"))
    return found


def code_blocks(text: str) -> str:
    """Fenced and indented code, joined."""
    fenced = re.findall(r"^```[^\n]*\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    return "\n".join(
        [*fenced, *re.findall(r"^    (.*)$", re.sub(r"```.*?```", "", text, flags=re.DOTALL), re.MULTILINE)]
    )


@pytest.mark.parametrize("line", commands())
def test_every_command_in_the_docs_is_one_that_the_program_takes(line: str, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(ROOT)
    _, *words = shlex.split(line.split(" #")[0])
    command = typer.main.get_command(app)
    while children := getattr(command, "commands", None):
        assert words and words[0] in children, f"no command {words[:1]} in {list(children)}"
        command = children[words.pop(0)]
    command.make_context(command.name, words)  # raises where an option is unknown or a value is refused


def test_every_line_of_the_update_is_one_of_the_program():
    source = "".join(path.read_text() for path in (ROOT / "glue_mva" / "optim").glob("*.py"))
    lines = CODE_OF_UPDATE.findall((ROOT / "docs" / "update.md").read_text())
    assert len(lines) > 15
    assert [line for line in lines if line not in source] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files(page: Path):
    targets = LINK.findall(re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL))
    assert [target for target in targets if not (page.parent / target).exists()] == []


def test_the_picture_of_the_rooms_is_drawn_from_the_imports():
    assert PICTURE.read_text(encoding="utf-8") == draw(), "run: python tools/draw_rooms.py"
