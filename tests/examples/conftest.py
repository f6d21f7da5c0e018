"""The modules that the examples share, as their scripts import them; and records made by hand."""

import importlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def examples(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """`options`, `report`, `runs`, `image_classification` and `translation`."""
    monkeypatch.syspath_prepend(str(EXAMPLES))
    names = "options", "report", "runs", "image_classification", "translation"
    return SimpleNamespace(**{name: importlib.import_module(name) for name in names})


@pytest.fixture
def add(tmp_path: Path, examples: SimpleNamespace) -> Callable[..., None]:
    """Adds the record of one run of the digits to `tmp_path`."""
    common = examples.image_classification.PRESETS["demo"].settings()
    common |= {"preset": "demo", "data": "0", "precision": "fp32", "processes": 1}

    def write(optim: str, lr: float = 1e-3, seed: int = 1, validation: float | None = 80.0, test: float | None = 70.0,
              steps: Sequence[float] = (1e-3, 2e-3), decay: float = 0.1, matched: str | None = None,
              diverged: bool = False, **settings: Any) -> None:  # fmt: skip
        own = {"optim": optim, "lr": lr, "weight_decay": decay, "seed": seed, "matched": matched}
        scores = {"test": None} if diverged else {"validation": validation, "test": test}
        n = 1 if diverged else len(steps)
        record = {
            "status": "diverged" if diverged else "ok",
            "settings": common | own | settings,
            "rows": {"train": 1260, "validation": 140, "test": 397},
            "scores": scores,
            "evaluations": [{"update": k + 1, "validation": 50.0 + k} for k in range(n)],
            "curves": {"update": [k + 1 for k in range(n)], "loss": [2.0 - k for k in range(n)],
                       "lr": [lr] * n, "step_size": list(steps[:n])},
            "execution": {"starts": [{"device": "some CPU"}]},
        }  # fmt: skip
        folder = tmp_path / "records"
        folder.mkdir(exist_ok=True)
        name = f"{optim}-{lr:g}-{decay:g}-{seed}-{matched}.json"
        (folder / name).write_text(json.dumps(record), encoding="utf-8")

    return write
