"""What the examples share: the search over learning rates and seeds, and runs that survive being killed.

A folder (`--out`) holds one JSON record for each finished run; a run whose record is there is not trained again. A run
that was killed goes on from its last checkpoint, bit for bit on a CPU. Several processes may work in one folder: each
takes the runs that are neither finished nor held by another.
"""

import argparse
import contextlib
import importlib.metadata
import importlib.util
import itertools
import json
import math
import shutil
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from accelerate.utils import tqdm as progress_bar
from filelock import FileLock, Timeout
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer

import report
from glue_mva import LaMAdam, LaProp, MAdam, UsageError
from glue_mva.optim.dynamics import StepProbe
from glue_mva.training.environment import describe, device_name
from options import Contents, Preset, digest, read_options, require, require_precision

CURVE_POINTS = 100


def build_optimizer(model: nn.Module, settings: dict[str, Any]) -> Optimizer:
    """The optimizer of a run, over all parameters. Weight decay is decoupled, but for SGD's, which is torch's own."""
    common = {"lr": settings["lr"], "weight_decay": settings["weight_decay"]}
    low, high = settings["beta2"]
    match settings["optim"]:
        case "sgd":
            return SGD(model.parameters(), momentum=0.9, **common)
        case "adam":
            return AdamW(model.parameters(), betas=(0.9, high), amsgrad=settings["amsgrad"], **common)
        case "laprop":
            return LaProp(model.parameters(), beta2=high, amsgrad=settings["amsgrad"], **common)
    cls = {"madam": MAdam, "lamadam": LaMAdam}[settings["optim"]]
    return cls(model.parameters(), beta2_min=low, beta2_max=high, amsgrad=settings["amsgrad"], **common)


def surroundings(device: torch.device) -> dict[str, Any]:
    """What a process runs on: device, threads, versions, the commit of a checkout, and a digest of the examples."""
    sources = sorted(Path(__file__).parent.glob("*.py"))
    others = {name: importlib.metadata.version(name) for name in ("tokenizers", "sacrebleu")
              if importlib.util.find_spec(name)}  # fmt: skip
    return {
        "device": device_name(device.type),
        "threads": torch.get_num_threads(),
        "source": digest(path.read_bytes() for path in sources),
        **describe(),
        **others,
    }


def new_accelerator() -> Accelerator:
    """An accelerator that leaves precision to `Run.autocast`, whatever `accelerate config` says."""
    return Accelerator(mixed_precision="no")


class DivergedError(Exception):
    """The training loss, or a step of the optimizer, is no longer a finite number."""


class TrialOver(Exception):  # noqa: N818 - not an error
    """The updates of `--try-updates` are done."""


class Progress:
    """What a run has besides weights, optimizer and random state; accelerate saves it with them."""

    def __init__(self) -> None:
        self.update = 0
        self.seconds = 0.0
        """Spent in updates; evaluations and checkpoints are in `wall_seconds` only."""
        self.wall_seconds = 0.0
        self.done = 0
        """In the preset's unit: images, or target tokens."""
        self.loss_sum: Any = 0.0
        self.curves: dict[str, list[float]] = {"update": [], "loss": [], "lr": [], "step_size": []}
        """And of MAdam and LaMAdam `beta_mean`, `beta_at_min` and `beta_at_max`: see `beta_statistics`."""
        self.evaluations: list[dict[str, float]] = []
        self.starts: list[dict[str, Any]] = []
        """Where each process that took part began, and what it ran on."""

    def state_dict(self) -> dict[str, Any]:
        return vars(self) | {"loss_sum": float(self.loss_sum)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        vars(self).update(state)


class Run:
    """One training. The script's loop is

    model, optimizer = run.start(model, total_updates, lr_at)
    for update in run.updates():
        ...                                # forward, backward, optimizer.step()
        run.log(loss, examples)
    run.finish(scores)
    """

    def __init__(
        self, settings: dict[str, Any], args: argparse.Namespace, accelerator: Accelerator, unit: str,
        rows: dict[str, int],
    ) -> None:  # fmt: skip
        self.settings, self.args, self.accelerator, self.unit, self.rows = settings, args, accelerator, unit, rows
        self.name = (
            "{optim}-lr{lr:g}-wd{weight_decay:g}-seed{seed}".format(**settings)
            + f"-{digest([json.dumps(settings, sort_keys=True).encode()])[:8]}"
        )
        self.record = args.out / "records" / f"{self.name}.json"
        self.checkpoints = args.out / "checkpoints" / self.name
        self.progress = Progress()

    @contextlib.contextmanager
    def claim(self) -> Iterator[str]:
        """Holds the run while it is trained; gives `free`, or `finished` or `held` where it must not be trained."""
        lock = FileLock(self.checkpoints.with_name(f"{self.name}.lock"), timeout=0)
        state = ["free"]
        if self.accelerator.is_main_process:
            for folder in (self.checkpoints, self.record):
                folder.parent.mkdir(parents=True, exist_ok=True)
            try:
                lock.acquire()
                state = ["finished" if self.record.exists() else "free"]
            except Timeout:
                state = ["held"]
        try:
            yield broadcast_object_list(state)[0]
        finally:
            lock.release()

    def start(self, model: nn.Module, updates: int, lr_at: Callable[[int], float]) -> tuple[nn.Module, Optimizer]:
        """Model and optimizer, on their device and as the last checkpoint left them.

        Args:
            updates: how many updates the run has.
            lr_at: learning rate of an update, counted from 0.
        """
        self.total, self.lr_at = updates, lr_at
        self.log_every = max(1, updates // CURVE_POINTS)
        optimizer = build_optimizer(model, self.settings)
        self.probe = StepProbe(optimizer, lambda: (self.progress.update + 1) % self.log_every == 0)
        self.accelerator = new_accelerator()  # one for each run: it keeps what it has prepared
        self.model, self.optimizer = self.accelerator.prepare(model, optimizer)
        self.accelerator.register_for_checkpointing(self.progress)
        saved = sorted(self.checkpoints.glob("update-*"))
        if saved and not self.args.try_updates:
            self.accelerator.load_state(str(saved[-1]))
        self.progress.starts.append({"update": self.progress.update, **surroundings(self.accelerator.device)})
        self._clock = time.perf_counter()
        return self.model, self.optimizer

    def updates(self) -> Iterator[int]:
        """The updates that are left, with their learning rate set; saves a checkpoint whenever one is due."""
        from torch.utils.tensorboard import SummaryWriter

        p, main = self.progress, self.accelerator.is_main_process
        save_every = self.args.save_every or max(1, self.total // 20)
        keeps = main and not self.args.try_updates  # a trial leaves the run's own curves as they are
        folder = self.args.out / "tensorboard" / self.name
        self.board = SummaryWriter(folder, purge_step=p.update + 1) if keeps else None
        self.bar = progress_bar(total=self.total, initial=p.update, desc=self.name.rpartition("-")[0], leave=False)
        with self.bar, contextlib.closing(self.board) if self.board else contextlib.nullcontext():
            while p.update < self.total:
                self.lr = self.lr_at(p.update)
                for group in self.optimizer.param_groups:
                    group["lr"] = self.lr
                self._began = time.perf_counter()
                yield p.update
                p.update += 1
                self.bar.update()
                if p.update == self.args.try_updates:
                    raise TrialOver
                if p.update % save_every == 0 and not self.args.try_updates:
                    self._save()
            left = self.accelerator.reduce(torch.as_tensor(p.loss_sum, device=self.accelerator.device)).item()
            self._require_finite({"training loss": left}, p.update)  # of the updates since the last point of the curves

    def autocast(self) -> torch.autocast:
        """bfloat16 where the run's precision says so; weights and optimizer stay float32."""
        bf16 = self.settings["precision"] == "bf16"
        return torch.autocast(self.accelerator.device.type, torch.bfloat16, enabled=bf16)

    def log(self, loss: Tensor, done: int) -> None:
        """To be called after each `optimizer.step()`.

        Args:
            loss: training loss of this update (0-dim).
            done: how many images or target tokens the update took, over all processes.

        Raises:
            DivergedError: the loss or a step is not finite; the curves end before it.
        """
        p = self.progress
        p.loss_sum = p.loss_sum + loss.detach().float()
        p.done += done
        if (p.update + 1) % self.log_every == 0:
            mean = self.accelerator.reduce(p.loss_sum, "mean").item() / self.log_every
            p.loss_sum = 0.0
            probed = self.probe.read()
            self._require_finite({"training loss": mean} | probed, p.update + 1)
            for name, value in {"update": p.update + 1, "loss": mean, "lr": self.lr, **probed}.items():
                p.curves.setdefault(name, []).append(value)
                if self.board and name != "update":
                    self.board.add_scalar(name, value, p.update + 1)
            self.bar.set_postfix(loss=f"{mean:.3f}", refresh=False)
        p.seconds += time.perf_counter() - self._began

    def _require_finite(self, values: dict[str, float], update: int) -> None:
        for name, value in values.items():
            if not math.isfinite(value):
                raise DivergedError(f"the {name.replace('_', ' ')} is {value} at update {update}")

    def evaluated(self, name: str, score: float) -> None:
        """Keeps a score of the update at hand for the curves."""
        self.progress.evaluations.append({"update": self.progress.update + 1, name: score})
        if self.board:
            self.board.add_scalar(name, score, self.progress.update + 1)

    def finish(self, scores: dict[str, float | None], status: str = "ok", error: str | None = None,
               signature: str | None = None) -> None:  # fmt: skip
        """Writes the record and drops the checkpoints.

        Args:
            scores: `test`, and `validation` where there is such a split.
            signature: sacrebleu's, of the scores.
        """
        p, a = self.progress, self.accelerator
        self._take_time()
        constants = {name: value for name, value in self.optimizer.defaults.items() if name != "lr"}
        record = {
            "status": status,
            "error": error,
            "settings": self.settings,
            "rows": self.rows,
            "optimizer": {"class": type(getattr(self.optimizer, "optimizer", self.optimizer)).__name__, **constants},
            "scores": scores,
            "signature": signature,
            "evaluations": p.evaluations,
            "curves": p.curves,
            "execution": {
                "starts": p.starts,
                "wall_seconds": round(p.wall_seconds, 1),
                "update_seconds": round(p.seconds, 1),
                "speed": round(p.done / max(p.seconds, 1e-9), 1),
                "speed_unit": f"{self.unit} per second",
            },
        }
        if a.is_main_process:
            scratch = self.record.with_suffix(".part")
            scratch.write_text(json.dumps(record, indent=1, allow_nan=False) + "\n", encoding="utf-8")
            scratch.replace(self.record)
            shutil.rmtree(self.checkpoints, ignore_errors=True)
        a.wait_for_everyone()

    def _take_time(self) -> None:
        now = time.perf_counter()
        self.progress.wall_seconds += now - self._clock
        self._clock = now

    def _save(self) -> None:
        self._take_time()
        a, scratch = self.accelerator, self.checkpoints / "unfinished"
        if a.is_main_process:
            shutil.rmtree(scratch, ignore_errors=True)
        a.wait_for_everyone()
        a.save_state(str(scratch), safe_serialization=False)
        a.wait_for_everyone()
        if a.is_main_process:
            older = list(self.checkpoints.glob("update-*"))
            scratch.rename(self.checkpoints / f"update-{self.progress.update:09d}")
            for folder in older:
                shutil.rmtree(folder)
        a.wait_for_everyone()


def plan(args: argparse.Namespace, preset: Preset, accelerator: Accelerator, data: Contents) -> list[dict[str, Any]]:
    """The settings of every run of the grid, seed by seed, so that a search that is stopped can be compared.

    Raises:
        UsageError: the folder holds another experiment, the device lacks the precision, there is nothing to match, or
            hyperparameters would be chosen by their test scores.
    """
    require_precision(args.precision, accelerator.device)
    common = preset.settings() | {"preset": args.preset, "data": data.digest, "precision": args.precision}
    common |= {"processes": accelerator.num_processes}
    there = [record["settings"] for record in report.records(args.out)]
    report.require_one_experiment(args.out, [*there, common])
    cells = []
    for optim in args.optim:
        lr, decay = report.matched(args.out, optim, args.match, args.seeds) if args.match else preset.best[optim]
        lrs = args.lr or [float(f"{lr * times:.6g}") for times in args.lr_times or [1]]
        cells += [{"optim": optim, "lr": lr, "weight_decay": decay, "matched": args.match}
                  for lr, decay in itertools.product(lrs, args.weight_decay or [decay])]  # fmt: skip
    tried = {(s["optim"], s["matched"], s["lr"], s["weight_decay"]) for s in [*there, *cells]}
    for (optim, _), n in Counter((optim, match) for optim, match, _, _ in tried).items():
        if n > 1 and "validation" not in data.rows:
            fix = "--hold-out 0.1 and another --out" if there else "--hold-out 0.1"
            raise UsageError(f"{report.LABELS[optim]} would have {n} learning rates and decays in {args.out}, chosen "
                             f"by their test scores: add {fix}")  # fmt: skip
    return [common | cell | {"seed": seed} for seed in args.seeds for cell in cells]


def search(
    args: argparse.Namespace, preset: Preset, accelerator: Accelerator, data: Contents, train: Callable[[Run], None]
) -> None:
    """Trains every run of the grid that has no record yet."""
    for settings in plan(args, preset, accelerator, data):
        run = Run(settings, args, accelerator, preset.unit, data.rows)
        with run.claim() as state:
            if state != "free":
                accelerator.print(f"{run.name}: {state}")
                continue
            try:
                train(run)
                outcome = ", ".join(f"{k} {v:.2f}" for k, v in report.read(run.record)["scores"].items())
            except DivergedError as error:
                run.finish({"test": None}, "diverged", str(error))
                outcome = f"diverged: {error}"
            except TrialOver:
                p = run.progress
                outcome = f"{p.update} updates, {p.done / p.seconds:.1f} {preset.unit}/s; no record written"
            accelerator.print(f"{run.name}: {outcome}")


def main(
    text: str,
    presets: dict[str, Any],
    run: Callable[[argparse.Namespace, Any, Accelerator], None],
    argv: Sequence[str] | None = None,
) -> int:
    """Runs a script: options, training, report. Bad input is one line on stderr and exit code 2."""
    try:
        args, preset = read_options(text, presets, argv)
        require("tensorboard", "tabulate")
        if not args.report:
            accelerator = new_accelerator()
            run(args, preset, accelerator)
            if not accelerator.is_main_process:
                return 0
        if args.report or (args.preset == "demo" and not args.try_updates):
            print(report.write(args.out, presets))
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; the same command goes on from the last checkpoint", file=sys.stderr)
        return 130
    return 0
