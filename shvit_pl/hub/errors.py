"""What the errors of a push mean to a user."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from huggingface_hub import get_session
from huggingface_hub.errors import HfHubHTTPError, HTTPError, LocalTokenNotFoundError, OfflineModeIsEnabled

from shvit_pl.errors import UserError, one_line
from shvit_pl.hub_status import token_page, why_later

OFFLINE = "HF_HUB_OFFLINE is set, so nothing can be pushed. Unset it."
_PATIENCE_S = 60.0  # that the Hub may be silent; its client would wait for ever


class HubError(UserError):
    """What the Hub refuses, or fails to do: it may take the same push at another time."""


@contextmanager
def hub_errors(repo_id: str) -> Iterator[None]:
    """Speak to the Hub with a limit to its silence; whatever it answers or fails to becomes one `HubError`."""
    get_session().timeout = patience()
    try:
        yield
    except LocalTokenNotFoundError as error:
        raise HubError(
            f"there is no token for the Hub. Make one that may write at {token_page()}, then: hf auth login (or set "
            "HF_TOKEN)."
        ) from error
    except HfHubHTTPError as error:
        raise HubError(_refusal(error, repo_id)) from error
    except OfflineModeIsEnabled as error:
        raise HubError(OFFLINE) from error
    except HTTPError as error:
        raise HubError(_no_answer(error)) from error
    except (OSError, RuntimeError, ValueError) as error:  # of the system, of uploads, of the card's head
        raise HubError(f"the push failed ({one_line(error)[:160]}).") from error


def _refusal(error: HfHubHTTPError, repo_id: str) -> str:
    status = error.response.status_code
    said = f" ({' '.join(error.server_message.split())[:120]})" if error.server_message else ""
    reason, advice = {
        401: ("the Hub does not accept the token", f"Log in again (hf auth login), or set HF_TOKEN: {token_page()}"),
        403: (f"the Hub does not let this token write to {repo_id!r}", f"Make one that may at {token_page()}"),
        404: (f"the Hub knows no {repo_id!r}, or does not show it to this token", "Check the name"),
    }.get(status, (f"the Hub refuses the push ({status})", "Its page says more"))
    return why_later(error) or f"{reason}{said}. {advice}."


def _no_answer(error: HTTPError) -> str:
    if "Timeout" in type(error).__name__:  # the classes are of the client's own HTTP library, whichever it is
        return f"the Hub has not answered for {patience():g} seconds (HF_HUB_DOWNLOAD_TIMEOUT changes that)."
    return f"the connection to the Hub broke ({one_line(error)[:120]})."


def patience() -> float:
    """Seconds that the Hub may be silent."""
    return float(os.environ.get("HF_HUB_DOWNLOAD_TIMEOUT") or _PATIENCE_S)
