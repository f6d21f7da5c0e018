"""Everything that a run needs, loaded and checked before anything is written."""

import logging
from dataclasses import dataclass
from typing import Any

import numpy as np
from datasets import Dataset
from transformers import DataCollatorWithPadding, PreTrainedModel, PreTrainedTokenizerBase, set_seed

from glue_mva.config.resolve import ResolvedConfig
from glue_mva.data.encode import EncodedSplit, encode
from glue_mva.data.load import TaskData, load_task
from glue_mva.models.load import check_vocabulary, compile_encoder, load_model, load_tokenizer, longest_input
from glue_mva.models.packing import PackedCollator
from glue_mva.models.padding import Padding, set_padding
from glue_mva.models.precision import Precision, resolve_precision
from glue_mva.models.start import Start, start_from
from glue_mva.training import environment
from glue_mva.training.arguments import device_batch_size, optimizer_arguments, reporters
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
    precision = resolve_precision(config.precision, device)
    device_batch_size(config), reporters(config)  # refuse what cannot be had
    maker = OptimizerMaker(config.optim, optimizer_arguments(config), config.routes)
    data = load_task(config)
    tokenizer = load_tokenizer(config.model)
    set_seed(config.seed)
    model = load_model(config)
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
        padding=padding,
        cuda_graphs=cuda_graphs,
        target_scale=scale,
        max_length=max_length,
        warnings=warnings,
        start=start,
        seconds=watch.seconds,
    )


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
