"""The files of a repository: all that is needed, and nothing that is private."""

import getpass
import json
import re
import shutil
import tempfile
from pathlib import Path

import torch
import yaml
from safetensors import safe_open

from shvit_pl.cli import main
from tests.hub.runs import edit, files, quick_fit, with_design


def written(run, folder, *flags):
    assert main(["push", str(run), "--repo-id=user/digits", "--dry-run", f"--output={folder}", *flags]) == 0
    return folder


def test_config_and_weights_are_timms_with_labels_and_preprocessing_and_nothing_else(ended, tmp_path):
    folder = written(ended, tmp_path / "hub")
    config = json.loads((folder / "config.json").read_text())
    assert config["architecture"] == "shvit_pl"
    assert config["label_names"] == [str(digit) for digit in range(10)]
    assert config["num_classes"] == 10
    assert config["model_args"]["embed_dim"] == [80, 112, 160]
    seen = config["pretrained_cfg"]
    assert seen["input_size"] == [3, 64, 64]
    assert (seen["crop_pct"], seen["crop_mode"], seen["interpolation"]) == (1.0, "center", "bicubic")
    assert (seen["mean"], seen["std"]) == ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    with safe_open(folder / "model.safetensors", "pt") as content:
        keys = list(content.keys())
        assert all(content.get_tensor(key).is_contiguous() for key in keys)
    assert keys
    assert not [key for key in keys if re.search(r"ema|optim|teacher|metrics|^model\.", key)]
    assert not [name for name in files(folder) if name.endswith((".ckpt", ".bin", ".pth", ".pt"))]
    assert not [name for name in files(folder) if "inputs" in name]  # that is a picture of the training data


def test_squashed_images_are_not_cropped(own, tmp_path):
    content = torch.load(own / "checkpoints/best.ckpt", weights_only=True)
    content["datamodule_hyper_parameters"] |= {"resize": "squash", "crop_pct": 0.875}
    torch.save(content, own / "checkpoints/best.ckpt")
    seen = json.loads((written(own, tmp_path / "hub") / "config.json").read_text())["pretrained_cfg"]
    assert (seen["crop_pct"], seen["crop_mode"]) == (1.0, "squash")


def test_networks_that_timm_has_are_saved_under_its_names(ended, tmp_path):
    """Also with two classifiers, stochastic depth, and the ratio as the paper prints it; all four: test_elsewhere."""
    run = with_design(ended, tmp_path / "run", name="s1", distilled=True, drop_path=0.1, partial_ratio=1 / 4.67)
    folder = written(run, tmp_path / "hub")
    config = json.loads((folder / "config.json").read_text())
    assert config["architecture"] == "shvit_s1"
    assert set(config["model_args"]) == {"in_chans", "global_pool"}
    assert "`shvit_s1`" in (folder / "README.md").read_text()


def test_no_path_of_the_machine_is_in_any_file(image_folder, tmp_path, monkeypatch):
    """Of a run whose every input was named by its full path, in a home with a blank in its name."""
    home = tmp_path / "Jane Doe"
    data, flags = f"--data.path={home / 'pets'}", ("--data.batch_size=4", "--run_name=far")
    shutil.copytree(image_folder, home / "pets")
    first = quick_fit(home / "runs", data, *flags)
    weights = f"--model.init_from={first / 'checkpoints/best.ckpt'}"
    taught = (f"--model.distill.teacher={first}", "--model.distill.check=false")
    run = quick_fit(home / "more", data, weights, *taught, *flags)
    edit(run / "summary.json", command=f"shvit-pl fit --data.path '{home}/pets' --trainer.default_root_dir='{home}'")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(tmp_path / "images")
    folder = written(run, tmp_path / "hub")
    private = [str(tmp_path), str(home), "Jane", str(Path.home()) + "/", tempfile.gettempdir(), str(Path.cwd()) + "/"]
    user = re.compile(rf"(?<![\w-]){re.escape(getpass.getuser())}(?![\w-])")
    for name, path in files(folder).items():
        content = path.read_bytes().decode(errors="ignore")
        assert not [each for each in private if each in content], name
        assert name == "model.safetensors" or not user.search(content), name
    config = yaml.safe_load((folder / "config.yaml").read_text())
    assert config["data"]["path"] == "pets"
    assert config["model"]["init_from"] == "best.ckpt"
    assert json.loads((folder / "summary.json").read_text())["command"].startswith("shvit-pl fit --data.path pets ")
