"""Is the Hugging Face Hub there? Asked once per process, answered within seconds."""

from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

from huggingface_hub import constants, get_session

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
