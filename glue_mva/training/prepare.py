"""Everything that a run needs, loaded and checked before anything is written."""

import logging
from dataclasses import dataclass
from typing import Any

import numpy as np
from datasets import Dataset
from transformers import DataCollatorWithPadding, PreTrainedModel, PreTrainedTokenizerBase, set_seed
from transformers.integrations import get_available_reporting_integrations
from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK

from glue_mva.config.resolve import ResolvedConfig
from glue_mva.data.encode import EncodedSplit, encode
from glue_mva.data.load import TaskData, load_task
from glue_mva.errors import UsageError, nearest
from glue_mva.machine import process_place
from glue_mva.models.load import check_vocabulary, compile_encoder, load_model, load_tokenizer, locate, longest_input
from glue_mva.models.packing import PackedCollator
from glue_mva.models.padding import Padding, set_padding
from glue_mva.models.precision import Precision, resolve_precision
from glue_mva.models.start import Start, start_from
from glue_mva.training import environment
from glue_mva.training.callbacks import Stopwatch
from glue_mva.training.groups import OptimizerMaker

log = logging.getLogger(__name__)

MOST_UNKNOWN = 0.05
"""Share of unknown tokens above which a run warns."""


@dataclass
class Prepared:
    """Everything that can be refused, loaded and checked before anything is written."""

    data: TaskData
    train: EncodedSplit | None
    evaluation: dict[str, EncodedSplit]
    test: dict[str, EncodedSplit]
    tokenizer: PreTrainedTokenizerBase
    model: PreTrainedModel
    device: str
    precision: Precision
    device_batch_size: int
    """Rows of a forward pass."""
    reporters: list[str]
    """Names of the integrations that the run reports to."""
    padding: Padding
    cuda_graphs: bool
    target_scale: float
    max_length: int
    warnings: list[str]
    """What makes a score on these data mean less than it seems to."""
    start: Start | None
    seconds: float


def prepare(config: ResolvedConfig) -> Prepared:
    """Load and check everything that a run needs, and tokenize its data; writes only to the cache.

    Raises:
        UsageError: bad input.
    """
    watch = Stopwatch()
    device = environment.device_type()
    environment.take_own_card(device)
    precision = resolve_precision(config.precision, device)
    batch_size, reporters = device_batch_size(config), installed_reporters(config)
    maker = OptimizerMaker(config.optim_spec, config.optimizer_arguments, config.routes)
    data = load_task(config)
    source = locate(config.model)
    tokenizer = load_tokenizer(source)
    set_seed(config.seed)
    model = load_model(source, config)
    check_vocabulary(model, tokenizer)
    start = start_from(model, tokenizer, config.init_from) if config.init_from else None
    decayed = {name for name, p in model.named_parameters() if config.decay_all_parameters or p.ndim > 1}
    groups = {"lr": config.lr, "layer_decay": config.layer_decay, "weight_decay": config.weight_decay}
    maker.build(model, **groups, decayed=decayed)  # refuse what cannot be built
    if device == "cpu":  # where the model is already, as the step of a class may want
        maker.decay_rules()  # refuse what cannot be stepped
    padding = set_padding(config.padding, model, device, precision, own_layers=not config.compile)
    few_shapes = padding != "longest" and config.gradient_accumulation_steps == 1
    cuda_graphs = config.compile and device == "cuda" and few_shapes
    if config.compile:
        compile_encoder(model, device, cuda_graphs=cuda_graphs)
    max_length = longest_input(model, config.max_length)
    scale = 1 / data.task.label_range[1] if config.scale_targets and data.task.is_regression else 1.0

    def encoded(split: Dataset) -> EncodedSplit:
        return encode(split, data.task, tokenizer, max_length, scale)

    train = encoded(data.train) if data.train is not None else None
    evaluation = {name: encoded(split) for name, split in data.evaluation.items()}
    warnings = unreadable(train or next(iter(evaluation.values())), tokenizer)
    for warning in warnings:
        log.warning("%s", warning)
    return Prepared(
        data=data,
        train=train,
        evaluation=evaluation,
        test={name: encoded(split) for name, split in data.test.items()},
        tokenizer=tokenizer,
        model=model,
        device=device,
        precision=precision,
        device_batch_size=batch_size,
        reporters=reporters,
        padding=padding,
        cuda_graphs=cuda_graphs,
        target_scale=scale,
        max_length=max_length,
        warnings=warnings,
        start=start,
        seconds=watch.seconds,
    )


def device_batch_size(config: ResolvedConfig) -> int:
    """Rows of a forward pass: the batch divided among processes and accumulation steps.

    Raises:
        UsageError: it cannot be divided, or the environment names processes that nothing has started.
    """
    processes = process_place()[1]
    batch, accumulation = config.train_batch_size, config.gradient_accumulation_steps
    if batch % (processes * accumulation):
        raise UsageError(
            f"train_batch_size {batch} cannot be divided among {processes} processes x {accumulation} "
            "gradient_accumulation_steps"
        )
    return batch // (processes * accumulation)


def installed_reporters(config: ResolvedConfig) -> list[str]:
    """Names of the integrations that a run reports to.

    Raises:
        UsageError: one is unknown or not installed.
    """
    wanted = [name.strip() for name in config.report_to.split(",") if name.strip() not in ("", "none")]
    available = get_available_reporting_integrations()
    if missing := [name for name in wanted if name not in available]:
        name = missing[0]
        if name in INTEGRATION_TO_CALLBACK:
            raise UsageError(f"report_to {name!r} is not installed: pip install {name}")
        raise UsageError(f"unknown report_to {name!r}{nearest(name, INTEGRATION_TO_CALLBACK)}")
    return wanted


def unreadable(rows: EncodedSplit, tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """A warning where the tokenizer does not know more than `MOST_UNKNOWN` of the tokens of a text."""
    ids = rows.columns["input_ids"]
    special = [i for i in tokenizer.all_special_ids if i != tokenizer.unk_token_id]
    words = ids[~np.isin(ids, special)]
    unknown = float(np.mean(words == tokenizer.unk_token_id)) if len(words) else 0.0
    if unknown <= MOST_UNKNOWN:
        return []
    return [f"the tokenizer does not know {unknown:.0%} of the tokens: is it the model's own, and of this language?"]


def collator(prepared: Prepared) -> Any:
    """What makes a batch of rows."""
    if prepared.padding == "none":
        return PackedCollator(prepared.model, few_sizes=prepared.cuda_graphs)
    return DataCollatorWithPadding(prepared.tokenizer, padding=prepared.padding, max_length=prepared.max_length)
