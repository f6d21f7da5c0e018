"""How every figure of the project looks: one colour per optimizer, sizes for a two-column paper, files that are
byte-identical from run to run. Imports no torch, and matplotlib only inside its functions."""

import colorsys
import textwrap
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
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
    "sgd": "#8C564B",
}
"""Okabe and Ito's colour-blind safe palette; blue for a constant beta2, orange for the MaxVA optimizers. Brown, for
SGD, is in neither that palette nor the further colours."""

OPTIMIZER_MARKERS: dict[str, str] = {
    "adam": "o",
    "laprop": "s",
    "madam": "^",
    "lamadam": "D",
    "amsgrad": "v",
    "sgd": "1",
}
"""A second sign beside the colour, so that figures can be read in print without colour."""

FURTHER_COLORS = ("#CC79A7", "#000000", "#117733", "#882255", "#332288", "#999933", "#44AA99", "#AA4499")
"""For any other row of a report, in turn: the rest of that palette, and Tol's muted one."""
FURTHER_MARKERS = ("X", "P", "v", "*", "p", "<", ">", "h")
FURTHER_LINES = ("-", "--", ":", "-.")
"""The next when colours and markers have all been used."""

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
    """The colour of one of the optimizers above."""
    return OPTIMIZER_COLORS[optimizer]


def marker(optimizer: str) -> str:
    """The marker of one of the optimizers above."""
    return OPTIMIZER_MARKERS[optimizer]


@dataclass(frozen=True)
class Look:
    """How one row of a report is drawn in every figure."""

    color: str
    marker: str
    line: str = "-"
    filled: bool = True
    """Whether markers are; those of a control are not."""

    @property
    def text_color(self) -> str:
        """The colour, darkened so that small text in it is legible on white."""
        from matplotlib.colors import to_hex, to_rgb

        hue, saturation, value = colorsys.rgb_to_hsv(*to_rgb(self.color))
        return to_hex(colorsys.hsv_to_rgb(hue, min(1.0, saturation * 1.1), min(value, 0.62)))

    @property
    def face(self) -> str:
        """Colour inside of a marker."""
        return self.color if self.filled else "white"

    def as_control(self) -> "Look":
        """Dashed, with hollow markers."""
        return replace(self, line="--", filled=False)


def further_look(place: int) -> Look:
    """The look of the row at this place, from 0, of those that have no colour above: no two look alike."""
    turn = place // len(FURTHER_COLORS)
    return Look(FURTHER_COLORS[place % len(FURTHER_COLORS)], FURTHER_MARKERS[(place + turn) % len(FURTHER_MARKERS)],
                FURTHER_LINES[turn % len(FURTHER_LINES)])  # fmt: skip


def figure_text(text: str, width: int, lines: int = 3) -> str:
    """A text as matplotlib is to print it: wrapped to so many characters and lines; a `$` starts no mathematics."""
    wrapped = textwrap.wrap(text, width, max_lines=lines, placeholder="...", break_on_hyphens=False)
    return "\n".join(wrapped).replace("$", r"\$")


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
