"""Datasets of the Hub, trained on by the command with the real clients over HTTP."""

import pytest

from shvit_pl.cli import main
from shvit_pl.data.opening import open_source
from tests.data import standins
from tests.data.birds import SPLITS, STREAMED, offline, summary, train


def test_a_run_on_a_dataset_of_the_hub_says_which_commit_it_saw(birds, tmp_path, capsys):
    assert train("--data.path=user/birds") == 0
    run = summary(tmp_path)
    assert run["classes"] == ["a", "b"]
    assert (run["dataset"]["train_images"], run["dataset"]["validation_images"]) == (16, 4)
    assert (run["dataset"]["revision"], run["dataset"]["commit"]) == (None, birds["main"])
    assert f"user/birds at {birds['main'][:7]}" in capsys.readouterr().out


@pytest.mark.parametrize("streaming", [False, True])
def test_a_branch_is_recorded_as_its_commit(streaming, hub, tmp_path):
    hub.commit("user/birds", standins.splits_of("a", "b", train=[0, 1] * 10))
    files = standins.splits_of("a", "b", "c", train=[0, 1, 2] * 10, validation=[0, 1, 2])
    commit = hub.commit("user/birds", files, branch="three")
    flags = STREAMED if streaming else []
    assert train("--data.path=user/birds", "--data.revision=three", *flags) == 0
    run = summary(tmp_path)
    assert run["classes"] == ["a", "b", "c"]
    assert run["dataset"]["streaming"] is streaming
    assert (run["dataset"]["revision"], run["dataset"]["commit"]) == ("three", commit)


def test_a_commit_may_be_asked_for_after_the_branch_has_moved(birds, hub):
    hub.commit("user/birds", standins.splits_of("a", "b", "c", "d", **SPLITS))
    opened = open_source("user/birds", revision=birds["main"])
    assert opened.commit == birds["main"]
    assert opened.splits["train"].features["label"].names == ["a", "b"]


def test_a_run_goes_on_with_the_commit_that_it_has_seen(birds, hub, tmp_path, capfd):
    goes_on = ["--data.path=user/birds", "--trainer.max_steps=2", "--allow_changes=true"]
    assert train("--data.path=user/birds") == 0
    checkpoint = f"--ckpt_path={tmp_path}/runs/birds/version_0/checkpoints/last.ckpt"
    now = hub.commit("user/birds", standins.splits_of("a", "b", train=[1, 0] * 10))
    capfd.readouterr()
    assert train(*goes_on, checkpoint) == 2
    message = capfd.readouterr().err.splitlines()[-1]
    assert f"the interrupted run saw the commit {birds['main']}, and now it is {now}" in message
    assert f"--data.revision {birds['main']} --allow_changes true" in message
    assert train(*goes_on, checkpoint, f"--data.revision={birds['main']}") == 0
    assert main(["validate", checkpoint, "--data.path=user/birds"]) == 0


@pytest.mark.parametrize("streaming", [False, True])
def test_from_the_cache_comes_the_version_that_was_asked_for(streaming, birds, hub):
    for revision in ("three", None):
        open_source("user/birds", revision=revision)
    offline(hub)
    for revision, commit, classes in (
        (None, birds["main"], ["a", "b"]),
        ("three", birds["three"], ["a", "b", "c"]),
        (birds["three"], birds["three"], ["a", "b", "c"]),
    ):
        opened = open_source("user/birds", revision=revision, streaming=streaming)
        assert opened.commit == commit
        assert opened.splits["train"].features["label"].names == classes
        assert len(list(opened.splits["train"])) == {2: 20, 3: 30}[len(classes)]


def test_offline_a_cached_dataset_trains(birds, hub, tmp_path):
    open_source("user/birds")
    offline(hub)
    assert train("--data.path=user/birds") == 0
    assert summary(tmp_path)["dataset"]["commit"] == birds["main"]


def test_a_gated_dataset_opens_for_its_members(hub):
    hub.commit("me/closed", standins.splits_of("a", "b", **SPLITS), gated=True)
    hub.repo("me/closed", "datasets").members.add("user")
    assert len(open_source("me/closed").splits["train"]) == 20
