"""What top-1 is measured against."""

import pytest
import timm
from timm.data import ImageNetInfo

from shvit_pl.analysis.heads.reference import reference, same_classes
from shvit_pl.errors import UserError
from shvit_pl.models.open_network import OpenedNetwork

DIGITS = [str(digit) for digit in range(10)]


class Data:
    """The classes of a dataset."""

    path = "digits"
    class_names = DIGITS


def network(classes=10, names=DIGITS, fresh=False):
    model = timm.create_model("vit_tiny_patch16_224", num_classes=classes, depth=1)
    return OpenedNetwork("x", model, "timm", 224, class_names=names, fresh=fresh)


@pytest.mark.parametrize(
    ("opened", "labels", "why"),
    [
        (network(), "dataset", ""),
        (network(fresh=True), "network", "the weights are fresh"),
        (network(names=None), "network", "the names of the network's classes are not known"),
        (network(names=DIGITS[::-1]), "network", "the network's classes are not those of digits"),
        (network(1000, None), "network", "the network has 1000 classes, and digits has 10"),
    ],
    ids=["same", "fresh", "unknown", "another order", "another number"],
)
def test_labels_are_the_datasets_only_where_the_network_gives_them(opened, labels, why):
    found = reference(opened, Data(), None)
    assert (found.labels, found.why) == (labels, why)
    assert (found.score == "top-1") == (labels == "dataset")
    assert why in found.sentence


def test_labels_can_be_chosen():
    assert reference(network(), Data(), "network").labels == "network"
    assert reference(network(names=None), Data(), "dataset").labels == "dataset"
    with pytest.raises(UserError, match="--labels dataset: the network has 7 classes and 'digits' has 10"):
        reference(network(7), Data(), "dataset")


def test_imagenet_is_known_by_its_ids_and_by_its_descriptions():
    info = ImageNetInfo("imagenet-1k")
    ids, texts = info.label_names(), info.label_descriptions()
    assert same_classes(ids, ids)
    assert same_classes(ids, texts)
    assert not same_classes(ids, texts[::-1])
    assert not same_classes(ids, [f"class {number}" for number in range(1000)])
