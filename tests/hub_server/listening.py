"""HTTP: connections, bodies, ranges, and what goes wrong on demand."""

from __future__ import annotations

import re
import socket
import sys
import threading
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

from tests.hub_server.faults import Fault
from tests.hub_server.messages import Request, Response, answer

if TYPE_CHECKING:
    from tests.hub_server.server import HubServer


class Listener(ThreadingHTTPServer):
    """Listens in a thread, and closes what is open when it stops."""

    daemon_threads = True

    def __init__(self, hub: HubServer, port: int) -> None:
        super().__init__(("127.0.0.1", port), type("Handler", (_Handler,), {"hub": hub}))
        self._open: set[socket.socket] = set()

    def start(self) -> None:
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    def stop(self) -> None:
        self.shutdown()
        self.server_close()
        for connection in list(self._open):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def process_request(self, request, client_address):  # type: ignore[no-untyped-def]
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request):  # type: ignore[no-untyped-def]
        self._open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request, client_address) -> None:  # type: ignore[no-untyped-def]
        """Nothing where a client has hung up, which is part of the tests."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    hub: HubServer
    protocol_version = "HTTP/1.1"

    def handle_any(self) -> None:
        """Answer, or fail as a test has asked for."""
        fault = self._fault()
        if fault is None:
            return self._send(self._answer())
        if fault.status:
            self._request()
            return self._send(fault.response())
        if fault.cut:
            self._cut()
        else:
            self._request()
            self.hub.closing.wait()
        self.close_connection = True
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = handle_any

    def _fault(self) -> Fault | None:
        with self.hub.lock:
            line = f"{self.command} {self.path}"
            return next((fault for fault in self.hub.faults if fault.strikes(line)), None)

    def _answer(self) -> Response:
        request = self._request()
        return _ranged(request, answer(self.hub, request))

    def _cut(self) -> None:
        """Stop in the middle of the upload, or of the answer."""
        if self.command in ("POST", "PUT"):
            self.rfile.read(int(self.headers.get("Content-Length", 2)) // 2)
        else:
            self._send(self._answer(), half=True)

    def _request(self) -> Request:
        headers = {name.lower(): value for name, value in self.headers.items()}
        request = Request(self.command, self.path, headers, self._body())
        self.hub.requests.append(request)
        return request

    def _body(self) -> bytes:
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

    def _send(self, response: Response, half: bool = False) -> None:
        self.send_response(response.status)
        for name, value in {**response.headers, "Content-Length": str(len(response.body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(response.body[: len(response.body) // 2] if half else response.body)

    def log_message(self, *_: object) -> None:
        """Nothing: the tests' output is theirs."""


def _ranged(request: Request, response: Response) -> Response:
    """The part of a file that the client asks for."""
    asked = re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers.get("range", ""))
    if not asked or response.status != 200:
        return response
    whole = len(response.body)
    start, end = int(asked[1]), min(int(asked[2] or whole), whole - 1)
    if start >= whole:
        return Response(b"", {"Content-Range": f"bytes */{whole}"}, 416)
    headers = {**response.headers, "Content-Range": f"bytes {start}-{end}/{whole}"}
    return Response(response.body[start : end + 1], headers, 206)
