"""Asking the Hugging Face Hub: whether it can be reached, and why it does not give a dataset."""

from __future__ import annotations

import os
import socket
import sys
from functools import lru_cache
from urllib.parse import SplitResult, urlsplit
from urllib.request import getproxies, proxy_bypass

_TIMEOUT_S = 3.0


@lru_cache(maxsize=1)
def hub_reachable() -> bool:
    """Whether the Hub, or the proxy on the way to it, answers within 3 seconds.

    If not, the Hub clients are switched to their local cache, instead of waiting for every client's retries.
    """
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return False
    first = _first_hop(urlsplit(constants.ENDPOINT))
    port = first.port or (443 if first.scheme == "https" else 80)
    try:
        socket.create_connection((first.hostname or "", port), timeout=_TIMEOUT_S).close()
    except OSError:
        _use_cache_only()
        return False
    return True


def _first_hop(endpoint: SplitResult) -> SplitResult:
    proxy = getproxies().get(endpoint.scheme)
    if not proxy or proxy_bypass(endpoint.hostname or ""):
        return endpoint
    return urlsplit(proxy if "://" in proxy else f"http://{proxy}")


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


def why_refused(dataset: str, revision: str | None) -> str | None:
    """Why the Hub does not give a dataset, and what to do about it; None when it would give it, or can't be asked."""
    from huggingface_hub import HfApi

    try:
        if HfApi().dataset_info(dataset, revision=revision, timeout=_TIMEOUT_S).gated:
            HfApi().auth_check(dataset, repo_type="dataset")
    except Exception as error:  # also what keeps the question from being answered: the client's own error says more
        return _refusal(error, dataset, revision)
    return None


def _refusal(error: Exception, dataset: str, revision: str | None) -> str | None:
    from huggingface_hub import constants, errors, get_token

    page, tokens = f"{constants.ENDPOINT}/datasets/{dataset}", f"{constants.ENDPOINT}/settings/tokens"
    if isinstance(error, errors.GatedRepoError):
        whose = "the account of this token has no access" if get_token() else "there is no token"
        return (
            f"data.path {dataset!r}: a gated dataset, and {whose}. Ask for access at {page}, and set HF_TOKEN to a "
            f"token of the account that has it ({tokens})."
        )
    if isinstance(error, errors.RepositoryNotFoundError | errors.HFValidationError):
        return (
            f"data.path {dataset!r}: no such folder or file here, and no such dataset on the Hub. Give a folder of "
            "images, a parquet file, or the id of a Hub dataset; a private one needs HF_TOKEN."
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return f"data.revision {revision!r}: no such branch, tag or commit; they are listed at {page}."
    if isinstance(error, errors.HfHubHTTPError) and error.response.status_code == 401:
        return f"data.path {dataset!r}: the Hub does not know the token of HF_TOKEN. Give another ({tokens}), or none."
    return None
