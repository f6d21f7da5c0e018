"""The Hugging Face Hub: whether it is there, asked once per process and answered within seconds, and its datasets."""

from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any

import datasets
from huggingface_hub import constants, get_session

from glue_mva.errors import UsageError, first_line

TIMEOUT_SECONDS = 6


@lru_cache(maxsize=1)
def reachable() -> bool:
    """Whether the Hub answers at all (through the proxy of the environment, if one is set)."""
    if constants.HF_HUB_OFFLINE:
        return False
    pool = ThreadPoolExecutor(1)
    try:
        pool.submit(lambda: get_session().head(constants.ENDPOINT, timeout=TIMEOUT_SECONDS)).result(TIMEOUT_SECONDS)
    except Exception:  # any failure to answer means the same here
        return False
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
    return True


def load_dataset(name: str, config: str | None, way_out: str, revision: str | None = None) -> Any:
    """A dataset of the Hub with all its splits; from this machine's cache where the Hub is out of reach.

    Args:
        way_out: how the message of an error ends.

    Raises:
        UsageError: neither there nor in the cache.
    """
    online = reachable()
    settings = datasets.DownloadConfig(local_files_only=not online, max_retries=1)
    before = datasets.config.HF_HUB_OFFLINE
    datasets.config.HF_HUB_OFFLINE = not online
    try:
        return datasets.load_dataset(name, config, revision=revision, download_config=settings)
    except Exception as error:  # whatever the Hub's client raises: the ways out are the same
        reason = first_line(error) if online else "the Hub cannot be reached"
        shown = f"{name} ({config})" if config else name
        raise UsageError(f"cannot load {shown}: {reason}; {way_out}") from None
    finally:
        datasets.config.HF_HUB_OFFLINE = before
