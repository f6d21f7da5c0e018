"""Table and figure from the records of a folder. Trains nothing and imports no torch."""

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy import stats

from glue_mva import UsageError
from glue_mva.style import color, figure_style, marker, new_figure, save_figure

if TYPE_CHECKING:
    from options import Preset

LABELS = {"sgd": "SGD", "adam": "Adam", "laprop": "LaProp", "madam": "MAdam", "lamadam": "LaMAdam"}
SEARCHED = ("optim", "lr", "weight_decay", "seed", "matched")
"""Settings in which the records of a folder may differ; `matched` names the optimizer whose step size was matched."""

Cell = pd.DataFrame
"""The runs of one optimizer at one (lr, weight decay), a row for each seed."""


def read(path: Path) -> dict[str, Any]:
    """One record.

    Raises:
        UsageError: the file is not a record.
    """
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        return record if record["settings"]["optim"] in LABELS else {}["optim"]
    except (ValueError, KeyError, TypeError):
        raise UsageError(f"{path} is not a whole record of the examples; delete it to train that run again") from None


def load(folder: Path) -> pd.DataFrame:
    """All runs of a folder, a row each: the searched settings, `status`, `validation`, `test` and `record`.

    Raises:
        UsageError: no records, or records of different experiments.
    """
    records = [read(path) for path in sorted((folder / "records").glob("*.json"))]
    if not records:
        raise UsageError(f"no records in {folder / 'records'}: train first, with the same --out and without --report")
    for name in records[0]["settings"]:
        values = {json.dumps(r["settings"].get(name)) for r in records}
        if name not in SEARCHED and len(values) > 1:
            raise UsageError(f"the records in {folder} differ in {name} ({', '.join(sorted(values))}): "
                             "one folder holds one experiment, take another --out")  # fmt: skip
    rows = [{name: r["settings"][name] for name in SEARCHED} | {"status": r["status"]}
            | {split: r["scores"].get(split) for split in ("validation", "test")}
            | {"record": r} for r in records]  # fmt: skip
    runs = pd.DataFrame(rows).astype({"validation": float, "test": float})
    runs["matched"] = runs["matched"].fillna("")
    return runs.sort_values(list(SEARCHED[:4]), ignore_index=True)


def choose(runs: pd.DataFrame) -> dict[tuple[str, str], Cell]:
    """The best cell of every (optimizer, matched): the highest median validation score, or test score where there is no
    validation split, among the cells with the most seeds; none with a diverged run. In the order of `LABELS`."""
    chosen = {}
    for row, own in runs.groupby(["optim", "matched"]):
        cells = [cell for _, cell in own.groupby(["lr", "weight_decay"])]
        most = max(len(cell) for cell in cells)
        whole = [cell for cell in cells if len(cell) == most and (cell["status"] == "ok").all()]
        if whole:
            chosen[row] = max(whole, key=lambda cell: cell[selector(runs)].median())
    return dict(sorted(chosen.items(), key=lambda item: (list(LABELS).index(item[0][0]), item[0][1])))


def selector(runs: pd.DataFrame) -> str:
    return "validation" if runs["validation"].notna().any() else "test"


def matched(folder: Path, optim: str, target: str) -> tuple[float, float]:
    """The (lr, weight decay) at which `optim` takes the average step size of `target`'s chosen cell: its own chosen lr
    times the ratio of the two average step sizes, each a mean over the run.

    Raises:
        UsageError: one of the two has no finished runs.
    """
    chosen = choose(load(folder))
    for name in (optim, target):
        if (name, "") not in chosen:
            raise UsageError(f"--match {target}: {folder} has no finished runs of {LABELS[name]}; train them first")
    sizes = {name: np.mean([r["curves"]["step_size"] for r in chosen[name, ""]["record"]]) for name in (optim, target)}
    base = chosen[optim, ""].iloc[0]
    return float(f"{base['lr'] * sizes[target] / sizes[optim]:.3g}"), float(base["weight_decay"])


def label(row: tuple[str, str]) -> str:
    return LABELS[row[0]] + ("-\N{GREEK SMALL LETTER ETA}\N{PRIME}" if row[1] else "")


def write(folder: Path, preset: "Preset") -> str:
    """Writes `report.md`, `runs.csv` and `curves.png`/`.svg` into `folder`.

    Returns:
        The text of `report.md`.
    """
    runs = load(folder)
    chosen = choose(runs)
    runs.drop(columns="record").to_csv(folder / "runs.csv", index=False)
    text = f"# {preset.title}: {preset.metric}\n\n{table(runs, chosen, preset)}\n{notes(runs, chosen, preset)}"
    if chosen:
        text += "\n![Training loss, score and average step size against updates](curves.png)\n"
    (folder / "report.md").write_text(text, encoding="utf-8")
    if chosen:
        save_figure(curves(chosen, preset), folder / "curves")
    return text


def table(runs: pd.DataFrame, chosen: dict[tuple[str, str], Cell], preset: "Preset") -> str:
    rows = []
    for row, cell in chosen.items():
        tried = runs[(runs["optim"] == row[0]) & (runs["matched"] == row[1])]["lr"]
        lr = cell["lr"].iloc[0]
        edge = " (edge)" if tried.nunique() > 1 and lr in (tried.min(), tried.max()) else ""
        paper = preset.paper.get(row[0]) if not row[1] else None
        rows.append(
            {
                "": label(row),
                "lr": f"{lr:g}{edge}",
                "lrs tried": tried.nunique(),
                "weight decay": f"{cell['weight_decay'].iloc[0]:g}",
                "seeds": len(cell),
                "validation": spread(cell["validation"]),
                "test": spread(cell["test"]),
                "mean difference": difference(cell, chosen.get((preset.baseline, ""))),
                "paper": "" if paper is None else f"{paper[0]:.2f}" + (f" ({paper[1]:.2f})" if paper[1] else ""),
            }
        )
    shown = pd.DataFrame(rows)
    empty = [name for name in shown.columns if (shown[name] == "").all()]
    return shown.drop(columns=empty).to_markdown(index=False, disable_numparse=True) + "\n" if rows else ""


def spread(scores: pd.Series) -> str:
    """`median (standard error)`."""
    if scores.isna().all():
        return ""
    return f"{scores.median():.2f} ({scores.sem():.2f})" if len(scores) > 1 else f"{scores.iloc[0]:.2f}"


def difference(cell: Cell, base: Cell | None) -> str:
    """Mean test score less the baseline's, with Welch's 95 % interval."""
    if base is None or cell is base or min(len(cell), len(base)) < 2:
        return ""
    interval = stats.ttest_ind(cell["test"], base["test"], equal_var=False).confidence_interval(0.95)
    mean = cell["test"].mean() - base["test"].mean()
    return f"{mean:+.2f} [{interval.low:+.2f}, {interval.high:+.2f}]"


def notes(runs: pd.DataFrame, chosen: dict[tuple[str, str], Cell], preset: "Preset") -> str:
    """What the table means, and what stands against it."""
    settings = {k: v for k, v in runs["record"][0]["settings"].items() if k not in SEARCHED}
    lines = [
        "Median (standard error) over the seeds, of the weights after the last update.",
        f"Learning rate and weight decay are those with the highest median {selector(runs)} score"
        + ("." if selector(runs) == "validation" else ", the score that is reported: where several were tried, "
           "it is flattered by the choice."),
        f"Mean difference: test score less {LABELS[preset.baseline]}'s, with Welch's 95 % interval; the intervals are "
        "not widened for the number of comparisons.",
    ]  # fmt: skip
    if any("(edge)" in line for line in table(runs, chosen, preset).splitlines()):
        lines.append("(edge): the chosen learning rate is the smallest or largest that was tried, so a better one may "
                     "lie beyond.")  # fmt: skip
    if any(row[1] for row in chosen):
        lines.append("\N{GREEK SMALL LETTER ETA}\N{PRIME}: the learning rate at which the average step size equals "
                     "that of " + ", ".join(sorted({LABELS[m] for _, m in chosen if m})) + ".")  # fmt: skip
    if diverged := runs[runs["status"] == "diverged"].to_dict("records"):
        lines.append("Diverged: " + ", ".join(f"{LABELS[r['optim']]} lr {r['lr']:g} seed {r['seed']}" for r in diverged)
                     + ".")  # fmt: skip
    lines.append("Settings: " + ", ".join(f"{k.replace('_', ' ')} {v}" for k, v in settings.items()) + ".")
    return "\n" + "\n".join(f"- {line}" for line in lines) + "\n"


def curves(chosen: dict[tuple[str, str], Cell], preset: "Preset") -> Any:
    """The paper's Figure 4: training loss, score and average step size against updates; median and range of seeds."""
    some = next(iter(chosen.values()))["record"].iloc[0]
    watched = next(name for name in ("validation", "test") if name in some["evaluations"][0])
    panels = {"loss": "training loss", watched: f"{watched} {preset.metric}", "step_size": "average step size"}
    with figure_style():
        fig = new_figure(height=2.4)
        for ax, (name, title) in zip(fig.subplots(1, 3), panels.items(), strict=True):
            for row, cell in chosen.items():
                points = [evaluations(r) if name == watched else r["curves"] for r in cell["record"]]
                values = np.array([p[name] for p in points], dtype=float)
                style = {"color": color(row[0]), "linestyle": "--" if row[1] else "-"}
                x = points[0]["update"]
                ax.plot(x, np.median(values, axis=0), label=label(row), marker=marker(row[0]),
                        markevery=max(1, math.ceil(len(x) / 8)), **style)  # fmt: skip
                ax.fill_between(x, values.min(axis=0), values.max(axis=0), color=color(row[0]), alpha=0.15, linewidth=0)
            ax.set_xlabel("updates")
            ax.set_ylabel(title)
        ax.set_yscale("log")
        handles, labels = ax.get_legend_handles_labels()
        fig.legend(handles, labels, loc="outside upper center", ncols=len(labels))
    return fig


def evaluations(record: dict[str, Any]) -> dict[str, list[float]]:
    return {name: [e[name] for e in record["evaluations"]] for name in record["evaluations"][0]}
