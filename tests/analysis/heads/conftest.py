"""A small network with several heads that `fit` has trained on the digits."""

import pytest

from tests.analysis.heads.studies import MULTI_HEAD
from tests.cli.runs import fit


@pytest.fixture(scope="session")
def multi_head_run(tmp_path_factory):
    """The folder of a run of forty steps, whose attention has begun to matter."""
    root = tmp_path_factory.mktemp("multi_head")
    limits = ("--trainer.max_epochs=1", "--trainer.limit_train_batches=40", "--model.optim.lr=0.004")
    assert fit(f"--trainer.default_root_dir={root}", *limits, *MULTI_HEAD) == 0
    return next(root.glob("*/version_0"))
