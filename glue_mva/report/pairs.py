"""Which rows are compared: every row with its baseline or its control, and whatever else is asked for."""

from collections.abc import Sequence

from glue_mva.errors import UsageError, nearest
from glue_mva.optim.registry import ALIASES
from glue_mva.report.aggregate import MATCHED_SIGN, Row

BASELINES = {"lamadam": "laprop"}
"""Optimizer -> its baseline; that of any other is Adam."""
USUAL_BASELINE = "adam"


def find_row(text: str, rows: Sequence[Row]) -> Row | None:
    """The row that a user means: by its name as typed in a sweep, or as tables show it, in any case."""
    wanted = _key(text)
    wanted = ALIASES.get(wanted, wanted)
    by_name = (row for row in rows if _key(row.name) == wanted)
    return next(by_name, None) or next((row for row in rows if _key(row.label) == wanted), None)


def _key(text: str) -> str:
    return " ".join(text.casefold().replace(MATCHED_SIGN.casefold(), "eta'").split())


def baseline_of(row: Row, rows: Sequence[Row], given: Row | None = None) -> Row | None:
    """What a row is compared with: the baseline that was asked for, else LaProp for LaMAdam and Adam for any other,
    else the first row. `None` for the baseline itself."""
    usual = _plain(BASELINES.get(row.optim, USUAL_BASELINE), rows) or _plain(USUAL_BASELINE, rows) or rows[0]
    base = given or usual
    return None if base == row else base


def _plain(optim: str, rows: Sequence[Row]) -> Row | None:
    """The row that bears an optimizer's name, else the first one of it that is matched to none."""
    of_it = [row for row in rows if row.optim == optim and not row.matched]
    return next((row for row in rows if row.name == optim), None) or next(iter(of_it), None)


def default_pairs(rows: Sequence[Row], baseline: Row | None = None) -> list[tuple[Row, Row]]:
    """Every row with its baseline. A row with a matched step size is the control of the row that it was matched to, and
    is compared with that: what is left of its gain at equal step size."""
    found = []
    for row in rows:
        matched_to = find_row(row.matched, rows) if row.matched else None
        if matched_to is not None and baseline is None:
            found.append((matched_to, row))
        elif (base := baseline_of(row, rows, baseline)) is not None:
            found.append((row, base))
    return found


def parse_pairs(texts: Sequence[str], rows: Sequence[Row], baseline: str | None = None) -> list[tuple[Row, Row]]:
    """The default pairs, then those of `--compare A:B`, each once.

    Raises:
        UsageError: not of the form A:B, or a row that is not there.
    """
    base = None
    if baseline is not None and (base := find_row(baseline, rows)) is None:
        raise UsageError(f"--baseline {baseline}: {unknown_row(baseline, rows)}")
    pairs = default_pairs(rows, base)
    pairs += [_parse(text, rows) for text in texts]
    unique: dict[frozenset[Row], tuple[Row, Row]] = {}
    for pair in pairs:
        unique.setdefault(frozenset(pair), pair)  # B:A asks nothing that A:B does not answer
    return list(unique.values())


def _parse(text: str, rows: Sequence[Row]) -> tuple[Row, Row]:
    """A name may hold a colon itself (`torch.optim:SGD`), so each is tried as the one between two names."""
    places = [place for place, letter in enumerate(text) if letter == ":"]
    for place in places:
        a, b = find_row(text[:place], rows), find_row(text[place + 1 :], rows)
        if a is not None and b is not None:
            if a == b:
                raise UsageError(f"--compare {text}: the same row twice")
            return a, b
    names = [text[: places[0]], text[places[0] + 1 :]] if places else [text]
    unknown = next((name for name in names if find_row(name, rows) is None), text)
    raise UsageError(f"--compare {text}: {unknown_row(unknown, rows)}; write it as A:B")


def unknown_row(text: str, rows: Sequence[Row]) -> str:
    """What to say of a name that no row has."""
    return f"no row {text!r}{nearest(text, [row.name for row in rows])}"
