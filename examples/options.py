"""Presets and the command line of the examples."""

import argparse
import dataclasses
import hashlib
import importlib.util
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from glue_mva import UsageError
from glue_mva.models.precision import has_bfloat16


def option(help: str, default: Any = dataclasses.MISSING, choices: Sequence[str] | None = None) -> Any:
    """A field of a preset that the command line can change. Integers are counts, from 1 on; floats are shares, in
    [0, 1)."""
    return field(default=default, metadata={"help": help, "choices": choices})


@dataclass(frozen=True, kw_only=True)
class Preset:
    """An experiment. Every field made by `option` is an option of the command line and part of a run's settings."""

    title: str
    metric: str
    unit: str
    """What speed is counted in."""
    baseline: str
    """The optimizer that the report compares the others with."""
    best: dict[str, tuple[float, float]]
    """optimizer -> its default (lr, weight decay): the paper's best."""
    paper: dict[str, tuple[float, float | None]]
    """optimizer -> (median, standard error) in the paper's table; empty where there is none."""
    rows: int = 0
    """Training rows of the paper's data; 0: not compared with."""
    remarks: tuple[str, ...] = ()
    """What the report says beside its table."""
    seeds: tuple[int, ...] = (1, 2, 3)
    data: str = option("folder with the data, or name on the Hugging Face Hub")
    beta2: tuple[float, float] = (0.5, 0.999)
    """Range of beta_t; its upper end is the constant beta2 of Adam and LaProp."""
    amsgrad: bool = False

    def settings(self) -> dict[str, Any]:
        """What decides a run's result, besides its data, optimizer, learning rate, weight decay and seed."""
        return {f.name: getattr(self, f.name) for f in options_of(self) if f.name != "data"} | {
            "beta2": list(self.beta2),
            "amsgrad": self.amsgrad,
        }


@dataclass(frozen=True)
class Contents:
    """What the data of a run are, however their folder is named."""

    digest: str
    rows: dict[str, int]
    """split -> rows, as they are used; with `validation` where there is such a split."""


def digest(parts: Iterable[bytes]) -> str:
    """The first 16 hexadecimal digits of SHA-256."""
    whole = hashlib.sha256()
    for part in parts:
        whole.update(len(part).to_bytes(8, "big") + part)
    return whole.hexdigest()[:16]


def options_of(preset: Preset) -> list[dataclasses.Field]:
    return [f for f in dataclasses.fields(preset) if "help" in f.metadata]


def read_options(text: str, presets: dict[str, Any], argv: Sequence[str] | None) -> tuple[argparse.Namespace, Any]:
    """The command line, and the preset that it names with its options applied.

    Args:
        text: the docstring of the script, printed by `--help`.
        presets: name -> preset; the first one is the default, and `demo` has an option of its own.
        argv: the arguments; None: those of the process.

    Raises:
        UsageError: a value out of range, options that contradict each other, or an unknown optimizer.
    """
    parser = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--preset", choices=list(presets), default=next(iter(presets)))
    add("--demo", dest="preset", action="store_const", const="demo", help="small data made on the spot; no network")
    add("--optim", nargs="+", metavar="NAME", help="optimizers (default: all)")
    add("--lr", nargs="+", type=float, metavar="X", help="learning rates to search (default: the paper's best)")
    add(
        "--lr-times",
        nargs="+",
        type=float,
        metavar="X",
        help="learning rates to search, as multiples of the paper's best",
    )
    add("--weight-decay", nargs="+", type=float, metavar="X", help="decays to search (default: the paper's best)")
    add("--match", metavar="NAME", help="take the lr at which the average step size equals NAME's (the paper's eta')")
    add("--seeds", nargs="+", type=int, metavar="N", help="seeds (default: 1 2 3; demo: 1 2)")
    add("--precision", choices=["fp32", "bf16"], default="fp32", help="bf16 needs hardware that has it (default: fp32)")
    add("--out", type=Path, help="folder of records, checkpoints and report (default: runs/SCRIPT-PRESET)")
    add("--save-every", type=int, metavar="N", help="updates between checkpoints (default: one twentieth of a run)")
    add("--try-updates", type=int, metavar="N", help="stop each run after N updates and print its speed; no record")
    add("--report", action="store_true", help="write table and figure from the records; train nothing")
    own = options_of(presets["demo"])
    for f in own:
        add(f"--{f.name.replace('_', '-')}", type=f.type, choices=f.metadata["choices"],
            help=f"{f.metadata['help']} (default: the preset's)")  # fmt: skip
    args = parser.parse_args(argv)
    check(args, own)
    preset = presets[args.preset]
    preset = dataclasses.replace(preset, **{f.name: v for f in own if (v := getattr(args, f.name)) is not None})
    args.out = args.out or Path("runs") / f"{Path(sys.argv[0]).stem}-{args.preset}"
    args.optim, args.seeds = args.optim or list(preset.best), args.seeds or list(preset.seeds)
    for name in [*args.optim, *([args.match] if args.match else [])]:
        if name not in preset.best:
            raise UsageError(f"unknown optimizer {name!r}; known: {', '.join(preset.best)}")
    if args.match:
        args.optim = [name for name in args.optim if name != args.match]
        if not args.optim:
            raise UsageError(f"--optim {args.match} --match {args.match}: an optimizer is not matched with itself")
    return args, preset


def check(args: argparse.Namespace, own: list[dataclasses.Field]) -> None:
    """Refuses numbers out of range."""
    types = {f.name: f.type for f in own} | {"save_every": int, "try_updates": int}
    for name, kind in types.items():
        value, flag = getattr(args, name), f"--{name.replace('_', '-')}"
        if kind is int and value is not None and value < 1:
            raise UsageError(f"{flag} {value}: it must be 1 or more")
        if kind is float and value is not None and not 0 <= value < 1:
            raise UsageError(f"{flag} {value:g}: it must lie in [0, 1)")
    for flag, values in {"--lr": args.lr, "--weight-decay": args.weight_decay}.items():
        for value in values or []:
            if not 0 <= value < float("inf"):
                raise UsageError(f"{flag} {value:g}: it must be 0 or greater")
    for value in args.seeds or []:
        if not 0 <= value < 2**32:
            raise UsageError(f"--seeds {value}: it must lie in [0, 2^32)")
    for value in args.lr_times or []:
        if not 0 < value < float("inf"):
            raise UsageError(f"--lr-times {value:g}: it must be greater than 0")
    if args.match and (args.lr or args.lr_times or args.weight_decay):
        raise UsageError("--match finds the learning rate itself: drop --lr, --lr-times and --weight-decay")
    if args.lr and args.lr_times:
        raise UsageError("--lr and --lr-times both say what to search: drop one")


def require(*packages: str) -> None:
    """Raises UsageError where a package is not installed."""
    if missing := [name for name in packages if importlib.util.find_spec(name) is None]:
        raise UsageError(f"the examples need {', '.join(missing)}: pip install -e '.[examples]'")


def hub_error(name: str, error: Exception) -> UsageError:
    """What to tell the user where a data set of the Hub cannot be had."""
    reason = " ".join(str(error).split())
    return UsageError(f"--data {name}: no such folder, and from the Hub: {reason}; give a folder by --data DIR")


def require_precision(wanted: str, device: torch.device) -> None:
    """Raises UsageError for bf16 on a device that does not multiply it in hardware."""
    if wanted == "bf16" and not has_bfloat16(device.type):
        raise UsageError(f"--precision bf16: this {device.type} device has no bfloat16 arithmetic; take fp32, or "
                         "another machine")  # fmt: skip
