"""The weights of a run's best epoch on disk: written at every new best evaluation, read again for the test sets.

Each set lies in a folder named after its update. So what a checkpoint goes on from is never overwritten by a better
evaluation after it, which the resumed run need not reach again.
"""

import shutil
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from glue_mva.files import MODEL_FOLDER, storage_errors
from glue_mva.models.fine_tuned import SETTINGS


def kept_folder(work: Path, step: int) -> Path:
    """Where the weights after an update lie while the run lasts."""
    return work / f"{MODEL_FOLDER}-{step}"


def drop_others(work: Path, step: int | None) -> None:
    """Remove all weights but those after one update; `None` removes all."""
    for folder in work.glob(f"{MODEL_FOLDER}-*"):
        if step is None or folder != kept_folder(work, step):
            shutil.rmtree(folder, ignore_errors=True)


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


def restore(model: PreTrainedModel, folder: Path) -> None:
    """Give a model the weights in `folder`, bit for bit; the whole embedding, where it was trained without a part."""
    kept = type(model).from_pretrained(folder, dtype=torch.float32, local_files_only=True, use_safetensors=True)
    model.set_input_embeddings(kept.get_input_embeddings().to(model.device))
    model.load_state_dict(kept.state_dict())
