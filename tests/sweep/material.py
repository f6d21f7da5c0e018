"""A model of 40,000 random weights, a few rows of two tasks, and a sweep over them: runs of about a second."""

from pathlib import Path

GLUE = Path(__file__).parents[3] / "shared" / "glue"
ROWS = {"train.tsv": 48, "dev.tsv": 32}


def make_model(folder: Path) -> None:
    """A RoBERTa of two layers with a tokenizer of single bytes."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast, RobertaConfig, RobertaModel

    special = ["<s>", "<pad>", "</s>", "<unk>"]
    words = special + sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={word: i for i, word in enumerate(words)}, merges=[], unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", cls_token="<s>", sep_token="</s>",
        pad_token="<pad>", unk_token="<unk>", model_max_length=64,
    )  # fmt: skip
    torch.manual_seed(0)
    config = RobertaConfig(
        vocab_size=len(words), hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
        max_position_embeddings=66, pad_token_id=1, bos_token_id=0, eos_token_id=2, type_vocab_size=1,
    )  # fmt: skip
    RobertaModel(config, add_pooling_layer=False).save_pretrained(folder)
    fast.save_pretrained(folder)


def make_data(folder: Path) -> None:
    """The first rows of RTE and MRPC in the official layout."""
    for task in ("RTE", "MRPC"):
        (folder / task).mkdir(parents=True)
        for name, rows in ROWS.items():
            lines = (GLUE / task / name).read_text(encoding="utf-8-sig").splitlines(keepends=True)
            (folder / task / name).write_text("".join(lines[: rows + 1]), encoding="utf-8")


def make_sweep(folder: Path, **changes: object) -> Path:
    """`folder/sweep.toml`: 2 tasks x 2 optimizers x 2 points x 2 seeds, paths relative to the folder."""
    values: dict[str, object] = {
        "output": "runs", "tasks": ["rte", "mrpc"], "optimizers": ["adam", "lamadam"], "lr": [1e-3, 3e-3],
        "weight_decay": [0.1], "search_seeds": 2, "final_seeds": 2, **changes,
    }  # fmt: skip
    run = {"model": "model", "data": "data", "num_train_epochs": 1.0, "max_length": 32, "train_batch_size": 16,
           "warmup_ratio": 0.1}  # fmt: skip
    lines = [f"{key} = {_toml(value)}" for key, value in values.items()]
    lines += ["[run]", *(f"{key} = {_toml(value)}" for key, value in run.items())]
    (folder / "sweep.toml").write_text("\n".join(lines) + "\n")
    return folder / "sweep.toml"


def _toml(value: object) -> str:
    return str(value).replace("'", '"') if isinstance(value, list) else f'"{value}"' if isinstance(value, str) else repr(value)


def make_material(folder: Path) -> Path:
    """Everything; returns the folder, from which the sweep is to be started."""
    make_model(folder / "model")
    make_data(folder / "data")
    make_sweep(folder)
    return folder
