"""Datasets of the Hub, trained on by the command with the real clients over HTTP."""

import pytest
from datasets import ClassLabel, Features, Image, Value
from huggingface_hub import constants

from shvit_pl.cli import main
from shvit_pl.data.sources import open_source
from shvit_pl.errors import UserError
from shvit_pl.runs import read_summary
from tests.cli.runs import fit
from tests.data import standins
from tests.hub_server import in_process

ONE_STEP = ["--trainer.max_steps=1", "--trainer.limit_val_batches=1", "--data.batch_size=8", "--run_name=birds"]
STREAMED = ["--data.streaming=true", "--data.steps_per_epoch=1", "--trainer.limit_train_batches=null"]
SPLITS = {"train": [0, 1] * 10, "test": [0, 1] * 4}


def picture_files(splits, *names):
    """Parquet files with an `image` and a `label` in each split."""
    features = Features({"image": Image(), "label": ClassLabel(names=list(names))})
    return {
        f"data/{split}-00000-of-00001.parquet": standins.parquet(
            {"image": [standins.encoded(n) for n in labels], "label": labels}, features
        )
        for split, labels in splits.items()
    }


@pytest.fixture
def birds(hub):
    """The commits of a dataset of two classes, whose branch `three` has a third one."""
    first = hub.commit("user/birds", picture_files(SPLITS, "a", "b") | {"README.md": b"---\nlicense: mit\n---\n"})
    three = hub.commit("user/birds", picture_files({"train": [0, 1, 2] * 10}, "a", "b", "c"), branch="three")
    return {"main": first, "three": three}


def train(*flags):
    return fit(*ONE_STEP, *flags)


def summary(tmp_path, version=0):
    return read_summary(tmp_path / "runs" / "birds" / f"version_{version}")


def refusal(capfd, tmp_path, *flags):
    """The one line that the command says when it refuses; nothing may be left of the run."""
    assert train(*flags) == 2
    *before, message = capfd.readouterr().err.splitlines()
    assert "error:" not in " ".join(before)
    assert "Traceback" not in " ".join(before)
    assert not list(tmp_path.iterdir())
    assert len(message) < 450
    return message


def offline(hub):
    """As a new process in which the Hub does not answer any more."""
    hub.stop()
    in_process.forget()


def test_a_run_on_a_dataset_of_the_hub_says_which_commit_it_saw(birds, tmp_path, capsys):
    assert train("--data.path=user/birds") == 0
    run = summary(tmp_path)
    assert run["classes"] == ["a", "b"]
    assert (run["dataset"]["train_images"], run["dataset"]["validation_images"]) == (16, 4)
    assert (run["dataset"]["revision"], run["dataset"]["commit"]) == (None, birds["main"])
    assert f"user/birds at {birds['main'][:7]}" in capsys.readouterr().out


@pytest.mark.parametrize("streaming", [False, True])
def test_a_branch_is_recorded_as_its_commit(streaming, hub, tmp_path):
    hub.commit("user/birds", picture_files({"train": [0, 1] * 10}, "a", "b"))
    files = picture_files({"train": [0, 1, 2] * 10, "validation": [0, 1, 2]}, "a", "b", "c")
    commit = hub.commit("user/birds", files, branch="three")
    flags = STREAMED if streaming else []
    assert train("--data.path=user/birds", "--data.revision=three", *flags) == 0
    run = summary(tmp_path)
    assert run["classes"] == ["a", "b", "c"]
    assert run["dataset"]["streaming"] is streaming
    assert (run["dataset"]["revision"], run["dataset"]["commit"]) == ("three", commit)


def test_a_commit_may_be_asked_for_after_the_branch_has_moved(birds, hub):
    hub.commit("user/birds", picture_files(SPLITS, "a", "b", "c", "d"))
    opened = open_source("user/birds", revision=birds["main"])
    assert opened.commit == birds["main"]
    assert opened.splits["train"].features["label"].names == ["a", "b"]


def test_a_run_goes_on_with_the_commit_that_it_has_seen(birds, hub, tmp_path, capfd):
    goes_on = ["--data.path=user/birds", "--trainer.max_steps=2", "--allow_changes=true"]
    assert train("--data.path=user/birds") == 0
    checkpoint = f"--ckpt_path={tmp_path}/runs/birds/version_0/checkpoints/last.ckpt"
    now = hub.commit("user/birds", picture_files({"train": [1, 0] * 10}, "a", "b"))
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


def test_a_version_that_is_not_in_the_cache_is_refused(birds, hub, tmp_path, capfd):
    open_source("user/birds")
    offline(hub)
    message = refusal(capfd, tmp_path, "--data.path=user/birds", "--data.revision=three")
    assert "data.revision 'three': the local cache of 'user/birds' does not hold it" in message
    assert birds["main"] in message
    assert f"the Hub cannot be reached ({hub.url})" in message


def test_offline_a_cached_dataset_trains(birds, hub, tmp_path):
    open_source("user/birds")
    offline(hub)
    assert train("--data.path=user/birds") == 0
    assert summary(tmp_path)["dataset"]["commit"] == birds["main"]


def test_offline_without_the_cache_is_one_line(birds, hub, tmp_path, capfd):
    offline(hub)
    message = refusal(capfd, tmp_path, "--data.path=user/birds")
    assert "data.path 'user/birds': no such folder or file here, no such dataset in the local cache" in message
    assert f"the Hub cannot be reached ({hub.url})" in message


def test_the_line_says_when_it_was_switched_offline(birds, tmp_path, tmp_path_factory, capfd):
    with pytest.MonkeyPatch.context() as patch:
        in_process.configure(patch, offline=True, cache=tmp_path_factory.mktemp("empty"))
        message = refusal(capfd, tmp_path, "--data.path=user/birds")
    assert "no such dataset in the local cache, and HF_HUB_OFFLINE is set" in message


@pytest.mark.parametrize(
    ("token", "whose"),
    [("", "there is no token"), ("stranger", "the account of this token has no access")],
)
@pytest.mark.parametrize("streaming", [False, True])
def test_a_gated_dataset_says_where_to_ask(token, whose, streaming, hub, tmp_path, capfd, monkeypatch):
    hub.commit("me/closed", picture_files(SPLITS, "a", "b"), gated=True)
    monkeypatch.setenv("HF_TOKEN", hub.account(token) if token else "")
    flags = STREAMED if streaming else []
    message = refusal(capfd, tmp_path, "--data.path=me/closed", *flags)
    assert f"data.path 'me/closed': a gated dataset, and {whose}." in message
    assert f"Ask for access at {constants.ENDPOINT}/datasets/me/closed, and set HF_TOKEN" in message


def test_a_gated_dataset_opens_for_its_members(hub):
    hub.commit("me/closed", picture_files(SPLITS, "a", "b"), gated=True)
    hub.repo("me/closed", "datasets").members.add("user")
    assert len(open_source("me/closed").splits["train"]) == 20


def only_text(folder="data"):
    return {f"{folder}/train.parquet": standins.parquet({"text": ["a", "b"]}, Features({"text": Value("string")}))}


REFUSED = {
    "missing": ({}, ["data.path 'user/ds': no such folder or file here, and no such dataset on the Hub", "HF_TOKEN"]),
    "script": (
        {"ds.py": b"raise SystemExit('never run')", "README.md": b""},
        ["it is a loading script (ds.py), and scripts are not run any more", "--data.revision refs/convert/parquet"],
    ),
    "no images": (only_text(), ["data.image_column: no column holds images; the columns are text"]),
    "no data": ({"README.md": b""}, ["data.path 'user/ds': this dataset of the Hub can't be opened", "any data files"]),
    "no parquet": ({"train.parquet": b"PAR1, but not for long"}, ["data.path 'user/ds'", "can't be opened"]),
    "several": (standins.configurations("small", "large"), ["data.name", "several configurations (small, large)"]),
}


@pytest.mark.parametrize("mistake", REFUSED)
def test_what_cannot_be_trained_on_is_one_line_with_the_next_step(mistake, hub, tmp_path, capfd):
    files, said = REFUSED[mistake]
    if files:
        hub.commit("user/ds", files)
    message = refusal(capfd, tmp_path, "--data.path=user/ds")
    for part in said:
        assert part in message


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--data.revision=v2"], ["data.revision 'v2': no such branch, tag or commit", "/datasets/user/birds"]),
        (["--data.name=small"], ["data.name 'small': no such configuration", "there are default"]),
        (["--data.path=birds"], ["data.path 'birds': no such folder or file here"]),
        (["--data.path=my birds"], ["data.path 'my birds': no such folder or file here"]),
    ],
)
def test_what_is_not_on_the_hub_is_one_line(flags, said, birds, tmp_path, capfd):
    message = refusal(capfd, tmp_path, "--data.path=user/birds", *flags)
    for part in said:
        assert part in message


def test_a_private_dataset_is_not_there_for_others(birds, hub, tmp_path, capfd, monkeypatch):
    hub.repo("user/birds", "datasets").private = True
    monkeypatch.setenv("HF_TOKEN", hub.account("stranger"))
    assert "a private one needs HF_TOKEN" in refusal(capfd, tmp_path, "--data.path=user/birds")


def test_a_token_that_the_hub_does_not_know_is_named(birds, tmp_path, capfd, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_nobody")
    assert "the Hub does not know the token of HF_TOKEN" in refusal(capfd, tmp_path, "--data.path=user/birds")


def test_the_parquet_copy_of_a_script_can_be_trained_on(hub):
    hub.commit("user/old", {"old.py": b"", "README.md": b""})
    (content,) = standins.classes("a", "b").values()
    hub.commit("user/old", {"default/train/0000.parquet": content}, branch="refs/convert/parquet")
    assert len(open_source("user/old", revision="refs/convert/parquet").splits["train"]) == 20


@pytest.mark.slow
def test_a_hub_that_fails_is_said_to_fail(birds, hub):
    hub.fail(500, path="resolve", times=99, headers={"Retry-After": "0"})
    with pytest.raises(UserError, match=r"the Hub does not answer as it should \(Server error '500"):
        open_source("user/birds")
