"""Whatever the Hub does, a push ends with one message and exit code 2, and the same command repeats it."""

import re

import pytest
from huggingface_hub import HfApi

from shvit_pl.cli import main
from shvit_pl.hub.upload import check_token
from shvit_pl.hub_errors import HubError, hub_errors
from tests.hub.runs import files

REPO = "user/digits"
COMMIT, CREATE, WHO = f"POST /api/models/{REPO}/commit", "POST /api/repos/create", "GET /api/whoami-v2"


def push(run, repo=REPO):
    return main(["push", str(run), "--repo-id", repo])


@pytest.fixture
def refused(ended, capsys):
    """Returns the one message of a push that fails; the run is as it was."""

    def refused(repo=REPO):
        before = {name: path.read_bytes() for name, path in files(ended).items()}
        capsys.readouterr()
        assert push(ended, repo) == 2
        err = capsys.readouterr().err
        assert err.count("\n") == 1
        assert err.startswith("shvit-pl push: error: ")
        assert "run the same command again" in err
        assert len(err) < 450
        assert {name: path.read_bytes() for name, path in files(ended).items()} == before
        return err

    return refused


def slow(*values):
    return pytest.param(*values, marks=pytest.mark.slow)


@pytest.mark.parametrize(
    ("fault", "path", "words"),
    [
        (500, COMMIT, "has failed (500)"),
        (400, "POST /api/validate-yaml", "the push failed (Invalid metadata"),
        slow(403, CREATE, "does not let this token write to 'user/digits'"),
        slow(503, WHO, "has failed (503)"),
        ("cut", COMMIT, "connection to the Hub broke"),
        slow("cut", WHO, "connection to the Hub broke"),
        slow("cut", CREATE, "connection to the Hub broke"),
        ("stall", COMMIT, "has not answered for 1 seconds"),
        slow("stall", WHO, "has not answered for 1 seconds"),
    ],
)
def test_an_error_a_cut_connection_and_silence(fault, path, words, ended, hub, refused, monkeypatch):
    monkeypatch.setenv("HF_HUB_DOWNLOAD_TIMEOUT", "1")
    if isinstance(fault, int):
        hub.fail(fault, path, times=99)
    else:
        getattr(hub, fault)(path, times=99)
    assert words in refused()
    hub.faults.clear()
    assert push(ended) == 0
    assert "model.safetensors" in hub.repo(REPO).files


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (401, "does not accept the token"),
        (403, "does not let this token write to 'user/digits'"),
        (404, "has no 'user/digits'"),
        (409, "refuses the push (409)"),
        (429, "too many requests"),
        (500, "has failed (500)"),
    ],
)
def test_each_kind_of_error(status, words, hub):
    hub.fail(status, "/api/models/", times=99)
    with pytest.raises(HubError, match=re.escape(words)), hub_errors(REPO):
        HfApi().model_info(REPO)


def test_a_large_file_that_fails_is_tried_again(ended, hub):
    hub.fail(500, "PUT /", times=1)
    assert push(ended) == 0


def test_the_token_is_checked_before_the_run_is_read(hub, refused, monkeypatch):
    hub.account("other")
    assert "can't write to repositories of 'other'" in refused("other/digits")
    for token, words in (
        (hub.account("user", write=False), "can only read"),
        ("hf_nobody", "does not accept the token"),
        ("", "hf auth login"),
    ):
        monkeypatch.setenv("HF_TOKEN", token)
        assert words in refused()
    assert not [request for request in hub.requests if request.method == "POST"]


def test_offline(hub, refused, monkeypatch):
    hub.__exit__()
    assert "can't be reached" in refused()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert "HF_HUB_OFFLINE is set" in refused()


def account(role, permissions=(), organizations=None):
    """What the Hub says of a token."""
    scoped = [{"entity": {"name": "user"}, "permissions": list(permissions)}]
    token = {"role": role, **({"fineGrained": {"scoped": scoped}} if role == "fineGrained" else {})}
    orgs = [{"name": name, "roleInOrg": role} for name, role in (organizations or {}).items()]
    return {"name": "user", "orgs": orgs, "auth": {"accessToken": token}}


@pytest.mark.parametrize(
    ("who", "repo", "words"),
    [
        (account("write"), "user/a", None),
        (account("read"), "user/a", "can only read"),
        (account("fineGrained", ["repo.content.read", "repo.write"]), "user/a", None),
        (account("fineGrained", ["repo.content.read"]), "user/a", "can only read"),
        (account("write", organizations={"team": "contributor"}), "team/a", None),
        (account("write", organizations={"team": "read"}), "team/a", "can't write to repositories of 'team'"),
        (account("write", organizations={"team": "admin"}), "others/a", "can't write to repositories of 'others'"),
    ],
)
def test_what_a_token_may(who, repo, words):
    if words is None:
        check_token(who, repo)
    else:
        with pytest.raises(HubError, match=words):
            check_token(who, repo)
