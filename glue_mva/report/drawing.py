"""All figures of a report: which there are, and their drawing by several processes on Linux.

A child draws whole figures from data that it shares with its parent, and writes the files itself: nothing but a number
and a yes or no passes between them, and a figure's bytes do not depend on which process drew it.
"""

import gc
import logging
import multiprocessing
import sys
import warnings
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from glue_mva.machine import available_cores
from glue_mva.report import curves, plots
from glue_mva.report.aggregate import Study
from glue_mva.report.selection import Selection
from glue_mva.style import save_figure
from glue_mva.tasks import TASKS

log = logging.getLogger(__name__)

if TYPE_CHECKING:
    from matplotlib.figure import Figure


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


def drawings(made: Study, searches: list[Selection], *, with_paper: bool) -> list[Drawing]:
    """The figures of a report, in the page's order."""
    paper = ", and the paper's medians" if with_paper else ""
    scores = partial(plots.scores_figure, made, with_paper=with_paper)
    found = [Drawing("scores", f"Score of every final seed{paper}", scores)]
    for task in made.tasks:
        title = TASKS[task].title
        if searched := [s for s in searches if s.task == task]:
            text = f"{title}: median search score by learning rate and weight decay"
            found.append(Drawing(f"heatmap-{task}", text, partial(plots.heatmap_figure, searched)))
        text = f"{title}: training loss, dev score and average step size against updates"
        found.append(Drawing(f"curves-{task}", text, partial(curves.curves_figure, made, task)))
    if any(len(s.best_of) for s in searches):
        text = "Expected best search score against runs tried"
        found.append(Drawing("expected-best", text, partial(plots.expected_best_figure, searches)))
    return found


def draw_all(found: list[Drawing], folder: Path) -> dict[str, str]:
    """Write each figure into `folder` as PNG and SVG; returns name -> text of those that there was something to draw
    for."""
    processes = min(len(found), available_cores(), MOST_PROCESSES)
    drawn: list[bool] | None = None
    if processes > 1 and sys.platform == "linux":  # elsewhere forking is not safe, and starting anew takes too long
        try:
            drawn = _draw_forked(found, folder, processes)
        except BrokenProcessPool:
            log.warning("a process that drew figures was killed; drawing them one after another")
    if drawn is None:
        drawn = [_draw(drawing, folder) for drawing in found]
    return {drawing.name: drawing.text for drawing, is_there in zip(found, drawn, strict=True) if is_there}


def _draw_forked(found: list[Drawing], folder: Path, processes: int) -> list[bool]:
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


def _draw(drawing: Drawing, folder: Path) -> bool:
    figure = drawing.draw()
    if figure is not None:
        save_figure(figure, folder / drawing.name)
    return figure is not None


_inherited: tuple[list[Drawing], Path]
"""In a child: what its parent passed on by forking."""


def _inherit(found: list[Drawing], folder: Path) -> None:
    global _inherited
    _inherited = found, folder


def _draw_inherited(number: int) -> bool:
    found, folder = _inherited
    return _draw(found[number], folder)


def _import_backends() -> None:
    """Before forking, so that the children need not."""
    import matplotlib.backends.backend_agg
    import matplotlib.backends.backend_svg  # noqa: F401
