"""`shvit-pl push` with the real client, to a Hub on this machine."""

import json

import pytest
from huggingface_hub import ModelCard

from shvit_pl.cli import main
from shvit_pl.models.open_network import open_network
from tests.hub.runs import edit, files

FILES = {
    ".gitattributes", "README.md", "config.json", "config.yaml", "summary.json", "metrics.csv", "model.safetensors",
    "figures/curves.png", "figures/confusion_matrix.png", "figures/reliability.png",
}  # fmt: skip
REPO = "user/digits"


def push(folder, *flags, repo=REPO):
    return main(["push", str(folder), "--repo-id", repo, *flags])


def test_a_push_is_one_commit_and_the_next_none_without_changes_or_one_of_what_changed_and_is_gone(own, hub, capsys):
    """What was pushed loads in timm: test_elsewhere."""
    assert push(own) == 0
    assert "nothing has changed" not in capsys.readouterr().out
    repo, before = hub.repo(REPO), hub.repo(REPO).files
    assert set(before) == FILES
    assert len(repo.history()) == 2  # with the one that made it
    assert push(own) == 0
    assert "nothing has changed since commit" in capsys.readouterr().out
    assert len(repo.history()) == 2
    hub.commit(REPO, {**before, "model.onnx": b"of somebody else"}, kind="models")
    summary = json.loads((own / "summary.json").read_text())
    edit(own / "summary.json", metrics={**summary["metrics"], "val/acc1": 0.98765})
    (own / "figures/curves.png").unlink()
    assert push(own) == 0
    assert set(repo.files) == FILES - {"figures/curves.png"} | {"model.onnx"}
    card = ModelCard(repo.files["README.md"].decode())
    assert card.data.eval_results[0].metric_value == 0.98765
    assert "0.9877" in card.text
    assert "curves.png" not in card.text
    assert json.loads(repo.files["summary.json"])["metrics"]["val/acc1"] == 0.98765
    assert len(repo.history()) == 4


def test_a_revision_is_a_branch_that_is_made(own, hub, capsys):
    assert push(own, "--revision", "trial") == 0
    assert push(own, "--revision", "trial") == 0
    repo = hub.repo(REPO)
    assert set(repo.at("trial").files) == FILES
    assert set(repo.files) == {".gitattributes"}
    printed = capsys.readouterr().out
    assert f"hf-hub:{REPO}@trial" in printed
    exec(printed.rsplit("use it: ")[-1], {})  # as it is printed
    card = repo.at("trial").files["README.md"].decode()
    assert card.count(f"hf-hub:{REPO}@trial") == 2
    assert f'model="{REPO}", revision="trial")' in card
    assert open_network(f"hf-hub:{REPO}@trial").model.num_classes == 10


def test_public_is_asked_for_and_shown(own, hub, capsys):
    assert push(own) == 0
    assert hub.repo(REPO).private
    assert "private; --public shows it" in capsys.readouterr().out
    for flags in (["--public"], []):  # what is public stays so
        assert push(own, *flags) == 0
        assert not hub.repo(REPO).private
        assert "(public)" in capsys.readouterr().out


def test_the_card_and_the_commit_say_which_weights(own, hub):
    def pushed(*flags, repo=REPO):
        assert push(own, *flags, repo=repo) == 0
        files = hub.repo(repo).files
        return hub.repo(repo).history()[0].message, files["README.md"].decode(), files["model.safetensors"]

    message, _, raw = pushed()
    assert "raw weights" in message
    message, card, averaged = pushed("--weights", "ema")
    assert "averaged weights" in message
    assert averaged != raw
    assert "| averaged weights (EMA) (in this repository) |" in card
    edit(own / "summary.json", monitor="val/acc1_ema")
    assert pushed(repo="user/watched")[-1] == averaged


def test_a_dry_run_writes_what_a_push_would_and_needs_no_hub(own, tmp_path, capsys):
    before, expected = set(files(own)), FILES - {".gitattributes"}
    assert push(own, "--dry-run") == 0
    out = capsys.readouterr().out
    assert set(files(own)) - before == {f"hub/{name}" for name in expected}
    assert all(name in out for name in expected)
    assert "nothing was pushed" in out
    assert push(own, "--dry_run") == 0  # again
    assert push(own, "--dry-run", "--output", str(tmp_path / "new" / "there")) == 0
    assert set(files(tmp_path / "new/there")) == expected


@pytest.mark.parametrize(
    "names", [["thesis.txt", "model.safetensors"], ["README.md"], ["config.yaml", "summary.json", "metrics.csv"]]
)
def test_a_dry_run_spares_a_folder_with_other_files(names, run, tmp_path, capsys):
    (mine := tmp_path / "mine").mkdir()
    for name in names:
        (mine / name).write_text("mine")
    assert push(run, "--dry-run", f"--output={mine}") == 2
    assert "contains other files" in capsys.readouterr().err
    assert {path.name: path.read_text() for path in mine.iterdir()} == dict.fromkeys(names, "mine")
