"""How the sequences of a batch are brought together: packed where that proved itself here, else padded."""

from typing import Literal

import torch
from transformers import PreTrainedModel

from glue_mva.errors import UsageError
from glue_mva.models.encoder import has_packed_encoder
from glue_mva.models.packing import can_pack, use_packing
from glue_mva.models.precision import ACTIVATIONS
from glue_mva.models.selfcheck import packing_is_sound

Padding = Literal["none", "longest", "max_length"]


def set_padding(
    wanted: Padding | Literal["auto"],
    model: PreTrainedModel,
    device: str,
    precision: str,
    *,
    own_layers: bool = True,
) -> Padding:
    """Prepare a model for `none` (packed batches), `longest` or `max_length`, in place, and say which it is.

    `auto` is `none` on a CPU, where it was measured, and `longest` elsewhere. `none` becomes `longest`, with a warning,
    where packed training does not give what padded training gives.

    Args:
        device: `cpu`, `cuda`, ...: where the model will be trained.
        precision: `fp32`, `bf16` or `fp16`.
        own_layers: the layers in C may be taken; not for a model that is to be compiled.

    Raises:
        UsageError: `none` was asked for, but is not there for this family, or not on this device in this precision.
    """
    family = model.config.model_type
    if wanted == "auto":
        wanted = "none" if device == "cpu" and can_pack(model) else "longest"
    if wanted != "none":
        return wanted
    if not can_pack(model):
        raise UsageError(f"padding none is not verified for {family}; take auto or longest")
    if device == "cuda" and precision == "fp32":
        raise UsageError("padding none on a GPU is for bf16 and fp16, which FlashAttention takes; take auto or longest")
    target, activations = torch.device(device), ACTIVATIONS[precision]
    if (
        own_layers
        and device == "cpu"
        and has_packed_encoder(model, activations)
        and packing_is_sound(model, target, precision, own_layers=True)
    ):
        use_packing(model, activations)
        return "none"
    if packing_is_sound(model, target, precision, own_layers=False):
        use_packing(model)
        return "none"
    return "longest"
