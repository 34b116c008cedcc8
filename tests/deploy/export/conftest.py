"""Small runs to export, with weights whose every tensor shows in the outputs."""

import pytest
import torch

from tests.deploy.export.networks import settle
from tests.hub.runs import quick_fit, with_design

SMALL = {"depth": (1, 1, 1)}


@pytest.fixture(scope="session")
def plain_run(tmp_path_factory):
    """The folder of a run on the digits whose logits are those of a network that works."""
    return settled(tmp_path_factory.mktemp("export_plain"), **SMALL)


@pytest.fixture(scope="session")
def distilled_run(tmp_path_factory):
    """The folder of such a run with two classifiers."""
    return settled(tmp_path_factory.mktemp("export_dual"), distilled=True, **SMALL)


def settled(root, **design):
    run = with_design(quick_fit(root / "fit"), root / "run", name="tiny", **design)
    path = run / "checkpoints" / "best.ckpt"
    content = torch.load(path, weights_only=True)
    for seed, prefix in enumerate(("model.", "ema.module.")):
        model = settle("tiny", 64, seed, **design)
        content["state_dict"].update({prefix + key: value for key, value in model.state_dict().items()})
    torch.save(content, path)
    return run
