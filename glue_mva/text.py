"""How numbers, tables and foreign texts are printed: as plain text, markdown and LaTeX. Imports no torch.

Texts that come out of records (names, errors, versions) are anybody's: `clean` takes them in, `markdown` and `latex`
print them as what they are, so that none becomes markup.
"""

import math
import re
import unicodedata
from collections.abc import Sequence

LONGEST_TEXT = 300
"""Characters of a foreign text that are kept."""


def score(value: float | None) -> str:
    """Score x 100 as the paper prints it: two decimals."""
    return "-" if value is None or math.isnan(value) else f"{value:.2f}"


def error(value: float) -> str:
    """Standard error as the paper prints it: `.64`, and `1.1` from 1 on."""
    if math.isnan(value):
        return "-"
    text = f"{value:.2f}"
    return text[1:] if text.startswith("0") else f"{value:.1f}"


def signed(value: float) -> str:
    """Difference with its sign, two decimals; no sign for 0."""
    if math.isnan(value):
        return "-"
    text = f"{value:+.2f}"
    return "0.00" if float(text) == 0 else text


def interval(low: float, high: float) -> str:
    """`-0.10 to +0.35`, or `-` where there is none."""
    return "-" if math.isnan(low) else f"{signed(low)} to {signed(high)}"


def p_value(value: float) -> str:
    """`.029`, `1.0`, or `-`; smaller than .001 as `< .001`."""
    if math.isnan(value):
        return "-"
    if value < 0.001:
        return "< .001"
    if value >= 0.9995:
        return "1.0"
    return f"{value:.3f}"[1:]


def p_equals(value: float) -> str:
    """`p = .029`, `p < .001`."""
    text = p_value(value)
    return f"p {text}" if text.startswith("<") else f"p = {text}"


def number(value: float, decimals: int = 0) -> str:
    """Rounded, without trailing zeros, thousands with commas."""
    if math.isnan(value):
        return "-"
    if math.isinf(value):
        return "none"
    text = f"{value:,.{decimals}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def seeds_text(value: float) -> str:
    """A number of seeds that would show something, from 100 on to two digits; `never` where none in reach would."""
    return "never" if math.isinf(value) else number(float(f"{value:.2g}") if value >= 100 else value)


def count(value: float) -> str:
    """Whole number with commas."""
    return number(value, 0)


def rate(value: float) -> str:
    """Learning rate or weight decay: `1e-4`, `1.28e-3`, but `0.025`."""
    if math.isnan(value):
        return "-"
    if not 0 < value < 1e-2:
        return f"{value:g}"
    import numpy as np  # not at the top: the command line's help answers sooner

    return np.format_float_scientific(float(f"{value:.6g}"), trim="-", exp_digits=1)


def seconds(value: float) -> str:
    """`41 s`, `12.5 min`, `3.1 h`."""
    if math.isnan(value):
        return "-"
    if value < 100:
        return f"{value:.3g} s"
    return f"{value / 60:.3g} min" if value < 6000 else f"{value / 3600:,.3g} h"


def size(value: float) -> str:
    """Bytes as `1.9 GiB` or `350 MiB`."""
    if math.isnan(value):
        return "-"
    return f"{value / 2**30:.3g} GiB" if value >= 2**30 else f"{value / 2**20:.3g} MiB"


def clean(text: str, longest: int = LONGEST_TEXT) -> str:
    """A foreign text on one line: invisible characters become spaces, and what is too long ends in `...`."""
    kept = "".join(" " if unicodedata.category(c)[0] in "CZ" else c for c in text[: 4 * longest])
    kept = " ".join(kept.split())
    return kept if len(kept) <= longest else kept[: longest - 3].rstrip() + "..."


_MARKUP = re.compile(
    r"[\\`*|~$]"  # code, emphasis, cells, strikethrough, mathematics
    r"|(?<![^\W_])_|_(?![^\W_])"  # emphasis; an underscore inside a word is none
    r"|\](?=[(\[:]|$)|^\[|<(?=[\w/!?])|&(?=[#\w])"  # links and images, HTML, entities
)
"""What markdown takes for markup anywhere in a line."""
_BLOCK = re.compile(r"^([>=]|[#+-](?=[#\s-]|$)|\d+(?=[.)](?:\s|$)))")
"""What it takes for a quotation, a heading, a list or a rule at the start of a line."""


def markdown(text: str) -> str:
    """Plain text -> GitHub-flavoured markdown that shows that text, on one line."""
    return _BLOCK.sub(lambda found: f"{found[0]}\\" if found[0].isdigit() else f"\\{found[0]}", inline_markdown(text))


def inline_markdown(text: str) -> str:
    """The same inside a line, where no list or heading begins."""
    return _MARKUP.sub(lambda found: f"\\{found[0]}", clean(text, 10**6))


class Strong(str):
    """A cell of a table in bold."""


def _cell(text: str) -> str:
    return f"**{inline_markdown(text)}**" if isinstance(text, Strong) else inline_markdown(text)


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]], align: str = "") -> str:
    """A GitHub-flavoured table of plain texts. `align` has one of `l` and `r` per column; the first is left, the others
    right."""
    align = align or "l" + "r" * (len(header) - 1)
    rule = [":--" if side == "l" else "--:" for side in align]
    lines = [[_cell(text) for text in header], rule, *([_cell(text) for text in row] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


_LATEX = {"\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{",
          "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}",
          ">": r"\textgreater{}", "|": r"\textbar{}", '"': r"\textquotedbl{}", "`": r"\textasciigrave{}",
          "\N{GREEK SMALL LETTER ETA}": r"$\eta$", "\N{PRIME}": "$'$", "\N{MULTIPLICATION SIGN}": r"$\times$",
          "\N{DAGGER}": r"$\dagger$"}  # fmt: skip


def latex(text: str) -> str:
    """Plain text -> LaTeX text. Letters that pdfLaTeX cannot print without further packages become `?`."""
    return "".join(_latex_letter(c) for c in clean(text, 10**6)).replace(r"$\eta$$'$", r"$\eta'$")


def _latex_letter(c: str) -> str:
    if c in _LATEX:
        return _LATEX[c]
    return c if c.isascii() or "\xc0" <= c <= "\u017e" else "?"
