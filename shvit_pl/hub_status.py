"""Whether the Hugging Face Hub answers, what it means when it fails, and where its tokens are made."""

from __future__ import annotations

import os
import sys
from functools import lru_cache

_ANSWER_S = 5.0


@lru_cache(maxsize=1)
def hub_reachable() -> bool:
    """Whether the Hub answers anything within 5 seconds, by the client's own way through proxies.

    If not, the Hub clients are switched to their local cache, instead of waiting for every client's retries.
    """
    from huggingface_hub import constants, get_session

    if constants.HF_HUB_OFFLINE:
        return False
    try:
        get_session().head(constants.ENDPOINT, timeout=_ANSWER_S)
    except Exception:  # of the client's HTTP library, of the system, of what a proxy's address says
        _use_cache_only()
        return False
    return True


def use_cache_if_unreachable() -> None:
    """Let the Hub's clients look in their local cache alone where the Hub does not answer."""
    hub_reachable()


def _use_cache_only() -> None:
    from huggingface_hub import constants

    constants.HF_HUB_OFFLINE = True
    if "datasets" in sys.modules:  # it copied the setting when it was imported
        sys.modules["datasets"].config.HF_HUB_OFFLINE = True


def why_unreachable() -> str:
    """Why the Hub can't be asked, as the second half of a sentence."""
    from huggingface_hub import constants

    if os.environ.get("HF_HUB_OFFLINE", "").upper() in constants.ENV_VARS_TRUE_VALUES:
        return "HF_HUB_OFFLINE is set"
    return f"the Hub cannot be reached ({constants.ENDPOINT})"


def token_page() -> str:
    """Where the Hub's tokens are made."""
    from huggingface_hub import constants

    return f"{constants.ENDPOINT}/settings/tokens"


def why_later(error: BaseException | None) -> str | None:
    """What to say of a Hub that has failed itself, or was asked too much; None for all other errors."""
    status = getattr(getattr(error, "response", None), "status_code", 0)
    if status == 429:
        return "too many requests for the Hub (429). Wait a few minutes."
    return f"the Hub itself has failed ({status}). Wait a while." if status >= 500 else None
