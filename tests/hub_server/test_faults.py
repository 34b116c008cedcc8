"""The Hub of the tests fails on demand, and a push that fails leaves a repository as it was."""

import subprocess
import sys

import pytest
from huggingface_hub import HfApi, get_session
from huggingface_hub.errors import HfHubHTTPError

FILES = {"README.md": b"---\nlicense: mit\n---\n", "model.safetensors": b"\0" * 3_000_000}

_PUSH = """
import sys
from huggingface_hub import HfApi

HfApi().upload_folder(repo_id="user/model", folder_path=sys.argv[1])
"""


@pytest.fixture
def folder(tmp_path):
    for name, content in FILES.items():
        (tmp_path / name).write_bytes(content)
    return tmp_path


@pytest.fixture
def repo(hub):
    return hub.create("user/model")


def push(folder):
    HfApi().upload_folder(repo_id="user/model", folder_path=folder)


def pushed(repo):
    return {name: content for name, content in repo.files.items() if name != ".gitattributes"}


@pytest.mark.parametrize("status", [403, 404, 429, 500])
def test_a_refused_commit_leaves_the_repository_as_it_was_and_can_be_repeated(status, hub, repo, folder):
    hub.fail(status, path="POST .*/commit/", message="not now")
    with pytest.raises(HfHubHTTPError) as error:
        push(folder)
    assert error.value.response.status_code == status
    assert "not now" in str(error.value)
    assert len(repo.history()) == 1
    push(folder)
    assert pushed(repo) == FILES


def test_the_client_waits_as_long_as_it_is_told(hub, repo, folder):
    hub.fail(429, path="preupload", headers={"RateLimit": '"api";r=0;t=0'})
    hub.fail(503, path="objects/batch", headers={"Retry-After": "0"})
    push(folder)
    assert pushed(repo) == FILES
    assert all(fault.reached.is_set() for fault in hub.faults)


def test_an_upload_that_is_cut_is_repeated_by_the_client(hub, repo, folder):
    fault = hub.cut(path="PUT /storage")
    push(folder)
    assert fault.reached.is_set()
    assert pushed(repo) == FILES


def test_a_commit_that_is_cut_leaves_the_repository_as_it_was(hub, repo, folder):
    hub.cut(path="POST .*/commit/")
    with pytest.raises(Exception, match=r"(?i)reset|closed|disconnect|peer|broken"):
        push(folder)
    assert len(repo.history()) == 1


def test_faults_count_only_the_requests_that_match(hub, repo):
    hub.fail(418, path="GET .*/refs", skip=1, times=2)
    pages = ["tree/main", "refs", "refs", "refs", "refs"]
    statuses = [get_session().get(f"{hub.url}/api/models/user/model/{page}").status_code for page in pages]
    assert statuses == [200, 200, 418, 418, 200]


def test_a_download_can_be_cut_too(hub, repo, folder):
    push(folder)
    hub.cut(path="GET .*/tree/")
    with pytest.raises(Exception, match=r"incomplete|peer closed"):
        get_session().get(f"{hub.url}/api/models/user/model/tree/main")


def test_no_answer_means_none(hub, repo):
    fault = hub.stall(path="whoami")
    with pytest.raises(Exception, match="timed out"):
        get_session().get(f"{hub.url}/api/whoami-v2", timeout=0.3)
    assert fault.reached.is_set()


@pytest.mark.parametrize("at", ["PUT /storage", "POST .*/commit/"])
def test_a_push_that_is_killed_leaves_the_repository_as_it_was(at, hub, repo, folder):
    fault = hub.stall(path=at)
    process = subprocess.Popen([sys.executable, "-c", _PUSH, str(folder)], env=hub.environment())
    assert fault.reached.wait(60)
    process.kill()
    process.wait()
    assert len(repo.history()) == 1
    push(folder)
    assert pushed(repo) == FILES
    assert len(repo.history()) == 2
