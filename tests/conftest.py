"""What every test shares: the real GLUE data beside the project, tiny models, and a cache of its own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ["HF_HUB_OFFLINE"] = "1"
ROOT = Path(__file__).parents[1]
SHARED = ROOT.parent / "shared"


@pytest.fixture(scope="session", autouse=True)
def private_cache(tmp_path_factory):
    """Tokenized data of the tests lie in a folder of their own."""
    os.environ["GLUE_MVA_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session")
def glue() -> str:
    """Folder of the real GLUE data."""
    return str(SHARED / "glue")


@pytest.fixture(scope="session")
def tiny_models(tmp_path_factory):
    """family -> folder of a tiny random encoder with a real tokenizer; built when first asked for."""
    from tests.tiny import TinyModels

    return TinyModels(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="session")
def roberta_mini(request) -> str:
    """RoBERTa-shaped model with real weights; kept in pytest's cache, so built once per checkout."""
    folder = request.config.cache.mkdir("roberta-mini")
    if not (folder / "tokenizer.json").is_file():
        build = SHARED / "roberta-mini" / "build.py"
        subprocess.run([sys.executable, str(build), str(folder)], check=True, capture_output=True)
    return str(folder)
