"""`shvit-pl push` with the real client, to a Hub on this machine."""

import json

import pytest
import timm
import torch
from huggingface_hub import ModelCard

from shvit_pl.cli import main
from tests.hub.runs import edit, files, network, with_design

FILES = {
    ".gitattributes", "README.md", "config.json", "config.yaml", "summary.json", "metrics.csv", "model.safetensors",
    "figures/curves.png", "figures/confusion_matrix.png",
}  # fmt: skip
REPO = "user/digits"


def push(folder, *flags, repo=REPO):
    return main(["push", str(folder), "--repo-id", repo, *flags])


@torch.no_grad()
def test_a_run_becomes_one_commit_of_a_private_repo_that_timm_loads(ended, hub, tmp_path):
    run = with_design(ended, tmp_path / "run", name="s1", distilled=True)
    assert push(run) == 0
    repo = hub.repo(REPO)
    assert set(repo.files) == FILES
    assert repo.private
    assert len(repo.history()) == 2  # with the one that made it
    theirs = timm.create_model(f"hf-hub:{REPO}", pretrained=True).eval()
    assert type(theirs) is timm.models.shvit.SHViT
    image = torch.randn(2, 3, 64, 64)
    expected = network(run / "checkpoints/best.ckpt")(image)
    assert (expected[0] - expected[1]).abs().min() > 1e-3  # it tells images apart
    torch.testing.assert_close(theirs(image), expected, rtol=0, atol=1e-5)


def test_pushing_again_is_no_commit_without_changes_updates_card_and_metrics_and_deletes_what_is_gone(own, hub, capsys):
    assert push(own) == 0
    assert "nothing has changed" not in capsys.readouterr().out
    commits, before = len(hub.repo(REPO).history()), hub.repo(REPO).files
    assert push(own) == 0
    assert "nothing has changed since commit" in capsys.readouterr().out
    assert len(hub.repo(REPO).history()) == commits
    hub.commit(REPO, {**before, "model.onnx": b"of somebody else"}, kind="models")
    summary = json.loads((own / "summary.json").read_text())
    edit(own / "summary.json", metrics={**summary["metrics"], "val/acc1": 0.98765})
    (own / "figures/curves.png").unlink()
    assert push(own) == 0
    repo = hub.repo(REPO)
    assert set(repo.files) == FILES - {"figures/curves.png"} | {"model.onnx"}
    card = ModelCard(repo.files["README.md"].decode())
    assert card.data.eval_results[0].metric_value == 0.98765
    assert "98.8%" in card.text
    assert "curves.png" not in card.text
    assert json.loads(repo.files["summary.json"])["metrics"]["val/acc1"] == 0.98765
    assert len(repo.history()) == 4


def test_a_revision_is_a_branch_that_is_made(own, hub, capsys):
    assert push(own, "--revision", "trial") == 0
    assert push(own, "--revision", "trial") == 0
    repo = hub.repo(REPO)
    assert set(repo.at("trial").files) == FILES
    assert set(repo.files) == {".gitattributes"}
    assert f"hf-hub:{REPO}@trial" in capsys.readouterr().out
    card = repo.at("trial").files["README.md"].decode()
    assert card.count(f"hf-hub:{REPO}@trial") == 2
    assert f'model="{REPO}", revision="trial")' in card
    import shvit_pl.models  # noqa: F401 (the design is none of timm's)

    assert timm.create_model(f"hf-hub:{REPO}@trial", pretrained=True).num_classes == 10


def test_public_is_asked_for_and_shown(own, hub, capsys):
    assert push(own) == 0
    assert "private; --public shows it" in capsys.readouterr().out
    assert push(own, "--public") == 0
    assert not hub.repo(REPO).private
    assert "(public)" in capsys.readouterr().out
    assert push(own, "--public", repo="user/open") == 0
    assert not hub.repo("user/open").private
    assert push(own, repo="user/open") == 0  # what is public stays so, and it is said
    assert "user/open (public)" in capsys.readouterr().out


def test_the_card_and_the_commit_say_which_weights(own, hub):
    assert push(own) == 0
    assert "raw weights" in hub.repo(REPO).history()[0].message
    raw = hub.repo(REPO).files["model.safetensors"]
    assert push(own, "--weights", "ema") == 0
    assert "averaged weights" in hub.repo(REPO).history()[0].message
    assert hub.repo(REPO).files["model.safetensors"] != raw
    assert "| their moving average (in this repository) |" in hub.repo(REPO).files["README.md"].decode()
    edit(own / "summary.json", monitor="val/acc1_ema")
    assert push(own, repo="user/watched") == 0
    assert hub.repo("user/watched").files["model.safetensors"] == hub.repo(REPO).files["model.safetensors"]


def test_a_dry_run_writes_what_a_push_would_and_needs_no_hub(own, tmp_path, capsys):
    before = set(files(own))
    assert push(own, "--dry-run") == 0
    out = capsys.readouterr().out
    assert set(files(own)) - before == {f"hub/{name}" for name in FILES - {".gitattributes"}}
    assert all(name in out for name in FILES - {".gitattributes"})
    assert "nothing was pushed" in out
    assert push(own, "--dry_run") == 0  # again
    assert push(own, "--dry-run", "--output", str(tmp_path / "new" / "there")) == 0
    assert set(files(tmp_path / "new/there")) == FILES - {".gitattributes"}


@pytest.mark.parametrize(
    "names", [["thesis.txt", "model.safetensors"], ["README.md"], ["config.yaml", "summary.json", "metrics.csv"]]
)
def test_a_dry_run_spares_a_folder_with_other_files(names, ended, tmp_path, capsys):
    mine = tmp_path / "mine"
    mine.mkdir()
    for name in names:
        (mine / name).write_text("mine")
    assert push(ended, "--dry-run", f"--output={mine}") == 2
    assert "it holds other files" in capsys.readouterr().err
    assert {path.name: path.read_text() for path in mine.iterdir()} == dict.fromkeys(names, "mine")
