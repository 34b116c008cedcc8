"""Requests and responses, and the routes from the one to the other."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, unquote, urlsplit

if TYPE_CHECKING:
    from tests.hub_server.server import HubServer


@dataclass(frozen=True)
class Request:
    """One request of a client, read to its end.

    Attributes:
        target: Path and query, as the client wrote them.
        headers: Names in lower case.
    """

    method: str
    target: str
    headers: dict[str, str]
    body: bytes = b""

    @property
    def path(self) -> str:
        """The path, still quoted."""
        return urlsplit(self.target).path

    @property
    def query(self) -> dict[str, str]:
        """The last value of each parameter."""
        return {name: values[-1] for name, values in parse_qs(urlsplit(self.target).query).items()}

    @property
    def form(self) -> dict[str, list[str]]:
        """The fields of a form."""
        return parse_qs(self.body.decode())

    @property
    def token(self) -> str | None:
        """The token that the client shows."""
        return self.headers.get("authorization", "").removeprefix("Bearer ") or None

    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body or b"{}")


@dataclass(frozen=True)
class Response:
    """What the server answers."""

    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    status: int = 200

    @classmethod
    def of(cls, data: Any, status: int = 200, **headers: str) -> Response:
        """An answer in JSON."""
        return cls(json.dumps(data).encode(), {"Content-Type": "application/json", **headers}, status)


class HubError(Exception):
    """An answer other than 200, as the Hub words it."""

    def __init__(self, status: int, code: str = "", message: str = "", headers: dict[str, str] | None = None) -> None:
        super().__init__(code or message)
        self.status, self.code, self.message, self.headers = status, code, message or code, headers or {}

    def response(self) -> Response:
        """The answer: the reason in the headers, as the client wants it, and in the body."""
        headers = {"X-Error-Message": self.message} | ({"X-Error-Code": self.code} if self.code else {})
        return Response.of({"error": self.message}, self.status, **headers, **self.headers)


Answering = Callable[..., Response]
_ROUTES: list[tuple[str, re.Pattern[str], Answering]] = []
_PARTS = {
    "{repo}": r"(?P<repo>[^/]+(?:/[^/]+)?)",
    "{kind}": r"(?P<kind>models|datasets)",
    "{prefix}": r"(?P<prefix>(?:datasets/)?)",
    "{revision}": r"(?P<revision>[^/]+)",
    "{path}": r"(?P<path>.*)",
    "{oid}": r"(?P<oid>[0-9a-f]{64})",
}


def route(method: str, path: str) -> Callable[[Answering], Answering]:
    """Have a function answer these requests: `f(hub, request, **parts)`, the parts being those in braces."""
    for name, pattern in _PARTS.items():
        path = path.replace(name, pattern)

    def register(function: Answering) -> Answering:
        _ROUTES.append((method, re.compile(path), function))
        return function

    return register


def answer(hub: HubServer, request: Request) -> Response:
    """What the Hub answers."""
    method = "GET" if request.method == "HEAD" else request.method
    for wanted, pattern, function in _ROUTES:
        if wanted == method and (match := pattern.fullmatch(request.path)):
            try:
                return function(hub, request, **{name: unquote(part) for name, part in match.groupdict().items()})
            except HubError as error:
                return error.response()
            except Exception as error:  # a fault of this server, which a test should see
                return HubError(500, message=f"{function.__name__}: {error!r}").response()
    return HubError(404, message=f"no such page: {request.method} {request.path}").response()
