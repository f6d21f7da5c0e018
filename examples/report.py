"""Table and figure from the records of a folder. Trains nothing and imports no torch."""

import json
import math
from collections.abc import Sequence
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
        whole = record["settings"]["optim"] in LABELS
    except (ValueError, KeyError, TypeError):
        whole = False
    if not whole:
        raise UsageError(f"{path} is not a whole record of the examples; delete it to train that run again")
    return record


def records(folder: Path) -> list[dict[str, Any]]:
    """All records of a folder, in the order of their names."""
    return [read(path) for path in sorted((folder / "records").glob("*.json"))]


def require_one_experiment(folder: Path, settings: Sequence[dict[str, Any]]) -> None:
    """Raises UsageError where settings of runs in one folder differ in more than what is searched."""
    for name in settings[0]:
        values = {json.dumps(s.get(name)) for s in settings}
        if name not in SEARCHED and len(values) > 1:
            raise UsageError(f"{folder} holds one experiment, but its runs would differ in {name} "
                             f"({', '.join(sorted(values))}): take another --out")  # fmt: skip


def load(folder: Path) -> pd.DataFrame:
    """All runs of a folder, a row each: the searched settings, `status`, `validation`, `test` and `record`.

    Raises:
        UsageError: no records, or records of different experiments.
    """
    found = records(folder)
    if not found:
        raise UsageError(f"no records in {folder / 'records'}: train first, with the same --out and without --report")
    require_one_experiment(folder, [r["settings"] for r in found])
    rows = [{name: r["settings"][name] for name in SEARCHED} | {"status": r["status"]}
            | {split: r["scores"].get(split) for split in ("validation", "test")}
            | {"record": r} for r in found]  # fmt: skip
    runs = pd.DataFrame(rows).astype({"validation": float, "test": float})
    runs["matched"] = runs["matched"].fillna("")
    return runs.sort_values(list(SEARCHED[:4]), ignore_index=True)


def shared_scores(own: pd.DataFrame, score: str) -> dict[tuple[float, float], pd.Series]:
    """(lr, weight decay) -> scores at the seeds that all share, of the cells of one row without a diverged run. Cells
    that share no seed with those of more seeds are left out."""
    cells = {key: cell for key, cell in own.groupby(["lr", "weight_decay"]) if (cell["status"] == "ok").all()}
    scores, shared = {}, set(own["seed"])
    for key in sorted(cells, key=lambda key: -len(cells[key])):
        if common := shared & set(cells[key]["seed"]):
            shared = common
            scores[key] = cells[key].set_index("seed")[score]
    return {key: scores[key].loc[sorted(shared)] for key in sorted(scores)}


def choose(runs: pd.DataFrame) -> dict[tuple[str, str], Cell]:
    """The best cell of every (optimizer, matched): the highest median validation score, or test score where there is no
    validation split. In the order of `LABELS`."""
    chosen = {}
    for row, own in runs.groupby(["optim", "matched"]):
        if found := shared_scores(own, selector(runs)):
            lr, decay = max(found, key=lambda key: found[key].median())
            chosen[row] = own[(own["lr"] == lr) & (own["weight_decay"] == decay)]
    return dict(sorted(chosen.items(), key=lambda item: (list(LABELS).index(item[0][0]), item[0][1])))


def selector(runs: pd.DataFrame) -> str:
    return "validation" if runs["validation"].notna().any() else "test"


def unfinished(cells: dict[tuple[str, str], Cell], seeds: Sequence[int]) -> list[str]:
    """The chosen cells that lack runs of some of these seeds, in words."""
    lacking = []
    for row, cell in cells.items():
        there, lr, decay = len(set(seeds) & set(cell["seed"])), cell["lr"].iloc[0], cell["weight_decay"].iloc[0]
        if there < len(set(seeds)):
            lacking.append(f"{label(row)} lr {lr:g} decay {decay:g} has {there} of {len(set(seeds))} seeds")
    return lacking


def matched(folder: Path, optim: str, target: str, seeds: Sequence[int]) -> tuple[float, float]:
    """The (lr, weight decay) at which `optim` takes the average step size of `target`'s chosen cell: its own chosen lr
    times the ratio of the two average step sizes, each a mean over the run.

    Raises:
        UsageError: one of the two lacks runs of these seeds; or runs are there that were matched with other ones.
    """
    everything = load(folder)
    runs = everything[everything["seed"].isin(seeds)]
    chosen = choose(runs)
    for name in (optim, target):
        if (name, "") not in chosen:
            raise UsageError(f"--match {target}: {folder} has no finished runs of {LABELS[name]}; train them first")
    if lacking := unfinished({row: chosen[row] for row in ((optim, ""), (target, ""))}, seeds):
        raise UsageError(f"--match {target}: {lacking[0]} in {folder}; train the others first, or give --seeds")
    base = chosen[optim, ""].iloc[0]
    lr = float(f"{base['lr'] * step_size(chosen[target, '']) / step_size(chosen[optim, '']):.3g}")
    for earlier in everything[(everything["optim"] == optim) & (everything["matched"] == target)]["lr"]:
        if earlier != lr:
            raise UsageError(f"--match {target}: {LABELS[optim]}'s lr is {lr:g}, but {folder} has runs matched at "
                             f"{earlier:g}, from other seeds or lrs: delete their records")  # fmt: skip
    return lr, float(base["weight_decay"])


def step_size(cell: Cell) -> float:
    """Average step size over the run, the mean over seeds."""
    return float(np.mean([np.mean(record["curves"]["step_size"]) for record in cell["record"]]))


def label(row: tuple[str, str]) -> str:
    return LABELS[row[0]] + ("-\N{GREEK SMALL LETTER ETA}\N{PRIME}" if row[1] else "")


def write(folder: Path, presets: dict[str, "Preset"]) -> str:
    """Writes `report.md`, `runs.csv` and `curves.png`/`.svg` into `folder`.

    Args:
        presets: those of the script; the runs say which one they are of.

    Returns:
        The text of `report.md`.
    """
    runs = load(folder)
    name = runs["record"][0]["settings"].get("preset")
    if name not in presets:
        raise UsageError(f"{folder} has runs of preset {name}, and this script has {', '.join(presets)} only")
    preset, chosen = presets[name], choose(runs)
    runs.drop(columns="record").to_csv(folder / "runs.csv", index=False)
    text = f"# {preset.title}: {preset.metric}\n\n{table(runs, chosen, preset)}\n{notes(runs, chosen, preset)}"
    if chosen:
        text += "\n![Training loss, score and average step size against updates](curves.png)\n" + search(runs, chosen)
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
    for name in [n for n in preset.paper if n not in preset.best and rows and (n, "") not in chosen]:
        rows.append({"": f"{LABELS[name]} (the paper copied it)", "paper": f"{preset.paper[name][0]:.2f}"})
    shown = pd.DataFrame(rows).fillna("")
    empty = [name for name in shown.columns if (shown[name] == "").all()]
    return shown.drop(columns=empty).to_markdown(index=False, disable_numparse=True) + "\n" if rows else ""


def search(runs: pd.DataFrame, chosen: dict[tuple[str, str], Cell]) -> str:
    """What the choice was made on; nothing where nothing was searched."""
    rows = []
    for row, cell in chosen.items():
        own = runs[(runs["optim"] == row[0]) & (runs["matched"] == row[1])]
        for (lr, decay), scores in shared_scores(own, selector(runs)).items():
            best = "**" if lr == cell["lr"].iloc[0] and decay == cell["weight_decay"].iloc[0] else ""
            rows.append({"": label(row), "lr": f"{lr:g}", "weight decay": f"{decay:g}", "seeds": len(scores),
                         selector(runs): f"{best}{scores.median():.2f}{best}"})  # fmt: skip
    if len(rows) == len(chosen):
        return ""
    shown = pd.DataFrame(rows).to_markdown(index=False, disable_numparse=True)
    return f"\n## Search\n\nMedian over the seeds that all cells of a row share; bold: chosen.\n\n{shown}\n"


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
    record = runs["record"][0]
    settings = {k: v for k, v in record["settings"].items() if k not in SEARCHED}
    lines = [
        "Median (standard error) over the seeds, of the weights after the last update.",
        f"Learning rate and weight decay are those with the highest median {selector(runs)} score"
        + ("." if selector(runs) == "validation" else ", the score that is reported: where several were tried, "
           "it is flattered by the choice."),
        f"Mean difference: test score less {LABELS[preset.baseline]}'s, with Welch's 95 % interval. The intervals are "
        "over seeds, not over test rows, and not widened for the number of comparisons.",
    ]  # fmt: skip
    if any("(edge)" in line for line in table(runs, chosen, preset).splitlines()):
        lines.append("(edge): the chosen learning rate is the smallest or largest that was tried, so a better one may "
                     "lie beyond.")  # fmt: skip
    if any(row[1] for row in chosen):
        lines.append("\N{GREEK SMALL LETTER ETA}\N{PRIME}: at the learning rate that was to give the average step "
                     "size of another row; reached: " + "; ".join(
                         f"{label((name, m))} {step_size(cell) / step_size(chosen[m, '']):.2f} times {LABELS[m]}'s"
                         for (name, m), cell in chosen.items() if m and (m, "") in chosen) + ".")  # fmt: skip
    if diverged := runs[runs["status"] == "diverged"].to_dict("records"):
        lines.append("Diverged: " + ", ".join(f"{LABELS[r['optim']]} lr {r['lr']:g} seed {r['seed']}" for r in diverged)
                     + ".")  # fmt: skip
    lines += [f"No row for {label(row)}: each of its learning rates has a diverged run."
              for row, _ in runs.groupby(["optim", "matched"]) if row not in chosen]  # fmt: skip
    if lacking := unfinished(chosen, runs["seed"].unique()):
        lines.append(f"Unfinished: {'; '.join(lacking)}.")
    if differing := departures(record, preset):
        lines.append(f"Not as in the paper: {', '.join(differing)}; the two are not to be compared.")
    lines += preset.remarks
    rows = ", ".join(f"{n} {split}" for split, n in record["rows"].items())
    devices = sorted({start["device"] for r in runs["record"] for start in r["execution"]["starts"]})
    lines.append(f"Rows: {rows}. Trained on: {', '.join(devices)}.")
    lines.append("Settings: " + ", ".join(f"{k.replace('_', ' ')} {v}" for k, v in settings.items()) + ".")
    return "\n" + "\n".join(f"- {line}" for line in lines) + "\n"


def departures(record: dict[str, Any], preset: "Preset") -> list[str]:
    """Where runs were set up otherwise than the paper's, `epochs 15 (paper: 200)`; none where it has no such table."""
    if not preset.paper:
        return []
    pairs = {name: (record["settings"][name], value) for name, value in preset.settings().items()}
    pairs["training rows"] = record["rows"]["train"], preset.rows or record["rows"]["train"]
    return [f"{name.replace('_', ' ')} {own} (paper: {paper})" for name, (own, paper) in pairs.items() if own != paper]


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
