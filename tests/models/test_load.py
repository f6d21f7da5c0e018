"""Loading a classifier: what the config asks for arrives in the modules of every family, and what does not fit is
refused."""

import json
import re
import shutil
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import torch
from transformers import AutoModelForSequenceClassification, MPNetConfig, MPNetModel
from transformers.utils.import_utils import BACKENDS_MAPPING

from glue_mva import RunConfig, UsageError
from glue_mva.config.resolve import resolve
from glue_mva.models.load import check_vocabulary, load_model, load_tokenizer, locate
from tests.tiny import CONFIGS, sentences

ATTENTION = re.compile(r"(attention\.dropout|self\.dropout|attention_dropout|attn\.out_drop)$")
"""Names of the modules that drop attention weights; ModernBERT has one value for these and the output."""


@pytest.mark.parametrize("family", CONFIGS)
def test_dropout_reaches_every_module(family, tiny_models):
    config = resolve(RunConfig(task="rte", optim="adam", model=tiny_models[family], hidden_dropout=0.3,
                               attention_dropout=0.2))  # fmt: skip
    model = load_model(locate(config.model), config)
    found = {"head": set(), "attention": set(), "hidden": set()}
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Dropout):
            place = "attention" if ATTENTION.search(name) else "hidden"
            found[place if name.startswith(model.base_model_prefix + ".") else "head"].add(module.p)
    assert found == {"head": {0.0}, "attention": {0.2}, "hidden": {0.3}}
    assert {p.dtype for p in model.parameters()} == {torch.float32}


def test_dropout_reaches_a_head_that_the_config_has_no_name_for(tiny_models, tmp_path):
    """MPNet builds it with the encoder's."""
    tiny = MPNetConfig(vocab_size=40, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8)
    MPNetModel(tiny).save_pretrained(tmp_path)
    load_tokenizer(locate(tiny_models["bert"])).save_pretrained(tmp_path)
    config = resolve(RunConfig(task="rte", optim="adam", model=str(tmp_path)))
    model = load_model(locate(config.model), config)
    assert (model.classifier.dropout.p, model.mpnet.embeddings.dropout.p) == (0.0, 0.1)


def edited(source: str, folder: Path, **config: Any) -> str:
    """A copy of a model with other values in its config."""
    shutil.copytree(source, folder)
    values = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(values | config))
    return str(folder)


@pytest.mark.parametrize(
    ("layers", "words"), [(3, "the weights lack bert.encoder.layer.2"), (1, "layers that its config does not name")]
)
def test_weights_of_other_layers_are_refused(layers, words, tiny_models, tmp_path):
    model = edited(tiny_models["bert"], tmp_path / "model", num_hidden_layers=layers)
    with pytest.raises(UsageError, match=words):
        load_model(locate(model), resolve(RunConfig(task="rte", optim="adam", model=model)))


@pytest.fixture(scope="module")
def deberta_of_the_hub(tiny_models, tmp_path_factory) -> str:
    """A tiny DeBERTa with a vocabulary as DeBERTa-v3 has it on the Hub: a SentencePiece model, no tokenizer.json."""
    trainer = pytest.importorskip("sentencepiece").SentencePieceTrainer
    folder = tmp_path_factory.mktemp("spm") / "model"
    model = edited(tiny_models["deberta-v2"], folder)
    for name in ("tokenizer.json", "vocab.txt", "tokenizer_config.json", "special_tokens_map.json"):
        (folder / name).unlink(missing_ok=True)
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "DebertaV2Tokenizer"}))
    trainer.train(sentence_iterator=sentences(), model_prefix=str(folder / "spm"), vocab_size=200, pad_id=0, bos_id=1,
                  eos_id=2, unk_id=3, pad_piece="[PAD]", bos_piece="[CLS]", eos_piece="[SEP]", unk_piece="[UNK]",
                  minloglevel=2)  # fmt: skip
    return model


def test_a_vocabulary_of_sentencepiece_is_read(deberta_of_the_hub):
    tokenizer = load_tokenizer(locate(deberta_of_the_hub))
    ids = tokenizer("the cat", "sat").input_ids
    assert tokenizer.convert_ids_to_tokens([ids[0], ids[-1]]) == ["[CLS]", "[SEP]"] and ids.count(ids[-1]) == 2
    assert tokenizer.decode(ids, skip_special_tokens=True).split() == ["the", "cat", "sat"]
    assert tokenizer.unk_token_id not in ids


def test_a_missing_package_of_a_tokenizer_is_named(deberta_of_the_hub, monkeypatch):
    missing = Mock(return_value=False)
    monkeypatch.setitem(BACKENDS_MAPPING, "sentencepiece", (missing, "{0} needs the sentencepiece library"))
    monkeypatch.setattr("glue_mva.models.load._installed", lambda module: module != "sentencepiece")
    with pytest.raises(UsageError, match=r"SentencePiece model.*pip install sentencepiece$"):
        load_tokenizer(locate(deberta_of_the_hub))
    assert missing.called


def test_a_folder_without_a_tokenizer_is_refused(tiny_models, tmp_path):
    model = edited(tiny_models["bert"], tmp_path / "model")
    for name in ("tokenizer.json", "vocab.txt"):
        (tmp_path / "model" / name).unlink(missing_ok=True)
    with pytest.raises(UsageError, match="has no tokenizer: looked for"):
        load_tokenizer(locate(model))


def test_a_tokenizer_past_the_embeddings_is_refused(tiny_models):
    source = locate(tiny_models["roberta"])
    model = load_model(source, resolve(RunConfig(task="rte", optim="adam", model=source.name)))
    with pytest.raises(UsageError, match="tokens up to 30521 where the model has"):
        check_vocabulary(model, load_tokenizer(locate(tiny_models["bert"])))


@pytest.mark.parametrize(
    "names, said",
    [
        (["CONTRADICTION", "NEUTRAL", "ENTAILMENT"], "those of ax are entailment, neutral, contradiction"),
        (["Entailment", "NEUTRAL", "contradiction"], None),
        (["LABEL_0", "LABEL_1", "LABEL_2"], "nothing shows that they are in ax's order"),
    ],
)
def test_the_classes_of_a_trained_head_are_those_of_the_task(names, said, tiny_models, tmp_path, caplog):
    model = AutoModelForSequenceClassification.from_pretrained(tiny_models["bert"], id2label=dict(enumerate(names)))
    model.save_pretrained(tmp_path)
    config = resolve(RunConfig(task="ax", optim="adam", model=str(tmp_path), num_train_epochs=0.0))
    if names[0] == "CONTRADICTION":
        with pytest.raises(UsageError, match=said):
            load_model(locate(config.model), config)
    else:
        assert load_model(locate(config.model), config).config.num_labels == 3
        assert (said or "nothing shows") in caplog.text if said else "nothing shows" not in caplog.text
