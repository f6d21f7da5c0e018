"""`Classifier`: a fine-tuned sequence classifier that labels texts, without padding where its family allows it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from scipy.special import softmax
from transformers import DataCollatorWithPadding

from glue_mva.config.identity import weights_folder
from glue_mva.errors import UsageError
from glue_mva.models.fine_tuned import SETTINGS, load_fine_tuned
from glue_mva.models.load import check_vocabulary, longest_input
from glue_mva.models.packing import PackedCollator
from glue_mva.models.padding import set_padding
from glue_mva.models.precision import ACTIVATIONS, Precision, resolve_precision
from glue_mva.record import RECORD_FILE
from glue_mva.training.environment import device_type

BATCH_TOKENS = {"cpu": 4096}
"""Tokens of a batch, by kind of device."""
BATCH_TOKENS_ELSEWHERE = 32768
LONGEST = 512
"""Tokens at which a text is cut where neither the model nor its configuration says."""


class Classifier:
    """A model folder, the folder of a run that kept its weights, or a name on the Hub, ready to label texts.

    Args:
        model: where it is.
        precision: `auto`, `fp32`, `bf16` or `fp16`, as in `RunConfig`.
        max_length: tokens at which a text (or pair) is cut; by default what the model was trained with.

    Raises:
        UsageError: no such model, one without a trained classification head, or one for several labels at once.
    """

    def __init__(
        self, model: str, *, precision: Precision | Literal["auto"] = "auto", max_length: int | None = None
    ) -> None:
        self.name = model
        self.model, self.tokenizer = load_fine_tuned(model_of(model))
        config = self.model.config
        if config.problem_type == "multi_label_classification":
            raise UsageError(f"model {model!r} gives several labels to one text; only one label is known here")
        check_vocabulary(self.model, self.tokenizer)
        settings: dict[str, Any] = getattr(config, SETTINGS, None) or {}
        self.task: str | None = settings.get("task")
        """Task that it was trained on, where its configuration says so."""
        self.text: tuple[str, ...] = tuple(settings.get("text", ()))
        """Columns of that task's texts."""
        names: Any = config.id2label
        self.labels: list[str] = [names[index] for index in sorted(names)] if len(names) > 1 else []
        """Class names; empty for a regression."""
        self.target_scale: float = settings.get("target_scale", 1.0)
        self.max_length = longest_input(self.model, max_length or settings.get("max_length") or LONGEST)
        self.device = torch.device(device_type())
        self.precision = resolve_precision(precision, self.device.type)
        self.padding = set_padding("auto", self.model, self.device.type, self.precision)
        """`none` where batches are packed, else `longest`."""
        self.model.eval().to(self.device)

    def tokenize(self, first: Sequence[str], second: Sequence[str] | None = None) -> list[dict[str, Any]]:
        """Rows of `input_ids` (and `token_type_ids` where the model takes them), cut at `max_length`."""
        pairs = () if second is None else (list(second),)
        encoded = self.tokenizer(list(first), *pairs, truncation=True, max_length=self.max_length,
                                 return_attention_mask=False)  # fmt: skip
        return [dict(zip(encoded, row, strict=True)) for row in zip(*encoded.values(), strict=True)]

    def predict(self, rows: Sequence[dict[str, Any]]) -> np.ndarray:
        """(rows, classes) probabilities, or (rows,) predicted targets of a regression on the scale of the data.

        Raises:
            UsageError: an output is not finite.
        """
        lengths = np.array([len(row["input_ids"]) for row in rows])
        outputs = np.empty((len(rows), max(1, len(self.labels))), dtype=np.float32)
        collate = PackedCollator(self.model) if self.padding == "none" else DataCollatorWithPadding(self.tokenizer)
        for batch in batches(lengths, BATCH_TOKENS.get(self.device.type, BATCH_TOKENS_ELSEWHERE)):
            outputs[batch] = self._forward(collate([{**rows[i], "labels": 0} for i in batch]))
        if not np.isfinite(outputs).all():
            raise UsageError(f"model {self.name!r} gives outputs that are not finite in {self.precision}: its training "
                             "diverged, or it takes --precision fp32")  # fmt: skip
        if not self.labels:
            return outputs[:, 0] / self.target_scale
        return softmax(outputs, axis=-1)

    @torch.inference_mode()
    def _forward(self, batch: Any) -> np.ndarray:
        """Logits (rows, classes), in float32."""
        inputs = {k: v.to(self.device) if isinstance(v, torch.Tensor) else v for k, v in batch.items() if k != "labels"}
        dtype = ACTIVATIONS[self.precision]
        with torch.autocast(self.device.type, dtype=dtype, enabled=dtype != torch.float32):
            return self.model(**inputs).logits.float().cpu().numpy()


def batches(lengths: np.ndarray, tokens: int) -> list[np.ndarray]:
    """Row numbers cut into batches: rows of similar length together, at most so many tokens when padded to the longest.

    Args:
        lengths: (rows,) tokens of each row.
    """
    order = np.argsort(-lengths, kind="stable")
    found, start = [], 0
    while start < len(order):
        size = max(1, tokens // int(lengths[order[start]]))
        found.append(order[start : start + size])
        start += size
    return found


def model_of(model: str) -> str:
    """The model folder that a run's folder stands for; every other name unchanged.

    Raises:
        UsageError: a run that kept no weights, or a folder of runs.
    """
    folder = Path(model).expanduser()
    if folder.is_dir() and not (folder / "config.json").is_file() and any(folder.glob(f"*/{RECORD_FILE}")):
        raise UsageError(f"{model!r} is a folder of runs: give one of them, or `glue-mva export` its best model")
    return weights_folder(model)
