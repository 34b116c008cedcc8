"""A dataset on the Hub of the tests."""

import pytest

from tests.data import standins
from tests.data.birds import SPLITS


@pytest.fixture
def birds(hub):
    """The commits of a dataset of two classes, whose branch `three` has a third one."""
    first = hub.commit(
        "user/birds", standins.splits_of("a", "b", **SPLITS) | {"README.md": b"---\nlicense: mit\n---\n"}
    )
    three = hub.commit("user/birds", standins.splits_of("a", "b", "c", train=[0, 1, 2] * 10), branch="three")
    return {"main": first, "three": three}
