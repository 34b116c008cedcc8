"""The large file storage: where files go before they are committed, and come from without a token."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.hub_server.access import writable
from tests.hub_server.messages import HubError, Request, Response, route
from tests.hub_server.repos import sha256

if TYPE_CHECKING:
    from tests.hub_server.server import HubServer


@route("POST", "/{prefix}{repo}\\.git/info/lfs/objects/batch")
def batch(hub: HubServer, request: Request, prefix: str, repo: str) -> Response:
    """Where to upload which of the files; those that are there already need none."""
    writable(hub, request, prefix.strip("/") or "models", repo)
    verify = {"href": f"{hub.url}/{prefix}{repo}.git/info/lfs/objects/verify"}

    def instructions(file: dict[str, Any]) -> dict[str, Any]:
        row = {"oid": file["oid"], "size": file["size"]}
        if file["oid"] in hub.storage:
            return row
        return row | {"actions": {"upload": {"href": f"{hub.storage_url}/{file['oid']}"}, "verify": verify}}

    return Response.of({"transfer": "basic", "objects": [instructions(file) for file in request.json()["objects"]]})


@route("PUT", "/storage/{oid}")
def upload(hub: HubServer, request: Request, oid: str) -> Response:
    if sha256(request.body) != oid:
        raise HubError(400, message="The content does not have the hash that it was announced with")
    hub.storage[oid] = request.body
    return Response()


@route("POST", "/{prefix}{repo}\\.git/info/lfs/objects/verify")
def verify(hub: HubServer, request: Request, prefix: str, repo: str) -> Response:
    writable(hub, request, prefix.strip("/") or "models", repo)
    file = request.json()
    if len(hub.storage.get(file["oid"], b"")) != file["size"]:
        raise HubError(404, message="The file was not uploaded whole")
    return Response.of({})


@route("GET", "/storage/{oid}")
def download(hub: HubServer, request: Request, oid: str) -> Response:
    return Response(hub.storage[oid], {"ETag": f'"{oid}"', "Accept-Ranges": "bytes"})
