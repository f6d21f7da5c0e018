"""Tokenizer and sequence classifier of a run, from the Hub or a folder."""

import importlib.util
import logging
import os
import re
import shutil
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from transformers import (
    MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING,
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from glue_mva.config.identity import model_path
from glue_mva.config.resolve import ResolvedConfig
from glue_mva.data import hub
from glue_mva.errors import UsageError, first_line
from glue_mva.optim.registry import LAYER
from glue_mva.tasks import Task, folded

log = logging.getLogger(__name__)

DROPOUT_ATTRIBUTES = {
    "hidden_dropout": ("hidden_dropout_prob", "dropout", "embedding_dropout", "mlp_dropout"),
    "attention_dropout": ("attention_probs_dropout_prob", "attention_dropout"),
    "classifier_dropout": ("classifier_dropout", "classifier_dropout_prob", "seq_classif_dropout", "cls_dropout"),
}
"""Field of `RunConfig` -> the names that model families give to it in their configurations."""

SENTENCEPIECE = {"sentencepiece": "sentencepiece", "protobuf": "google.protobuf"}
"""Package -> module, of those that read the vocabulary of DeBERTa-v3 and of others that come without tokenizer.json.
Where they are missing, transformers tries tiktoken and complains of that."""

_UNNAMED = re.compile(r"LABEL_\d+")

OFFSET_POSITIONS = ("roberta", "xlm-roberta", "camembert", "longformer", "mpnet")
"""Families whose position ids start at `pad_token_id + 1`; in others, at 0."""


@dataclass(frozen=True)
class Source:
    """Where a model is loaded from."""

    name: str
    """As it was given; for messages."""
    path: str
    """Its folder on this machine, or its name on the Hub."""
    local_only: bool
    """Whether only files of this machine are looked at."""

    @property
    def folder(self) -> Path | None:
        """`None` of a model on the Hub."""
        return Path(self.path) if Path(self.path).is_dir() else None


def locate(model: str) -> Source:
    """Where a model lies, by its folder or Hub name.

    Raises:
        UsageError: a folder that is not there.
    """
    path = model_path(model)
    is_folder = Path(path).is_dir()
    if not is_folder and path.startswith((".", "/", "~")):
        raise UsageError(f"model folder {model!r} is not there")
    return Source(model, path, is_folder or not hub.reachable())


def from_pretrained(kind: Any, source: Source, what: str = "model", **options: Any) -> Any:
    """`kind.from_pretrained` of a model, without running code that comes with it.

    Args:
        kind: one of transformers' `Auto` classes.
        what: is loaded, for the message.

    Raises:
        UsageError: it is not there or broken, or the Hub is out of reach.
    """
    try:
        # False, not the default: that asks on the terminal whether to run code which comes with a model
        return kind.from_pretrained(source.path, local_files_only=source.local_only, trust_remote_code=False, **options)
    except Exception as error:  # transformers raises many kinds for what is missing or broken
        raise UsageError(f"cannot load {what} {source.name!r}: {reason_of(error, source.local_only)}") from None


def load_classifier(source: Source, config: PretrainedConfig) -> tuple[PreTrainedModel, dict[str, Any]]:
    """(sequence classifier in float32, transformers' account of what its weights had).

    Raises:
        UsageError: weights of layers that the config does not name.
    """
    model, found = from_pretrained(AutoModelForSequenceClassification, source, config=config, dtype=torch.float32,
                                   use_safetensors=True, output_loading_info=True)  # fmt: skip
    if more := [key for key in found["unexpected_keys"] if re.search(LAYER, key)]:
        raise _others(source, "have layers that its config does not name:", more)
    return model, found


def load_tokenizer(source: Source) -> PreTrainedTokenizerBase:
    """The tokenizer of a model.

    Raises:
        UsageError: no tokenizer there, one that needs a package which is not installed, or the Hub is out of reach.
    """
    try:
        tokenizer = from_pretrained(AutoTokenizer, source, "the tokenizer of model")
    except UsageError as error:
        lacking = [package for package, module in SENTENCEPIECE.items() if not _installed(module)]
        if lacking and re.search("tiktoken|sentencepiece|protobuf", str(error), re.IGNORECASE):
            raise UsageError(f"the tokenizer of model {source.name!r} is a SentencePiece model, which takes packages "
                             f"more: pip install {' '.join(lacking)}") from None  # fmt: skip
        raise
    names = sorted({*type(tokenizer).vocab_files_names.values(), "tokenizer.json"})
    folder = source.folder
    # transformers makes one of special tokens alone, to which every word is unknown
    if len(tokenizer) <= len(tokenizer.all_special_ids) or (
        folder is not None and not any((folder / name).is_file() for name in names)
    ):
        raise UsageError(f"model {source.name!r} has no tokenizer: looked for {', '.join(names)}")
    return tokenizer


def load_model(source: Source, config: ResolvedConfig) -> PreTrainedModel:
    """The classifier with the head that a run's task needs, in float32, and the run's dropout; a new head is drawn from
    torch's global seed.

    Raises:
        UsageError: no weights in safetensors format, an unsupported architecture, a head of another size or for classes
            in another order, weights of other layers than the config's, or the Hub is out of reach.
    """
    task = config.task_spec
    if source.folder is not None and not list(source.folder.glob("*.safetensors")):
        raise UsageError(f"model folder {source.name!r} has no weights: looked for model.safetensors")
    model_config = from_pretrained(AutoConfig, source)
    if type(model_config) not in MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING:
        raise UsageError(
            f"model {source.name!r} ({model_config.model_type}) has no sequence classifier in transformers"
        )
    fine_tuned = any("SequenceClassification" in name for name in model_config.architectures or [])
    if fine_tuned and model_config.num_labels != task.num_labels:
        raise UsageError(
            f"model {source.name!r} has a head for {model_config.num_labels} classes where {task.name} needs "
            f"{task.num_labels}: take the pretrained encoder, and this one for init_from"
        )
    if fine_tuned and task.labels:
        _check_classes(source.name, model_config.id2label, task)
    if config.num_train_epochs == 0 and not fine_tuned:
        raise UsageError(f"model {source.name!r} has no trained head, and num_train_epochs = 0 would train none")
    _set_labels(model_config, task)
    head_has_own = any(hasattr(model_config, name) for name in DROPOUT_ATTRIBUTES["classifier_dropout"])
    for field, names in DROPOUT_ATTRIBUTES.items():
        _set_dropout(model_config, names, getattr(config, field))
    model, found = load_classifier(source, model_config)
    if config.classifier_dropout != "checkpoint" and not head_has_own and "deberta" not in model_config.model_type:
        _set_dropout_of_head(model, config.classifier_dropout)
    prefix = f"{model.base_model_prefix}."
    missing = [key for key in found["missing_keys"] if key.startswith(prefix) and ".pooler." not in key]
    if missing:
        raise _others(source, "lack", missing)
    return model


def _others(source: Source, what: str, keys: Iterable[str]) -> UsageError:
    first, *rest = sorted(keys)
    more = f" and {len(rest)} more" if rest else ""
    return UsageError(f"model {source.name!r}: the weights {what} {first}{more}; they are not this config's")


def longest_input(model: PreTrainedModel, max_length: int) -> int:
    """The most tokens that a run feeds to this model: `max_length`, or fewer where the model takes fewer."""
    limit = getattr(model.config, "max_position_embeddings", None) or max_length
    return min(max_length, limit - first_position(model))


def first_position(model: PreTrainedModel) -> int:
    """The position id of a sequence's first token; as many positions hold no token."""
    return model.config.pad_token_id + 1 if model.config.model_type in OFFSET_POSITIONS else 0


def compile_encoder(model: PreTrainedModel, device: str, *, cuda_graphs: bool) -> None:
    """Compile the layers between embeddings and head with torch.compile, in place, once for all batch shapes.

    Args:
        cuda_graphs: also record every batch shape as a CUDA graph, so that the layers cost one launch each way. Not
            where gradients are summed over several passes: a graph writes them to the same memory every time.

    Raises:
        UsageError: a family whose layers are not kept where BERT's are, or no compiler for this device.
    """
    if device == "cuda" and importlib.util.find_spec("triton") is None:
        raise UsageError("compile = true on a GPU needs the package triton; install it, or leave compile off")
    compiler = os.environ.get("CXX") or ("clang++" if sys.platform == "darwin" else "g++")  # torch.compile's choice
    if device == "cpu" and shutil.which(compiler) is None:
        raise UsageError(f"compile = true on a CPU needs a C++ compiler ({compiler} is not there); leave it off")
    layers = next((m for name, m in model.base_model.named_children() if name in ("encoder", "transformer")), None)
    if layers is None:
        raise UsageError(f"compile: the layers of a {model.config.model_type} model were not found; leave it off")
    layers.compile(dynamic=True, mode="reduce-overhead" if cuda_graphs else "default")


def check_vocabulary(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Refuse a tokenizer that makes tokens the model has no embedding for.

    Raises:
        UsageError: a token past the last embedding.
    """
    embeddings = model.get_input_embeddings().weight.shape[0]  # type: ignore[index]
    last = max(tokenizer.get_vocab().values())
    if last >= embeddings:
        raise UsageError(f"the tokenizer has tokens up to {last} where the model has {embeddings} embeddings")


def reason_of(error: Exception, local_only: bool) -> str:
    """What an error of transformers says, in one line."""
    if local_only and "cached" in str(error).lower():
        return "not on this machine, and the Hub cannot be reached; take --model FOLDER or --demo"
    return first_line(error)


def _installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # of the package around it
        return False


def _check_classes(name: str, names: dict[int, str], task: Task) -> None:
    """Refuse a trained head whose classes are not the task's, in its order: it would be scored for other classes."""
    found = [names[index] for index in sorted(names)]
    if all(_UNNAMED.fullmatch(label) for label in found):
        log.warning("model %s: its classes have no names, so nothing shows that they are in %s's order (%s)",
                    name, task.name, ", ".join(task.labels))  # fmt: skip
    elif [folded(label) for label in found] != [folded(label) for label in task.labels]:
        raise UsageError(
            f"model {name!r} has a head for the classes {', '.join(found)}, those of {task.name} are "
            f"{', '.join(task.labels)}: take the pretrained encoder, and this one for init_from"
        )


def _set_labels(config: PretrainedConfig, task: Task) -> None:
    labels = task.labels or (task.name,)
    config.num_labels = len(labels)
    config.id2label = dict(enumerate(labels))
    config.label2id = {label: index for index, label in enumerate(labels)}
    config.problem_type = "regression" if task.is_regression else "single_label_classification"


def _set_dropout_of_head(model: PreTrainedModel, probability: float) -> None:
    """Where the configuration has no name for it, the head is built with the encoder's (MPNet, Longformer)."""
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Dropout) and not name.startswith(f"{model.base_model_prefix}."):
            module.p = probability


def _set_dropout(config: PretrainedConfig, names: tuple[str, ...], probability: float | Literal["checkpoint"]) -> None:
    if probability == "checkpoint":
        return
    for name in names:
        if hasattr(config, name) or name == "cls_dropout":  # DeBERTa reads cls_dropout but does not declare it
            setattr(config, name, probability)
