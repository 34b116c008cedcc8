"""What the Hub does not give is one line with the next step, and leaves nothing behind."""

import pytest
from datasets import Features, Value
from huggingface_hub import constants

from shvit_pl.data.opening import open_source
from shvit_pl.errors import UserError
from tests.data import standins
from tests.data.birds import SPLITS, STREAMED, offline, refusal
from tests.hub_server import in_process


def test_a_version_that_is_not_in_the_cache_is_refused(birds, hub, tmp_path, capfd):
    open_source("user/birds")
    offline(hub)
    message = refusal(capfd, tmp_path, "--data.path=user/birds", "--data.revision=three")
    assert "data.revision 'three': the local cache of 'user/birds' does not hold it" in message
    assert birds["main"] in message
    assert f"the Hub cannot be reached ({hub.url})" in message


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
    hub.commit("me/closed", standins.splits_of("a", "b", **SPLITS), gated=True)
    monkeypatch.setenv("HF_TOKEN", hub.account(token) if token else "")
    flags = STREAMED if streaming else []
    message = refusal(capfd, tmp_path, "--data.path=me/closed", *flags)
    assert f"data.path 'me/closed': a gated dataset, and {whose}." in message
    assert f"Ask for access at {constants.ENDPOINT}/datasets/me/closed, and set HF_TOKEN" in message


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
        (["--data.revision=v2"], ["no branch, tag or commit 'v2' (--data.revision)", "/datasets/user/birds"]),
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
    assert "the Hub does not let this token read it (401)" in refusal(capfd, tmp_path, "--data.path=user/birds")


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
