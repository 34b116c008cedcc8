"""`open_network`: a network from a design, a run, a checkpoint, a folder as a repo has it, or timm."""

import pytest
import timm
import torch

from shvit_pl.errors import UserError
from shvit_pl.hub.upload import save_weights
from shvit_pl.models.open_network import open_network
from shvit_pl.runs.finished_run import FinishedRun
from tests.hub.runs import network, quick_fit, with_design

IMAGES = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    root = tmp_path_factory.mktemp("networks")
    return with_design(quick_fit(root / "fit"), root / "dual", name="tiny", distilled=True)


def logits(model):
    with torch.inference_mode():
        return model(IMAGES)


@pytest.mark.parametrize("averaged", [False, True])
def test_a_run_folder_gives_the_weights_asked_for_and_one_classifier(run, averaged):
    opened = open_network(str(run), averaged=averaged)
    torch.testing.assert_close(
        logits(opened.model), logits(network(run / "checkpoints" / "best.ckpt", averaged)), rtol=1e-4, atol=1e-5
    )
    assert (opened.origin, opened.averaged, len(opened.class_names)) == ("checkpoint", averaged, 10)


def test_a_folder_as_a_repo_has_it_gives_the_same_network(run, tmp_path):
    save_weights(FinishedRun.open(run), tmp_path)
    opened = open_network(str(tmp_path))
    assert torch.equal(logits(opened.model), logits(open_network(str(run)).model))
    assert opened.class_names == open_network(str(run)).class_names
    assert opened.image_size == open_network(str(run)).image_size


def test_a_design_is_as_it_is_evaluated():
    opened = open_network("s4")
    assert (opened.origin, opened.image_size, opened.model.training) == ("design", 256, False)


def test_timms_models_come_by_their_names():
    opened = open_network("timm:resnet10t")
    cfg = timm.get_pretrained_cfg("resnet10t")
    assert (opened.origin, opened.image_size) == ("timm", cfg.input_size[-1])
    assert (opened.crop_pct, opened.mean) == (cfg.crop_pct, cfg.mean)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("tinny", "did you mean 'tiny'"),
        ("resnet18", "write timm:resnet18"),
        ("timm:resnet19", "did you mean 'resnet18'"),
        ("runs/nothing/version_0", "no such file"),
        ("user/name@", "the Hub cannot be reached"),
    ],
)
def test_what_is_no_network_is_answered(name, told):
    with pytest.raises(UserError, match=told):
        open_network(name)


def test_averaged_weights_of_a_repo_are_refused(run, tmp_path):
    save_weights(FinishedRun.open(run), tmp_path)
    with pytest.raises(UserError, match="one set of weights"):
        open_network(str(tmp_path), averaged=True)
