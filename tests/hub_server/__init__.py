"""A Hugging Face Hub on the loopback interface, for tests with the real clients.

`with HubServer() as hub:` starts one; the fixture `hub` of `tests/conftest.py` is one that the clients of the test's
process speak to. Repositories are in memory, with their history.
"""

from tests.hub_server.server import HubServer

__all__ = ["HubServer"]
