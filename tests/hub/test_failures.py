"""Whatever the Hub does, a push ends with one message and exit code 2, and the same command repeats it."""

import re
import shutil

import pytest
from huggingface_hub import HfApi

from shvit_pl.cli import main
from shvit_pl.hub.access import check_token
from shvit_pl.hub_errors import HubError, hub_errors
from tests.hub.runs import files

REPO = "user/digits"
COMMIT, CREATE, WHO = f"POST /api/models/{REPO}/commit", "POST /api/repos/create", "GET /api/whoami-v2"


@pytest.fixture
def run(ended, tmp_path):
    return shutil.copytree(ended, tmp_path / "run")


def push(run, *flags, repo=REPO):
    return main(["push", str(run), "--repo-id", repo, *flags])


def refused(run, capsys, *flags, repo=REPO):
    """The one message of a push that fails; the run is as it was."""
    before = {name: path.read_bytes() for name, path in files(run).items()}
    capsys.readouterr()
    assert push(run, *flags, repo=repo) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert err.startswith("shvit-pl push: error: ")
    assert len(err) < 450
    assert {name: path.read_bytes() for name, path in files(run).items()} == before
    return err


@pytest.mark.parametrize(
    ("status", "path", "words"),
    [
        (500, COMMIT, "has failed (500)"),
        (400, "POST /api/validate-yaml", "the push failed (Invalid metadata"),
        pytest.param(403, CREATE, "does not let this token write to 'user/digits'", marks=pytest.mark.slow),
        pytest.param(503, WHO, "has failed (503)", marks=pytest.mark.slow),
    ],
)
def test_an_answer_that_is_an_error(status, path, words, run, hub, capsys):
    hub.fail(status, path, times=99)
    message = refused(run, capsys)
    assert words in message
    assert "run the same command again" in message
    hub.faults.clear()
    assert push(run) == 0
    assert "model.safetensors" in hub.repo(REPO).files


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (401, "does not accept the token"),
        (403, "does not let this token write to 'user/digits'"),
        (404, "knows no 'user/digits'"),
        (409, "refuses the push (409)"),
        (429, "too many requests"),
        (500, "has failed (500)"),
    ],
)
def test_each_kind_of_error(status, words, hub):
    hub.fail(status, "/api/models/", times=99)
    with pytest.raises(HubError, match=re.escape(words)), hub_errors(REPO):
        HfApi().model_info(REPO)


@pytest.mark.parametrize("path", [COMMIT, *(pytest.param(path, marks=pytest.mark.slow) for path in (WHO, CREATE))])
def test_a_connection_that_is_cut(path, run, hub, capsys):
    hub.cut(path, times=99)
    assert "connection to the Hub broke" in refused(run, capsys)
    hub.faults.clear()
    assert push(run) == 0


@pytest.mark.parametrize("path", [COMMIT, pytest.param(WHO, marks=pytest.mark.slow)])
def test_a_hub_that_says_nothing(path, run, hub, capsys, monkeypatch):
    monkeypatch.setenv("HF_HUB_DOWNLOAD_TIMEOUT", "1")
    hub.stall(path, times=99)
    assert "has not answered for 1 seconds" in refused(run, capsys)
    hub.faults.clear()
    assert push(run) == 0


def test_a_large_file_that_fails_is_tried_again(run, hub):
    hub.fail(500, "PUT /", times=1)
    assert push(run) == 0


def test_no_token_is_told_before_the_run_is_read(run, hub, capsys, monkeypatch):
    monkeypatch.delenv("HF_TOKEN")
    message = refused(run, capsys)
    assert "hf auth login" in message
    assert not [request for request in hub.requests if request.method == "POST"]


def test_an_unknown_token(run, hub, capsys, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_nobody")
    assert "does not accept the token" in refused(run, capsys)


def test_what_the_token_may_do_is_checked(run, hub, capsys, monkeypatch):
    hub.account("other")
    assert "can't write to repositories of 'other'" in refused(run, capsys, repo="other/digits")
    monkeypatch.setenv("HF_TOKEN", hub.account("user", write=False))
    assert "can only read" in refused(run, capsys)


def account(role, permissions=(), organisations=None):
    """What the Hub says of a token."""
    scoped = [{"entity": {"name": "user"}, "permissions": list(permissions)}]
    token = {"role": role, **({"fineGrained": {"scoped": scoped}} if role == "fineGrained" else {})}
    orgs = [{"name": name, "roleInOrg": role} for name, role in (organisations or {}).items()]
    return {"name": "user", "orgs": orgs, "auth": {"accessToken": token}}


@pytest.mark.parametrize(
    ("who", "repo", "words"),
    [
        (account("write"), "user/a", None),
        (account("read"), "user/a", "can only read"),
        (account("fineGrained", ["repo.content.read", "repo.write"]), "user/a", None),
        (account("fineGrained", ["repo.content.read"]), "user/a", "can only read"),
        (account("write", organisations={"team": "contributor"}), "team/a", None),
        (account("write", organisations={"team": "read"}), "team/a", "can't write to repositories of 'team'"),
        (
            account("write", organisations={"team": "admin"}),
            "others/a",
            "can't write to repositories of 'others'",
        ),
    ],
)
def test_what_a_token_may(who, repo, words):
    if words is None:
        check_token(who, repo)
    else:
        with pytest.raises(HubError, match=words):
            check_token(who, repo)


def test_offline_by_setting(run, capsys):
    assert "HF_HUB_OFFLINE is set" in refused(run, capsys)


def test_offline_by_fate(run, hub, capsys):
    hub.__exit__()
    assert "can't be reached" in refused(run, capsys)
