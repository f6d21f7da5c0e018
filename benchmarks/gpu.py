"""Everything to be measured on the day there is a GPU, in one command; no network, no data, no pretrained weights.

    python benchmarks/gpu.py --out reports/speed/gpu.md            # under 25 minutes is the aim; resumable part by part

Parts: `glue-mva doctor`; the tests that want a card; the optimizer step; training steps of a RoBERTa-base shape beside
the stock Trainer at the sentence lengths of three tasks; several processes on one card, without and with MPS; the hours
that `configs/table3.toml` would take. What a part printed lies in `--work` and is not measured again; delete a file to
repeat it. Rows are made up: random tokens, with lengths that spread about a task's mean as its sentences do.
"""

import argparse
import contextlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from common import show

from glue_mva.sweep.unit import MEAN_TOKENS

HERE = Path(__file__).parent
TASKS = {"rte": 16, "sst2": 32, "mnli": 32}
"""Task -> rows of a batch in the paper's recipe."""
CONTENDERS = {
    "stock": "stock Trainer: bf16, AdamW fused, group_by_length",
    "stock, compiled": "the same with torch_compile",
    "padded": "LaMAdam, padded to the longest of a batch",
    "packed": "LaMAdam, no padding",
    "packed, compiled": "the same with compile: CUDA graphs",
    "packed, fused": "no padding, LaMAdam's Triton kernel",
}
SHARED = (1, 2, 4, 8)
"""Processes on one card."""
WARM_UP = 20
SHAPES = {"roberta-base": {}, "tiny": {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
                                       "intermediate_size": 128}}  # fmt: skip
"""What differs from RobertaConfig's defaults, which are nearly roberta-base's."""


# --------------------------------------------------------------------------------------------- one training, measured


def rows(task: str, count: int = 2048) -> list[dict[str, Any]]:
    """Made-up sentences: a gamma distribution of lengths with the task's mean and half of it as standard deviation."""
    rng = np.random.default_rng(0)
    lengths = np.clip(rng.gamma(4, MEAN_TOKENS[task] / 4, count).round(), 4, 128).astype(int)
    return [{"input_ids": rng.integers(4, 50265, n), "labels": np.int64(rng.integers(2))} for n in lengths]


def train(order: dict[str, Any]) -> None:
    """Train as one contender; prints examples and real tokens per second of the updates after the first ones."""
    import torch
    from transformers import (
        RobertaConfig,
        RobertaForSequenceClassification,
        Trainer,
        TrainerCallback,
        TrainingArguments,
    )

    from glue_mva.models.load import compile_encoder
    from glue_mva.models.packing import PackedCollator
    from glue_mva.models.padding import set_padding
    from glue_mva.training.trainer import GlueTrainer

    name, task, device = order["name"], order["task"], order["device"]
    torch.manual_seed(0)
    config = RobertaConfig(vocab_size=50265, max_position_embeddings=514, type_vocab_size=1, **SHAPES[order["shape"]])
    model = RobertaForSequenceClassification(config)
    data = rows(task)
    arguments = TrainingArguments(
        output_dir=order["folder"], max_steps=WARM_UP + order["updates"], per_device_train_batch_size=TASKS[task],
        learning_rate=2e-5, bf16=True, optim="adamw_torch_fused", torch_compile=name == "stock, compiled",
        train_sampling_strategy="group_by_length" if name.startswith("stock") else "random", save_strategy="no",
        logging_steps=20, report_to=[], disable_tqdm=True, remove_unused_columns=False, use_cpu=device == "cpu",
        label_names=["labels"],
    )  # fmt: skip

    def padded(batch: list[dict[str, Any]]) -> dict[str, Any]:
        sequences = [torch.from_numpy(row["input_ids"]) for row in batch]
        tokens = torch.nn.utils.rnn.pad_sequence(sequences, batch_first=True, padding_value=1)
        return {"input_ids": tokens, "attention_mask": (tokens != 1).long(),
                "labels": torch.tensor([int(row["labels"]) for row in batch])}  # fmt: skip

    clock: list[float] = []

    class Clock(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if state.global_step in (WARM_UP, state.max_steps):
                if device == "cuda":
                    torch.cuda.synchronize()
                clock.append(time.perf_counter())

    common: dict[str, Any] = {"args": arguments, "train_dataset": data, "callbacks": [Clock()]}
    if name.startswith("stock"):
        trainer = Trainer(model, data_collator=padded, **common)
    else:
        padding = set_padding("longest" if name == "padded" else "none", model, device, "bf16",
                              own_layers=name != "packed, compiled")  # fmt: skip
        if padding != ("longest" if name == "padded" else "none"):
            sys.exit(f"{name}: not taken here; glue-mva doctor says why")
        graphs = name == "packed, compiled"
        if graphs:
            compile_encoder(model, device, cuda_graphs=device == "cuda")
        collate = padded if padding == "longest" else PackedCollator(model, few_sizes=graphs)
        fused = {"fused": True} if name == "packed, fused" else {}
        trainer = GlueTrainer(model, data_collator=collate, optim="lamadam", optim_args=fused, **common)
    trainer.train()
    seconds = clock[1] - clock[0]
    examples = order["updates"] * TASKS[task]
    mean = float(np.mean([len(row["input_ids"]) for row in data]))
    print(json.dumps({"examples": examples / seconds, "tokens": examples * mean / seconds}))


# ---------------------------------------------------------------------------------------------------------- the parts


class Parts:
    """What the parts printed: a file each in a folder, so that a part that is there is not made again."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        options.work.mkdir(parents=True, exist_ok=True)

    def text(self, name: str, command: list[str], *, may_fail: bool = False) -> str:
        """What a command prints. A failure is kept too where it is an answer (`may_fail`), with the exit code."""
        path = self.options.work / f"{name.replace(', ', '-').replace(' ', '-')}.txt"
        if not path.is_file():
            print(f"{time.strftime('%H:%M:%S')} {name}", flush=True)
            done = subprocess.run(command, capture_output=True, text=True, cwd=HERE.parent)
            if done.returncode and not may_fail:
                last = (done.stderr.strip() or "no message").splitlines()[-1]
                return f"failed: {last}"  # not kept: the next call tries again
            path.write_text(done.stdout + (f"\nexit code {done.returncode}\n" if done.returncode else ""))
        return path.read_text().strip()

    def training(self, label: str, orders: list[dict[str, Any]]) -> list[dict[str, float]] | str:
        """Rates of trainings that run at the same time, or why there are none."""
        command = [sys.executable, __file__, "--together", json.dumps(orders)]
        text = self.text(label, command)
        return text if text.startswith("failed") else [json.loads(line) for line in text.splitlines()]

    def order(self, name: str, task: str, number: int = 0) -> dict[str, Any]:
        o = self.options
        return {"name": name, "task": task, "device": o.device, "shape": o.shape, "updates": o.updates,
                "folder": str(o.work / f"trainer-{number}")}  # fmt: skip


def together(orders: list[dict[str, Any]]) -> None:
    """Start trainings at the same time; print what each of them prints."""
    processes = [
        subprocess.Popen([sys.executable, __file__, "--train", json.dumps(order)], stdout=subprocess.PIPE, text=True)
        for order in orders
    ]
    outputs = [process.communicate()[0] for process in processes]
    if any(process.returncode for process in processes):
        sys.exit(1)  # what it said is the last line of stderr
    print("\n".join(output.strip().splitlines()[-1] for output in outputs))


@contextlib.contextmanager
def mps(work: Path) -> Iterator[bool]:
    """NVIDIA's multi-process service, in folders of its own; gives whether it is there."""
    control = shutil.which("nvidia-cuda-mps-control")
    if control is None:
        yield False
        return
    for name in ("PIPE", "LOG"):
        os.environ[f"CUDA_MPS_{name}_DIRECTORY"] = str(work / f"mps-{name.lower()}")
    subprocess.run([control, "-d"], check=True)
    try:
        yield True
    finally:
        subprocess.run([control], input="quit\n", text=True, check=False)
        for name in ("PIPE", "LOG"):
            del os.environ[f"CUDA_MPS_{name}_DIRECTORY"]


def training_table(parts: Parts) -> list[str]:
    lines = [f"| examples/s | {' | '.join(f'{t}, batch {b}' for t, b in TASKS.items())} |", "|---|---:|---:|---:|"]
    for name, text in CONTENDERS.items():
        cells = []
        for task in TASKS:
            rate = parts.training(f"train {task} {name}", [parts.order(name, task)])
            cells.append(rate if isinstance(rate, str) else f"{rate[0]['examples']:,.0f}")
        lines.append(f"| {text} | {' | '.join(cells)} |")
    return lines


def sharing_table(parts: Parts) -> list[str]:
    counts = [n for n in SHARED if n <= parts.options.processes]
    lines = [
        f"| RTE, examples/s of all | {' | '.join(f'{n} at once' for n in counts)} |",
        "|---" * (1 + len(counts)) + "|",
    ]

    def row(label: str) -> None:
        cells = []
        for count in counts:
            rates = parts.training(f"share {count} {label}", [parts.order("packed", "rte", i) for i in range(count)])
            cells.append(rates if isinstance(rates, str) else f"{sum(rate['examples'] for rate in rates):,.0f}")
        lines.append(f"| {label} | {' | '.join(cells)} |")

    row("without MPS")
    with mps(parts.options.work) as there:
        if there:
            row("with MPS")
        else:
            lines.append(f"| with MPS | {' | '.join('not installed' for _ in counts)} |")
    return lines


def main() -> None:
    if sys.argv[1:2] == ["--train"]:
        train(json.loads(sys.argv[2]))
        return
    if sys.argv[1:2] == ["--together"]:
        together(json.loads(sys.argv[2]))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="also write the report to this file")
    parser.add_argument("--work", type=Path, default=Path("runs/gpu"), help="what the parts printed")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda", help="cpu: only to try the script")
    parser.add_argument("--shape", choices=list(SHAPES), default="roberta-base")
    parser.add_argument("--updates", type=int, default=100, help="counted updates of a training")
    parser.add_argument("--processes", type=int, default=max(SHARED), help="most processes on one card")
    options = parser.parse_args()
    options.work = options.work.resolve() / f"{options.device}-{options.shape}-{options.updates}"
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "0")  # of several cards the stock Trainer would take all
    parts = Parts(options)
    python = [sys.executable, "-m"]
    step = [sys.executable, str(HERE / "step.py"), "--device", options.device]
    step += ["--model", "tiny" if options.shape == "tiny" else "roberta-base"]
    doctor = parts.text("doctor", [*python, "glue_mva", "doctor"], may_fail=True)
    tests = parts.text("tests", [*python, "pytest", "-m", "cuda", "tests/test_on_gpu.py"], may_fail=True)
    lines = ["What `glue-mva doctor` says:", "", "```", doctor, "```", "", "Tests that want a card:", "", "```"]
    lines += [*tests.splitlines()[-3:], "```", "", parts.text("step", step).replace("# ", "## ", 1), ""]
    lines += [
        "## Training",
        "",
        *training_table(parts),
        "",
        "## Several runs on one card",
        "",
        *sharing_table(parts),
        "",
    ]
    rates = [parts.training(f"train {task} packed", [parts.order("packed", task)]) for task in TASKS]
    tokens = [rate[0]["tokens"] for rate in rates if not isinstance(rate, str)]
    if tokens:
        speed = ["plan", "table3", "--tokens-per-second", f"{statistics.median(tokens):.0f}", "--gpus", "1"]
        lines += ["## The paper's Table 3", "", "```", parts.text("plan", [*python, "glue_mva", *speed]), "```"]
    show("On a GPU", lines, options.out)


if __name__ == "__main__":
    main()
