"""README and the pages of docs/ as the tests read them: blocks of code, and the commands in them."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md", *sorted((ROOT / "docs").glob("*.md"))]
_BLOCK = re.compile(
    r"^```(?P<language>\w*)[^\n]*\n(?P<fenced>.*?)^```$|(?P<indented>(?:^    [^\n]*\n)+)", re.DOTALL | re.MULTILINE
)
_PROMPT = re.compile(r"^(#|[\w-]+\$)\s*")
_SYNOPSIS = re.compile(r" \[-|\.\.\.")
_PROGRAMS = re.compile(r"(\w+=\S+ )*(glue-mva|make|pip|python|accelerate|torchrun|ray|srun|cut|cd) ")


def blocks(text: str) -> list[tuple[str, str]]:
    """(language, code) of every block in the order of the page; the language of an indented one is empty."""
    found = []
    for match in _BLOCK.finditer(text):
        code = match["fenced"]
        if code is None:
            code = re.sub("^    ", "", match["indented"], flags=re.MULTILINE)
        found.append((match["language"] or "", code))
    return found


def commands(code: str) -> list[str]:
    """The lines of a block that call a program, without prompt and remark; a synopsis is none."""
    lines = [_PROMPT.sub("", line) for line in code.replace("\\\n", " ").splitlines()]
    return [re.sub(r"\s+#.*|\s*&$", "", line).strip() for line in lines
            if _PROGRAMS.match(line + " ") and not _SYNOPSIS.search(line)]  # fmt: skip
