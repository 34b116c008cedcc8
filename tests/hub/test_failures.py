"""A push that fails ends with one message and exit code 2; a killed one leaves the repository as it was."""

import shutil
import subprocess
import sys
from contextlib import nullcontext

import pytest
from huggingface_hub import HfApi

from shvit_pl.cli import main
from shvit_pl.errors import UserError
from shvit_pl.hub.target import check_token
from shvit_pl.hub_errors import pushing
from shvit_pl.push import PushOptions
from shvit_pl.runs.folder import FinishedRun
from tests.hub.runs import edit, files
from tests.refusals import refusal, refused

REPO = "user/digits"
COMMIT = f"POST /api/models/{REPO}/commit"
slow = pytest.mark.slow


def push(run, *flags):
    return main(["push", str(run), "--repo-id", REPO, *flags])


@pytest.fixture
def failed(run, capsys):
    """Returns the one message of a push that fails; the run is as it was."""

    def failed(repo=REPO):
        before = {name: path.read_bytes() for name, path in files(run).items()}
        message = refusal(capsys, "push", run, "--repo-id", repo)
        assert message.startswith("shvit-pl push: error: ")
        assert "run the same command again" in message
        assert {name: path.read_bytes() for name, path in files(run).items()} == before
        return message

    return failed


# ---- mistakes of the user


def test_folders_that_are_no_finished_run_and_damaged_files(own):
    def check(folder, words, **options):
        with refused(words):
            FinishedRun.open(folder, **options)

    check(own / "nowhere", "no such folder")
    check(own / "figures", "not a run folder")
    check(own.parent, f"give {own}")
    for name in ("summary.json", "config.yaml"):
        content = (own / name).read_text()
        (own / name).write_text("{")
        check(own, "config.yaml or summary.json is damaged")
        (own / name).write_text(content)
    (own / "config.yaml").write_text(content.replace("decay: 0.9\n", "decay: 0.0\n"))
    check(own, "no averaged weights", weights="ema")
    (own / "config.yaml").write_text(content)
    shutil.rmtree(own / "checkpoints")
    check(own, "no checkpoint")
    (own / "summary.json").unlink()
    check(own, "this run has not ended")


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ((), "repo_id"),
        (("--repo_id", REPO, "--weights", "emma"), "allowed are raw, ema"),
        (("--repo_id", REPO, "--privat"), "no such flag"),
        (("--repo_id", REPO, "--dry-run"), "not a complete checkpoint"),
    ],
)
def test_the_command_refuses_flags_and_half_a_checkpoint(flags, words, own, capsys):
    whole = (own / "checkpoints/best.ckpt").read_bytes()
    (own / "checkpoints/best.ckpt").write_bytes(whole[: len(whole) // 2])
    assert words in refusal(capsys, "push", own, *flags)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        *(({"repo_id": name}, f"--repo_id {name!r}: not a repository name; use user/name") for name in ("", " ", "a")),
        ({"repo_id": "user/-digits"}, "not a repository name"),
        ({"repo_id": "user/digits/s1"}, "not a repository name"),
        ({"repo_id": "hf-hub:user/digits@v2"}, "give user/digits, and --revision v2"),
        ({"repo_id": "https://huggingface.co/user/digits"}, "give user/digits."),
        *(({"revision": name}, "not a branch name") for name in ("", "my branch", "refs/pr/1", "v2/", "HEAD", "a..b")),
        ({"output": "there"}, "only for --dry_run"),
        ({"output": "", "dry_run": True}, "--output '': give a folder"),
        *(({"folder": name}, f"folder {name!r}: no such folder") for name in ("", "nowhere")),
    ],
    ids=str,
)
def test_options(options, words):
    with refused(words):
        PushOptions(**{"folder": ".", "repo_id": REPO, **options})


def test_all_mistakes_are_listed_at_once():
    with pytest.raises(UserError) as caught:
        PushOptions(".", "digits", revision="HEAD", output="there")
    assert [line.split()[0] for line in str(caught.value).splitlines()] == ["--repo_id", "--revision", "--output"]


@pytest.mark.parametrize(
    ("role", "permissions", "teams", "repo", "words"),
    [
        ("write", (), {}, "user/a", None),
        ("fineGrained", ("repo.content.read", "repo.write"), {}, "user/a", None),
        ("write", (), {"team": "contributor"}, "team/a", None),
        ("read", (), {}, "user/a", "can only read"),
        ("fineGrained", ("repo.content.read",), {}, "user/a", "can only read"),
        ("write", (), {"team": "read"}, "team/a", "can't write to repositories of 'team'"),
        ("write", (), {"team": "admin"}, "others/a", "can't write to repositories of 'others'"),
    ],
)
def test_a_token_may_write_by_its_role_its_permissions_and_its_teams(role, permissions, teams, repo, words):
    scoped = {"fineGrained": {"scoped": [{"entity": {"name": "user"}, "permissions": permissions}]}}
    orgs = [{"name": name, "roleInOrg": in_team} for name, in_team in teams.items()]
    account = {"name": "user", "orgs": orgs, "auth": {"accessToken": {"role": role, **scoped}}}
    with refused(words) if words else nullcontext():
        check_token(account, repo)


def test_the_token_is_checked_before_the_run_is_read(hub, failed, monkeypatch):
    hub.account("other")
    assert "can't write to repositories of 'other'" in failed("other/digits")
    for token, words in (
        (hub.account("user", write=False), "can only read"),
        ("hf_nobody", "does not accept the token"),
        ("", "hf auth login"),
    ):
        monkeypatch.setenv("HF_TOKEN", token)
        assert words in failed()
    assert not [request for request in hub.requests if request.method == "POST"]


# ---- failures of the Hub


@pytest.mark.parametrize(
    ("fault", "path", "words"),
    [
        (500, COMMIT, "has failed (500)"),
        (400, "POST /api/validate-yaml", "the push failed (Invalid metadata"),
        ("cut", COMMIT, "connection to the Hub broke"),
        ("stall", COMMIT, "has not answered for 1 seconds"),
    ],
)
def test_an_error_a_cut_connection_and_silence(fault, path, words, hub, failed, monkeypatch):
    monkeypatch.setenv("HF_HUB_DOWNLOAD_TIMEOUT", "1")
    if isinstance(fault, int):
        hub.fail(fault, path, times=99)
    else:
        getattr(hub, fault)(path)
    assert words in failed()


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
    with refused(words), pushing(REPO):
        HfApi().model_info(REPO)


def test_offline(hub, failed, monkeypatch):
    hub.__exit__()
    assert f"the Hub cannot be reached ({hub.url})" in failed()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert "HF_HUB_OFFLINE is set" in failed()


def test_a_large_file_that_fails_is_tried_again(run, hub):
    hub.fail(500, "PUT /", times=1)
    assert push(run) == 0


@pytest.mark.full
def test_a_large_file_that_never_comes_through(hub, failed):
    hub.cut("PUT /", times=99)
    assert failed()
    assert set(hub.repo(REPO).files) == {".gitattributes"}


@pytest.mark.parametrize(
    ("stage", "is_first"),
    [
        pytest.param(stage, is_first, marks=slow if (stage, is_first) == ("/commit/", False) else pytest.mark.full)
        for stage in ("preupload", "PUT /", "/commit/")
        for is_first in (True, False)
    ],
)
def test_killed_while_the_hub_is_asked(stage, is_first, own, hub, tmp_path):
    """The repository is as before; the same command then pushes everything."""
    before = {".gitattributes": hub.create("user/empty").files[".gitattributes"]}
    if not is_first:
        assert push(own) == 0
        edit(own / "summary.json", seed=1)
        before = hub.repo(REPO).files
    fault = hub.stall(stage)
    command = [sys.executable, "-m", "shvit_pl.cli", "push", own, "--repo-id", REPO, "--weights", "ema"]  # a large file
    environment = {**hub.environment(), "TMPDIR": str(tmp_path)}  # what it can't clean up any more
    process = subprocess.Popen(command, env=environment, cwd=tmp_path)
    try:
        assert fault.reached.wait(60)
    finally:
        process.kill()
        process.wait()
    assert hub.repo(REPO).files == before
    hub.faults.clear()
    assert push(own, "--weights", "ema") == 0
    after = hub.repo(REPO).files
    assert {"model.safetensors", "config.json", "README.md"} < set(after)
    assert after != before
