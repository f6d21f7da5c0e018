"""How every figure of the project looks: one colour per optimizer, sizes for a two-column paper, files that are
byte-identical from run to run. Imports no torch, and matplotlib only inside its functions."""

from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from glue_mva.files import atomic_write

if TYPE_CHECKING:
    from matplotlib.figure import Figure

OPTIMIZER_COLORS: dict[str, str] = {
    "adam": "#0072B2",
    "laprop": "#56B4E9",
    "madam": "#D55E00",
    "lamadam": "#E69F00",
    "amsgrad": "#009E73",
    "other": "#CC79A7",
}
"""Okabe and Ito's colour-blind safe palette; blue for a constant beta2, orange for the MaxVA optimizers."""

OPTIMIZER_MARKERS: dict[str, str] = {
    "adam": "o",
    "laprop": "s",
    "madam": "^",
    "lamadam": "D",
    "amsgrad": "v",
    "other": "X",
}
"""A second sign beside the colour, so that figures can be read in print without colour."""

MUTED = "#6E6E6E"
"""Reference lines, notes and whatever is not an optimizer."""

COLUMN_WIDTH = 3.4
"""Width of one column of a two-column paper, inches."""
TEXT_WIDTH = 7.0
"""Width of both columns, inches."""

RC: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.minor.width": 0.4,
    "ytick.minor.width": 0.4,
    "lines.linewidth": 1.2,
    "lines.markersize": 3.5,
    "savefig.dpi": 200,
    "svg.hashsalt": "glue-mva",
    "figure.constrained_layout.use": True,
}
"""matplotlib settings of every figure."""


def color(optimizer: str) -> str:
    """The optimizer's colour; `other` for a class outside the registry."""
    return OPTIMIZER_COLORS.get(optimizer, OPTIMIZER_COLORS["other"])


def marker(optimizer: str) -> str:
    """The optimizer's marker; `other` for a class outside the registry."""
    return OPTIMIZER_MARKERS.get(optimizer, OPTIMIZER_MARKERS["other"])


def figure_style() -> AbstractContextManager[None]:
    """Context in which figures are made: `with figure_style(): fig = new_figure(...)`."""
    import matplotlib

    return matplotlib.rc_context(RC)


def new_figure(width: float = TEXT_WIDTH, height: float = 2.2) -> "Figure":
    """An empty figure (inches) that needs no display and that no global state holds on to."""
    from matplotlib.figure import Figure

    with figure_style():
        return Figure(figsize=(width, height))


def save_figure(fig: "Figure", path_stem: Path) -> list[Path]:
    """Write `<path_stem>.png` (200 dpi) and `<path_stem>.svg`, each atomically; the same figure gives the same bytes.

    Returns:
        The two paths.
    """
    metadata = {"png": {"Software": None}, "svg": {"Date": None, "Creator": None}}
    paths = []
    with figure_style():
        for extension, entries in metadata.items():
            path = path_stem.with_name(f"{path_stem.name}.{extension}")
            with atomic_write(path) as stream:
                fig.savefig(stream, format=extension, metadata=entries)
            paths.append(path)
    return paths
