"""MkDocs hooks of the site: results are pages of it, and formulas are set without any script.

- Everything in `reports/` that the docs point to becomes part of the site.
- Formulas are written as `$...$`, which a browser sets from MathML, so that the site needs no network.
"""

import html
import re
from pathlib import Path
from typing import Any

from latex2mathml.converter import convert
from mkdocs.structure.files import File, Files, InclusionLevel

ROOT = Path(__file__).parents[1]
RESULTS = tuple(f"reports/**/*.{ending}" for ending in ("md", "png", "svg", "csv", "tex"))
FORMULA = re.compile(r'<(span|div) class="arithmatex">(?:\\\((.*?)\\\)|\\\[(.*?)\\\])</\1>', re.DOTALL)


def on_files(files: Files, config: Any) -> Files:
    """Adds the results; they stand in no menu, but links lead to them."""
    for path in sorted(path for pattern in RESULTS for path in ROOT.glob(pattern)):
        file = File.generated(config, path.relative_to(ROOT).as_posix(), abs_src_path=str(path))
        file.inclusion = InclusionLevel.NOT_IN_NAV
        files.append(file)
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Links to results, as they stand in the repository, in terms of the site."""
    return re.sub(r"\]\(\.\./(reports/[^)]+)\)", r"](\1)", markdown)


def on_page_content(content: str, **_: Any) -> str:
    """Formulas as MathML."""

    def mathml(match: re.Match[str]) -> str:
        inline, block = match[2], match[3]
        return convert(html.unescape(inline or block), display="inline" if inline else "block")

    return FORMULA.sub(mathml, content)
