"""The files of a repository: all that is needed, and nothing that is private."""

import getpass
import json
import re
import shutil
import tempfile
from pathlib import Path

import pytest
import torch
import yaml
from safetensors import safe_open

from shvit_pl.cli import main
from shvit_pl.hub.upload import PublicNames, public_name
from tests.hub.runs import edit, files, quick_fit, with_design

HOME = str(Path.home())
AS_OPENED = [{"init_from": "/home/jane doe/best one.ckpt"}, {"teacher": "~/runs/t"}, {"path": "/data"}]
SWEEP = [{}, [{"data.path": "/data/cats"}, {"data.path": "/data/dogs"}]]


def written(run, folder, *flags):
    assert main(["push", str(run), "--repo-id=user/digits", "--dry-run", f"--output={folder}", *flags]) == 0
    return folder


def test_config_and_weights_are_timms_with_labels_and_preprocessing_and_nothing_else(run, tmp_path):
    folder = written(run, tmp_path / "hub")
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


def test_networks_that_timm_has_are_saved_under_its_names(run, tmp_path):
    """Also with two classifiers, stochastic depth, and the ratio as the paper prints it; all four: test_elsewhere."""
    run = with_design(run, tmp_path / "run", name="s1", distilled=True, drop_path=0.1, partial_ratio=1 / 4.67)
    folder = written(run, tmp_path / "hub")
    config = json.loads((folder / "config.json").read_text())
    assert config["architecture"] == "shvit_s1"
    assert set(config["model_args"]) == {"in_chans", "global_pool"}
    assert "`shvit_s1`" in (folder / "README.md").read_text()


@pytest.mark.slow
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
        content = path.read_bytes().decode(errors="ignore").replace("\n  root: null\n", "\n")  # a setting, no user
        assert not [each for each in private if each in content], name
        assert name == "model.safetensors" or not user.search(content), name
    config = yaml.safe_load((folder / "config.yaml").read_text())
    assert config["data"]["path"] == "pets"
    assert config["model"]["init_from"] == "best.ckpt"
    assert json.loads((folder / "summary.json").read_text())["command"].startswith("shvit-pl fit --data.path pets ")


# ---- paths, and the names that stand for them


@pytest.mark.parametrize(
    ("text", "public"),
    [
        ("/data/pets", "pets"),
        ("/home/jane doe/data set/pets", "pets"),
        ("../../secret/pets", "pets"),
        ("~/pets", "pets"),
        ("C:\\Users\\jane\\pets", "pets"),
        (HOME, "folder"),
        ("runs/teacher/version_0", "runs/teacher/version_0"),
        ("timm/shvit_s1.in1k", "timm/shvit_s1.in1k"),
        ("hf-hub:user/name@v2", "hf-hub:user/name@v2"),
        ("see https://example.org/a/b/c", "see https://example.org/a/b/c"),
        ("61 images/s at 64 px", "61 images/s at 64 px"),
        ("rand-m9-mstd0.5-inc1", "rand-m9-mstd0.5-inc1"),
    ],
)
def test_a_setting_that_is_a_path_becomes_its_last_part_and_others_stay(text, public):
    assert PublicNames({})({"a": [text]}) == {"a": [public]}


@pytest.mark.parametrize(
    ("settings", "sentence", "public"),
    [
        (AS_OPENED, "9 tensors from /home/jane doe/best one.ckpt; done", "9 tensors from best one.ckpt; done"),
        (AS_OPENED, f"{HOME}/runs/t, 1.0 M parameters", "t, 1.0 M parameters"),
        (AS_OPENED, "my/data/pets, 61 images/s", "my/data/pets, 61 images/s"),
        (AS_OPENED, "from /data/pets on", "from data/pets on"),
        ({"trainer": {"default_root_dir": "/"}}, "61 images / s", "61 images / s"),
        (SWEEP, "| path /data/dogs | 0.9 |", "| path dogs | 0.9 |"),
    ],
)
def test_in_a_sentence_the_paths_of_the_settings_are_known_as_given_and_as_opened(settings, sentence, public):
    assert PublicNames(settings)(sentence) == public


def test_what_lies_below_the_working_directory_becomes_relative_to_it_but_not_below_the_root(monkeypatch):
    teacher = str(Path.cwd() / "runs/teacher")
    names = PublicNames({"model": {"distill": {"teacher": teacher}}})
    assert names(teacher) == "runs/teacher"
    assert names(f"from {teacher}/version_0 on") == "from runs/teacher/version_0 on"
    monkeypatch.chdir("/")
    assert public_name(f"{HOME}/pets") == "pets"


def test_words_of_a_command_are_public_and_names_of_classes_stay():
    command = "shvit-pl fit --data.path='/home/jane doe/pets' --model.init_from /data/x.pth --model.optim.lr 0.1"
    public = "shvit-pl fit --data.path=pets --model.init_from x.pth --model.optim.lr 0.1"
    assert PublicNames({}).command(command) == public
    # names of classes stay as they are: in Open Images they look like paths
    settings = {"classes": ["/m/01yrx", "/m/0bt9lr"], "model": {"class_names": ["/m/01yrx"]}, "path": "/data/oi"}
    assert PublicNames(settings)(settings) == {**settings, "path": "oi"}
