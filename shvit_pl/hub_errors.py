"""Reachability of the Hugging Face Hub, and the messages for all its errors."""

import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import lru_cache
from textwrap import shorten
from typing import Any, Literal

from huggingface_hub import HfApi, constants, errors, get_session, get_token

from shvit_pl.errors import UserError, causes, one_line

TOKEN_PAGE = f"{constants.ENDPOINT}/settings/tokens"
_REACHABLE_TIMEOUT_S = 5.0
_DATASET_TIMEOUT_S = 3.0
_PUSH_TIMEOUT_S = 60.0  # the client alone would wait forever
_NOUNS = {"model": "model repo", "dataset": "dataset"}
_LOCAL = {"model": "a file or a run folder", "dataset": "a folder of images or a parquet file"}

Kind = Literal["model", "dataset"]


class HubError(UserError):
    """A refusal or failure of the Hub during a push; the same push may succeed later."""


@lru_cache(maxsize=1)
def hub_reachable() -> bool:
    """Return whether the Hub responds within 5 seconds, through the client's own proxy settings.

    If not, the Hub clients are switched to their local cache, instead of waiting for every client's retries.
    """
    if constants.HF_HUB_OFFLINE:
        return False
    try:
        get_session().head(constants.ENDPOINT, timeout=_REACHABLE_TIMEOUT_S)
    except Exception:  # raised by the client's HTTP library, the system, or a malformed proxy address
        for client in _clients():
            client.HF_HUB_OFFLINE = True
        return False
    return True


def _clients() -> list[Any]:
    """Return the modules that have the setting: `datasets` copies it when it is imported."""
    return [constants, *([sys.modules["datasets"].config] if "datasets" in sys.modules else [])]


def go_offline_if_unreachable() -> None:
    """Let the Hub clients read their local cache where the Hub can't be reached, which is tested once per process."""
    hub_reachable()


@contextmanager
def offline() -> Iterator[None]:
    """Let the Hub clients read their local cache alone for a while, and download nothing."""
    with ExitStack() as stack:
        for client in _clients():
            stack.callback(setattr, client, "HF_HUB_OFFLINE", client.HF_HUB_OFFLINE)
            client.HF_HUB_OFFLINE = True
        yield


def why_unreachable() -> str:
    """Return why the Hub can't be used, as the second half of a sentence."""
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in constants.ENV_VARS_TRUE_VALUES:
        return "HF_HUB_OFFLINE is set"
    return f"the Hub cannot be reached ({constants.ENDPOINT})"


def why_no_model(error: BaseException, repo: str) -> str:
    """Explain the client's error for `user/name` or `user/name@revision`, a model, and what to do about it."""
    name, _, revision = repo.partition("@")
    if isinstance(error, errors.LocalEntryNotFoundError) and error.__cause__ is not None:
        error = error.__cause__  # the client found nothing in its cache after this error
    if why := _why_not_read(error, "model", name, revision):
        return why
    if isinstance(error, errors.EntryNotFoundError):
        return f"not a model of timm: {constants.ENDPOINT}/{name} lacks config.json or the weights. Give another repo."
    return _why_not_fetched(error)


def why_no_dataset(error: BaseException, dataset: str, revision: str | None) -> str | None:
    """Explain why `datasets` could not read a dataset; None where the Hub is not the reason."""
    try:  # its own error hides a refusal
        if HfApi().dataset_info(dataset, revision=revision, timeout=_DATASET_TIMEOUT_S).gated:
            HfApi().auth_check(dataset, repo_type="dataset")
    except Exception as refusal:
        if why := _why_not_read(refusal, "dataset", dataset, revision):
            return why
    for cause in causes(error):
        if isinstance(cause, errors.LocalEntryNotFoundError) and cause.__cause__ is not None:  # nor is it in the cache
            return _why_later(cause.__cause__) or _why_not_fetched(cause.__cause__)
    return None


def _why_not_read(error: BaseException, kind: Kind, name: str, revision: str | None) -> str | None:
    """Explain a refusal, a Hub that can't be reached, and an outage; None for other errors."""
    if refused := _why_refused(error, kind, name, revision):
        return refused
    if not hub_reachable():
        return (
            f"no such folder or file here, no such {_NOUNS[kind]} in the local cache, and {why_unreachable()}. Give "
            f"{_LOCAL[kind]}, or run it once where the Hub can be reached."
        )
    return _why_later(error)


def _why_not_fetched(error: BaseException) -> str:
    return f"it can't be fetched from the Hub ({shorten(one_line(error), 160, placeholder=' ...')})."


def _why_refused(error: BaseException, kind: Kind, name: str, revision: str | None) -> str | None:
    """Explain a refusal to let a repository be read; None for other errors."""
    page = f"{constants.ENDPOINT}/{'datasets/' if kind == 'dataset' else ''}{name}"
    if isinstance(error, errors.GatedRepoError):
        obstacle = "the account of this token has no access" if get_token() else "there is no token"
        return (
            f"a gated {kind}, and {obstacle}. Ask for access at {page}, and set HF_TOKEN to a token of the account "
            f"that has it ({TOKEN_PAGE})."
        )
    if isinstance(error, errors.RepositoryNotFoundError | errors.HFValidationError):
        return (
            f"no such folder or file here, and no such {_NOUNS[kind]} on the Hub. Give {_LOCAL[kind]}, or another "
            f"{_NOUNS[kind]}; a private one needs HF_TOKEN."
        )
    if isinstance(error, errors.RevisionNotFoundError):
        flag = " (--data.revision)" if kind == "dataset" else ""
        return f"it has no branch, tag or commit {revision!r}{flag}; they are listed at {page}."
    if isinstance(error, errors.HfHubHTTPError) and error.response.status_code in (401, 403):
        return (
            f"the Hub does not let this token read it ({error.response.status_code}). Set HF_TOKEN to one that may "
            f"({TOKEN_PAGE}), or unset it for what is public."
        )
    return None


def _why_later(error: BaseException) -> str | None:
    """Explain an outage of the Hub, or too many requests; None for other errors."""
    status = error.response.status_code if isinstance(error, errors.HfHubHTTPError) else 0
    if status == 429:
        return "too many requests to the Hub (429). Wait a few minutes."
    return f"the Hub has failed ({status}). Try again later." if status >= 500 else None


@contextmanager
def pushing(repo_id: str) -> Iterator[None]:
    """Limit the time of the requests of a push, and turn every error of it into a `HubError`."""
    if not hub_reachable():
        raise HubError(f"{why_unreachable()}.")
    get_session().timeout = push_timeout()
    try:
        yield
    except errors.LocalTokenNotFoundError as error:
        raise HubError(
            f"there is no token for the Hub. Make one that may write at {TOKEN_PAGE}, then: hf auth login (or set "
            "HF_TOKEN)."
        ) from error
    except errors.HfHubHTTPError as error:
        raise HubError(_why_later(error) or _why_not_pushed(error, repo_id)) from error
    except errors.HTTPError as error:
        problem = f"the connection to the Hub broke ({one_line(error)[:120]})."
        if "Timeout" in type(error).__name__:  # the classes belong to the client's HTTP library, whichever it is
            problem = f"the Hub has not answered for {push_timeout():g} seconds (HF_HUB_DOWNLOAD_TIMEOUT changes that)."
        raise HubError(problem) from error
    except (OSError, RuntimeError, ValueError) as error:  # raised by the system, uploads, or the card's metadata
        raise HubError(f"the push failed ({one_line(error)[:160]}).") from error


def _why_not_pushed(error: errors.HfHubHTTPError, repo_id: str) -> str:
    status = error.response.status_code
    details = f" ({' '.join(error.server_message.split())[:120]})" if error.server_message else ""
    reason, advice = {
        401: ("the Hub does not accept the token", f"Log in again (hf auth login), or set HF_TOKEN: {TOKEN_PAGE}"),
        403: (f"the Hub does not let this token write to {repo_id!r}", f"Make one that may at {TOKEN_PAGE}"),
        404: (f"the Hub has no {repo_id!r}, or does not show it to this token", "Check the name"),
    }.get(status, (f"the Hub refuses the push ({status})", "Its page says more"))
    return f"{reason}{details}. {advice}."


def push_timeout() -> float:
    """Return the seconds after which a request of a push without an answer fails."""
    return float(os.environ.get("HF_HUB_DOWNLOAD_TIMEOUT") or _PUSH_TIMEOUT_S)
