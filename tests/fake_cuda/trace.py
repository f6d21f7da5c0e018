"""Trace one thing on the fake device, and print what came of it as JSON.

    python -m tests.fake_cuda.trace GUARD.so models
    python -m tests.fake_cuda.trace GUARD.so optimizers

A process of its own, because a device that torch once believed in stays for good.
"""

import contextlib
import ctypes
import itertools
import json
import sys

if __name__ == "__main__":
    ctypes.CDLL(sys.argv[1])  # before torch looks for devices

import numpy as np
import torch
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

from glue_mva.optim import LaMAdam, LaProp, MAdam, selfcheck
from glue_mva.optim.dynamics import StepProbe


@contextlib.contextmanager
def h100():
    """Within it, tensors are fake and `device="cuda"` is an H100. Reading a value of the device is an error."""
    item = torch.Tensor.item
    torch.cuda.amp.common.amp_definitely_not_available = lambda: False
    torch.cuda.is_bf16_supported = lambda *args, **kwargs: True
    torch.cuda.get_device_capability = lambda *args: (9, 0)
    torch.Tensor.pin_memory = lambda tensor: tensor
    selfcheck.sound = lambda *args: True  # there are no values to compare
    # the count of a step lives on the host and is read there
    torch.Tensor.item = lambda x: 3.0 if isinstance(x, FakeTensor) and x.device.type == "cpu" else item(x)
    with FakeTensorMode():
        yield


def kind(tensor):
    return f"{str(tensor.dtype).removeprefix('torch.')} on {tensor.device}"


def optimizers():
    """Every class, flag and dtype: the kinds of its parameters and state after two steps, diagnostics included."""
    flags = [{"foreach": False}, {"foreach": True}, {}, {"capturable": True}, {"capturable": True, "foreach": False}]
    others = [{"amsgrad": True}, {"maximize": True, "weight_decay": 0.1}]
    flags += [{"foreach": foreach, **other} for foreach in (False, True) for other in others]
    cases = [(cls, settings) for cls in (MAdam, LaMAdam, LaProp) for settings in flags]
    cases += [(torch.optim.AdamW, {"fused": True})]
    for (cls, settings), dtype in itertools.product(cases, (torch.float32, torch.bfloat16)):
        with h100():
            params = [torch.nn.Parameter(torch.randn(shape, device="cuda", dtype=dtype)) for shape in ((10, 5), (7,))]
            optimizer = cls(params, lr=0.1, **settings)
            probe = StepProbe(optimizer, lambda: True)
            for _ in range(2):
                for p in params:
                    p.grad = torch.randn_like(p)
                optimizer.step()
            values = [kind(value) for value in probe._values.values()]
            state = {name: kind(value) for name, value in optimizer.state[params[0]].items()}
        yield {
            "class": cls.__name__, "settings": settings, "dtype": str(dtype), "param": kind(params[0]), "state": state,
            "measured": values,
        }  # fmt: skip


def models():
    """A training step of every family, precision and way of batching: forward, loss, backward, LaMAdam."""
    from transformers import AutoModelForSequenceClassification
    from transformers.initialization import no_init_weights

    from glue_mva.models import attention
    from glue_mva.models.packing import FAMILIES, PackedCollator, use_packing
    from glue_mva.models.selfcheck import _padded
    from glue_mva.training.trainer import mean_loss
    from tests.tiny import CONFIGS

    flash = attention._flash
    rows = [{"input_ids": np.arange(5, 5 + n), "labels": np.int64(n % 2)} for n in (5, 40, 33, 1, 18)]
    dtypes = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
    for family, (precision, dtype), packed in itertools.product(FAMILIES, dtypes.items(), (True, False)):
        if packed and precision == "fp32":
            continue  # FlashAttention is for half precision; without it, batches on a GPU are padded
        calls = []
        attention._flash = lambda *args, calls=calls: calls.append(kind(args[0])) or flash(*args)
        with h100():
            with torch.device("cuda"), no_init_weights():  # which looks at values, where there are none
                model = AutoModelForSequenceClassification.from_config(CONFIGS[family]()).train()
            if packed:
                use_packing(model)
                batch = PackedCollator(model)(rows)
            else:
                batch = {**_padded(rows, 0), "labels": torch.tensor([row["labels"] for row in rows])}
            inputs = {k: v.to("cuda") if isinstance(v, torch.Tensor) else v for k, v in batch.items()}
            labels = inputs.pop("labels")
            optimizer = LaMAdam(model.parameters(), lr=1e-5)
            with torch.autocast("cuda", dtype, enabled=precision != "fp32"):
                logits = model(**inputs).logits
                loss = mean_loss({"logits": logits}, labels)
            loss.backward()
            without = [name for name, p in model.named_parameters() if p.grad is None]
            grads = sorted({kind(p.grad) for p in model.parameters() if p.grad is not None})
            optimizer.step()
            params = sorted({kind(p) for p in model.parameters()})
        yield {
            "family": family, "precision": precision, "packed": packed, "logits": f"{kind(logits)}",
            "rows": logits.shape[0], "loss": kind(loss), "grads": grads, "without": without, "params": params,
            "flash": calls,
        }  # fmt: skip
    attention._flash = flash


if __name__ == "__main__":
    print(json.dumps(list({"models": models, "optimizers": optimizers}[sys.argv[2]]())))
