"""A tiny random model, a few rows of two tasks, and a sweep over them: runs of about a second."""

from pathlib import Path

from tests.tiny import GLUE, TinyModels

ROWS = {"train.tsv": 48, "dev.tsv": 32}


def make_data(folder: Path) -> None:
    """The first rows of RTE and MRPC in the official layout."""
    for task in ("RTE", "MRPC"):
        (folder / task).mkdir(parents=True)
        for name, rows in ROWS.items():
            lines = (GLUE / task / name).read_text(encoding="utf-8-sig").splitlines(keepends=True)
            (folder / task / name).write_text("".join(lines[: rows + 1]), encoding="utf-8")


def make_sweep(folder: Path, **changes: object) -> Path:
    """`folder/sweep.toml`: 2 tasks x 2 optimizers x 2 points x 2 seeds, paths relative to the folder."""
    values: dict[str, object] = {
        "output": "runs", "tasks": ["rte", "mrpc"], "optimizers": ["adam", "lamadam"], "lr": [1e-3, 3e-3],
        "weight_decay": [0.1], "search_seeds": 2, "final_seeds": 2, **changes,
    }  # fmt: skip
    run = {"model": "roberta", "data": "data", "num_train_epochs": 1.0, "max_length": 32, "train_batch_size": 16,
           "warmup_ratio": 0.1}  # fmt: skip
    lines = [f"{key} = {_toml(value)}" for key, value in values.items()]
    lines += ["[run]", *(f"{key} = {_toml(value)}" for key, value in run.items())]
    (folder / "sweep.toml").write_text("\n".join(lines) + "\n")
    return folder / "sweep.toml"


def _toml(value: object) -> str:
    return repr(value).replace("'", '"')


def make_material(folder: Path) -> Path:
    """Everything; returns the folder, from which the sweep is to be started."""
    TinyModels(folder)["roberta"]
    make_data(folder / "data")
    make_sweep(folder)
    return folder
