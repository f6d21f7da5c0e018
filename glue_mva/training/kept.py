"""The weights of a run's best epoch on disk: written at every new best evaluation, read again for the test sets."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from glue_mva.files import storage_errors
from glue_mva.models.fine_tuned import SETTINGS


def keep(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    folder: Path,
    *,
    state: dict[str, Tensor] | None,
    step: int,
    settings: dict[str, Any],
) -> None:
    """Write weights, tokenizer and config as a model folder of transformers.

    Args:
        state: its whole `state_dict`, where the model holds a part.
        step: updates that these weights have had.
        settings: further entries beside it, in `config.json` under `SETTINGS`.

    Raises:
        OSError: there is no room for it.
    """
    setattr(model.config, SETTINGS, {"step": step, **settings})
    folder.mkdir(parents=True, exist_ok=True)
    with storage_errors(folder, sum(p.numel() * p.element_size() for p in model.parameters())):
        model.save_pretrained(folder, state_dict=state)
        tokenizer.save_pretrained(folder)


def restore(model: PreTrainedModel, folder: Path, *, step: int) -> None:
    """Give a model the weights in `folder`, bit for bit, and the whole embedding where it was trained without a part.

    Raises:
        RuntimeError: they are of another update than `step`.
    """
    kept = type(model).from_pretrained(folder, dtype=torch.float32, local_files_only=True, use_safetensors=True)
    if (found := getattr(kept.config, SETTINGS)["step"]) != step:
        raise RuntimeError(f"the weights in {folder} are those of update {found}, the best are of update {step}; "
                           "run again without resuming")  # fmt: skip
    model.set_input_embeddings(kept.get_input_embeddings().to(model.device))
    model.load_state_dict(kept.state_dict())
