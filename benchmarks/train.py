"""Training speed beside the best that the stock Trainer can do: examples per second, whole runs as users start them.

    python benchmarks/train.py --data DIR --out reports/speed/train-cpu.md

Every contender trains in processes of its own, task after task, which wait while the others train: a peer is Hugging
Face's Trainer, ours is `glue_mva.run` with its recipe, curves and all. In every round each makes a number of updates,
in turn; the median over rounds is shown. Two settings: one process with `--threads` threads, and as many processes with
one thread each (as a sweep has them), whose speeds are added up. With `--whole 100`, also whole processes of 100
updates, from start to exit, one after the other.

(c) sorts rows by length within groups of batches, longest first, so a round goes through all of a group. (a) and (b)
make fewer updates, because they are slow.
"""

import argparse
import contextlib
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from common import add_out, make_parser, show

from glue_mva.machine import cpu_name, shorten_waits

WARM_UP = 5
"""Updates of a contender before its first round; of the slowest one less."""
STEPS = 1000
"""Updates that ours plans: its curves have a point every 20 then, and every round of 20 updates has one."""
BATCH = {"rte": 16, "cola": 16, "sst2": 32}
MEGABATCHES = {"rte": 38, "cola": 50, "sst2": 50}
"""Batches within which the stock Trainer's grouping sorts rows: 50, or a quarter of an epoch."""
PEERS = {
    "a": "stock Trainer as run_glue sets it up: padded to 128, float32",
    "b": "stock Trainer, bf16=True where the CPU multiplies bfloat16, padded to the longest of a batch",
    "c": 'as (b), train_sampling_strategy="group_by_length"',
}
ROWS = 10_000
"""Training rows that a peer tokenizes for its rounds, which use fewer (in a whole process: all)."""
WITHOUT = " without "
"""Parts the name of an optimizer from that of what is switched off (`ablation.py`)."""
OURS = {"adam": "`glue-mva run` with Adam", "lamadam": "`glue-mva run` with LaMAdam"}


def updates(name: str, task: str, counted: int) -> int:
    """Updates that a contender makes in a round."""
    return {"a": 2, "b": 8, "c": MEGABATCHES[task]}.get(name, counted)


# ------------------------------------------------------------------------------------------- inside of a worker process


class TaskDoneError(Exception):
    """The parent process has seen enough of a task."""


def work(order: dict[str, Any]) -> None:
    """Train as one contender, on one task after the other, and pause until the parent process says how many updates to
    make."""
    for task in order["tasks"]:
        callbacks = [_pauses()] if order["pause"] else []
        with contextlib.suppress(TaskDoneError):
            (train_stock if order["name"] in PEERS else train_ours)(order, task, callbacks)


def train_ours(order: dict[str, Any], task: str, callbacks: list[Any]) -> None:
    """`glue_mva.run` on a task, as the command line sets it up."""
    from glue_mva import RunConfig, run
    from glue_mva.training.contexts import keep_freed_memory

    keep_freed_memory()
    run(
        RunConfig(
            task=task,
            optim=order["name"].partition(WITHOUT)[0],
            data=order["data"],
            model=order["model"],
            max_length=128,
            max_steps=order["steps"],
            output=order["folder"],
            **order["config"],
        ),
        callbacks,
    )


def train_stock(order: dict[str, Any], task: str, callbacks: list[Any]) -> None:
    """The stock Trainer on the rows of a task, as a script around it would set it up."""
    import torch
    from transformers import (
        AutoModelForSequenceClassification,
        AutoTokenizer,
        DataCollatorWithPadding,
        Trainer,
        TrainingArguments,
        set_seed,
    )

    from glue_mva import RunConfig
    from glue_mva.config.identity import model_path
    from glue_mva.config.resolve import resolve
    from glue_mva.data.load import load_task
    from glue_mva.models.precision import has_bfloat16

    name, source = order["name"], model_path(order["model"])
    most = ROWS if order["pause"] else None
    loaded = load_task(resolve(RunConfig(task=task, optim="adam", data=order["data"], max_train_samples=most)))
    tokenizer = AutoTokenizer.from_pretrained(source)
    columns = loaded.task.text

    def tokenize(rows: dict[str, list[str]]) -> Any:
        return tokenizer(*(rows[column] for column in columns), truncation=True, max_length=128)

    def tokens_of(split: str, rows: Any) -> Any:
        """Kept for the next process, as rows that `load_dataset` reads from files would be."""
        kept = Path(order["folder"]) / f"tokens-{task}-{split}-{len(rows)}.arrow"
        kept.parent.mkdir(parents=True, exist_ok=True)
        others = [column for column in rows.column_names if column != "label"]
        return rows.map(tokenize, batched=True, remove_columns=others, cache_file_name=str(kept))

    train, dev = tokens_of("train", loaded.train), tokens_of("dev", next(iter(loaded.evaluation.values())))
    set_seed(42)
    model = AutoModelForSequenceClassification.from_pretrained(
        source, num_labels=loaded.task.num_labels, dtype=torch.float32
    )
    arguments = TrainingArguments(
        f"{order['folder']}/stock",
        max_steps=order["steps"],
        per_device_train_batch_size=BATCH[task],
        per_device_eval_batch_size=RunConfig.model_fields["eval_batch_size"].default,
        learning_rate=2e-5,
        optim="adamw_torch_fused",
        bf16=name != "a" and has_bfloat16("cpu"),
        train_sampling_strategy="group_by_length" if name == "c" else "random",
        use_cpu=True,
        report_to=[],
        save_strategy="no",
        disable_tqdm=True,
    )
    padding = "max_length" if name == "a" else "longest"
    collator = DataCollatorWithPadding(tokenizer, padding=padding, max_length=128)
    trainer = Trainer(
        model=model, args=arguments, train_dataset=train, eval_dataset=dev, data_collator=collator, callbacks=callbacks
    )
    trainer.train()
    trainer.evaluate()


def _pauses() -> Any:
    from transformers import TrainerCallback

    class Pauses(TrainerCallback):
        """Ends a round before the first update that is not part of it, when the last one's point has been logged."""

        pause_at = 0
        started: tuple[float, float] | None = None

        def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if state.global_step != self.pause_at:
                return
            if self.started:
                print(json.dumps([now - then for now, then in zip(_clocks(), self.started, strict=True)]), file=_OUT)
            else:
                print("ready", file=_OUT)
            _OUT.flush()
            line = sys.stdin.readline()
            if not line.strip():
                raise TaskDoneError
            self.pause_at += int(line)
            self.started = _clocks()

    return Pauses()


def _clocks() -> tuple[float, float]:
    return time.perf_counter(), time.process_time()


# --------------------------------------------------------------------------------------------------- the parent process


def clocked() -> Callable[[str], None]:
    """Prints lines with the seconds since it was made."""
    begun = time.perf_counter()

    def say(text: str) -> None:
        print(f"[{time.perf_counter() - begun:4.0f} s] {text}", flush=True)

    return say


class Worker:
    """A contender's process."""

    def __init__(self, name: str, tasks: list[str], options: argparse.Namespace, threads: int, folder: str) -> None:
        self.name = name
        self.process = start(name, tasks, options, threads, folder, steps=STEPS, pause=True)

    def ask(self, count: int | None) -> None:
        """Some updates; `None`: the next task."""
        assert self.process.stdin
        self.process.stdin.write(f"{count or ''}\n")
        self.process.stdin.flush()

    def answer(self) -> str:
        assert self.process.stdout
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"contender {self.name} ended early")
        return line


def start(
    name: str, tasks: list[str], options: argparse.Namespace, threads: int, folder: str, *, steps: int, pause: bool
) -> subprocess.Popen[str]:
    """The process of a contender. Ours gets the environment that `glue-mva run` sets for itself."""
    order = {"name": name, "tasks": tasks, "data": options.data, "model": options.model, "folder": folder}
    order |= {"steps": steps, "pause": pause, "config": options.config.get(name, {})}
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "HF_HUB_OFFLINE": "1"}
    if name not in PEERS:
        shorten_waits(environment)
    command = [sys.executable, options.script, "--worker", json.dumps(order)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True, env=environment)


def rounds(
    names: list[str], options: argparse.Namespace, threads: int, processes: int, say: Callable[[str], None]
) -> dict[str, dict[str, float]]:
    """Task -> examples per second of every contender, all its processes together: medians over interleaved rounds."""
    tasks = options.tasks.split(",")
    with tempfile.TemporaryDirectory() as folder:
        workers = {
            name: [Worker(name, tasks, options, threads, f"{folder}/{name}-{i}") for i in range(processes)]
            for name in names
        }
        every = list(itertools.chain(*workers.values()))
        rates: dict[str, dict[str, list[float]]] = {task: {name: [] for name in names} for task in tasks}
        for task, rate in rates.items():
            for worker in every:
                worker.answer()
            for name, group in workers.items():
                measured(group, min(WARM_UP, updates(name, task, WARM_UP)))
            for number in range(options.rounds):
                for name, group in workers.items():
                    count = updates(name, task, options.updates)
                    seconds = [clocks[options.cpu_time] for clocks in measured(group, count)]
                    rate[name].append(sum(BATCH[task] * count / s for s in seconds))
                shown = ", ".join(f"{name} {found[-1]:.1f}" for name, found in rate.items())
                say(f"{task}, {processes} x {threads} threads, round {number + 1}: {shown}")
            for worker in every:
                worker.ask(None)
        for worker in every:
            worker.process.communicate()
    return {task: {name: statistics.median(found) for name, found in rate.items()} for task, rate in rates.items()}


def measured(group: list[Worker], count: int) -> list[tuple[float, float]]:
    """Let the processes of a contender make some updates at once; wall and processor seconds of each."""
    for worker in group:
        worker.ask(count)
    return [json.loads(worker.answer()) for worker in group]


def whole_processes(options: argparse.Namespace, say: Callable[[str], None]) -> list[str]:
    """A table of whole processes: start, data, `--whole` updates, evaluation, exit. A process of one update goes before
    each, so that its tokens are in a cache."""
    lines = [
        "",
        f"Whole processes of {options.whole} updates and an evaluation, {options.threads} threads, seconds from "
        "start to exit:",
        "",
        "| task | (c) | lamadam | ratio |",
        "|---|---|---|---|",
    ]
    for task in options.tasks.split(","):
        seconds = {}
        for name in ("c", "lamadam"):
            with tempfile.TemporaryDirectory() as folder:
                for steps in (1, options.whole):
                    before = time.perf_counter()
                    process = start(name, [task], options, options.threads, folder, steps=steps, pause=False)
                    process.communicate()
                    seconds[name] = time.perf_counter() - before
                    if process.returncode:
                        sys.exit(f"({name}) on {task} ended with exit code {process.returncode}")
        stock, ours = seconds.values()
        lines.append(f"| {task} | {stock:.1f} | {ours:.1f} | {stock / ours:.2f}x |")
        say(lines[-1])
    return lines


def main() -> None:
    if sys.argv[1:2] == ["--worker"]:
        work(json.loads(sys.argv[2]))
        return
    parser = make_parser(__doc__)
    parser.add_argument("--tasks", default="rte,cola,sst2")
    parser.add_argument("--contenders", default=",".join((*PEERS, *OURS)))
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="cores to use")
    parser.add_argument("--setting", help="only this one, as processes x threads: 1x2 or 2x1 on two cores")
    parser.add_argument("--updates", type=int, default=20, help="updates of ours in a round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--whole", type=int, default=0, help="also time whole processes, of this many updates")
    parser.add_argument("--cpu-time", action="store_true", help="rate per CPU second, for a look on a busy machine")
    add_out(parser)
    parser.set_defaults(script=__file__, config={})
    options = parser.parse_args()
    names = options.contenders.split(",")
    say = clocked()

    from glue_mva.models.precision import has_bfloat16

    multiplies = "with" if has_bfloat16("cpu") else "without"
    settings = [(1, options.threads), (options.threads, 1)] if options.threads > 1 else [(1, 1)]
    settings = [found for found in settings if options.setting in (None, f"{found[0]}x{found[1]}")]
    peers, ours = ([name for name in names if name in kind] for kind in (PEERS, OURS))
    if not peers or len(peers) + len(ours) < len(names):
        known = ", ".join((*PEERS, *OURS))
        parser.error(f"--contenders {options.contenders}: of {known}, and one of {', '.join(PEERS)} at least")
    lines = [
        f"Model {options.model}, max length 128, {cpu_name()} {multiplies} bfloat16, torch {version('torch')}; "
        f"examples per second, median of {options.rounds} interleaved rounds.",
        "",
        f"| task | batch | processes x threads | best peer | {' | '.join(f'{n} / best peer' for n in ours)} | "
        f"{' | '.join(names)} |",
        "|" + "---|" * (4 + len(ours) + len(names)),
    ]
    for processes, threads in settings:
        for task, rate in rounds(names, options, threads, processes, say).items():
            best = max(rate[name] for name in peers)
            ratios = " | ".join(f"**{rate[name] / best:.2f}x**" for name in ours)
            rates = " | ".join(f"{rate[name]:.1f}" for name in names)
            lines.append(f"| {task} | {BATCH[task]} | {processes} x {threads} | {best:.1f} | {ratios} | {rates} |")
            say(lines[-1])
    if options.whole:
        lines += whole_processes(options, say)
    lines += ["", *(f"({name}) {text}." for name, text in (PEERS | OURS).items() if name in names)]
    show("Training speed", lines, options.out)


_OUT = sys.stdout

if __name__ == "__main__":
    main()
