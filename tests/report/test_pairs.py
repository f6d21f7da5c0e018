"""Which rows are compared, and how a user may name them."""

import pytest

from glue_mva.errors import UsageError
from glue_mva.report.aggregate import Row, ordered
from glue_mva.report.pairs import default_pairs, find_row, parse_pairs

ROWS = ordered([
    Row("adam", "adam"), Row("laprop", "laprop"), Row("madam", "madam"), Row("lamadam", "lamadam"),
    Row("adam-eta'", "adam", "madam"), Row("madam (beta2_min=0.3)", "madam"), Row("Lion (mine)", "mine:Lion"),
    Row("torch.optim:SGD (momentum=0.9)", "torch.optim:SGD"),
])  # fmt: skip


def names(pairs: list[tuple[Row, Row]]) -> list[tuple[str, str]]:
    return [(a.name, b.name) for a, b in pairs]


def test_every_row_has_a_baseline_and_a_control_belongs_to_the_row_it_was_matched_to() -> None:
    assert sorted(names(default_pairs(ROWS))) == sorted([
        ("laprop", "adam"), ("madam", "adam"), ("lamadam", "laprop"), ("madam (beta2_min=0.3)", "adam"),
        ("Lion (mine)", "adam"), ("torch.optim:SGD (momentum=0.9)", "adam"), ("madam", "adam-eta'"),
    ])  # fmt: skip


def test_an_own_optimizer_beside_adam_is_compared() -> None:
    rows = ordered([Row("adam", "adam"), Row("mine:Opt", "mine:Opt")])
    assert names(default_pairs(rows)) == [("mine:Opt", "adam")]


def test_without_the_usual_baseline_the_next_one_counts() -> None:
    rows = ordered([Row("adam", "adam"), Row("lamadam", "lamadam")])
    assert names(default_pairs(rows)) == [("lamadam", "adam")]
    rows = ordered([Row("a:A", "a:A"), Row("b:B", "b:B")])
    assert names(default_pairs(rows)) == [("b:B", "a:A")]
    assert default_pairs(rows[:1]) == []


def test_another_baseline_for_all() -> None:
    found = names(parse_pairs([], ROWS, "LaMAdam"))
    assert {b for _, b in found} == {"lamadam"}
    assert len(found) == len(ROWS) - 1
    with pytest.raises(UsageError, match="--baseline lamadm: no row 'lamadm'; did you mean 'lamadam'"):
        parse_pairs([], ROWS, "lamadm")


@pytest.mark.parametrize(
    ("typed", "name"),
    [("Adam", "adam"), ("ADAM", "adam"), ("adamw", "adam"), ("Lion (mine)", "Lion (mine)"), (" MAdam ", "madam"),
     ("Adam-η\N{PRIME}", "adam-eta'"), ("adam-eta'", "adam-eta'"), ("MAdam (beta2_min=0.3)", "madam (beta2_min=0.3)"),
     ("SGD (momentum=0.9)", "torch.optim:SGD (momentum=0.9)"),
     ("torch.optim:SGD (momentum=0.9)", "torch.optim:SGD (momentum=0.9)")],
)  # fmt: skip
def test_rows_are_named_as_shown_or_as_typed(typed: str, name: str) -> None:
    row = find_row(typed, ROWS)
    assert row is not None
    assert row.name == name


def test_pairs_that_are_asked_for_come_after_the_others_and_may_hold_colons() -> None:
    asked = ["Lion (mine):SGD (momentum=0.9)", "torch.optim:SGD (momentum=0.9):lamadam", "madam:adam"]
    assert names(parse_pairs(asked, ROWS))[7:] == [
        ("Lion (mine)", "torch.optim:SGD (momentum=0.9)"), ("torch.optim:SGD (momentum=0.9)", "lamadam")]  # fmt: skip


def test_a_pair_the_other_way_round_is_no_second_question() -> None:
    assert names(parse_pairs(["adam:madam", "laprop:madam", "madam:laprop"], ROWS))[7:] == [("laprop", "madam")]


def test_a_baseline_under_another_name_is_the_row_of_that_optimizer() -> None:
    rows = [Row("AdamW tuned", "adam"), Row("adam at eta", "adam", "madam"), Row("madam", "madam")]
    assert names(default_pairs(rows)) == [("madam", "adam at eta"), ("madam", "AdamW tuned")]


@pytest.mark.parametrize(
    ("text", "message"),
    [("adam:lapropp", "no row 'lapropp'; did you mean 'laprop'"), ("adam", "write it as A:B"),
     ("adam:Adam", "same row"), ("", "write it as A:B"), (":", "no row ''")],
)  # fmt: skip
def test_bad_pairs_are_refused(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse_pairs([text], ROWS)


def test_classes_of_one_name_are_told_apart() -> None:
    rows = ordered([Row("a:Lion", "a:Lion"), Row("b:Lion", "b:Lion"), Row("adam", "adam")])
    assert [row.label for row in rows] == ["Adam", "a:Lion", "b:Lion"]
