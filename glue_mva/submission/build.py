"""Final runs of a study -> the files of a submission: which run predicts each task, and what is missing and why."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import numpy as np

from glue_mva.errors import UsageError
from glue_mva.record import DAMAGED_PREDICTIONS, PREDICTIONS_FILE
from glue_mva.report.aggregate import Study
from glue_mva.report.winner import Winner, winner
from glue_mva.submission.archive import official_rows
from glue_mva.submission.files import FILES, MAJORITY_CLASS, TestFile, majority_values, to_values
from glue_mva.tasks import TASKS, get_task


@dataclass
class Submission:
    """What can be submitted, and what cannot."""

    values: dict[str, list[str]] = field(default_factory=dict)
    """File name -> one value per row."""
    winners: dict[str, Winner] = field(default_factory=dict)
    """Task -> run."""
    constant: list[str] = field(default_factory=list)
    """Tasks that were filled with their most frequent class."""
    missing: dict[str, str] = field(default_factory=dict)
    """File name -> why it is not there."""

    def reasons(self) -> str:
        """All that is missing, in one line; files of the same reason together."""
        names: dict[str, list[str]] = {}
        for name, reason in self.missing.items():
            names.setdefault(reason, []).append(name)
        return "; ".join(f"{', '.join(group)}: {reason}" for reason, group in names.items())


def build_submission(
    study: Study, *, row: str | None = None, majority: Collection[str] = (), rows: Mapping[str, int] | None = None
) -> Submission:
    """Every file that the final runs of a study can fill.

    Args:
        row: only runs of this row of the table.
        majority: tasks that get their most frequent class in every row, whatever runs there are.
        rows: file name -> rows that it must have, where they are not the official ones.

    Raises:
        UsageError: no such row, or a task whose most frequent class is not known.
    """
    wanted, constant = rows or official_rows(), _constant_tasks(majority)
    made = Submission()
    for file in FILES.values():
        task = file.trained_as
        if task in constant:
            made.values[file.name] = majority_values(file, wanted[file.name])
            made.constant.append(task)
            continue
        chosen = made.winners.get(task) or winner(study, task, row)
        if chosen is None:
            made.missing[file.name] = f"no finished final run of {TASKS[task].title}"
            continue
        made.winners[task] = chosen
        try:
            values = to_values(file, _test_outputs(file, chosen))
        except ValueError as error:
            made.missing[file.name] = str(error)
            continue
        if len(values) == wanted[file.name]:
            made.values[file.name] = values
        else:
            made.missing[file.name] = f"{len(values):,} rows where {wanted[file.name]:,} belong"
    return made


def _constant_tasks(names: Collection[str]) -> list[str]:
    tasks = [get_task(name).name for name in names]
    if unknown := [task for task in tasks if task not in MAJORITY_CLASS]:
        raise UsageError(f"--majority {unknown[0]}: its most frequent class is not known here; known for "
                         f"{', '.join(MAJORITY_CLASS)}")  # fmt: skip
    return tasks


def _test_outputs(file: TestFile, chosen: Winner) -> np.ndarray:
    """Outputs of the best epoch on a test set, (rows, classes) or (rows,).

    Raises:
        ValueError: the run has none, or its file is damaged; says what to do.
    """
    path = chosen.folder / PREDICTIONS_FILE
    again = f"run {chosen.run_id} again with --predict-test --force"
    try:
        with np.load(path, allow_pickle=False) as arrays:
            if f"{file.stored_as}/best" in arrays:
                return arrays[f"{file.stored_as}/best"]
    except DAMAGED_PREDICTIONS:
        raise ValueError(f"{path} cannot be read: {again}") from None
    raise ValueError(f"no test predictions: {again}")
