"""Which class of the teacher is which of the data's, and whether two lists name the same classes."""

import json

import pytest
import torch
from timm.data import ImageNetInfo

from shvit_pl.teachers.classes import KnownNames, mapped_classes, match_classes, read_class_map, same_classes
from tests.data.standins import IMAGENETTE
from tests.refusals import refused
from tests.teachers.makers import TEN, as_seen_by, opened, shaken, some_images, stored

INFO = ImageNetInfo()
IMAGENET = KnownNames(INFO.label_names(), INFO.label_descriptions())
PETS = KnownNames(["cat", "dog", "hamster"])


@pytest.mark.parametrize(
    ("wanted", "columns", "note"),
    [
        (["cat", "dog", "hamster"], (0, 1, 2), "3 classes matched by name"),
        (["hamster", "cat", "dog"], (2, 0, 1), "3 classes matched by name (they are in another order)"),
        (["Hamster", "DOG"], (2, 1), "2 of its 3 classes matched by name"),
        (["x", "y", "z"], (0, 1, 2), "3 classes matched by position (names not comparable)"),
        (["cat", "dog", "z"], (0, 1, 2), "3 classes matched by position (2 names agree)"),
    ],
)
def test_classes_are_matched_by_name_else_by_position(wanted, columns, note):
    assert match_classes("t", 3, PETS, wanted) == (list(columns), note)


@pytest.mark.parametrize(
    ("classes", "known", "wanted", "said"),
    [
        (3, PETS, ["cat", "fox"], ["has 3 classes and the data has 2", "'fox'", "model.distill.class_map"]),
        (3, None, ["a"] * 5, ["has 3 classes and the data has 5", "names are not known"]),
        (3, PETS, ["dog", "cat", "fox"], ["another order", "'dog'", "'fox'", "model.distill.class_map"]),
        (3, PETS, ["cat", "Cat"], ["has 3 classes and the data has 2", "two of the data's match the same one"]),
    ],
)
def test_classes_that_do_not_fit_are_refused(classes, known, wanted, said):
    with refused("model.distill.teacher 't'", *said):
        match_classes("t", classes, known, wanted)


def test_imagenet_is_known_by_synsets_and_by_words():
    assert match_classes("t", 1000, IMAGENET, IMAGENETTE)[0] == [0, 217, 482, 491, 497, 566, 569, 571, 574, 701]
    words = ["tench", "English_springer", "cassette player", "chain saw"]
    assert match_classes("t", 1000, IMAGENET, words)[0] == [0, 217, 482, 491]
    assert match_classes("t", 1000, IMAGENET, INFO.label_descriptions())[0] == list(range(1000))
    assert match_classes("t", 1000, None, words * 250)[0] == list(range(1000))  # without names, by position


def test_a_word_that_two_classes_have_is_not_known():
    assert INFO.label_descriptions().count("crane") == 2
    assert IMAGENET.find("crane") is None
    with refused("'crane'"):
        match_classes("t", 1000, IMAGENET, ["tench", "crane"])


def test_a_class_map_is_by_index_or_name():
    maps = (({"a": 2, "b": 0}, [2, 0]), ({"b": "cat", "a": "Hamster"}, [2, 0]), ({"a": "dog", "b": 2}, [1, 2]))
    for class_map, columns in maps:
        assert mapped_classes(class_map, 3, PETS, ["a", "b"])[0] == columns


@pytest.mark.parametrize(
    ("given", "known", "said"),
    [
        ({"a": 0}, PETS, "lacks 'b'"),
        ({"a": 0, "b": 3}, PETS, "'b' is mapped to 3; the teacher's classes are 0 to 2"),
        ({"a": 0, "b": -1}, PETS, "0 to 2"),
        ({"a": 0, "b": True}, PETS, "'b' is mapped to True"),
        ({"a": 1, "b": "dog"}, PETS, "'a', 'b' are all mapped to the teacher's class 1"),
        ({"a": 0, "b": "hamstr"}, PETS, "did you mean 'hamster'?"),
        ({"a": 0, "b": "dog"}, None, "names are not known"),
        ({"a": 0, "b": 1, "bb": 2}, PETS, "'bb' is no class of the data"),
    ],
)
def test_a_class_map_that_does_not_fit_is_refused(given, known, said):
    with refused("model.distill.class_map", said):
        mapped_classes(given, 3, known, ["a", "b"])


def test_a_class_map_may_be_a_file(tmp_path):
    (tmp_path / "map.yaml").write_text("a: 2\n1: cat\n")
    (tmp_path / "map.json").write_text(json.dumps({"a": 2, "1": "cat"}))
    assert read_class_map("map.yaml") == read_class_map(str(tmp_path / "map.json")) == {"a": 2, "1": "cat"}


@pytest.mark.parametrize("content", [None, "[1, 2]", "{", "", b"\xff\xfe\x00"])
def test_a_file_without_a_class_map_is_refused(content, tmp_path):
    if content is not None:
        (tmp_path / "map.yaml").write_bytes(content if isinstance(content, bytes) else content.encode())
    with refused("model.distill.class_map 'map.yaml'"):
        read_class_map("map.yaml")


@torch.no_grad()
def test_the_answers_are_in_the_datas_order(tmp_path):
    network = shaken("test_resnet", classes=1000)
    weights = stored(network, tmp_path / "w.safetensors")
    expected = network(as_seen_by(network, some_images()))
    teacher = opened(teacher="test_resnet", weights=weights, class_names=list(IMAGENETTE)[::-1])
    columns = [701, 574, 571, 569, 566, 497, 491, 482, 217, 0]
    torch.testing.assert_close(teacher.logits(some_images()), expected[:, columns], rtol=1e-4, atol=1e-4)
    assert "10 of its 1000 classes matched by name" in teacher.note
    mapped = opened(teacher="test_resnet", weights=weights, class_map={name: 7 * n for n, name in enumerate(TEN)})
    torch.testing.assert_close(mapped.logits(some_images()), expected[:, 0:70:7], rtol=1e-4, atol=1e-4)


def test_lists_of_the_same_classes_may_have_ids_or_descriptions_of_imagenet():
    ids, texts = INFO.label_names(), INFO.label_descriptions()
    for same in (ids, texts, [text.split(",")[0].upper() for text in texts]):
        assert same_classes(ids, same)
    for other in (
        texts[::-1],
        [*texts[:-2], texts[-1], texts[-2]],
        [f"class {number}" for number in range(1000)],
        ids[:-1],
    ):
        assert not same_classes(ids, other)
