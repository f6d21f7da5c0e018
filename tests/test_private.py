"""Private members of other libraries that the package uses: few, each for a reason, and nothing beside them."""

import ast
import inspect
from pathlib import Path

import pytest

from glue_mva.optim.base import Base
from glue_mva.training.trainer import GlueTrainer

PACKAGE = Path(__file__).parents[1] / "glue_mva"
NAMED_TUPLES = {"_asdict", "_fields", "_make", "_replace"}
"""Of `typing.NamedTuple`, and documented."""

USED = {
    "_foreach_": "operations on lists of tensors, of which torch.optim is made; they have no other name",
    "_accelerator_graph_capture_health_check": "torch's optimizers ask it at the start of a step, too",
    "_disable_dynamo": "as torch's optimizers mark what is not to be traced; torch.compiler.disable loads the compiler",
    "_softmax_backward_data": "softmax's backward pass in one call, where attention keeps the weights for its own",
    "_flash_attention_forward": "sequences that lie end to end; scaled_dot_product_attention takes a batch",
    "_is_avx512_bf16_supported": "whether this CPU multiplies bfloat16 in hardware decides what `auto` is",
    "_is_amx_tile_supported": "the same",
    "_attn_implementation": "which attention a model has: set by a public method, but read nowhere else",
    "_n_gpu": "several visible GPUs would mean DataParallel and a larger batch; TrainingArguments has no option for it",
}
"""Name, or how it begins -> why."""

OVERRIDDEN = {
    GlueTrainer: {
        "_get_grad_norm": "the Trainer computes the norm of the gradient at every update, only to log it",
        "_save_checkpoint": "half a checkpoint is removed where the disk is full; no callback is told of a failure",
    },
    Base: {},
}
"""Class -> private methods of its parents that it replaces -> why."""


def used() -> set[str]:
    """Private attributes that are read somewhere in the package and defined nowhere in it."""
    read: set[str] = set()
    defined: set[str] = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute):
                own = isinstance(node.ctx, ast.Store) and ast.unparse(node.value) == "self"
                (defined if own else read).add(node.attr)
            elif isinstance(node, ast.FunctionDef | ast.ClassDef):
                defined.add(node.name)
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                defined.add(node.id)
    return {name for name in read - defined - NAMED_TUPLES if name.startswith("_") and not name.startswith("__")}


def test_every_private_member_that_is_used_has_a_reason():
    found = used()
    assert {name for name in found if not any(name.startswith(reason) for reason in USED)} == set()
    assert {reason for reason in USED if not any(name.startswith(reason) for name in found)} == set()


@pytest.mark.parametrize("cls", OVERRIDDEN, ids=lambda cls: cls.__name__)
def test_every_private_method_that_is_replaced_has_a_reason(cls: type):
    parents = {name for parent in inspect.getmro(cls)[1:] for name in vars(parent)}
    found = {name for name in vars(cls) if name.startswith("_") and not name.startswith("__") and name in parents}
    assert found == set(OVERRIDDEN[cls])
