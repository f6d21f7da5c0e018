"""`report.md`: everything on one page; and `report.html`, the same in one file that opens without a network."""

import base64
import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from glue_mva.report.aggregate import Study
from glue_mva.report.comparisons import Pair
from glue_mva.report.selection import Selection, selection_markdown
from glue_mva.report.tables import Table3, comparisons_markdown, table3_markdown
from glue_mva.tasks import TASKS
from glue_mva.text import count, markdown_table, rate, score, seconds, size


@dataclass
class Page:
    """What the page is made of."""

    title: str
    made: Study
    cells: pd.DataFrame
    table: Table3
    pairs: list[Pair]
    searches: list[Selection]
    commands: Sequence[str]
    """Exact command lines, in order."""
    versions: Mapping[str, str]
    """Of the programs that made this page."""
    figures: dict[str, str] = field(default_factory=dict)
    """Stem of a file in `figures/` -> what it shows."""


_COMPARISONS = """\
Differences are score x 100. The first interval is a bootstrap over seeds and dev examples, the second a t interval over
seeds. p: exact permutation test over seeds, then adjusted by Holm over tasks. Seeds needed: per optimizer, for one
test at 5 % to show a true difference of means of this size with 80 % power. All numbers:
[comparisons.csv](comparisons.csv).
"""

_SELECTION = """\
Search score: median of the chosen point's search runs. Expected flattery: how far the best of these points stands above
its own true score by the luck of its search seeds, between two assumptions (the points' true scores are as observed;
they are all equal). Luck with the dev examples is not in it. A red frame marks the chosen point.
"""

_COST = """\
Means over the final seeds; best and last score are medians, at the best and at the last evaluation. Constant: score of
predicting the most frequent class (STS-B: the mean). All numbers: [cells.csv](cells.csv), [runs.csv](runs.csv).
"""

_CURVES = "Mean over the final seeds; the band goes from the lowest to the highest seed.\n"


def markdown(page: Page) -> str:
    """The page as GitHub-flavoured markdown; figures are linked as `figures/<name>.png`."""
    made = page.made
    parts = [f"# {page.title}\n", _summary(page), "## Table 3\n", table3_markdown(page.table),
             "Also as [table3.csv](table3.csv) and [table3.tex](table3.tex); every seed:\n", _figure(page, "scores"),
             "## Comparisons\n",
             _COMPARISONS, comparisons_markdown(page.pairs)]  # fmt: skip
    parts += ["## Selection\n", selection_markdown(page.searches)]
    if page.searches:
        parts.append(_SELECTION)
    parts += [_figure(page, f"heatmap-{task}") for task in made.tasks]
    parts.append(_figure(page, "expected-best"))
    curves = [_figure(page, f"curves-{task}") for task in made.tasks]
    if any(curves):
        parts += ["## Curves\n", _CURVES, *curves]
    parts += ["## Cost\n", _cost(page), "## How this was made\n", _provenance(page)]
    return "\n".join(part for part in parts if part)


def _figure(page: Page, name: str) -> str:
    if name not in page.figures:
        return ""
    text = page.figures[name]
    return f"![{text}](figures/{name}.png)\n\n*{text}* [SVG](figures/{name}.svg)\n"


def _summary(page: Page) -> str:
    made = page.made
    members = made.members.drop_duplicates("run_id")
    statuses = members["status"].value_counts()
    fates = ", ".join(f"{count(n)} {status}" for status, n in statuses.items())
    lines = [f"{count(len(members))} runs ({fates}), {len(made.tasks)} tasks, {len(made.rows)} optimizers.\n"]
    lines += [f"{pair.overall}\n" for pair in page.pairs]
    notes = [*made.runs.notes, *made.notes]
    if notes:
        lines.append("Notes:\n\n" + "".join(f"- {note}\n" for note in notes))
    return "\n".join(lines)


def _cost(page: Page) -> str:
    cells = page.cells[(page.cells["stage"] == "final") & page.cells["chosen"]]
    labels = {row.name: row.label for row in page.made.rows}

    def value(line: "pd.Series", name: str) -> float:
        return float(line[name]) if name in line.index else float("nan")

    body = [
        [TASKS[line["task"]].title, labels[line["row"]], rate(line["lr"]), rate(line["weight_decay"]),
         count(value(line, "updates")), score(value(line, "best_epoch")), score(line["median"]),
         score(value(line, "median_last_score")), score(value(line, "majority_score")), seconds(value(line, "seconds")),
         size(value(line, "peak_memory_bytes")), size(value(line, "optimizer_state_bytes"))]
        for _, line in cells.iterrows()
    ]  # fmt: skip
    header = ["Task", "Method", "lr", "Weight decay", "Updates", "Best epoch", "Best score", "Last score", "Constant",
              "Seconds", "Peak memory", "Optimizer state"]  # fmt: skip
    return f"{markdown_table(header, body, 'll' + 'r' * 10)}\n{_COST}"


def _provenance(page: Page) -> str:
    made = page.made
    lines = ["```", *page.commands, "```", ""]
    members = made.members.drop_duplicates("run_id")
    for name in ("device", "precision", "padding", "optimizer"):
        used = members[name].replace("", pd.NA).dropna().value_counts()
        if len(used):
            what = "optimizer implementation" if name == "optimizer" else name
            lines.append(f"- {what}: {', '.join(f'{value} ({count(n)} runs)' for value, n in used.items())}")
    environments = pd.DataFrame([made.runs.environments.get(i, {}) for i in members["run_id"]]).astype("string")
    for name in sorted(environments.columns):
        used = environments[name].dropna().value_counts()
        if len(used) == 1:
            lines.append(f"- {name}: {used.index[0]}")
        elif len(used):
            lines.append(f"- {name}: {', '.join(f'{value} ({count(n)} runs)' for value, n in used.items())}")
    made_with = ", ".join(f"{name} {version}" for name, version in page.versions.items())
    lines.append(f"- this page: {made_with}")
    return "\n".join(lines) + "\n\nEvery column and statistic is defined in glue-mva's `docs/report.md`.\n"


# --- HTML -----------------------------------------------------------------------------------------------------------

_CSS = """
:root { color-scheme: light dark; --text: #1b1b1b; --back: #ffffff; --line: #d5d5d5; --soft: #f3f3f3; --link: #0b5cad; }
@media (prefers-color-scheme: dark) {
  :root { --text: #e4e4e4; --back: #16181b; --line: #3a3e44; --soft: #22262b; --link: #7db7f5; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1rem; max-width: 74rem; color: var(--text); background: var(--back);
       font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.6rem; } h2 { margin-top: 2.2rem; font-size: 1.3rem; border-bottom: 1px solid var(--line); }
h3 { font-size: 1.05rem; } a { color: var(--link); }
.scroll { display: block; overflow-x: auto; margin: 1rem 0; }
table { border-collapse: collapse; font-size: .875rem; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .6rem; border-bottom: 1px solid var(--line); white-space: nowrap; }
th { background: var(--soft); text-align: left; }
.scroll img { display: block; width: 100%; min-width: min(var(--width), 34rem); max-width: var(--width);
              background: #fff; border-radius: 4px; padding: .4rem; }
pre { overflow-x: auto; padding: .8rem; background: var(--soft); } code { font-size: .875rem; }
"""

_DOTS_PER_REM = 25
"""Figures are 200 dots per inch; at this width their 8 pt text is as large as the text of the tables."""


def to_html(text: str, title: str, folder: Path) -> str:
    """The markdown page as one HTML file; images are read from `folder` and put inside, links to other figures dropped.

    Raises:
        OSError: an image of the page is missing.
    """
    from markdown_it import MarkdownIt

    renderer = MarkdownIt("commonmark", {"html": False}).enable("table")

    def image(self, tokens, index, options, env):
        token = tokens[index]
        content = (folder / str(token.attrs["src"])).read_bytes()
        width = int.from_bytes(content[16:20], "big")  # of the PNG header
        data = base64.b64encode(content).decode()
        style = f"--width:{width / _DOTS_PER_REM:.1f}rem"
        return (f'<span class="scroll"><img alt="{html.escape(token.content)}" style="{style}" '
                f'src="data:image/png;base64,{data}"></span>')  # fmt: skip

    renderer.add_render_rule("image", image)
    renderer.add_render_rule("table_open", lambda *_: '<div class="scroll"><table>\n')
    renderer.add_render_rule("table_close", lambda *_: "</table></div>\n")
    kept = "\n".join(line.partition(" [SVG](figures/")[0] for line in text.split("\n"))
    return (f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            f'<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            f"<title>{html.escape(title)}</title>\n<style>{_CSS}</style>\n</head>\n<body>\n"
            f"{renderer.render(kept)}</body>\n</html>\n")  # fmt: skip
