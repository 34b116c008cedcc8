"""The Hub of the tests speaks the real clients' protocol. Reading: tests/data/test_hub.py, tests/hub/test_pull.py."""

import pytest
from huggingface_hub import HfApi, errors

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
