"""Code that comes with a model is never run, and nobody is asked whether to run it."""

import json
import shutil
from pathlib import Path

import pytest

from glue_mva import RunConfig, UsageError
from glue_mva.config.resolve import resolve
from glue_mva.models.load import load_model, load_tokenizer, locate

CODE = """
from pathlib import Path
from transformers import BertConfig, BertForSequenceClassification, BertTokenizer
Path({marker!r}).touch()
class Config(BertConfig):
    model_type = "foreign"
class Model(BertForSequenceClassification):
    config_class = Config
class Tokenizer(BertTokenizer):
    pass
"""


@pytest.mark.parametrize("kind", ["bert", "foreign"])
def test_the_code_of_a_model_is_never_run(kind, tiny_models, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Where transformers knows the family its own code is taken, else the model is refused."""
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("asked on the terminal"))
    folder, marker = tmp_path / "model", tmp_path / "code was run"
    shutil.copytree(tiny_models["bert"], folder)
    (folder / "code.py").write_text(CODE.format(marker=str(marker)))
    for name, classes in {
        "config.json": {"AutoConfig": "code.Config", "AutoModelForSequenceClassification": "code.Model"},
        "tokenizer_config.json": {"AutoTokenizer": ["code.Tokenizer", None]},
    }.items():
        values = json.loads((folder / name).read_text())
        values |= {"auto_map": classes} | ({"model_type": kind} if name == "config.json" else {})
        (folder / name).write_text(json.dumps(values))
    config = resolve(RunConfig(task="rte", optim="adam", model=str(folder)))
    if kind == "bert":
        assert type(load_model(locate(config.model), config)).__module__.startswith("transformers.")
        assert type(load_tokenizer(locate(config.model))).__module__.startswith("transformers.")
    else:
        with pytest.raises(UsageError, match="cannot load model"):
            load_model(locate(config.model), config)
    assert not marker.exists()
