"""The Hub of the tests gives files as the real one does: by the real clients of models."""

import pytest
import torch
from huggingface_hub import HfApi, constants, hf_hub_download, snapshot_download
from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError, RepositoryNotFoundError
from timm.models import create_model, push_to_hf_hub

from shvit_pl.hub_errors import hub_reachable
from tests.hub_server import in_process

WEIGHTS = bytes(range(256)) * 4000  # 1 MB


@pytest.fixture
def model(hub):
    files = {"README.md": b"A model.\n", "model.safetensors": WEIGHTS, "figures/curve.png": b"\x89PNG\0"}
    hub.commit("user/model", files, kind="models")
    return "user/model"


def read(path):
    with open(path, "rb") as file:
        return file.read()


def gets(hub, part):
    return [request for request in hub.requests if request.method == "GET" and part in request.path]


def test_a_file_arrives_whole_and_is_downloaded_once(hub, model):
    assert read(hf_hub_download(model, "model.safetensors")) == WEIGHTS
    assert read(hf_hub_download(model, "README.md")) == b"A model.\n"
    hub.requests.clear()
    assert read(hf_hub_download(model, "model.safetensors")) == WEIGHTS
    assert not gets(hub, "storage")


def test_large_files_come_from_the_storage_without_the_token(hub, model):
    hf_hub_download(model, "model.safetensors")
    (request,) = gets(hub, "storage")
    assert request.token is None
    assert request.headers["host"].startswith("localhost")


def test_a_download_that_was_cut_goes_on_where_it_was(hub):
    large = WEIGHTS * 24
    hub.commit("user/large", {"model.safetensors": large}, kind="models")
    hub.cut(path="GET /storage")
    assert read(hf_hub_download("user/large", "model.safetensors")) == large
    first, second = gets(hub, "storage")
    assert "range" not in first.headers
    assert second.headers["range"] == f"bytes={constants.DOWNLOAD_CHUNK_SIZE}-"  # it keeps whole chunks


def test_a_revision_keeps_its_files(hub, model):
    old = hub.repo(model).branches["main"]
    hub.commit(model, {"README.md": b"Another.\n"}, kind="models")
    assert read(hf_hub_download(model, "README.md")) == b"Another.\n"
    assert read(hf_hub_download(model, "README.md", revision=old)) == b"A model.\n"


def test_a_snapshot_is_every_file(hub, model, tmp_path):
    snapshot_download(model, local_dir=tmp_path / "copy")
    found = {str(path.relative_to(tmp_path / "copy")) for path in (tmp_path / "copy").rglob("*") if path.is_file()}
    wanted = {name for name in found if not name.startswith(".cache")}
    assert wanted == {"README.md", "model.safetensors", "figures/curve.png"}
    assert read(tmp_path / "copy" / "model.safetensors") == WEIGHTS


def test_what_is_not_there_is_said(hub, model):
    with pytest.raises(EntryNotFoundError):
        hf_hub_download(model, "missing.txt")
    with pytest.raises(RepositoryNotFoundError):
        hf_hub_download("user/missing", "README.md")


def test_without_the_hub_there_is_the_cache(hub, model):
    hf_hub_download(model, "README.md")
    hub.stop()
    in_process.forget()
    assert not hub_reachable()
    assert read(hf_hub_download(model, "README.md")) == b"A model.\n"
    with pytest.raises(LocalEntryNotFoundError):
        hf_hub_download(model, "model.safetensors")


def test_a_model_goes_to_the_hub_and_back_by_timm(hub):
    model = create_model("test_resnet", num_classes=3).eval()
    push_to_hf_hub(model, "user/resnet", private=True, model_config={"label_names": ["a", "b", "c"]})
    assert hub.repo("user/resnet").private
    assert {"config.json", "model.safetensors", "README.md"} <= set(HfApi().list_repo_files("user/resnet"))
    back = create_model("hf-hub:user/resnet", pretrained=True).eval()
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(back(images), model(images))
    assert back.pretrained_cfg["label_names"] == ["a", "b", "c"]
