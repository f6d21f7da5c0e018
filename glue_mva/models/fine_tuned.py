"""Load a classifier that was fine-tuned already, by this program or by any other."""

from transformers import AutoConfig, PreTrainedModel, PreTrainedTokenizerBase

from glue_mva.errors import UsageError
from glue_mva.models.load import from_pretrained, load_classifier, load_tokenizer, locate

SETTINGS = "glue_mva"
"""Entry of a model's config.json with what this program knows of it: `task`, `text` (its columns), `step` (updates),
`max_length`, and for a regression `target_scale`, by which the targets were multiplied."""


def load_fine_tuned(name: str) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A sequence classifier in float32 with its tokenizer, from a folder or the Hub; its labels are its own.

    Raises:
        UsageError: no such model, no weights in safetensors format, or weights that lack a part of the classifier.
    """
    source = locate(name)
    if source.folder is not None and not (source.folder / "config.json").is_file():
        raise UsageError(f"model folder {name!r} has no config.json")
    config = from_pretrained(AutoConfig, source)
    if not any("SequenceClassification" in architecture for architecture in config.architectures or []):
        raise UsageError(f"model {name!r} is no fine-tuned classifier: its architectures are {config.architectures}")
    model, info = load_classifier(source, config)
    if missing := sorted(info["missing_keys"]):
        raise UsageError(f"model {name!r} lacks weights of its classifier: {', '.join(missing[:3])}")
    return model, load_tokenizer(source)
