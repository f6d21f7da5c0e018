"""All figures of a report: which there are, and their drawing by several processes on Linux.

A child draws whole figures from data that it shares with its parent, and writes the files itself: nothing but a number
and a yes or no passes between them, and a figure's bytes do not depend on which process drew it.
"""

import gc
import logging
import multiprocessing
import re
import sys
import warnings
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from glue_mva.machine import available_cores
from glue_mva.report import curves, plots, search_plots
from glue_mva.report.results import Results
from glue_mva.style import save_figure
from glue_mva.tasks import TASKS
from glue_mva.text import clean

log = logging.getLogger(__name__)

if TYPE_CHECKING:
    from matplotlib.figure import Figure


DRAWN = ""
MOST_PROCESSES = 4
"""More would take memory (each about 50 MB) and little time off."""


class Drawing(NamedTuple):
    """A figure that can be drawn."""

    name: str
    """Stem of its files."""
    text: str
    """What it shows."""
    draw: "Callable[[], Figure | None]"
    """`None` where there is nothing to show."""


def drawings(found: Results) -> list[Drawing]:
    """The figures of a report, in the page's order."""
    made, rows, searches = found.made, found.made.rows, found.searches
    paper = ", and the paper's medians" if found.with_paper else ""
    heatmap = "Median search score by learning rate and weight decay; a red frame marks the chosen point"
    if made.further:
        heatmap = "Median search score by two hyperparameters; a red frame marks the chosen point"
    if search_plots.shows_best_of_others(searches):
        heatmap += "; where more than two were searched, the best over the others"
    listed = [
        Drawing("forest", "Differences of mean scores between optimizers, with 95 % intervals",
                partial(plots.forest_figure, made, found.pairs, found.margin)),
        Drawing("scores", f"Score of every final seed{paper}",
                partial(plots.scores_figure, made, with_paper=found.with_paper)),
        Drawing("search", "Search score by the one hyperparameter that was searched; a dot is a seed, a ring the "
                "chosen point, a cross a run without a score, an arrow one below the panel",
                partial(search_plots.line_figure, searches, rows)),
        Drawing("heatmap", heatmap, partial(search_plots.heatmap_figure, searches, rows)),
        Drawing("expected-best", "Expected best search score against runs tried",
                partial(search_plots.expected_best_figure, searches, rows)),
    ]  # fmt: skip
    return listed + [
        Drawing(f"curves-{task}",
                f"{TASKS[task].title}: training loss, dev score and average step size against updates",
                partial(curves.curves_figure, made, task))
        for task in made.tasks
    ]  # fmt: skip


def is_figure(name: str) -> bool:
    """Whether a file has the name of a figure that a report draws, or that one drew before."""
    return bool(re.fullmatch(r"(forest|scores|search|heatmap(-\w+)?|expected-best|curves-\w+)\.(png|svg)", name))


def draw_all(found: list[Drawing], folder: Path) -> tuple[dict[str, str], list[str]]:
    """Write each figure into `folder` as PNG and SVG.

    Returns:
        name -> text of the figures that there was something to draw for, and a note for each that could not be drawn.
    """
    processes = min(len(found), available_cores(), MOST_PROCESSES)
    fates: list[str | None] | None = None
    if processes > 1 and sys.platform == "linux":  # elsewhere forking is not safe, and starting anew takes too long
        try:
            fates = _draw_forked(found, folder, processes)
        except BrokenProcessPool:
            log.warning("a process that drew figures was killed; drawing them one after another")
    if fates is None:
        fates = [_draw(drawing, folder) for drawing in found]
    drawn = {drawing.name: drawing.text for drawing, fate in zip(found, fates, strict=True) if fate == DRAWN}
    lost = [f"figure {drawing.name} could not be drawn: {fate}" for drawing, fate in zip(found, fates, strict=True)
            if fate not in (DRAWN, None)]  # fmt: skip
    return drawn, lost


def _draw_forked(found: list[Drawing], folder: Path, processes: int) -> list[str | None]:
    _import_backends()
    context = multiprocessing.get_context("fork")
    gc.freeze()  # else the children's garbage collector would touch, and so copy, every object they share
    try:
        with warnings.catch_warnings():
            # Python 3.12 warns of forking beside other threads; those of numpy's BLAS are safe to leave behind.
            warnings.simplefilter("ignore", DeprecationWarning)
            with ProcessPoolExecutor(processes, context, initializer=_inherit, initargs=(found, folder)) as pool:
                return list(pool.map(_draw_inherited, range(len(found))))
    finally:
        gc.unfreeze()


def _draw(drawing: Drawing, folder: Path) -> str | None:
    """`DRAWN`, `None` where there was nothing to draw, or why it could not be: a bad figure costs itself only."""
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Glyph .* missing")  # letters that the font lacks are drawn as boxes
            figure = drawing.draw()
            if figure is None:
                return None
            save_figure(figure, folder / drawing.name)
    except OSError:
        raise
    except Exception as error:
        log.debug("figure %s", drawing.name, exc_info=True)
        for extension in ("png", "svg"):
            (folder / f"{drawing.name}.{extension}").unlink(missing_ok=True)
        return clean(f"{type(error).__name__}: {error}") or "unknown error"
    return DRAWN


_inherited: tuple[list[Drawing], Path]
"""In a child: what its parent passed on by forking."""


def _inherit(found: list[Drawing], folder: Path) -> None:
    global _inherited
    _inherited = found, folder


def _draw_inherited(number: int) -> str | None:
    found, folder = _inherited
    return _draw(found[number], folder)


def _import_backends() -> None:
    """Before forking, so that the children need not."""
    import matplotlib.backends.backend_agg
    import matplotlib.backends.backend_svg  # noqa: F401
