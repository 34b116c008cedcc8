"""The Hub of the tests speaks the real clients' protocol and fails on demand; datasets: tests/data/test_hub.py."""

import pytest
from huggingface_hub import HfApi, constants, errors, hf_hub_download

from shvit_pl.hub_errors import hub_reachable
from tests.hub_server import in_process

FILES = {"README.md": b"---\nlicense: mit\n---\n", "model.safetensors": bytes(range(256)) * 4000}


@pytest.fixture
def folder(tmp_path):
    for name, content in FILES.items():
        (tmp_path / name).write_bytes(content)
    return tmp_path


def push(folder, **more):
    return HfApi().upload_folder(repo_id="user/model", folder_path=folder, **more)


def pushed(repo):
    return {name: content for name, content in repo.files.items() if name != ".gitattributes"}


def gets(hub, part):
    return [request for request in hub.requests if request.method == "GET" and part in request.path]


def test_only_the_owner_with_a_token_that_writes_may_write_and_see_what_is_private(hub, folder):
    assert HfApi().whoami()["name"] == "user"
    HfApi().create_repo("user/model", private=True)
    assert hub.repo("user/model").private
    for token, error in ((False, "401"), ("hf_nobody", "401"), (hub.account("user", write=False), "403")):
        with pytest.raises(errors.HfHubHTTPError, match=error):
            push(folder, token=token)
    for token in (False, hub.account("stranger")):
        with pytest.raises(errors.RepositoryNotFoundError):
            HfApi(token=token).model_info("user/model")
    HfApi().update_repo_settings("user/model", private=False)
    assert HfApi(token=False).model_info("user/model").private is False
    with pytest.raises(errors.HfHubHTTPError, match="403"):
        HfApi().create_repo("other/model")


def test_a_folder_is_one_commit_on_its_branch_and_what_has_not_changed_is_not_sent_again(hub, folder):
    HfApi().create_repo("user/model")
    info = push(folder, commit_message="a run")
    repo = hub.repo("user/model")
    assert pushed(repo) == FILES
    assert [commit.message for commit in repo.history()] == ["a run", "initial commit"]
    assert info.oid == repo.branches["main"] == HfApi().model_info("user/model").sha
    assert [len(request.body) for request in hub.requests if request.method == "PUT"] == [1_024_000]
    hub.requests.clear()
    push(folder)
    assert len(repo.history()) == 2
    assert not [request for request in hub.requests if request.method == "PUT"]
    HfApi().create_branch("user/model", branch="v1")
    push(folder, path_in_repo="more", revision="v1", delete_patterns="*")
    assert pushed(repo) == FILES
    assert {"more/README.md", "more/model.safetensors"} < set(HfApi().list_repo_files("user/model", revision="v1"))
    with pytest.raises(errors.RevisionNotFoundError):
        push(folder, revision="v2")
    with pytest.raises(errors.HfHubHTTPError, match="412"):
        HfApi().upload_file(
            path_or_fileobj=b"a", path_in_repo="a", repo_id="user/model", parent_commit=repo.history()[1].id
        )


def test_files_come_whole_from_the_storage_without_the_token_and_once(hub, tmp_path):
    large = FILES["model.safetensors"] * 24
    first = hub.commit("user/model", {**FILES, "model.safetensors": large}, kind="models")
    fault = hub.cut("GET /storage")
    with open(hf_hub_download("user/model", "model.safetensors"), "rb") as file:
        assert file.read() == large
    assert fault.reached.is_set()
    _, rest = gets(hub, "storage")
    assert rest.token is None
    assert rest.headers["host"].startswith("localhost")
    assert rest.headers["range"] == f"bytes={constants.DOWNLOAD_CHUNK_SIZE}-"  # it keeps whole chunks
    hub.commit("user/model", {"README.md": b"another"}, kind="models")
    hf_hub_download("user/model", "model.safetensors", revision=first)
    assert len(gets(hub, "storage")) == 2
    with pytest.raises(errors.EntryNotFoundError):
        hf_hub_download("user/model", "missing.txt")
    hub.stop()
    in_process.forget()
    assert not hub_reachable()
    assert hf_hub_download("user/model", "model.safetensors", revision=first)
    with pytest.raises(errors.LocalEntryNotFoundError):
        hf_hub_download("user/model", "missing.txt")


def test_a_gated_repository_says_that_it_is_but_gives_no_files(hub, tmp_path):
    hub.commit("user/gated", {"a.txt": b"a"}, kind="models", gated=True)
    for token, status in ((False, 401), (hub.account("stranger"), 403)):
        api = HfApi(token=token)
        assert api.model_info("user/gated").gated == "manual"
        with pytest.raises(errors.GatedRepoError) as error:
            api.auth_check("user/gated")
        assert error.value.response.status_code == status
        with pytest.raises(errors.GatedRepoError):
            api.hf_hub_download("user/gated", "a.txt", local_dir=tmp_path)
    hub.repo("user/gated").members.add("stranger")
    HfApi(token=hub.account("stranger")).auth_check("user/gated")


def test_it_fails_as_often_as_it_is_asked_to(hub, folder):
    repo = hub.create("user/model")
    faults = [hub.fail(403, "POST .*/commit/"), hub.cut("PUT /storage")]
    faults.append(hub.fail(429, "preupload", headers={"RateLimit": '"api";r=0;t=0'}))
    faults.append(hub.fail(503, "objects/batch", headers={"Retry-After": "0"}))
    with pytest.raises(errors.HfHubHTTPError, match="403"):
        push(folder)
    assert len(repo.history()) == 1
    push(folder)  # which repeats by itself what is worth it
    assert pushed(repo) == FILES
    assert all(fault.reached.is_set() for fault in faults)
    hub.cut("POST .*/commit/")
    (folder / "README.md").write_bytes(b"another")
    with pytest.raises(Exception, match=r"(?i)reset|closed|disconnect|peer|broken"):
        push(folder)
    assert len(repo.history()) == 2
