"""Tiny random encoders of every family that the program is tested with."""

from pathlib import Path

import torch
import transformers
from transformers import AutoModel, AutoTokenizer

from glue_mva.config.identity import DEMO_MODEL, model_path

SMALL = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 130,
    "vocab_size": 30522,
    "pad_token_id": 0,
}
DISTIL = {"dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 32, "max_position_embeddings": 130, "vocab_size": 30522}
CONFIGS = {
    "bert": lambda: transformers.BertConfig(**SMALL),
    "roberta": lambda: transformers.RobertaConfig(**SMALL, type_vocab_size=2),
    "xlm-roberta": lambda: transformers.XLMRobertaConfig(**SMALL, type_vocab_size=2),
    "camembert": lambda: transformers.CamembertConfig(**SMALL, type_vocab_size=2),
    "electra": lambda: transformers.ElectraConfig(**SMALL, embedding_size=16),
    "distilbert": lambda: transformers.DistilBertConfig(**DISTIL, pad_token_id=0),
    "albert": lambda: transformers.AlbertConfig(**SMALL, embedding_size=16),
    "deberta-v2": lambda: transformers.DebertaV2Config(
        **SMALL, relative_attention=True, pos_att_type=["p2c", "c2p"], position_buckets=32, type_vocab_size=2
    ),
    "modernbert": lambda: transformers.ModernBertConfig(
        **SMALL, cls_token_id=101, sep_token_id=102, bos_token_id=101, eos_token_id=102, local_attention=16
    ),
}


class TinyModels:
    """Folders of tiny models, each with the word-piece tokenizer of the demo model."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def __getitem__(self, family: str) -> str:
        folder = self.root / family
        if not folder.is_dir():
            torch.manual_seed(0)
            AutoModel.from_config(CONFIGS[family]()).save_pretrained(folder)
            tokenizer = AutoTokenizer.from_pretrained(model_path(DEMO_MODEL))
            if family in ("distilbert", "modernbert"):
                tokenizer.model_input_names = ["input_ids", "attention_mask"]
            tokenizer.save_pretrained(folder)
        return str(folder)
