"""Training speed beside the peers: examples per second of whole training steps, interleaved in one process.

    python benchmarks/train.py --data ../shared/glue --out reports/speed/train-cpu.md

Peers are Hugging Face's Trainer as run_glue sets it up (padded to 128, float32, AdamW), with dynamic padding, and with
dynamic padding and `train_sampling_strategy="group_by_length"`. All train the same model on the same rows; the first
two and ours on the same batches in the same order. Every contender makes `--steps` counted updates per round, in turn
(the third 50, a whole group of its batches), after 10 that are not counted; the median over rounds is shown. The memory
setting that `glue-mva` makes for its process is undone while a peer trains, so the first updates of our every round pay
for memory that a run of thousands pays for once: that is what the uncounted ones are for.
"""

import statistics
import tempfile
import time

import torch
from common import add_out, make_parser, show
from transformers import (
    AutoModelForSequenceClassification,
    DataCollatorWithPadding,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    set_seed,
)

from glue_mva import GlueTrainer, RunConfig
from glue_mva.config.identity import model_path
from glue_mva.config.resolve import resolve
from glue_mva.data.encode import encode
from glue_mva.data.load import load_task
from glue_mva.models.dropout import use_cpu_dropout
from glue_mva.models.load import load_tokenizer
from glue_mva.models.memory import reuse_freed_memory
from glue_mva.models.packing import PackedCollator
from glue_mva.models.precision import resolve_precision
from glue_mva.training import environment
from glue_mva.training.runner import set_padding

WARM_UP = 10
"""Updates of a round that are not counted."""
MEGABATCH = 50
"""Batches within which Hugging Face's grouping sorts rows by length, longest first: (c) must go through all of them.
RTE has fewer rows, so its groups are shorter, and (c) is counted on parts of two."""
PEERS = {
    "a": "run_glue: padded to 128, float32, AdamW",
    "b": "dynamic padding, float32, AdamW",
    "c": "dynamic padding, grouped by length, float32, AdamW",
    "ours": "glue-mva: no padding, precision auto, LaMAdam",
}


class StepTimes(TrainerCallback):
    """Seconds and rows of each update."""

    def __init__(self) -> None:
        self.stamps: list[float] = []

    def on_step_end(self, args, state, control, **kwargs):
        self.stamps.append(time.perf_counter())


def contender(name: str, task: str, data: str, model_name: str, batch: int, steps: int, folder: str) -> Trainer:
    """A Trainer that is ready to train."""
    config = resolve(RunConfig(task=task, optim="lamadam", data=data, model=model_name, max_length=128))
    loaded, tokenizer = load_task(config), load_tokenizer(config)
    rows = encode(loaded.train, loaded.task, tokenizer, 128, 0.2 if loaded.task.is_regression else 1.0)
    set_seed(0)
    model = AutoModelForSequenceClassification.from_pretrained(
        model_path(model_name), num_labels=loaded.task.num_labels, dtype=torch.float32
    )
    ours, device = name == "ours", environment.device_type()
    precision = resolve_precision("auto", device) if ours else "fp32"
    arguments = TrainingArguments(
        f"{folder}/{name}",
        max_steps=WARM_UP + (MEGABATCH if name == "c" else steps),
        per_device_train_batch_size=batch,
        learning_rate=1e-5,
        report_to=[],
        logging_steps=max(1, steps // 2),
        save_strategy="no",
        remove_unused_columns=False,
        disable_tqdm=True,
        use_cpu=device == "cpu",
        bf16=precision == "bf16",
        fp16=precision == "fp16",
        max_grad_norm=0.0 if ours else 1.0,
        label_names=["labels"],
        train_sampling_strategy="group_by_length" if name == "c" else "random",
        length_column_name="length",
    )
    if ours:
        if device == "cpu":
            use_cpu_dropout(model)
        set_padding("auto", model)
        trainer: Trainer = GlueTrainer(
            model=model, args=arguments, train_dataset=rows, data_collator=PackedCollator(model), optim="lamadam"
        )
    else:
        padding = "max_length" if name == "a" else "longest"
        collator = DataCollatorWithPadding(tokenizer, padding=padding, max_length=128)
        trainer = Trainer(model=model, args=arguments, train_dataset=rows, data_collator=collator)
    trainer.remove_callback(PrinterCallback)
    return trainer


def speed(trainer: Trainer) -> float:
    """Examples per second of one round."""
    reuse_freed_memory(isinstance(trainer, GlueTrainer))
    times = StepTimes()
    trainer.add_callback(times)
    trainer.optimizer, trainer.lr_scheduler = None, None
    trainer.train()
    trainer.remove_callback(times)
    counted = times.stamps[WARM_UP - 1 :]  # from the end of the last uncounted update
    return trainer.args.per_device_train_batch_size * (len(counted) - 1) / (counted[-1] - counted[0])


def limit(trainer: Trainer, rows: int) -> tuple[float, str]:
    """Examples per second that this machine's matrix products and memory would allow, and how that is made up.

    Operations: 6 per weight of linear layers and token (forward and backward), at the measured rate of a product of the
    step's shape in the step's precision. Bytes: 36 per parameter (MaxVA once its weights are 1) over the measured
    bandwidth of a copy.
    """
    model = trainer.model
    tokens = float(trainer.train_dataset.lengths.mean()) * rows
    linear = sum(m.weight.numel() for m in model.modules() if isinstance(m, torch.nn.Linear))
    dtype = torch.bfloat16 if trainer.args.bf16 else torch.float32
    hidden = model.config.hidden_size
    a = torch.randn(max(16, int(tokens)), hidden, dtype=dtype)
    b = torch.randn(hidden, 4 * hidden, dtype=dtype)
    rate = 2 * a.shape[0] * b.numel() / median_seconds(lambda: a @ b)
    source = torch.randn(30_000_000)
    target = torch.empty_like(source)
    bandwidth = 8 * source.numel() / median_seconds(lambda: target.copy_(source))
    parameters = sum(p.numel() for p in model.parameters())
    compute, memory = 6 * linear * tokens / rate, 36 * parameters / bandwidth
    text = (
        f"{1e3 * compute:.0f} ms of matrix products at {rate / 1e9:.0f} GFLOP/s + {1e3 * memory:.0f} ms of optimizer "
        f"at {bandwidth / 1e9:.1f} GB/s"
    )
    return rows / (compute + memory), text


def median_seconds(work, repeats: int = 15) -> float:
    work()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--tasks", default="rte,cola,sst2")
    parser.add_argument("--steps", type=int, default=12, help="counted updates per round")
    parser.add_argument("--rounds", type=int, default=3)
    add_out(parser)
    options = parser.parse_args()
    lines = [
        f"Model {options.model}, {environment.device_name(environment.device_type())}, "
        f"{torch.get_num_threads()} threads, torch {torch.__version__}; median over {options.rounds} interleaved "
        f"rounds of {options.steps} counted updates (of {MEGABATCH} for (c)). "
        "Examples per second of whole training steps.",
        "",
        "| task | batch | (a) | (b) | (c) | glue-mva | over (a) | over (c) | limit | share of it |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    notes = [f"({name}) {text}." for name, text in PEERS.items() if name != "ours"]
    with tempfile.TemporaryDirectory() as folder:
        for task in options.tasks.split(","):
            batch = 32 if task in ("sst2", "mnli", "qnli", "qqp") else 16
            trainers = {n: contender(n, task, options.data, options.model, batch, options.steps, folder) for n in PEERS}
            rounds: dict[str, list[float]] = {name: [] for name in PEERS}
            for _ in range(options.rounds):
                for name, trainer in trainers.items():
                    rounds[name].append(speed(trainer))
            rate = {name: statistics.median(rates) for name, rates in rounds.items()}
            most, text = limit(trainers["ours"], batch)
            lines.append(
                f"| {task} | {batch} | {rate['a']:.1f} | {rate['b']:.1f} | {rate['c']:.1f} | {rate['ours']:.1f} | "
                f"{rate['ours'] / rate['a']:.1f}x | {rate['ours'] / rate['c']:.1f}x | {most:.0f} | "
                f"{100 * rate['ours'] / most:.0f} % |"
            )
            notes.append(f"Limit of {task}: {text}.")
            print(lines[-1], flush=True)
    show("Training speed", [*lines, "", *notes], options.out)


if __name__ == "__main__":
    main()
