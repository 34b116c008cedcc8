"""One cache for all tests."""

import pytest
import torch

from shvit_pl.teachers.cache import begin
from tests.teachers.caches import ask, network, opened, planned


@pytest.fixture(scope="session")
def cache(tmp_path_factory):
    """A whole cache, what it was planned as, and the teacher's input of every slot."""
    folder, data, net, seen = tmp_path_factory.mktemp("answers") / "cache", opened(), network(), []

    def answer(images):
        seen.append(images.clone())
        return net(images)

    manifest = begin(folder, planned(data))
    ask(answer, folder, data, manifest)
    return folder, manifest, torch.cat(seen)
