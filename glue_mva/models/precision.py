"""Which arithmetic a run uses on the device that is there. Weights, optimizer and loss stay float32 in all of them."""

from typing import Literal

import torch

from glue_mva.errors import UsageError

Precision = Literal["fp32", "bf16", "fp16"]
ACTIVATIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
"""Precision -> dtype of activations."""


def has_bfloat16(device: str) -> bool:
    """Whether a device (`cuda`, `cpu`, `mps`) multiplies bfloat16 matrices in hardware: a CPU by AVX512-BF16 or AMX."""
    if device == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device == "cpu" and bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def resolve_precision(wanted: Precision | Literal["auto"], device: str) -> Precision:
    """`fp32`, `bf16` or `fp16` for a run on `device` (`cuda`, `cpu`, `mps`).

    Raises:
        UsageError: the device lacks the precision that was asked for.
    """
    bfloat16, has_float16 = has_bfloat16(device), device == "cuda"
    if wanted == "auto":
        return "bf16" if bfloat16 else "fp16" if has_float16 else "fp32"
    if wanted == "fp16" and not has_float16:
        raise UsageError(f"precision fp16 needs a CUDA GPU, not {device}; take auto, bf16 or fp32")
    if wanted == "bf16" and not bfloat16:
        raise UsageError(f"precision bf16: this {device} device has no bfloat16 arithmetic; take auto or fp32")
    return wanted
