"""Load one task from any source, check it, and draw subsets."""

import hashlib
import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from datasets import Dataset
from pyarrow.parquet import read_table
from sklearn.model_selection import train_test_split

from glue_mva.config.identity import task_root
from glue_mva.config.own_task import OwnTask
from glue_mva.config.resolve import ResolvedConfig
from glue_mva.data import hub, own, saved, tsv
from glue_mva.errors import UsageError
from glue_mva.record import DataInfo
from glue_mva.tasks import DEMO_TASK, Task, is_folder, test_sets

log = logging.getLogger(__name__)

HUB_DATASET = "nyu-mll/glue"
DEMO_FOLDER = Path(__file__).parent / "demo"
SUBSET_SEED = 0
"""Seed with which `max_train_samples` and `max_eval_samples` draw rows: the same rows for every run."""

SEPARATOR = "\x1f"
"""Between two values in `digest_rows`."""


@dataclass
class TaskData:
    """Rows of one task: those to train on and those to evaluate on."""

    task: Task
    train: Dataset | None
    """`None` for a task without training rows (AX)."""
    evaluation: dict[str, Dataset]
    """Split name -> rows; the headline split first. With a holdout, the one split `holdout`."""
    test: dict[str, Dataset]
    """Test sets to predict (`tasks.test_sets`), whole and in the official order; empty without `predict_test`."""
    info: DataInfo
    """For the record."""


def load_task(config: ResolvedConfig) -> TaskData:
    """Rows that a run trains and evaluates on.

    Raises:
        UsageError: the source lacks the task, is malformed or out of reach; names what was looked for.
    """
    task = config.task_spec
    wanted = (("train",) if "train" in task.rows else ()) + task.looked_at
    splits = load_splits(config, task, wanted)
    rows = {name: len(split) for name, split in splits.items()}
    official = rows if task.is_own else {name: task.rows[name] for name in wanted}
    for name in wanted:
        if rows[name] != official[name]:
            log.warning("%s is partial: %s has %d rows, officially %d", task.title, name, rows[name], official[name])
    train = splits.get("train")
    if train is not None:
        train = draw_rows(train, config.max_train_samples)
    evaluation = {name: draw_rows(splits[name], config.max_eval_samples) for name in task.looked_at}
    if config.holdout_fraction > 0 and train is not None:
        train, held = split_holdout(task, train, config.holdout_fraction, config.holdout_seed)
        evaluation = {"holdout": held}

    test = _load_test_sets(config) if config.predict_test else {}
    used = {"train": len(train) if train is not None else 0, **{k: len(v) for k, v in evaluation.items()}}
    info = DataInfo(
        source="folder" if is_folder(config.data) else "demo" if config.data == "demo" else "hub",
        rows=used,
        source_rows=rows,
        official_rows=official,
        partial=rows != official or bool(config.max_train_samples or config.max_eval_samples),
        holdout=config.holdout_fraction > 0,
        digest=digest_rows({"train": train, **evaluation} if train is not None else evaluation),
        test_rows={name: len(split) for name, split in test.items()} if config.predict_test else None,
    )
    return TaskData(task, train, evaluation, test, info)


def _load_test_sets(config: ResolvedConfig) -> dict[str, Dataset]:
    found = {}
    for name, (task, split) in test_sets(config.task_spec).items():
        if config.data == "demo":
            raise UsageError("predict_test: the demo data have no test set; take --data DIR or the Hub")
        found[name] = load_splits(config, task, (split,))[split]
    return found


def load_splits(config: ResolvedConfig, task: Task, wanted: tuple[str, ...]) -> dict[str, Dataset]:
    """Whole splits of a task from a config's source, checked.

    Raises:
        UsageError: the source lacks them, is malformed or out of reach.
    """
    if (own_task := config.own) is not None:
        splits = _load_own(own_task, config.data, wanted)
    elif config.data == "hub":
        loaded = hub.load_dataset(HUB_DATASET, task.name, "take --data DIR (the official TSV files) or --demo")
        splits = {name: loaded[name] for name in wanted}
    elif config.data == "demo":
        if task.name != DEMO_TASK:
            raise UsageError(
                f"the demo data hold {DEMO_TASK} only, not {task.name}: take --task {DEMO_TASK} or --data DIR"
            )
        splits = {name: Dataset(read_table(DEMO_FOLDER / f"{name}.parquet")) for name in wanted}
    else:
        splits = _load_folder(config.data, task, wanted)
    return {name: saved.checked(task, name, splits[name], config.data) for name in wanted}


def _load_own(spec: OwnTask, data: str, wanted: tuple[str, ...]) -> dict[str, Dataset]:
    if spec.hub is None:
        return own.load_files(spec, data, wanted)
    loaded = hub.load_dataset(spec.hub.dataset, spec.hub.config or None, f"it is what task {spec.name} names",
                              spec.hub.revision or None)  # fmt: skip
    if missing := [there for name in wanted if (there := spec.hub.splits[name]) not in loaded]:
        raise UsageError(f"{spec.hub.dataset}: no split {missing[0]!r} for task {spec.name}; found {', '.join(loaded)}")
    return {name: own.from_hub(spec, name, loaded[spec.hub.splits[name]]) for name in wanted}


def _load_folder(data: str, task: Task, wanted: tuple[str, ...]) -> dict[str, Dataset]:
    folder = Path(data).expanduser()
    if not folder.is_dir():
        raise UsageError(f"data folder {data!r} is not there")
    root = task_root(data, task.folder)
    if root is None:
        found = ", ".join(sorted(p.name for p in folder.iterdir() if p.is_dir())) or "no folders"
        raise UsageError(f"no data for {task.name} in {data!r}: looked for a folder {task.folder}, found {found}")
    if (root / "dataset_dict.json").is_file():
        return saved.read(task, root, wanted)
    splits = {}
    for name in wanted:
        path = root / tsv.file_of(task, name)
        if not path.is_file():
            found = ", ".join(sorted(p.name for p in root.iterdir())) or "nothing"
            raise UsageError(f"no {path.name} in {str(root)!r}; found {found}")
        splits[name] = Dataset.from_dict(tsv.read_split(task, path))
    return splits


def draw_rows(split: Dataset, limit: int) -> Dataset:
    """`limit` rows of a split, drawn with `SUBSET_SEED` and kept in their order; all rows for 0, or where there
    are no more.

    Not the first rows, as run_glue takes them: CoLA is ordered by source.
    """
    if not 0 < limit < len(split):
        return split
    chosen = np.random.default_rng(SUBSET_SEED).choice(len(split), size=limit, replace=False)
    return split.select(np.sort(chosen))


def split_holdout(task: Task, train: Dataset, fraction: float, seed: int) -> tuple[Dataset, Dataset]:
    """(rows to train on, rows held out), stratified by label, or by tenths of the target for a regression.

    Raises:
        UsageError: too few rows to hold some of each class out.
    """
    labels = np.asarray(train["label"], dtype=float)
    if task.is_regression:
        labels = np.searchsorted(np.quantile(labels, np.linspace(0.1, 0.9, 9)), labels)
    try:
        keep, held = train_test_split(np.arange(len(train)), test_size=fraction, random_state=seed, stratify=labels)
    except ValueError as error:
        raise UsageError(f"holdout_fraction {fraction:g} of {len(train)} rows of {task.name}: {error}") from None
    return train.select(np.sort(keep)), train.select(np.sort(held))


def digest_rows(splits: dict[str, Dataset]) -> str:
    """Hash of texts and labels, split by split: the same for the same rows from any source. 16 hexadecimal digits."""
    digest = hashlib.sha256()
    for name, split in splits.items():
        digest.update(name.encode())
        for column in sorted(set(split.column_names) - {"idx"}):
            digest.update(column.encode())
            values = [v if isinstance(v, str) else format(v, ".6g") for v in split[column]]
            digest.update(SEPARATOR.join(values).encode())
            if any(SEPARATOR in value for value in values):  # else it says where each value ends
                digest.update(repr([len(value) for value in values]).encode())
    return digest.hexdigest()[:16]
