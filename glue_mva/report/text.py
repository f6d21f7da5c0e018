"""How numbers are printed."""

import math

import numpy as np


def score(value: float) -> str:
    """Score x 100 as the paper prints it: two decimals."""
    return "-" if math.isnan(value) else f"{value:.2f}"


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


def number(value: float, decimals: int = 0) -> str:
    """Rounded, without trailing zeros, thousands with commas."""
    if math.isnan(value):
        return "-"
    if math.isinf(value):
        return "none"
    text = f"{value:,.{decimals}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def count(value: float) -> str:
    """Whole number with commas."""
    return number(value, 0)


def rate(value: float) -> str:
    """Learning rate or weight decay: `1e-4`, `1.2e-5`, but `0.025`."""
    if math.isnan(value):
        return "-"
    return np.format_float_scientific(value, trim="-", exp_digits=1) if 0 < value < 1e-3 else f"{value:g}"


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


def markdown_table(header: list[str], rows: list[list[str]], align: str = "") -> str:
    """A GitHub-flavoured table. `align` has one of `l` and `r` per column; the first is left, the others right."""
    align = align or "l" + "r" * (len(header) - 1)
    rule = [":--" if side == "l" else "--:" for side in align]
    lines = [header, rule, *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines) + "\n"
