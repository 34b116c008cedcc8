"""Errors on demand: the next requests that match are refused, left without an answer, or cut off."""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass, field

from tests.hub_server.messages import HubError, Response


@dataclass
class Fault:
    """What is to go wrong with the next requests to a path.

    Attributes:
        path: A regular expression that is looked for in `METHOD /path`.
        status: The status to answer with; 0 for none.
        cut: Close the connection in the middle, of the upload or of the answer.
        times: How many more requests it strikes.
        skip: How many it lets pass before that.
        headers: What else to answer with, such as Retry-After.
        message: What to say.
        reached: Set once it has struck.
    """

    path: str
    status: int = 0
    cut: bool = False
    times: int = 1
    skip: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    message: str = ""
    reached: threading.Event = field(default_factory=threading.Event)

    def response(self) -> Response:
        """The answer of this status."""
        message = self.message or f"error {self.status} on demand"
        return HubError(self.status, message=message, headers=self.headers).response()

    def strikes(self, request: str) -> bool:
        """Whether this request, as `METHOD /path`, is to fail; counts it."""
        if self.times <= 0 or not re.search(self.path, request):
            return False
        if self.skip > 0:
            self.skip -= 1
            return False
        self.times -= 1
        self.reached.set()
        return True
