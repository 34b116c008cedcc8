"""Letting the clients of this process speak to a Hub of the tests, by the settings that a user has.

The clients read their environment when they are imported. So `reserve`, which is called before that, takes a port and
sets `HF_ENDPOINT` to it. Nobody listens there until a test starts its Hub.
"""

import os
import socket
from contextlib import contextmanager

import pytest

from tests.hub_server.server import HubServer

_LOCAL = "127.0.0.1,localhost"


def reserve():
    """Set the environment of the clients; the socket holds the port, but does not listen."""
    held = socket.socket()
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # so that a Hub can listen there
    held.bind(("127.0.0.1", 0))
    os.environ["HF_ENDPOINT"] = f"http://127.0.0.1:{held.getsockname()[1]}"
    os.environ["NO_PROXY"] = os.environ["no_proxy"] = _LOCAL
    os.environ["HF_HUB_DISABLE_XET"] = os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    return held


@contextmanager
def online(held, folder):
    """A Hub at the reserved port, spoken to with the token of `user` and with a cache of its own in `folder`."""
    with HubServer(held.getsockname()[1]) as hub, pytest.MonkeyPatch.context() as patch:
        patch.delenv("HUGGING_FACE_HUB_TOKEN", raising=False)
        patch.setenv("HF_TOKEN", hub.token)
        configure(patch, offline=False, cache=folder)
        yield hub
    forget()


def configure(patch, *, offline, cache):
    """What HF_HUB_OFFLINE and HF_HOME would set, in a process that has imported the clients already."""
    import datasets.config
    from huggingface_hub import constants

    patch.setenv("HF_HUB_OFFLINE", str(int(offline)))
    patch.setattr(constants, "HF_HUB_OFFLINE", offline)
    patch.setattr(datasets.config, "HF_HUB_OFFLINE", offline)
    patch.setattr(constants, "HF_HUB_CACHE", str(cache / "hub"))
    patch.setattr(datasets.config, "HF_DATASETS_CACHE", cache / "datasets")
    forget()


def forget():
    """Forget what a new process would not know: connections, listings, and whether the Hub can be reached."""
    from huggingface_hub import HfFileSystem, close_session

    from shvit_pl.hub_errors import hub_reachable

    close_session()
    HfFileSystem.clear_instance_cache()
    hub_reachable.cache_clear()
