"""`glue-mva simulate`: the paper's synthetic problems (Figures 1, 2 and 6)."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from glue_mva.cli.options import typed_command
from glue_mva.errors import UsageError
from glue_mva.files import check_writable

if TYPE_CHECKING:
    from glue_mva.simulate.page import Section

app = typer.Typer(help="The paper's synthetic problems: Figures 1, 2 and 6, on a CPU in minutes.", no_args_is_help=True,
                  rich_markup_mode=None)  # fmt: skip

LARGEST = 1e6
"""Of learning rates, curvatures and noise levels: beyond it every loss overflows, and there is nothing to draw."""

Repeats = Annotated[int, typer.Option(min=2, max=10**6, help="Independent repeats.")]
Steps = Annotated[int, typer.Option(min=1, max=10**9, help="Optimizer steps.")]
Seed = Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Seed of starts, draws and noise.")]
Lrs = Annotated[list[float] | None, typer.Option("--lr", help="Learning rate, in place of the grid; may be given "
                                                 "several times.")]  # fmt: skip
Optims = Annotated[list[str] | None, typer.Option("--optim", help="adam, amsgrad, laprop, madam or lamadam, in place "
                                                  "of the paper's; may be given several times.")]  # fmt: skip
Out = Annotated[Path, typer.Option(help="Folder of the figures, tables and page.")]
_OUT = Path("simulations")
"""Of both problems; of one, a folder of its own in it, so that no page shows the figures of another run."""


@app.command("nonconvex")
def nonconvex_command(
    repeats: Repeats = 100,
    steps: Steps = 100_000,
    seed: Seed = 0,
    lr: Lrs = None,
    optim: Optims = None,
    out: Out = _OUT / "nonconvex",
) -> None:
    """One variable, eleven losses (Figure 1): which optimizers reach the minimum, and up to which learning rate."""
    section = _nonconvex(repeats, steps, seed, lr, optim, out)
    _finish(out / "nonconvex.md", [section])


@app.command("nqm")
def nqm_command(
    repeats: Repeats = 100,
    steps: Steps = 1000,
    seed: Seed = 0,
    lr: Lrs = None,
    optim: Optims = None,
    h2: Annotated[list[float] | None, typer.Option(help="Curvature of the second coordinate (the first has 1); may be "
                                                   "given several times.")] = None,
    sigma: Annotated[list[float] | None, typer.Option(help="Noise level; may be given several times.")] = None,
    out: Out = _OUT / "nqm",
) -> None:  # fmt: skip
    """Noisy quadratic model (Figures 2 and 6): mean loss against learning rate."""
    section = _quadratic(repeats, steps, seed, lr, optim, h2, sigma, out)
    _finish(out / "nqm.md", [section])


@app.command("all")
def all_command(repeats: Repeats = 100, seed: Seed = 0, out: Out = _OUT) -> None:
    """Both problems with the paper's settings, on one page (README.md of the folder)."""
    from glue_mva.simulate import nonconvex, quadratic

    sections = [_nonconvex(repeats, nonconvex.STEPS, seed, None, None, out),
                _quadratic(repeats, quadratic.STEPS, seed, None, None, None, None, out)]  # fmt: skip
    _finish(out / "README.md", sections)


def _nonconvex(
    repeats: int, steps: int, seed: int, lr: list[float] | None, optim: list[str] | None, out: Path
) -> "Section":
    from glue_mva.simulate import nonconvex
    from glue_mva.simulate.page import write_nonconvex
    from glue_mva.simulate.stepping import check_optimizers

    names = check_optimizers(optim or nonconvex.OPTIMIZERS)
    lrs = _values("--lr", lr, nonconvex.LRS)
    check_writable(out, "--out")
    with _bars(dict.fromkeys(names, steps)) as advance:
        results = [nonconvex.simulate(name, lrs, repeats, steps, seed, advance(name)) for name in names]
    return write_nonconvex(results, out, seed)


def _quadratic(
    repeats: int, steps: int, seed: int, lr: list[float] | None, optim: list[str] | None, h2: list[float] | None,
    sigma: list[float] | None, out: Path
) -> "Section":  # fmt: skip
    from glue_mva.simulate import quadratic
    from glue_mva.simulate.page import write_quadratic
    from glue_mva.simulate.stepping import check_optimizers

    names = check_optimizers(optim or quadratic.OPTIMIZERS)
    lrs = _values("--lr", lr, quadratic.LRS)
    h2s, sigmas = _values("--h2", h2, quadratic.H2S), _values("--sigma", sigma, quadratic.SIGMAS)
    check_writable(out, "--out")
    with _bars({name: steps * len(quadratic.SETTINGS[name]) for name in names}) as advance:
        results = [quadratic.simulate(setting, lrs, h2s, sigmas, repeats, steps, seed, advance(name))
                   for name in names for setting in quadratic.SETTINGS[name]]  # fmt: skip
    return write_quadratic(results, out, seed)


def _values(option: str, given: Sequence[float] | None, default: Sequence[float]) -> tuple[float, ...]:
    """The values of an option, sorted, each once; positive and at most `LARGEST`, else `UsageError`."""
    values = tuple(sorted(set(given or default)))
    for value in values:
        if not 0 < value <= LARGEST:
            raise UsageError(f"{option} must be a positive number up to {LARGEST:g}, got {value}")
    return values


@contextlib.contextmanager
def _bars(totals: dict[str, int]) -> Iterator[Callable[[str], Callable[[int], None]]]:
    """A progress bar per name, and the function that gives the callback of each."""
    columns = (TextColumn("{task.description:>8}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        rows = {name: progress.add_task(name, total=total) for name, total in totals.items()}

        def advance(name: str) -> Callable[[int], None]:
            return lambda steps: progress.advance(rows[name], steps)

        yield advance


def _finish(page: Path, sections: "list[Section]") -> None:
    from glue_mva.simulate.page import write_page

    write_page(page, typed_command(), sections)
    for claim in (claim for section in sections for claim in section.claims):
        print(f"{claim.verdict:>15}  {claim.statement}: {claim.here or '-'} (paper: {claim.paper})")
    print(f"page: {page}")
