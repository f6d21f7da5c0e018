"""`report.html`: the page as one file that opens without a network, on a phone, in print and in the dark."""

import base64
import hashlib
import html
import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

_CSS = """
:root { color-scheme: light dark; --text: #1b1b1b; --back: #ffffff; --line: #d5d5d5; --soft: #f3f3f3; --link: #0b5cad; }
@media (prefers-color-scheme: dark) {
  :root { --text: #e4e4e4; --back: #16181b; --line: #3a3e44; --soft: #22262b; --link: #7db7f5; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1rem; max-width: 74rem; color: var(--text); background: var(--back);
       font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.5rem; margin: .5rem 0; } h3 { font-size: 1.05rem; }
h2 { margin-top: 2.2rem; font-size: 1.25rem; border-bottom: 1px solid var(--line); }
a { color: var(--link); }
nav { display: flex; flex-wrap: wrap; gap: .2rem 1rem; padding: .4rem 0; font-size: .9rem; }
nav + h2 { margin-top: 1rem; }
.scroll { display: block; overflow-x: auto; margin: 1rem 0; }
table { border-collapse: separate; border-spacing: 0; font-size: .875rem; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .6rem; border-bottom: 1px solid var(--line); white-space: nowrap; }
th { background: var(--soft); text-align: left; vertical-align: bottom; white-space: normal; overflow-wrap: normal;
     cursor: pointer; user-select: none; }
th[aria-sort]::after { content: " \25B2"; font-size: .7em; } th[aria-sort=descending]::after { content: " \25BC"; }
th:first-child, td:first-child { position: sticky; left: 0; background: var(--back); white-space: normal;
                                 min-width: 6.5rem; max-width: min(16rem, 38vw); }
th:first-child { background: var(--soft); }
.scroll img { display: block; width: 100%; min-width: min(var(--width), 34rem); max-width: var(--width);
              background: #fff; border-radius: 4px; padding: .4rem; }
pre { overflow-x: auto; padding: .8rem; background: var(--soft); } code { font-size: .875rem; }
@media print {
  :root { color-scheme: light; --text: #000; --back: #fff; --line: #bbb; --soft: #eee; --link: #000; }
  html { font-size: 9pt; } body { max-width: none; padding: 0; } nav { display: none; } a { text-decoration: none; }
  h2, h3 { break-after: avoid; } tr, .scroll img { break-inside: avoid; } thead { display: table-header-group; }
  .scroll { overflow: visible; } .scroll img { min-width: 0; max-height: 24cm; object-fit: contain; }
  table { font-size: 6.5pt; } th, td { padding: .15rem .25rem; }
  th:first-child, td:first-child { position: static; }
}
"""

_SCRIPT = """
for (const head of document.querySelectorAll("th")) {
  head.tabIndex = 0;
  head.title = "sort";
  const sort = () => {
    const table = head.closest("table"), body = table.tBodies[0], column = head.cellIndex;
    const down = head.getAttribute("aria-sort") === "ascending";
    for (const other of table.querySelectorAll("th")) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const value = row => {
      const text = row.cells[column].textContent.trim().replace(/,/g, "").replace("< ", "");
      if (text === "-" || text === "") return null;
      if (text === "never") return Infinity;
      const number = parseFloat(text);
      return Number.isNaN(number) ? text : number;
    };
    const order = (x, y) => typeof x === "number" && typeof y === "number" ? (x < y ? -1 : x > y ? 1 : 0)
                                                                          : String(x).localeCompare(String(y));
    const rows = [...body.rows].map(row => [value(row), row]);
    rows.sort(([x], [y]) => x === null || y === null ? (x === null) - (y === null) : down ? order(y, x) : order(x, y));
    body.append(...rows.map(([, row]) => row));
  };
  head.addEventListener("click", sort);
  head.addEventListener("keydown", event => { if (event.key === "Enter") sort(); });
}
"""

_REM_PER_POINT = 9 / 72
"""Figures are this wide on the page: their 8 pt text is about as large as the text of the tables."""


def to_html(text: str, title: str, folder: Path, figures: Collection[str]) -> str:
    """The markdown page as one HTML file.

    Args:
        folder: holds the figures as SVG.
        figures: names of those that may be put inside; any other image becomes its text.
    """
    from markdown_it import MarkdownIt

    renderer = MarkdownIt("commonmark", {"html": False}).enable("table")

    def image(self: Any, tokens: Any, index: int, options: Any, env: Any) -> str:
        token = tokens[index]
        found = re.fullmatch(r"figures/([\w-]+)\.png", str(token.attrs["src"]))
        if found is None or found[1] not in figures:
            return html.escape(token.content)
        content = (folder / f"{found[1]}.svg").read_bytes()
        width = re.search(rb'<svg[^>]* width="([\d.]+)pt"', content)
        rem = float(width[1]) * _REM_PER_POINT if width else 60
        return (f'<span class="scroll"><img alt="{html.escape(token.content)}" style="--width:{rem:.1f}rem" '
                f'src="data:image/svg+xml;base64,{base64.b64encode(content).decode()}"></span>')  # fmt: skip

    def link(self: Any, tokens: Any, index: int, options: Any, env: Any) -> str:
        """Only to a file of this report."""
        target = str(tokens[index].attrs["href"])
        return f'<a href="{target}">' if re.fullmatch(r"[\w-]+\.(csv|tex|md)", target) else "<a>"

    def heading(self: Any, tokens: Any, index: int, options: Any, env: Any) -> str:
        tag, name = tokens[index].tag, tokens[index + 1].content
        return f'<{tag} id="{_anchor(name)}">' if tag == "h2" else f"<{tag}>"

    renderer.add_render_rule("image", image)
    renderer.add_render_rule("link_open", link)
    renderer.add_render_rule("heading_open", heading)
    renderer.add_render_rule("table_open", lambda *_: '<div class="scroll"><table>\n')
    renderer.add_render_rule("table_close", lambda *_: "</table></div>\n")
    kept = "\n".join(line.partition(" [SVG](figures/")[0] for line in text.split("\n"))
    names = [line.removeprefix("## ") for line in text.split("\n") if line.startswith("## ")]
    contents = "".join(f'<a href="#{_anchor(name)}">{html.escape(name)}</a>' for name in names)
    body = renderer.render(kept).replace("</h1>", f"</h1>\n<nav>{contents}</nav>", 1)
    digest = base64.b64encode(hashlib.sha256(_SCRIPT.encode()).digest()).decode()
    policy = f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    return (f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
            f'<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            f"<title>{html.escape(title)}</title>\n<style>{_CSS}</style>\n</head>\n<body>\n"
            f"{body}<script>{_SCRIPT}</script>\n</body>\n</html>\n")  # fmt: skip


def _anchor(name: str) -> str:
    return re.sub(r"\W+", "-", name.lower()).strip("-")
