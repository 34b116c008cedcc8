"""Paths of a machine in settings and in sentences about them, and the names that stand for them."""

from pathlib import Path

import pytest

from shvit_pl.hub.upload import PublicNames, public_name


@pytest.mark.parametrize(
    ("text", "public"),
    [
        ("/data/pets", "pets"),
        ("/home/jane doe/data set/pets", "pets"),
        ("../../secret/pets", "pets"),
        ("~/pets", "pets"),
        ("C:\\Users\\jane\\pets", "pets"),
        (str(Path.home()), "folder"),
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


def test_below_the_root_the_way_through_the_home_is_not_told(monkeypatch):
    monkeypatch.chdir("/")
    assert public_name(str(Path.home() / "pets")) == "pets"


def test_what_lies_below_the_working_directory_becomes_relative_to_it():
    teacher = str(Path.cwd() / "runs/teacher")
    names = PublicNames({"model": {"distill": {"teacher": teacher}}})
    assert names(teacher) == "runs/teacher"
    assert names(f"{teacher}, 1.0 M parameters") == "runs/teacher, 1.0 M parameters"
    assert names(f"from {teacher}/version_0 on") == "from runs/teacher/version_0 on"


def test_in_a_sentence_the_paths_of_the_settings_are_known_as_given_and_as_opened():
    names = PublicNames([{"init_from": "/home/jane doe/best one.ckpt"}, {"teacher": "~/runs/t"}, {"path": "/data"}])
    assert names("9 tensors from /home/jane doe/best one.ckpt; done") == "9 tensors from best one.ckpt; done"
    assert names(f"{Path.home()}/runs/t, 1.0 M parameters") == "t, 1.0 M parameters"
    assert names("my/data/pets, 61 images/s") == "my/data/pets, 61 images/s"
    assert names("from /data/pets on") == "from data/pets on"
    assert PublicNames({"trainer": {"default_root_dir": "/"}})("61 images / s") == "61 images / s"
    cells = [{"data.path": "/data/cats"}, {"data.path": "/data/dogs"}]  # of a sweep
    assert PublicNames([{}, cells])("| path /data/dogs | 0.9 |") == "| path dogs | 0.9 |"


def test_words_of_a_command():
    command = "shvit-pl fit --data.path='/home/jane doe/pets' --model.init_from /data/x.pth --model.optim.lr 0.1"
    public = "shvit-pl fit --data.path=pets --model.init_from x.pth --model.optim.lr 0.1"
    assert PublicNames({}).command(command) == public


def test_names_of_classes_stay_as_they_are():
    """In Open Images they look like paths."""
    settings = {"classes": ["/m/01yrx", "/m/0bt9lr"], "model": {"class_names": ["/m/01yrx"]}, "path": "/data/oi"}
    assert PublicNames(settings)(settings) == {**settings, "path": "oi"}
