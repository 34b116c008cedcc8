"""The Hub of the tests speaks the protocol of the real client: accounts, repositories, branches and commits."""

import json

import pytest
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

CARD = "---\nlicense: mit\ntags: [timm]\n---\nA model.\n"


@pytest.fixture
def folder(tmp_path):
    """A folder as of a small model: text, and a file for the large file storage."""
    folder = tmp_path / "model"
    (folder / "figures").mkdir(parents=True)
    (folder / "README.md").write_text(CARD)
    (folder / "config.json").write_text(json.dumps({"architecture": "shvit_s1"}))
    (folder / "model.safetensors").write_bytes(bytes(range(256)) * 40)
    (folder / "figures" / "curve.png").write_bytes(b"\x89PNG\0\0")
    return folder


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_token_is_known_by_its_account(hub):
    assert HfApi().whoami()["name"] == "user"
    assert HfApi(token=hub.account("reader", write=False)).whoami()["auth"]["accessToken"]["role"] == "read"
    with pytest.raises(HfHubHTTPError, match="Invalid user token"):
        HfApi(token="hf_nobody").whoami()


def test_a_repository_is_made_once_and_may_be_there(hub):
    assert HfApi().create_repo("user/model", private=True).repo_id == "user/model"
    assert hub.repo("user/model").private
    with pytest.raises(HfHubHTTPError, match="409"):
        HfApi().create_repo("user/model")
    HfApi().create_repo("user/model", exist_ok=True)
    HfApi().create_repo("data", repo_type="dataset")
    assert not hub.repo("user/data", "datasets").private
    with pytest.raises(HfHubHTTPError, match="403"):
        HfApi().create_repo("other/model")


def test_a_folder_is_one_commit(hub, folder):
    HfApi().create_repo("user/model")
    info = HfApi().upload_folder(repo_id="user/model", folder_path=folder, commit_message="a run")
    repo = hub.repo("user/model")
    assert {name: data for name, data in repo.files.items() if name != ".gitattributes"} == contents(folder)
    assert [commit.message for commit in repo.history()] == ["a run", "initial commit"]
    assert [commit.title for commit in HfApi().list_repo_commits("user/model")] == ["a run", "initial commit"]
    assert info.oid == repo.branches["main"]
    uploaded = [request for request in hub.requests if request.method == "PUT"]
    assert sorted(len(request.body) for request in uploaded) == [6, 10240]


def test_files_that_have_not_changed_are_not_sent_again(hub, folder):
    HfApi().create_repo("user/model")
    HfApi().upload_folder(repo_id="user/model", folder_path=folder)
    (folder / "README.md").write_text(CARD + "Pushed again.\n")
    hub.requests.clear()
    HfApi().upload_folder(repo_id="user/model", folder_path=folder)
    assert not [request for request in hub.requests if request.method == "PUT"]
    assert hub.repo("user/model").files["README.md"].endswith(b"again.\n")
    HfApi().upload_folder(repo_id="user/model", folder_path=folder)
    assert len(hub.repo("user/model").history()) == 3


def test_what_is_listed_is_what_is_there(hub, folder):
    HfApi().create_repo("user/model")
    HfApi().upload_folder(repo_id="user/model", folder_path=folder)
    files = sorted([".gitattributes", *contents(folder)])
    assert sorted(HfApi().list_repo_files("user/model")) == files
    top = {entry.path for entry in HfApi().list_repo_tree("user/model", expand=True)}
    assert top == {".gitattributes", "README.md", "config.json", "figures", "model.safetensors"}
    inside = list(HfApi().list_repo_tree("user/model", "figures", recursive=True))
    assert [entry.path for entry in inside] == ["figures/curve.png"]
    weights, card = HfApi().get_paths_info("user/model", ["model.safetensors", "README.md", "missing"])[::-1]
    assert (weights.size, weights.lfs.size, card.lfs) == (10240, 10240, None)
    info = HfApi().model_info("user/model")
    assert (info.card_data.license, info.tags, info.private) == ("mit", ["timm"], False)
    assert sorted(sibling.rfilename for sibling in info.siblings) == files
    with pytest.raises(RemoteEntryNotFoundError):
        list(HfApi().list_repo_tree("user/model", "missing"))


def test_a_branch_has_files_of_its_own(hub, folder):
    HfApi().create_repo("user/model")
    HfApi().create_branch("user/model", branch="trial/1")
    with pytest.raises(HfHubHTTPError, match="409"):
        HfApi().create_branch("user/model", branch="trial/1")
    HfApi().create_branch("user/model", branch="trial/1", exist_ok=True)
    HfApi().upload_folder(repo_id="user/model", folder_path=folder, revision="trial/1")
    assert HfApi().list_repo_files("user/model") == [".gitattributes"]
    assert len(HfApi().list_repo_files("user/model", revision="trial/1")) == 5
    HfApi().create_tag("user/model", tag="v1", revision="trial/1")
    refs = HfApi().list_repo_refs("user/model")
    assert {ref.name for ref in refs.branches} == {"main", "trial/1"}
    assert [(ref.name, ref.target_commit) for ref in refs.tags] == [("v1", hub.repo("user/model").branches["trial/1"])]
    HfApi().delete_branch("user/model", branch="trial/1")
    with pytest.raises(RevisionNotFoundError):
        HfApi().upload_folder(repo_id="user/model", folder_path=folder, revision="trial/1")


def test_a_commit_is_all_of_its_operations_or_none(hub):
    HfApi().create_repo("user/model")
    before = hub.repo("user/model").branches["main"]
    add, delete = CommitOperationAdd("a.txt", b"a"), CommitOperationDelete("missing.txt")
    with pytest.raises(RemoteEntryNotFoundError):
        HfApi().create_commit("user/model", [add, delete], commit_message="half")
    assert hub.repo("user/model").branches["main"] == before
    assert HfApi().list_repo_files("user/model") == [".gitattributes"]


def test_a_commit_on_another_than_the_last_is_refused(hub):
    HfApi().create_repo("user/model")
    first = hub.repo("user/model").branches["main"]
    upload = {"repo_id": "user/model", "path_or_fileobj": b"a", "parent_commit": first}
    HfApi().upload_file(path_in_repo="a.txt", **upload)
    with pytest.raises(HfHubHTTPError, match="412"):
        HfApi().upload_file(path_in_repo="b.txt", **upload)
    assert "b.txt" not in hub.repo("user/model").files


def test_files_and_folders_and_repositories_are_deleted(hub, folder):
    HfApi().create_repo("user/model")
    HfApi().upload_folder(repo_id="user/model", folder_path=folder)
    HfApi().delete_file("config.json", "user/model")
    HfApi().delete_folder("figures", "user/model")
    assert sorted(hub.repo("user/model").files) == [".gitattributes", "README.md", "model.safetensors"]
    (folder / "model.safetensors").unlink()
    HfApi().upload_folder(repo_id="user/model", folder_path=folder, delete_patterns="*.safetensors")
    assert "model.safetensors" not in hub.repo("user/model").files
    HfApi().delete_repo("user/model")
    with pytest.raises(RepositoryNotFoundError):
        HfApi().model_info("user/model")


def test_a_card_whose_header_is_broken_is_refused_before_anything_is_sent(hub):
    HfApi().create_repo("user/model")
    with pytest.raises(ValueError, match="Invalid metadata in README"):
        HfApi().upload_file(path_or_fileobj=b"---\na: [\n---\n", path_in_repo="README.md", repo_id="user/model")
    assert "README.md" not in hub.repo("user/model").files


def test_a_private_repository_is_there_for_its_owner_alone(hub):
    hub.create("user/secret", private=True)
    for token in (False, hub.account("stranger")):
        with pytest.raises(RepositoryNotFoundError):
            HfApi(token=token).model_info("user/secret")
    HfApi().update_repo_settings("user/secret", private=False)
    assert HfApi(token=False).model_info("user/secret").private is False


def test_a_gated_repository_says_that_it_is_but_gives_no_files(hub, tmp_path):
    hub.commit("user/gated", {"a.txt": b"a"}, kind="models", gated=True)
    for token, status in ((False, 401), (hub.account("stranger"), 403)):
        api = HfApi(token=token)
        assert api.model_info("user/gated").gated == "manual"
        with pytest.raises(GatedRepoError) as error:
            api.auth_check("user/gated")
        assert error.value.response.status_code == status
        with pytest.raises(GatedRepoError):
            api.hf_hub_download("user/gated", "a.txt", local_dir=tmp_path)
    hub.repo("user/gated").members.add("stranger")
    HfApi(token=hub.account("stranger")).auth_check("user/gated")


def test_only_the_owner_with_a_token_that_writes_may_write(hub):
    hub.create("user/model")
    for token in (hub.account("stranger"), hub.account("user", write=False)):
        with pytest.raises(HfHubHTTPError, match="403"):
            HfApi(token=token).upload_file(path_or_fileobj=b"a", path_in_repo="a.txt", repo_id="user/model")
    with pytest.raises(HfHubHTTPError, match="401"):
        HfApi(token=False).upload_file(path_or_fileobj=b"a", path_in_repo="a.txt", repo_id="user/model")
