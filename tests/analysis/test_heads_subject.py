"""What top-1 is measured against, and which networks and flags are refused."""

from types import SimpleNamespace

import pytest
import timm
from PIL import Image

from shvit_pl.analysis.command import HeadsOptions
from shvit_pl.analysis.heads_report import run
from shvit_pl.analysis.heads_subject import choose_reference, open_subject
from shvit_pl.models.open_network import OpenedNetwork
from tests.refusals import refused

DIGITS = [str(digit) for digit in range(10)]
DATA = SimpleNamespace(path="digits", class_names=DIGITS)


def network(classes=10, names=DIGITS, fresh=False):
    model = timm.create_model("vit_tiny_patch16_224", num_classes=classes, depth=1)
    return OpenedNetwork("x", model, "timm", 224, class_names=names, fresh=fresh)


@pytest.mark.parametrize(
    ("changes", "chosen", "labels", "why"),
    [
        ({}, None, "dataset", ""),
        ({"fresh": True}, None, "network", "the weights are fresh"),
        ({"names": None}, None, "network", "the names of the network's classes are not known"),
        ({"names": DIGITS[::-1]}, None, "network", "the network's classes are not those of digits"),
        ({"classes": 1000, "names": None}, None, "network", "the network has 1000 classes, and digits has 10"),
        ({}, "network", "network", "--labels network is given"),
        ({"names": None}, "dataset", "dataset", ""),
    ],
)
def test_labels_are_the_datasets_only_where_the_network_predicts_them(changes, chosen, labels, why):
    reference = choose_reference(network(**changes), DATA, chosen)
    assert (reference.labels, reference.why) == (labels, why)
    assert (reference.score == "top-1") == (labels == "dataset")
    assert why in reference.sentence


def test_images_without_labels_will_do_unless_labels_are_asked_for(tmp_path):
    for number in range(3):
        Image.new("RGB", (8, 8)).save(tmp_path / f"{number}.png")
    (tmp_path / "1.png").write_bytes(b"torn")
    options = {"device": "cpu", "image_size": 160, "images": 3, "data": str(tmp_path)}
    subject = open_subject(HeadsOptions("timm:test_vit", **options))
    assert (subject.reference.labels, subject.reference.why) == ("network", f"{tmp_path} has no labels")
    subject.images.data.broken_share = 1.0
    assert [len(images) for images, _ in subject.batches(subject.scored_rows)] == [2]
    with refused("--data: no labels"):
        open_subject(HeadsOptions("timm:test_vit", labels="dataset", **options))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"image": 6, "images": 6}, "--image 6: allowed are 0 to 5"),
        ({"data": ""}, "--data '': give a dataset, such as digits"),
        ({"output": ""}, "--output ''"),
        ({"pretrained": True}, "--pretrained: ... timm:NAME"),
        ({"checkpoint": "w.pth"}, "--checkpoint: ... timm:NAME"),
        ({"network": "vgg11", "checkpoint": "w.pth"}, "--checkpoint 'w.pth': no such file"),
        ({"network": "vgg11", "checkpoint": "w.pth", "pretrained": True}, "--checkpoint 'w.pth': --pretrained takes"),
    ],
)
def test_options_that_contradict_each_other_are_refused(options, words):
    with refused(words):
        HeadsOptions(**{"network": "tiny", **options})


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"image": 900, "images": 1000}, "--image 900: allowed are 0 to 359"),
        ({"query": (2, 0), "image_size": 64}, "--query 2,0: ... 0 to 1 at 64 px"),
        ({"labels": "dataset"}, "--labels dataset: ... 1000 classes ... 'digits' has 10 ... --data"),
        ({"data": "no/such/folder"}, "--data 'no/such/folder': no such file"),
        ({"image_size": 32}, "image_size 32: ... 64 pixels or more"),
        ({"network": "timm:resnet18", "model_kwargs": {"num_classes": 0}}, "not a classifier ... num_classes"),
    ],
)
def test_what_does_not_fit_together_is_refused_before_anything_is_written(options, words, tmp_path):
    with refused(words):
        run(HeadsOptions(**{"network": "tiny", "device": "cpu", **options}), [])
    assert list(tmp_path.iterdir()) == []


def test_weights_that_the_network_lacks_are_refused_with_their_flag():
    timm.models.save_for_hf(timm.create_model("test_vit"), "saved", safe_serialization=True)
    with refused("--weights ema: 'saved': it has no averaged weights."):
        open_subject(HeadsOptions("saved", weights="ema"))
