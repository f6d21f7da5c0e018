"""Foreign texts stay texts: in markdown, HTML, LaTeX and tables."""

import html
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from glue_mva import text

HOSTILE = [
    "![i](/etc/passwd)", "<script>alert(1)</script>", "a | b || c", "**bold** _it_ __init__ `code` $x$ ~~no~~",
    "# Title", "- item", "1. item", "> quote", "line\nbreak\r\n\r\nparagraph", "&lt;b&gt; &#60;", "[x]: http://evil",
    "\\", "a\\|b", "[link](javascript:alert(1))", "<http://a.b>", "=====", "\x1b[31mred\x00", "\u202egnp.exe",
    "[ ] todo", "+ x", "***", "-", "- -", "12)", "#", "---",
]  # fmt: skip


def shown(rendered: str) -> str:
    """What a reader of HTML sees."""
    return " ".join(html.unescape(re.sub(r"<[^>]*>", "", rendered)).split())


def render(markdown: str) -> str:
    return MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).render(markdown)


@pytest.mark.parametrize("foreign", HOSTILE)
def test_markdown_shows_a_foreign_text_and_nothing_else(foreign: str) -> None:
    rendered = render(f"The device {text.markdown(foreign)}, and so on\n\n{text.markdown(foreign)}\n")
    assert set(re.findall(r"<(/?\w+)", rendered)) == {"p", "/p"}
    assert shown(rendered) == f"The device {text.clean(foreign)}, and so on {text.clean(foreign)}"


@given(st.text(alphabet=st.one_of(st.sampled_from("ab1 \\`*_[]()<>|~$&#!-+=:.^{}\"'\n/"), st.characters())))
def test_markdown_of_any_text_shows_that_text(foreign: str) -> None:
    clean = text.clean(foreign)
    rendered = render(f"- {text.markdown(foreign)}\n")
    assert set(re.findall(r"<(/?\w+)", rendered)) <= {"ul", "/ul", "li", "/li"}
    assert shown(rendered) == clean
    table = render(text.markdown_table(["a", foreign], [[foreign, text.Strong("bold")]]))
    cells = [shown(cell) for cell in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", table)]
    assert cells == ["a", clean, clean, "bold"]
    assert table.count("<strong>") == 1


PLAIN = ["82.50 (3.6)", "-0.10 to +0.35", "-", "1e-5", "< .001", "QNLI (1,000 of 104,743 rows)", "a_b", "x [95 %]."]


@pytest.mark.parametrize("plain", PLAIN)
def test_numbers_are_left_alone(plain: str) -> None:
    assert text.markdown_table(["a"], [[plain]]).splitlines()[2] == f"| {plain} |"


@given(st.text())
def test_clean_gives_one_line_that_can_be_printed(foreign: str) -> None:
    kept = text.clean(foreign, 40)
    assert len(kept) <= 40
    assert kept.isprintable()
    assert text.clean(kept, 40) == kept


@given(st.text(alphabet=st.one_of(st.sampled_from('\\&%$#_{}~^<>|"`\n'), st.characters())))
def test_latex_leaves_no_special_character_bare(foreign: str) -> None:
    bare = re.sub(r"\\text\w+\{\}|\\[&%$#_{}]|\$[^$]*\$", "", text.latex(foreign))
    assert not re.search(r'[\\&%$#_{}~^<>|"`\n]', bare)
    assert all(c.isascii() or "\xc0" <= c <= "\u017e" for c in bare)


def test_latex_of_the_matched_sign_and_of_letters_without_a_glyph() -> None:
    assert text.latex("a_b & 5 % Adam-η\N{PRIME} Müller 漢") == r"a\_b \& 5 \% Adam-$\eta'$ Müller ?"


@pytest.mark.parametrize(("value", "said"), [(0.0291, "p = .029"), (0.0004, "p < .001"), (1.0, "p = 1.0")])
def test_a_p_value_in_a_sentence(value: float, said: str) -> None:
    assert text.p_equals(value) == said
