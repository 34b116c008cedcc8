"""HTTP: connections, requests and responses, ranges, and what goes wrong on demand."""

import json
import re
import sys
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit


@dataclass(frozen=True)
class Request:
    """A request of a client, read to its end; names of headers are in lower case."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes

    @property
    def path(self):
        return urlsplit(self.target).path  # still quoted

    @property
    def token(self):
        return self.headers.get("authorization", "").removeprefix("Bearer ") or None

    def json(self):
        return json.loads(self.body or b"{}")


@dataclass(frozen=True)
class Response:
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    status: int = 200


def in_json(data, status=200, headers=None):
    return Response(json.dumps(data).encode(), {"Content-Type": "application/json", **(headers or {})}, status)


class HubError(Exception):
    """An answer other than 200, as the Hub words it: the reason in the headers and in the body."""

    def __init__(self, status, code="", message="", headers=None):
        super().__init__(code or message)
        message = message or code
        reasons = {"X-Error-Message": message} | ({"X-Error-Code": code} if code else {})
        self.response = in_json({"error": message}, status, {**reasons, **(headers or {})})


_ROUTES = []
_PARTS = {
    "{repo}": r"(?P<repo>[^/]+(?:/[^/]+)?)",
    "{kind}": r"(?P<kind>models|datasets)",
    "{prefix}": r"(?P<prefix>(?:datasets/)?)",
    "{revision}": r"(?P<revision>[^/]+)",
    "{path}": r"(?P<path>.*)",
    "{oid}": r"(?P<oid>[0-9a-f]{64})",
}


def route(method, path):
    """Have a function answer these requests: `f(hub, request, **parts)`, the parts being those in braces."""
    for name, pattern in _PARTS.items():
        path = path.replace(name, pattern)

    def register(function):
        _ROUTES.append((method, re.compile(path), function))
        return function

    return register


def answer(hub, request):
    method = "GET" if request.method == "HEAD" else request.method
    for wanted, pattern, function in _ROUTES:
        if wanted == method and (match := pattern.fullmatch(request.path)):
            try:
                return function(hub, request, **{name: unquote(part) for name, part in match.groupdict().items()})
            except HubError as error:
                return error.response
            except Exception as error:  # a fault of this server, which a test should see
                return HubError(500, message=f"{function.__name__}: {error!r}").response
    return HubError(404, message=f"no such page: {request.method} {request.path}").response


class Listener(ThreadingHTTPServer):
    """Listens in a thread; every request has a connection of its own."""

    daemon_threads = True

    def __init__(self, hub, port):
        super().__init__(("127.0.0.1", port), type("Handler", (_Handler,), {"hub": hub}))

    def start(self):
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    def stop(self):
        self.shutdown()
        self.server_close()

    def handle_error(self, request, client_address):
        """Print nothing where a client has hung up, which is part of the tests."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    def handle_any(self):
        """Answer, or fail as a test has asked for; without an answer, the connection is closed."""
        with self.hub.lock:
            line = f"{self.command} {self.path}"
            fault = next((fault for fault in self.hub.faults if fault.strikes(line)), None)
        if fault is None:
            self._send(self._answer())
        elif fault.cut:
            self.rfile.read(int(self.headers.get("Content-Length", 0)) // 2)
        elif fault.status:
            self._request()
            message = f"error {fault.status} on demand"
            self._send(HubError(fault.status, message=message, headers=fault.headers).response)
        else:
            self._request()
            self.hub.closing.wait()

    do_GET = do_HEAD = do_POST = do_PUT = handle_any

    def _answer(self):
        """Answer; of a file, give the part that the client asks for."""
        request = self._request()
        response = answer(self.hub, request)
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers.get("range", ""))
        if not asked or response.status != 200:
            return response
        whole = len(response.body)
        start, end = int(asked[1]), min(int(asked[2] or whole), whole - 1)
        headers = {**response.headers, "Content-Range": f"bytes {start}-{end}/{whole}"}
        return Response(response.body[start : end + 1], headers, 206)

    def _request(self):
        headers = {name.lower(): value for name, value in self.headers.items()}
        request = Request(self.command, self.path, headers, self._body())
        self.hub.requests.append(request)
        return request

    def _body(self):
        if self.headers.get("Transfer-Encoding") != "chunked":
            length = int(self.headers.get("Content-Length", 0))
            body = self.rfile.read(length)
            if len(body) < length:
                raise ConnectionError("the client hung up")
            return body
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _send(self, response):
        self.send_response(response.status)
        for name, value in {**response.headers, "Content-Length": str(len(response.body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(response.body)

    def log_message(self, *_):
        """Print nothing."""
