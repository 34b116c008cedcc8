"""Paths of a machine in texts, and what stands for them."""

from pathlib import Path

import pytest

from shvit_pl.hub.privacy import Paths


@pytest.mark.parametrize(
    ("text", "public"),
    [
        ("/data/pets", "pets"),
        ("/home/jane doe/data set/pets", "pets"),
        ("../../secret/pets", "pets"),
        ("~/pets", "pets"),
        ("C:\\Users\\jane\\pets", "pets"),
        ("runs/teacher/version_0", "runs/teacher/version_0"),
        ("timm/shvit_s1.in1k", "timm/shvit_s1.in1k"),
        ("hf-hub:user/name@v2", "hf-hub:user/name@v2"),
        ("see https://example.org/a/b/c", "see https://example.org/a/b/c"),
        ("61 images/s at 64 px", "61 images/s at 64 px"),
        ("199 tensors from /home/jane/runs/best.ckpt; left out head", "199 tensors from best.ckpt; left out head"),
        ("rand-m9-mstd0.5-inc1", "rand-m9-mstd0.5-inc1"),
    ],
)
def test_texts(text, public):
    assert Paths({}).text(text) == public


def test_a_home_is_not_named_after_its_owner():
    assert Paths({}).text(str(Path.home())) == "folder"


def test_below_the_root_the_way_is_not_told(monkeypatch):
    """A working directory from which the way leads through the home."""
    monkeypatch.chdir("/")
    assert Paths({}).text(str(Path.home() / "pets")) == "pets"


def test_a_short_path_is_not_taken_for_a_part_of_others():
    paths = Paths({"data": {"path": "/data"}, "trainer": {"default_root_dir": "/"}})
    assert paths.text("my/data/pets, 61 images/s") == "my/data/pets, 61 images/s"
    assert paths.text("from /data/pets on") == "from data/pets on"


def test_what_lies_below_the_working_directory_becomes_relative_to_it():
    teacher = str(Path.cwd() / "runs/teacher")
    paths = Paths({"model": {"distill": {"teacher": teacher}}})
    assert paths.text(teacher) == "runs/teacher"
    assert paths.text(f"{teacher}, 1.0 M parameters") == "runs/teacher, 1.0 M parameters"
    assert paths.text(f"from {teacher}/version_0 on") == "from runs/teacher/version_0 on"


def test_a_path_with_blanks_in_a_sentence_is_known_from_the_settings():
    paths = Paths({"init_from": "/home/jane doe/best one.ckpt"})
    assert paths.text("9 tensors from /home/jane doe/best one.ckpt; done") == "9 tensors from best one.ckpt; done"


def test_words_of_a_command():
    command = "shvit-pl fit --data.path='/home/jane doe/pets' --model.init_from /data/x.pth --model.optim.lr 0.1"
    cleaned = Paths({}).summary({"command": command, "seed": 0})
    assert cleaned == {
        "command": "shvit-pl fit --data.path=pets --model.init_from x.pth --model.optim.lr 0.1",
        "seed": 0,
    }


def test_names_of_classes_stay_as_they_are():
    """In Open Images they look like paths."""
    settings = {"classes": ["/m/01yrx", "/m/0bt9lr"], "model": {"class_names": ["/m/01yrx"]}, "path": "/data/oi"}
    assert Paths(settings).config(settings) == {**settings, "path": "oi"}
