"""Time of one optimizer step: MAdam, LaMAdam and LaProp beside torch's AdamW and the authors' code.

    OMP_NUM_THREADS=1 python benchmarks/step.py --model roberta-base --out reports/speed/step-cpu.md

All peers live in one process and take turns, round after round, on fresh random gradients; the table gives medians over
the rounds. The weight of the MaxVA average has a column of its own: until it reaches 1 (824 steps at beta2_max 0.98) a
step reads and writes it, afterwards it does not.
"""

import argparse
import math
import shlex
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from glue_mva import LaMAdam, LaProp, MAdam
from glue_mva.machine import cpu_name
from glue_mva.training.doctor import copy_bandwidth, synchronize

BYTES = {"AdamW": 28, "LaProp": 28, "MaxVA": 44, "MaxVA, w = 1": 36}
"""Floor of a step in bytes per parameter: each tensor read once, each changed tensor written once."""


def shapes(model: str) -> list[tuple[int, ...]]:
    """Shapes of the parameters of a BERT-like encoder with a classifier: "minilm" 22.7M, "roberta-base" 124.6M."""
    vocabulary, positions, hidden, layers, types = {
        "tiny": (1000, 64, 64, 2, 2),
        "minilm": (30522, 512, 384, 6, 2),
        "roberta-base": (50265, 514, 768, 12, 1),
    }[model]
    found: list[tuple[int, ...]] = [(vocabulary, hidden), (positions, hidden), (types, hidden), (hidden,), (hidden,)]
    for _ in range(layers):
        found += 4 * [(hidden, hidden), (hidden,)] + [(hidden,), (hidden,)]
        found += [(4 * hidden, hidden), (4 * hidden,), (hidden, 4 * hidden), (hidden,), (hidden,), (hidden,)]
    return [*found, (hidden, hidden), (hidden,), (2, hidden), (2,)]


class AuthorsMAdam(torch.optim.Optimizer):
    """MAdam in the authors' form: sums not divided by w, delta in the denominator of beta_t, whole tensor by tensor."""

    def __init__(self, params, lr=1e-3, beta1=0.9, betas=(0.5, 0.98), eps=1e-6, weight_decay=0.0) -> None:
        super().__init__(params, {"lr": lr, "beta1": beta1, "betas": betas, "eps": eps, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            low, high = group["betas"]
            for p in group["params"]:
                grad, state = p.grad, self.state[p]
                if not state:
                    state["step"] = 0
                    for name in ("exp_avg", "exp_avg_sq", "exp_mean", "w"):
                        state[name] = torch.zeros_like(p)
                m, v, u, w = state["exp_avg"], state["exp_avg_sq"], state["exp_mean"], state["w"]
                m.mul_(group["beta1"]).add_(grad, alpha=1 - group["beta1"])
                if state["step"] == 0:
                    beta = torch.full_like(p, high)
                else:
                    mean = u / w
                    variance = v / w - mean**2
                    distance = (grad - mean) ** 2
                    top = distance + variance
                    beta = (top / (w * (distance - variance) + top + 1e-16)).clamp(low, high)
                state["step"] += 1
                v.mul_(beta).add_((1 - beta) * grad**2)
                u.mul_(beta).add_((1 - beta) * grad)
                w.mul_(beta).add_(1 - beta)
                denominator = (v / w).sqrt() + group["eps"]
                p.mul_(1 - group["lr"] * group["weight_decay"])
                p.addcdiv_(m, denominator, value=-group["lr"] / (1 - group["beta1"] ** state["step"]))


def peers() -> dict[str, tuple[str, Callable]]:
    """label -> (key of `BYTES`, maker of the optimizer from parameters)."""
    maxva = {"beta2_min": 0.5, "beta2_max": 0.98}
    short = {"beta2_min": 0.0, "beta2_max": 0.001}  # its weight is full after 3 steps
    found: dict[str, tuple[str, Callable]] = {}
    for label, flags in (("for-loop", {"foreach": False}), ("foreach", {"foreach": True}), ("fused", {"fused": True})):
        found[f"AdamW {label}"] = "AdamW", lambda p, f=flags: torch.optim.AdamW(p, 1e-5, **f)
        found[f"LaProp {label}"] = "LaProp", lambda p, f=flags: LaProp(p, 1e-5, **f)
        for cls in (MAdam, LaMAdam):
            found[f"{cls.__name__} {label}"] = "MaxVA", lambda p, f=flags, c=cls: c(p, 1e-5, **maxva, **f)
            found[f"{cls.__name__} {label}, w = 1"] = "MaxVA, w = 1", lambda p, f=flags, c=cls: c(p, 1e-5, **short, **f)
    found["authors' MAdam, per tensor"] = "MaxVA", lambda p: AuthorsMAdam(p, 1e-5)
    return found


class Bench:
    """One optimizer over parameters of its own; the gradients are shared by all."""

    def __init__(self, make: Callable, sizes: list[tuple[int, ...]], device: str) -> None:
        self.params = [torch.nn.Parameter(torch.randn(size, device=device) * 0.02) for size in sizes]
        self.optimizer = make(self.params)

    def step(self, grads: list[Tensor]) -> float:
        """Seconds."""
        for p, grad in zip(self.params, grads, strict=True):
            p.grad = grad
        start = now(grads[0].device)
        self.optimizer.step()
        return now(grads[0].device) - start

    def state_bytes(self) -> int:
        """Bytes of optimizer state, step counts left out."""
        states = self.optimizer.state.values()
        return sum(x.nbytes for state in states for x in state.values() if isinstance(x, Tensor) and x.numel() > 1)


def now(device: torch.device) -> float:
    synchronize(device)
    return time.perf_counter()


def measure(args: argparse.Namespace) -> str:
    """The report in markdown."""
    sizes = shapes(args.model)
    count = sum(map(math.prod, sizes))
    wanted = {
        label: peer
        for label, peer in peers().items()
        if label == "AdamW fused" or not args.only or any(word in label for word in args.only)
    }
    times: dict[str, list[float]] = {label: [] for label in wanted}
    memory: dict[str, int] = {}
    # A few at a time, each group beside the yardstick, so that 125M parameters fit into memory.
    labels = [label for label in wanted if label != "AdamW fused"]
    ratios: dict[str, list[float]] = {label: [] for label in wanted}
    for i in range(0, max(len(labels), 1), args.together):
        benches = {
            label: Bench(wanted[label][1], sizes, args.device)
            for label in ["AdamW fused", *labels[i : i + args.together]]
        }
        for round_ in range(args.warmup + args.rounds):
            grads = [torch.randn(size, device=args.device) * 1e-3 for size in sizes]
            taken = {label: bench.step(grads) for label, bench in benches.items()}
            if round_ >= args.warmup:
                for label, seconds in taken.items():
                    times[label].append(seconds)
                    ratios[label].append(seconds / taken["AdamW fused"])
        memory |= {label: bench.state_bytes() for label, bench in benches.items()}
        del benches

    bandwidth = copy_bandwidth(torch.device(args.device))
    name = torch.cuda.get_device_name() if args.device == "cuda" else cpu_name()
    lines = [
        f"# Optimizer step, {args.model} shapes ({count / 1e6:.1f}M parameters), {args.device}",
        "",
        f"{name}, {torch.get_num_threads()} thread(s), torch {torch.__version__}, float32. The peers take turns;"
        f" medians of {args.rounds} rounds after {args.warmup} for warming up."
        f" A large copy moves {bandwidth / 1e9:.1f} GB/s here.",
        f"`{args.command}`",
        "",
        "| optimizer | ms | x fused AdamW | floor | GB/s | state, bytes per parameter |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for label, (kind, _) in wanted.items():
        ms = statistics.median(times[label]) * 1e3
        rate = BYTES[kind] * count / ms / 1e6
        lines.append(
            f"| {label} | {ms:.1f} | {statistics.median(ratios[label]):.2f} | {BYTES[kind] / BYTES['AdamW']:.2f} |"
            f" {rate:.1f} | {memory[label] / count:.1f} |"
        )
    lines += ["", "x fused AdamW: median of the ratios within rounds. Floor: ratio of the bytes that must move. "
              "GB/s: those bytes over the time."]  # fmt: skip
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=["tiny", "minilm", "roberta-base"], default="minilm")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--warmup", type=int, default=5)
    parser.add_argument("--together", type=int, default=3, help="optimizers in memory at once, beside the yardstick")
    parser.add_argument("--only", nargs="*", default=[], help="parts of labels: only these peers")
    parser.add_argument("--out", type=Path, help="also write the table here")
    args = parser.parse_args()
    args.command = shlex.join(["python", "benchmarks/step.py", *sys.argv[1:]])
    report = measure(args)
    print(report)
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(report)


if __name__ == "__main__":
    main()
