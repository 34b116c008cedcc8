"""Weights from a Hub repo, in Python and in commands; to predict: tests/cli/test_pretrained.py."""

from pathlib import Path

import pytest
import timm
import torch
from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
from timm.models import save_for_hf

from shvit_pl.callbacks.summary import repo_of_weights
from shvit_pl.cli import main
from shvit_pl.hub_errors import why_no_model
from shvit_pl.models import create_model, load_weights
from shvit_pl.models.network_names import commit_of
from shvit_pl.runs.folder import read_summary
from tests.cli.runs import fit
from tests.cli.saved import DATA, save
from tests.conftest import perturb_
from tests.data import standins
from tests.hub_server.in_process import forget
from tests.refusals import refusal, refused

ONE = ["--trainer.max_epochs=1", "--trainer.limit_train_batches=2", "--trainer.limit_val_batches=1"]


@pytest.fixture
def model(hub, tmp_path):
    """A model whose repo is user/name, also at the tag v1, and user/gated."""
    model = save(tmp_path / "saved", patch_size=8)
    files = {path.name: path.read_bytes() for path in (tmp_path / "saved").iterdir()}
    hub.commit("user/name", files, kind="models")
    hub.commit("user/name", files, kind="models", branch="v1")
    hub.commit("user/gated", files, kind="models", gated=True)
    hub.commit("user/empty", {"README.md": b""}, kind="models")
    return model


def same(first, second):
    return all(torch.equal(tensor, second.state_dict()[key]) for key, tensor in first.state_dict().items())


def fresh():
    return create_model("tiny", num_classes=10, patch_size=8)


def test_python_takes_a_repo_with_or_without_prefix_and_revision_also_when_the_hub_is_away(model, hub):
    assert commit_of("user/name") == hub.repo("user/name").branches["main"]
    for source in ("hf-hub:user/name", "hf_hub:user/name@v1", "user/name"):
        network = fresh()
        assert not same(network, model)
        report = load_weights(network, source)
        assert same(network, model)
        assert report.source == source
    hub.stop()
    forget()
    cached = fresh()
    load_weights(cached, "user/name")
    assert same(cached, model)


def test_a_run_starts_from_a_repo_and_says_so(model, capsys):
    assert fit("--model.init_from=hf-hub:user/name", "--model.design.patch_size=8", *ONE) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert f"{len(model.state_dict())} tensors from hf-hub:user/name" in printed
    assert read_summary(Path("runs/tiny/version_0"))["init_repo"] == "user/name"
    assert repo_of_weights("saved") is None  # a folder
    assert repo_of_weights("user/name@v1") == "user/name"
    assert repo_of_weights("shvit_s2") == repo_of_weights("timm:shvit_s2.in1k") == "timm/shvit_s2.in1k"


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("user/missing", "no such model repo on the Hub ... HF_TOKEN"),
        ("user/name@v9", "no branch, tag or commit 'v9'"),
        ("user/empty", "lacks config.json or the weights"),
        ("user/a b", "no such model repo"),
        ("user/gated", "{hub}/user/gated ... HF_TOKEN"),
    ],
)
def test_what_the_hub_does_not_have_is_one_message_with_the_next_step(model, hub, source, words, monkeypatch, capsys):
    monkeypatch.setenv("HF_TOKEN", hub.account("stranger"))
    with refused(f"'hf-hub:{source}': ... {words.format(hub=hub.url)}") as error:
        load_weights(fresh(), f"hf-hub:{source}")
    if source == "user/missing":  # the command names the flag
        message = refusal(capsys, "validate", f"--model.init_from=hf-hub:{source}", *DATA)
        assert message.strip() == f"shvit-pl validate: error: model.init_from {error.value}"


@pytest.mark.parametrize(
    ("status", "words"), [(403, "does not let this token read it (403)"), (500, "has failed (500)"), (429, "too many")]
)
def test_a_hub_that_fails_is_said_in_one_line(hub, status, words):
    hub.fail(status, times=100)
    with pytest.raises(HfHubHTTPError) as failure:
        HfApi().model_info("user/name")
    assert words in why_no_model(failure.value, "user/name")
    nothing_cached = LocalEntryNotFoundError("not in the cache")
    nothing_cached.__cause__ = failure.value
    assert words in why_no_model(nothing_cached, "user/name")


def test_the_official_weights_are_tried_on_a_copy_of_imagenet(hub, tmp_path, capsys):
    """The command of the README, on a small stand-in for the dataset, with weights that were never trained."""
    save_for_hf(perturb_(timm.create_model("shvit_s1")), tmp_path / "s1", safe_serialization=True)
    files = {path.name: path.read_bytes() for path in (tmp_path / "s1").iterdir()}
    hub.commit("timm/shvit_s1.in1k", files, kind="models")
    hub.commit("ILSVRC/imagenet-1k", standins.imagenet1k())
    configs = ["--config=s1.yaml", "--config=recipes/imagenet_300e.yaml"]
    command = ["validate", *configs, "--model.init_from=timm/shvit_s1.in1k", "--data.num_workers=0"]
    assert main(command) == 0, capsys.readouterr().err
    printed = capsys.readouterr().out
    assert "weights only, no run is resumed: 471 tensors from timm/shvit_s1.in1k" in printed
    assert "published for these weights: top-1 0.7278 on" in printed
    assert "measured:" not in printed  # seven images are not ImageNet
    assert load_weights(create_model("s1"), "timm:shvit_s1").loaded == 471
