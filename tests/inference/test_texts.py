"""Texts are read whole or refused with their line, and come out in their order with nothing lost."""

import io
import json

import numpy as np
import pytest

from glue_mva.errors import UsageError
from glue_mva.inference.texts import Writer, format_of, read_table


def read(content, kind, columns=None):
    return read_table("x", content.encode() if isinstance(content, str) else content, kind).texts(columns)


@pytest.mark.parametrize(
    ("content", "kind", "columns", "first", "second"),
    [
        ("a b\nc d\n", "text", ("sentence",), ["a b", "c d"], None),
        ("a\tb\nc\td", "text", ("sentence1", "sentence2"), ["a", "c"], ["b", "d"]),
        ("\ufeffa\r\nb\r\n", "text", ("sentence",), ["a", "b"], None),
        ('"a\n\u2028b\u0085c\n', "text", ("sentence",), ['"a', "\u2028b\u0085c"], None),
        ("id\tsentence\tlabel\n7\tx y\t1\n", "tsv", ("sentence",), ["x y"], None),
        ("index\t#1 ID\t#2 ID\t#1 String\t#2 String\n0\t1\t2\ta\tb\n", "tsv", ("#1 String", "#2 String"), ["a"], ["b"]),
        ("index\tquestion\tsentence\n0\tq\ts\n", "tsv", ("question", "sentence"), ["q"], ["s"]),
        ('{"text": "a", "n": [1]}\n{"text": "\\u00e9"}\n', "jsonl", ("text",), ["a", "é"], None),
        ('id,text\n1,"a, ""b""\nc"\n2,d\n', "csv", ("text",), ['a, "b"\nc', "d"], None),
        ('{"text": "a", "text_pair": "b"}', "jsonl", ("text", "text_pair"), ["a"], ["b"]),
        ('{"premise": "p", "hypothesis": "h", "text": "t"}', "jsonl", ("premise", "hypothesis"), ["p"], ["h"]),
    ],
)
def test_every_format(content, kind, columns, first, second):
    texts = read(content, kind)
    assert texts.columns == columns and texts.column(0) == first
    assert second is None or texts.column(1) == second


def test_the_columns_that_the_model_was_trained_on_go_before_well_known_names():
    assert read_table("x", b"text\tbody\na\tb\n", "tsv").texts(trained=["body"]).column(0) == ["b"]
    assert read_table("x", b"text\tother\na\tb\n", "tsv").texts(trained=["body"]).column(0) == ["a"]


def test_named_columns_go_first():
    texts = read("sentence\tcomment\na\tb\n", "tsv", ["comment", "sentence"])
    assert texts.column(0) == ["b"] and texts.column(1) == ["a"]


@pytest.mark.parametrize(
    ("content", "kind", "columns", "said"),
    [
        ("", "text", None, "x: empty"),
        ("\n", "tsv", None, "x: empty"),
        (b"a\n\xff\n", "text", None, "x: not UTF-8 at byte 2"),
        ("a\n\nb\n", "text", None, "x, line 2: no text in 'sentence'"),
        ("a\tb\nc\n", "text", None, "x, line 2: 1 columns where 2 belong"),
        ("a\tb\tc\n", "text", None, "x, line 1: 3 columns; plain text has one text a line"),
        ("sentence\n", "tsv", None, "x: no rows below the header"),
        ("id\tcontent\n1\ta\n", "tsv", None, "x: no column of texts among id, content; name one or two with --columns"),
        ("sentence\tsentence\na\tb\n", "tsv", None, "x: column 'sentence' is there twice"),
        ("sentence\tid\na\n", "tsv", None, "x, line 2: 1 columns where 2 belong"),
        ("sentence\na\n", "tsv", ["b"], "x: no column 'b'; found sentence"),
        ("sentence\na\n", "tsv", ["a", "b", "c"], "--columns a,b,c: give one or two"),
        ('id,text\n1,"a\nb"\n2\n', "csv", None, "x, line 4: 1 columns where 2 belong"),
        ('text\n"a"b\n', "csv", None, "x, line 2: ',' expected after '\"'"),
        ('{"text": "a"}\n{"text": 5}\n', "jsonl", None, "x, line 2: no text in 'text' but 5"),
        ('{"text": "a"}\n{}\n', "jsonl", None, "x, line 2: no text in 'text'"),
        ('{"text": "a"}\n["b"]\n', "jsonl", None, "x, line 2: not a JSON object"),
        ('{"text": "a"}\n\n', "jsonl", None, "x, line 2: not a JSON object"),
        ('{"text": "\\ud800"}\n', "jsonl", None, "x, line 1: not a JSON object"),
        ("[" * 100_000, "jsonl", None, "x, line 1: not a JSON object"),
    ],
)
def test_bad_input_is_refused_with_its_line(content, kind, columns, said):
    with pytest.raises(UsageError) as error:
        read(content, kind, columns)
    assert str(error.value).startswith(said) and "\n" not in str(error.value)


def test_formats_go_by_suffix():
    names = {"a.tsv": "tsv", "a.JSONL": "jsonl", "a.json": "jsonl", "a.csv": "csv", "a.txt": "text", "-": "text"}
    assert {name: format_of(name, None) for name in names} == names
    assert format_of("a.csv", "tsv") == "tsv"
    with pytest.raises(UsageError, match="unknown format 'xml'"):
        format_of("a", "xml")


def written(kind, texts, labels, outputs):
    stream = io.BytesIO()
    Writer(stream, kind, texts, labels).write(texts.rows, np.array(outputs))
    return stream.getvalue().decode()


def test_rows_come_out_with_predictions():
    texts = read('{"text": "a\\tb", "n": [1, null]}\n{"text": "é", "extra": "x"}\n', "jsonl")
    lines = written("jsonl", texts, ["no", "yes"], [[0.25, 0.75], [1.0, 0.0]]).splitlines()
    assert [json.loads(line) for line in lines] == [
        {"text": "a\tb", "n": [1, None], "prediction": "yes", "probabilities": {"no": 0.25, "yes": 0.75}},
        {"text": "é", "extra": "x", "prediction": "no", "probabilities": {"no": 1.0, "yes": 0.0}},
    ]
    texts = read("label\tsentence\n1\ta\n0\tb\n", "tsv")
    assert written("tsv", texts, ["no", "yes"], [[0.25, 0.75], [1.0, 0.0]]) == (
        "label\tsentence\tprediction\tprobability_no\tprobability_yes\n"
        "1\ta\tyes\t0.250000\t0.750000\n0\tb\tno\t1.000000\t0.000000\n"
    )
    assert written("tsv", texts, [], [1.25, 4.0]).splitlines()[1:] == ["1\ta\t1.25", "0\tb\t4.0"]
    texts = read('text,id\n"a, b\nc",1\n', "csv")
    assert written("csv", texts, ["no", "yes"], [[0.25, 0.75]]) == (
        'text,id,prediction,probability_no,probability_yes\n"a, b\nc",1,yes,0.250000,0.750000\n'
    )
    texts = read('{"text": "a\\nb"}\n{"text": "a\\rb"}\n', "jsonl")
    assert written("csv", texts, [], [1.0, 2.0]) == 'text,prediction\n"a\nb",1.0\n"a\rb",2.0\n'
    texts = read('{"text": "a", "n": 1.5}\n', "jsonl")
    assert written("tsv", texts, [], [3.0]) == "text\tn\tprediction\na\t1.5\t3.0\n"


@pytest.mark.parametrize(
    ("content", "source", "kind", "said"),
    [
        ("prediction\tsentence\n1\ta\n", "tsv", "tsv", "has a column 'prediction' already"),
        ("probability_yes\tsentence\n1\ta\n", "tsv", "tsv", "has a column 'probability_yes' already"),
        ('{"text": "a"}\n{"text": "a", "probabilities": 1}', "jsonl", "jsonl", "has a column 'probabilities' already"),
        ('{"text": "a"}\n{"text": "a\\tb"}', "jsonl", "tsv", "row 2: a tab or line break inside a value"),
        ('{"text": "a"}\n{"text": "a", "id": 1}', "jsonl", "tsv", "row 2: other keys than in row 1"),
    ],
)
def test_output_that_a_format_cannot_hold_is_refused_before_anything_is_written(content, source, kind, said):
    stream = io.BytesIO()
    with pytest.raises(UsageError, match=said):
        Writer(stream, kind, read(content, source), ["no", "yes"])
    assert not stream.getvalue()
