"""Tokenize the rows of a split once, and keep them in a cache whose key is the content of rows and tokenizer.

An entry bears the digest of its files. One that is damaged, by whatever, is made again.
"""

import hashlib
import json
import logging
import shutil
import tempfile
from pathlib import Path
from typing import Any

import datasets
import numpy as np
from datasets import Dataset
from filelock import FileLock
from transformers import PreTrainedTokenizerBase

from glue_mva.config.identity import digest_files
from glue_mva.data.load import digest_rows
from glue_mva.errors import UsageError
from glue_mva.native import chosen_cache
from glue_mva.tasks import Task

log = logging.getLogger(__name__)

DIGEST_FILE = "digest.txt"


class EncodedSplit:
    """Tokenized rows of one split, held as flat arrays; a torch map-style dataset of plain numpy rows."""

    def __init__(self, encoded: Dataset, task: Task, target_scale: float) -> None:
        table = encoded.with_format("arrow")[:]
        self.columns: dict[str, np.ndarray] = {}
        for name in set(encoded.column_names) - {"label"}:
            lists = table[name].combine_chunks()
            self.columns[name] = lists.flatten().to_numpy(zero_copy_only=False).astype(np.int64)
            self.offsets = np.concatenate([[0], np.cumsum(lists.value_lengths().to_numpy())]).astype(np.int64)
        labels = table["label"].to_numpy()
        self.labels: np.ndarray = (
            (labels * target_scale).astype(np.float32) if task.is_regression else labels.astype(np.int64)
        )
        """Class numbers, or targets multiplied by `target_scale`."""

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> dict[str, Any]:
        start, stop = self.offsets[index], self.offsets[index + 1]
        return {**{name: flat[start:stop] for name, flat in self.columns.items()}, "labels": self.labels[index]}

    @property
    def lengths(self) -> np.ndarray:
        """(rows,) tokens per row."""
        return np.diff(self.offsets)


def encode(
    split: Dataset, task: Task, tokenizer: PreTrainedTokenizerBase, max_length: int, target_scale: float = 1.0
) -> EncodedSplit:
    """Tokenize a split, or read it from the cache, whose key is the content of rows and tokenizer.

    Args:
        target_scale: factor on the targets of a regression.

    Raises:
        UsageError: the cache cannot be written.
    """
    folder = tokens_folder() / _encoding_key(split, task, tokenizer, max_length)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{folder}.lock"):  # several processes that start at once: one tokenizes, the others wait
            if folder.exists() and not _is_whole(folder):
                log.warning("%s, tokenized data, is damaged: tokenizing again", folder)
                shutil.rmtree(folder) if folder.is_dir() else folder.unlink()
            if not folder.is_dir():
                _encode_to(folder, split, task, tokenizer, max_length)
            return EncodedSplit(datasets.load_from_disk(str(folder)), task, target_scale)
    except OSError as error:
        raise UsageError(f"cannot keep tokenized data in {str(folder.parent)!r}: {error.strerror or error}; "
                         "GLUE_MVA_CACHE names another folder") from error  # fmt: skip


def _is_whole(folder: Path) -> bool:
    try:
        return (folder / DIGEST_FILE).read_text() == _digest(folder)
    except (OSError, ValueError):
        return False


def _digest(folder: Path) -> str:
    return digest_files(sorted(path for path in folder.iterdir() if path.name != DIGEST_FILE))


def _encode_to(folder: Path, split: Dataset, task: Task, tokenizer: PreTrainedTokenizerBase, max_length: int) -> None:
    def tokenize(rows: dict[str, list[Any]]) -> dict[str, Any]:
        texts = [rows[column] for column in task.text]
        encoded = tokenizer(*texts, truncation=True, max_length=max_length, return_attention_mask=False)
        return {**encoded, "label": rows["label"]}

    encoded = split.map(
        tokenize, batched=True, remove_columns=split.column_names, load_from_cache_file=False, keep_in_memory=True
    )
    scratch = tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}.")
    try:
        encoded.save_to_disk(scratch)
        (Path(scratch) / DIGEST_FILE).write_text(_digest(Path(scratch)))
        Path(scratch).rename(folder)  # appears whole or not at all
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        raise


def tokens_folder() -> Path:
    """Folder of tokenized data: `$GLUE_MVA_CACHE`, else `glue-mva` inside the datasets library's cache."""
    return chosen_cache() or Path(datasets.config.HF_DATASETS_CACHE) / "glue-mva"


def _encoding_key(split: Dataset, task: Task, tokenizer: PreTrainedTokenizerBase, max_length: int) -> str:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    options = {k: v for k, v in tokenizer.init_kwargs.items() if isinstance(v, bool | int)}  # no paths: they may move
    content = repr((sorted(tokenizer.get_vocab().items()), sorted(options.items())))
    if backend is not None:  # it remembers how it was last called, which is no part of what it is
        content = json.dumps({**json.loads(backend.to_str()), "truncation": None, "padding": None})
    names = [",".join(words) for words in (task.text, tokenizer.model_input_names)]
    kind = f"targets {list(split['label'])}" if task.is_regression else "classes"
    parts = (digest_rows({"": split}), kind, *names, type(tokenizer).__name__, content, tokenizer.truncation_side,
             str(max_length))  # fmt: skip
    return hashlib.sha256("\x1e".join(parts).encode()).hexdigest()[:24]
