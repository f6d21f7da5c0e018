"""Load a classifier that was fine-tuned already, by this program or by any other."""

from pathlib import Path

import torch
from transformers import AutoConfig, AutoModelForSequenceClassification, PreTrainedModel, PreTrainedTokenizerBase

from glue_mva.errors import UsageError
from glue_mva.models.load import load_tokenizer, locate, reason_of

SETTINGS = "glue_mva"
"""Entry of a model's config.json with what this program knows of it: `task`, `step` (updates), `max_length`, and for a
regression `target_scale`, by which the targets were multiplied."""


def load_fine_tuned(name: str) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A sequence classifier in float32 with its tokenizer, from a folder or the Hub; its labels are its own.

    Raises:
        UsageError: no such model, no weights in safetensors format, or weights that lack a part of the classifier.
    """
    source, local_only = locate(name)
    if Path(source).is_dir() and not (Path(source) / "config.json").is_file():
        raise UsageError(f"model folder {name!r} has no config.json")
    try:
        config = AutoConfig.from_pretrained(source, local_files_only=local_only, trust_remote_code=False)
    except Exception as error:  # transformers raises many kinds for a missing or broken model
        raise UsageError(f"cannot load model {name!r}: {reason_of(error, local_only)}") from None
    if not any("SequenceClassification" in architecture for architecture in config.architectures or []):
        raise UsageError(f"model {name!r} is no fine-tuned classifier: its architectures are {config.architectures}")
    try:
        model, info = AutoModelForSequenceClassification.from_pretrained(
            source, config=config, dtype=torch.float32, use_safetensors=True, local_files_only=local_only,
            trust_remote_code=False, output_loading_info=True,
        )  # fmt: skip
    except Exception as error:  # as above
        raise UsageError(f"cannot load model {name!r}: {reason_of(error, local_only)}") from None
    if missing := sorted(info["missing_keys"]):
        raise UsageError(f"model {name!r} lacks weights of its classifier: {', '.join(missing[:3])}")
    return model, load_tokenizer(name)
