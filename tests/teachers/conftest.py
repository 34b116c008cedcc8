"""A run of ours that has learnt the digits well enough to teach, and one cache for all tests."""

import pytest
import torch

from shvit_pl.teachers.cache import begin
from tests.cli.runs import fit
from tests.teachers.caches import ask, network, opened, planned


@pytest.fixture(scope="session")
def run(tmp_path_factory):
    """The folder of a run with averaged weights."""
    root = tmp_path_factory.mktemp("teacher")
    flags = ("--trainer.max_epochs=3", "--trainer.limit_train_batches=60", "--model.optim.lr=0.002")
    assert fit(f"--trainer.default_root_dir={root}", "--model.ema.decay=0.9", "--model.mix.mixup=0", *flags) == 0
    return root / "tiny" / "version_0"


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
