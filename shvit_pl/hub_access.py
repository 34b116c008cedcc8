"""Asking once whether the Hugging Face Hub can be reached, instead of waiting for every client's retries."""

from __future__ import annotations

import socket
import sys
from functools import lru_cache
from urllib.parse import urlsplit

_TIMEOUT_S = 3.0


@lru_cache(maxsize=1)
def hub_reachable() -> bool:
    """Whether the Hub answers within 3 seconds; if not, the Hub clients are switched to their local cache."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return False
    endpoint = urlsplit(constants.ENDPOINT)
    port = endpoint.port or (443 if endpoint.scheme == "https" else 80)
    try:
        socket.create_connection((endpoint.hostname or "", port), timeout=_TIMEOUT_S).close()
    except OSError:
        _use_cache_only()
        return False
    return True


def _use_cache_only() -> None:
    from huggingface_hub import constants

    constants.HF_HUB_OFFLINE = True
    if "datasets" in sys.modules:  # it copied the setting when it was imported
        sys.modules["datasets"].config.HF_HUB_OFFLINE = True
