"""`glue-mva export`."""

import math
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from glue_mva.cli.exit_codes import EXIT_FAILED
from glue_mva.cli.options import RowName, SweepFile, Where
from glue_mva.errors import UsageError, first_line

if TYPE_CHECKING:
    from glue_mva.record import RunRecord


def export(
    runs: Annotated[list[Path], typer.Argument(metavar="RUNS...", help="Folders of records, or of one run.")],
    out: Annotated[Path, typer.Option(help="Folder of the model; made by this command.")],
    task: Annotated[str | None, typer.Option(help="Task; may be left out where the records are of one.")] = None,
    row: RowName = None,
    sweep: SweepFile = None,
    where: Where = None,
    data: Annotated[str | None, typer.Option(help="Where the run's data lie now. [default: where they lay]")] = None,
    model: Annotated[str | None, typer.Option(help="Where its pretrained model lies now. [default: where it "
                                              "lay]")] = None,
    allow_other_score: Annotated[bool, typer.Option("--allow-other-score", help="Export a run made again even if its "
                                                    "score differs.")] = False,
    push: Annotated[str | None, typer.Option(metavar="NAME", help="Upload it to the Hub under this name too.")] = None,
) -> None:  # fmt: skip
    """Hand out the model of the best final run: weights, tokenizer, labels and model card.

    A run that did not keep its weights is made again, under OUT.run, and must reach the same score: on one CPU it does,
    bit for bit; on another device it may differ, and is refused unless --allow-other-score is given.
    """
    if out.exists():
        raise UsageError(f"--out {str(out)!r} is there already: remove it, or give another folder")
    hub = _hub(push) if push is not None else None
    from glue_mva.record import MODEL_FOLDER, read_record
    from glue_mva.report.results import results
    from glue_mva.report.winner import winner
    from glue_mva.tasks import TASKS, get_task

    made = results(*runs, sweep=sweep, where=where or []).made
    name = get_task(task).name if task is not None else _only_task(made.tasks)
    best = winner(made, name, row)
    if best is None:
        of_row = f" in row {row!r}" if row else ""
        raise UsageError(f"{', '.join(map(str, runs))}: no finished final run of {TASKS[name].title}{of_row}")
    print(f"{TASKS[name].title}: {best.row}, seed {best.seed}, dev score {best.score:.2f}, the best of {best.among} "
          f"final run{'' if best.among == 1 else 's'}: {best.run_id}")  # fmt: skip
    for note in made.every_note:
        print(f"note: {note}")

    from glue_mva.training.export import copy_model, kept_model, make_again

    record = read_record(best.folder)
    source = kept_model(record, best.folder)
    if source is not None:
        copy_model(source, out)
    else:
        from rich.console import Console

        from glue_mva.cli.progress import training_progress

        scratch = out.with_name(f"{out.name}.run")
        _check_free(scratch, best.folder)
        console = Console(soft_wrap=True, markup=False)
        console.print(f"its weights were not kept: it is made again, under {scratch}", highlight=False)
        with training_progress(console, TASKS[name]) as callbacks:
            again = make_again(record, best.folder, scratch, data=data, model=model, callbacks=callbacks)
        _compare(record, again.record, again.largest_difference, scratch, allow_other_score)
        copy_model(again.folder / MODEL_FOLDER, out)
        shutil.rmtree(scratch, ignore_errors=True)
    print(f"{out}: weights, tokenizer, labels and model card")
    if hub is not None and push is not None:
        _push(hub, push, out)


def _check_free(scratch: Path, folder: Path) -> None:
    """Refuse a place for the run that is made again, and is removed later, that holds more than an earlier attempt.

    Args:
        folder: of the run itself.
    """
    more = scratch.exists() and (not scratch.is_dir() or {p.name for p in scratch.iterdir()} - {folder.name})
    if more or folder.resolve().is_relative_to(scratch.resolve()):
        raise UsageError(f"{scratch}: is there and holds something else; the run would be made again there, so "
                         "take another --out")  # fmt: skip


def _only_task(tasks: list[str]) -> str:
    if len(tasks) == 1:
        return tasks[0]
    raise UsageError(f"give --task: the records are of {', '.join(tasks)}")


def _compare(record: "RunRecord", again: "RunRecord", difference: float, scratch: Path, allowed: bool) -> None:
    """Say how the two runs agree, and refuse another score unless that is allowed."""
    if again.status == "ok" and again.score == record.score:
        if difference == 0:
            print("the same score and every dev output, bit for bit")
        elif math.isnan(difference):
            print("the same score; its dev outputs cannot be read and were not compared")
        else:
            print(f"the same score; dev outputs differ by at most {difference:.2g}")
        return
    got = again.status if again.score is None else f"{again.score:.2f}"
    then, now = (f"{r.execution.device}, {r.execution.precision}" for r in (record, again) if r.execution is not None)
    said = f"made again, the run scored {got}; its record says {record.score:.2f} (then: {then}; now: {now})"
    if again.status != "ok":
        raise UsageError(f"{said}; there is nothing to export")
    if not allowed:
        raise UsageError(f"{said}; --allow-other-score exports it all the same, from {str(scratch)!r}")
    print(f"note: {said}; the model card gives the score of these weights")


def _hub(name: str) -> Any:
    """A client that is logged in, before hours are spent on a model that cannot be uploaded."""
    from huggingface_hub import HfApi
    from huggingface_hub.utils import validate_repo_id

    from glue_mva.data.hub import reachable

    try:
        validate_repo_id(name)
    except ValueError as error:
        raise UsageError(f"--push {name!r}: {first_line(error)}") from None
    if not reachable():
        raise UsageError("--push: the Hub cannot be reached")
    api = HfApi()
    try:
        api.whoami()
    except Exception as error:  # of requests, of httpx, or of the client itself: the way out is the same
        raise UsageError(f"--push: not logged in to the Hub ({first_line(error)}); `hf auth login`") from None
    return api


def _push(api: Any, name: str, folder: Path) -> None:
    try:
        url = api.create_repo(name, exist_ok=True)
        api.upload_folder(repo_id=url.repo_id, folder_path=folder, commit_message="Fine-tuned with glue-mva")
    except Exception as error:  # as above; the model itself is safe
        print(f"glue-mva: not uploaded: {first_line(error)}; to try again: hf upload {name} {folder}",
              file=sys.stderr)  # fmt: skip
        raise typer.Exit(EXIT_FAILED) from None
    print(f"uploaded: {url}")
