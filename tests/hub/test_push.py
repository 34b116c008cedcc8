"""`shvit-pl push` against a real client and a Hub on this machine."""

import timm
import torch

from shvit_pl.cli import main
from tests.hub.runs import network, with_design

FILES = {
    ".gitattributes", "README.md", "config.json", "config.yaml", "summary.json", "metrics.csv", "model.safetensors",
    "figures/curves.png", "figures/confusion_matrix.png",
}  # fmt: skip


@torch.no_grad()
def test_a_run_becomes_one_commit_of_a_private_repo_that_timm_loads(ended, hub, tmp_path):
    run = with_design(ended, tmp_path / "run", name="s1", distilled=True)
    assert main(["push", str(run), "--repo-id", "user/digits"]) == 0
    repo = hub.repo("user/digits")
    assert set(repo.files) == FILES
    assert repo.private
    assert len(repo.history()) == 2  # with the one that made it
    theirs = timm.create_model("hf-hub:user/digits", pretrained=True).eval()
    assert type(theirs) is timm.models.shvit.SHViT
    image = torch.randn(2, 3, 64, 64)
    expected = network(run / "checkpoints/best.ckpt")(image)
    assert (expected[0] - expected[1]).abs().min() > 1e-3  # it tells images apart
    torch.testing.assert_close(theirs(image), expected, rtol=0, atol=1e-5)
