"""A small network with several heads that `fit` has saved, and studies without their slow figures."""

import pytest
import torch

from shvit_pl.analysis import heads_report
from tests.cli.runs import fit

_DESIGN = ["mixers=[conv,multi_head,multi_head]", "num_heads=4", "patch_size=8"]
_TRAINING = ["trainer.max_epochs=1", "trainer.limit_train_batches=60", "data.batch_size=24", "data.augment=none"]
_TRAINING += ["model.optim.lr=0.02", "model.optim.warmup_epochs=0", "model.mix.mixup=0", "model.mix.cutmix=0"]
_LOUDER = 10  # so short a training leaves attention, which begins at zero, without a say in the predictions


@pytest.fixture(scope="session")
def multi_head_run(tmp_path_factory):
    """The folder of a run that knows most digits; its attention is made louder, for its heads to matter."""
    root = tmp_path_factory.mktemp("multi_head")
    flags = [f"--{flag}" for flag in (*_TRAINING, *(f"model.design.{flag}" for flag in _DESIGN))]
    assert fit(f"--trainer.default_root_dir={root}", *flags) == 0
    folder = next(root.glob("*/version_0"))
    path = folder / "checkpoints" / "best.ckpt"
    content = torch.load(path, weights_only=True)
    loud = [key for key in content["state_dict"] if key.endswith("proj.1.bn.weight")]
    assert len(loud) == 4
    for key in loud:
        content["state_dict"][key] *= _LOUDER
    torch.save(content, path)
    return folder


@pytest.fixture
def no_figures(monkeypatch):
    """Studies of heads that draw nothing: figures take most of the time of a small study."""
    monkeypatch.setattr(heads_report, "draw_figures", lambda findings: {})
