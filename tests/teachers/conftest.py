"""A run of ours that has learnt the digits well enough to teach."""

import pytest

from tests.cli.runs import fit


@pytest.fixture(scope="session")
def run(tmp_path_factory):
    """The folder of a run with averaged weights."""
    root = tmp_path_factory.mktemp("teacher")
    flags = ("--trainer.max_epochs=3", "--trainer.limit_train_batches=60", "--model.optim.lr=0.002")
    assert fit(f"--trainer.default_root_dir={root}", "--model.ema.decay=0.9", "--model.mix.mixup=0", *flags) == 0
    return root / "tiny" / "version_0"
