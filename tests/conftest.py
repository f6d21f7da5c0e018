"""What every test shares: GLUE in small, tiny models, and a cache of its own."""

import gc
import os
import sys
from pathlib import Path

import pytest
from hypothesis import settings

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ["HF_HUB_OFFLINE"] = "1"
REAL_DATA = "GLUE_MVA_TEST_DATA"
settings.register_profile("stated", derandomize=True, deadline=None)  # what passes passes again, on any machine
settings.load_profile("stated")


@pytest.fixture(scope="session", autouse=True)
def private_cache(tmp_path_factory):
    """Tokenized data of the tests lie in a folder of their own; compiled code, which takes long to make, does not."""
    folder = tmp_path_factory.mktemp("cache")
    os.environ.pop("GLUE_MVA_CACHE", None)
    os.environ["HF_DATASETS_CACHE"] = str(folder)
    if "datasets" in sys.modules:
        sys.modules["datasets"].config.HF_DATASETS_CACHE = folder


@pytest.fixture(scope="module", autouse=True)
def loaded_is_no_garbage():
    """Modules and collected tests, half a million objects, are passed over by the garbage collector: the Trainer calls
    it in every run, which took as long as the rest of a tiny one."""
    if gc.get_freeze_count() == 0:  # at the first module, and after one that drew figures
        gc.freeze()


@pytest.fixture(autouse=True)
def own_tasks_are_forgotten():
    """What a test makes known as a task of its own is gone after it."""
    from glue_mva.tasks import TASKS

    known = dict(TASKS)
    yield
    TASKS.clear()
    TASKS.update(known)


@pytest.fixture(scope="session")
def glue() -> str:
    """Folder with a few hundred rows of every task at most, in the official layout; see tests/data."""
    return str(Path(__file__).parent / "data" / "glue")


@pytest.fixture(scope="session")
def real_glue() -> str:
    """Folder of the real GLUE data, where the environment names one."""
    folder = os.environ.get(REAL_DATA)
    if not folder:
        pytest.skip(f"{REAL_DATA} names no folder with the official GLUE files")
    return str(Path(folder).resolve(strict=True))


@pytest.fixture(scope="session")
def tiny_models(tmp_path_factory):
    """family -> folder of a tiny random encoder with a real tokenizer; built when first asked for."""
    from tests.tiny import TinyModels

    return TinyModels(tmp_path_factory.mktemp("models"))
