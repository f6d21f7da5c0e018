"""Tiny random encoders of every family that the program is tested with, and the tokenizers that belong to them."""

import json
from collections.abc import Iterator
from pathlib import Path

import torch
import transformers
from tokenizers import ByteLevelBPETokenizer
from transformers import AutoModel, AutoTokenizer, PreTrainedTokenizerBase, RobertaTokenizer

from glue_mva.config.identity import DEMO_MODEL, model_path
from glue_mva.data.tsv import read_split
from glue_mva.tasks import TASKS

GLUE = Path(__file__).parent / "data" / "glue"
SMALL = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 130,
}
BERTS = {**SMALL, "vocab_size": 30522, "pad_token_id": 0}
DISTIL = {"dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 32, "max_position_embeddings": 130}
BPE = ("roberta", "xlm-roberta", "camembert")
"""Families with a byte-level BPE trained on the test sentences; the others have the word pieces of the demo model."""
CONFIGS = {
    "bert": lambda: transformers.BertConfig(**BERTS),
    "roberta": lambda: transformers.RobertaConfig(**SMALL, type_vocab_size=1),
    "xlm-roberta": lambda: transformers.XLMRobertaConfig(**SMALL, type_vocab_size=1),
    "camembert": lambda: transformers.CamembertConfig(**SMALL, type_vocab_size=1),
    "electra": lambda: transformers.ElectraConfig(**BERTS, embedding_size=16),
    "distilbert": lambda: transformers.DistilBertConfig(**DISTIL, vocab_size=30522, pad_token_id=0),
    "albert": lambda: transformers.AlbertConfig(**BERTS, embedding_size=16),
    "deberta-v2": lambda: transformers.DebertaV2Config(
        **BERTS, relative_attention=True, pos_att_type=["p2c", "c2p"], position_buckets=32, type_vocab_size=2
    ),
    "modernbert": lambda: transformers.ModernBertConfig(
        **BERTS, cls_token_id=101, sep_token_id=102, bos_token_id=101, eos_token_id=102, local_attention=16
    ),
}


class TinyModels:
    """Folders of tiny models, each with its tokenizer."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def __getitem__(self, family: str) -> str:
        folder = self.root / family
        if not folder.is_dir():
            tokenizer = trained_bpe() if family in BPE else word_pieces(family)
            config = CONFIGS[family]()
            if family in BPE:
                config.vocab_size = len(tokenizer)
            torch.manual_seed(0)
            AutoModel.from_config(config).save_pretrained(folder)
            tokenizer.save_pretrained(folder)
        return str(folder)


def word_pieces(family: str) -> PreTrainedTokenizerBase:
    """The demo model's tokenizer, without the second segment where the family has none."""
    tokenizer = AutoTokenizer.from_pretrained(model_path(DEMO_MODEL))
    if family in ("distilbert", "modernbert"):
        tokenizer.model_input_names = ["input_ids", "attention_mask"]
    return tokenizer


def trained_bpe() -> PreTrainedTokenizerBase:
    """RoBERTa's kind of tokenizer, trained on the test sentences; its special tokens have RoBERTa's ids 0 to 4."""
    bpe = ByteLevelBPETokenizer()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    bpe.train_from_iterator(sentences(), vocab_size=800, special_tokens=special, show_progress=False)
    model = json.loads(bpe.to_str())["model"]
    return RobertaTokenizer(model["vocab"], [tuple(pair) for pair in model["merges"]], model_max_length=128)


def sentences() -> Iterator[str]:
    """Every training sentence of the test data."""
    for task in TASKS.values():
        if "train" in task.rows:
            columns = read_split(task, GLUE / task.folder / "train.tsv")
            for name in task.text:
                yield from columns[name]
