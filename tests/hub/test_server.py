from huggingface_hub import HfApi, hf_hub_download


def test_thin(hub, tmp_path):
    api = HfApi()
    assert api.whoami()["name"] == "user"
    api.create_repo("user/a", private=True)
    (tmp_path / "f").mkdir()
    (tmp_path / "f/model.safetensors").write_bytes(b"\0" * 100000)
    (tmp_path / "f/README.md").write_text("---\nlicense: mit\n---\nhello")
    api.upload_folder(repo_id="user/a", folder_path=tmp_path / "f")
    assert sorted(api.list_repo_files("user/a")) == [".gitattributes", "README.md", "model.safetensors"]
    assert open(hf_hub_download("user/a", "model.safetensors"), "rb").read() == b"\0" * 100000
    assert open(hf_hub_download("user/a", "README.md")).read().endswith("hello")
    assert hub.repo("user/a").private
    assert [c.message for c in hub.repo("user/a").history()][1] == "initial commit"
