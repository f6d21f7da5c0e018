"""Start from a fine-tuned model: its encoder, and its head where the classes are the same."""

from dataclasses import dataclass

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from glue_mva.config.identity import start_identity, weights_folder
from glue_mva.errors import UsageError
from glue_mva.models.fine_tuned import load_fine_tuned


@dataclass(frozen=True)
class Start:
    """Where a model's weights come from."""

    digest: str
    """Of the weights, or their commit on the Hub."""
    kept_head: bool


def start_from(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, name: str) -> Start:
    """Give a model the encoder of a fine-tuned one, and its head where their classes are the same; a head that is not
    kept stays as it was drawn.

    Args:
        name: a model folder, the folder of a run that kept its weights, or a name on the Hub.

    Raises:
        UsageError: no such model, or one of another architecture, size or vocabulary.
    """
    with torch.random.fork_rng():  # what is drawn while it loads must not change what the run draws
        other, other_tokenizer = load_fine_tuned(weights_folder(name))
    if type(other) is not type(model):
        raise UsageError(f"init_from {name!r} is a {type(other).__name__}, the model a {type(model).__name__}: "
                         "give the model that it was made of")  # fmt: skip
    if other_tokenizer.get_vocab() != tokenizer.get_vocab():
        raise UsageError(
            f"init_from {name!r} has another vocabulary than the model: give the model that it was made of"
        )
    kept_head = other.config.id2label == model.config.id2label
    source, target = (other, model) if kept_head else (other.base_model, model.base_model)
    try:
        target.load_state_dict(source.state_dict())
    except RuntimeError as error:
        said = str(error).splitlines()[1].strip()
        raise UsageError(f"init_from {name!r} does not fit the model: {said}") from None
    identity = start_identity(name)
    digest = identity["weights"] if isinstance(identity, dict) else str(getattr(other.config, "_commit_hash", None))
    return Start(digest, kept_head)
