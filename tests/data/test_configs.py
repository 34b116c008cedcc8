"""Every config in `cli_configs/data/` opens a stand-in for its dataset, with the real clients on a loopback Hub."""

import yaml

from shvit_pl.cli import main
from shvit_pl.command_line.config_files import shipped_configs
from shvit_pl.data.objects.config import SCENES
from shvit_pl.data.objects.datamodule import ObjectsDataModule
from tests.data import standins
from tests.data.objects import formats
from tests.data.pictures import ready

HELD_OUT = "no validation split: 20% of 'train' held out (seed 0)"
VALIDATION = "validation on the split 'validation'"
EXPECTED = {  # classes, training images, validation images, where they come from
    "digits": (tuple(map(str, range(10))), 1437, 360, HELD_OUT),
    "cifar10": (standins.CIFAR10, 80, 20, HELD_OUT),
    "cifar100": (standins.CIFAR100, 160, 40, HELD_OUT),
    "imagenette": (standins.IMAGENETTE, 96, 24, HELD_OUT),
    "food101": (standins.FOOD101, 101, 101, VALIDATION),
    "oxford_pets": (standins.PETS, 88, 23, HELD_OUT),
    "imagenet1k": (standins.IMAGENET, 1000, 7, f"{VALIDATION}; the split 'test' has no labels and is left out"),
}
QUICK = ["--model.design.name=tiny", "--data.image_size=64", "--data.batch_size=8", "--data.num_workers=0"]
QUICK += ["--trainer.max_steps=1", "--trainer.limit_val_batches=1", "--trainer.enable_checkpointing=false"]


def test_every_config_names_its_command_and_opens_a_stand_in_for_its_dataset_and_gives_batches(hub):
    for repo, files in standins.DATASETS.items():
        hub.commit(repo, files(), gated=repo == "ILSVRC/imagenet-1k")
    hub.repo("ILSVRC/imagenet-1k", "datasets").members.add("user")
    found = {}
    for path in (shipped_configs() / "data").glob("*.yaml"):
        lines, settings = path.read_text().splitlines(), yaml.safe_load(path.read_text())
        if settings.get("task") == "detection":
            continue
        assert lines[0] == f"# shvit-pl fit --config s1.yaml --config data/{path.name}"
        assert len(lines) < 25
        assert list(settings) == (["data", "trainer"] if path.stem == "digits" else ["data"])
        data = ready(**{**settings["data"], "image_size": 64, "batch_size": 8})
        found[path.stem] = (tuple(data.class_names), data.rows("train"), data.rows("validate"), data.chosen.note)
        for loader in (data.train_dataloader(), data.val_dataloader()):
            batch = next(iter(loader))
            assert batch["image"].shape[1:] == (3, data.config.side, data.config.side)
            assert not any(batch["broken"])
    assert found == EXPECTED


def test_the_config_of_scenes_names_its_command_and_gives_batches():
    path = shipped_configs() / "data" / f"{SCENES}.yaml"
    lines, settings = path.read_text().splitlines(), yaml.safe_load(path.read_text())
    assert lines[0] == f"# shvit-pl fit --config detection/retinanet_tiny.yaml --config data/{path.name}"
    assert len(lines) < 25
    data = ObjectsDataModule(**settings["data"], num_workers=0)
    assert (data.rows("train"), data.rows("validate"), data.class_names) == (1200, 200, list("0123456789"))
    for loader in (data.train_dataloader(), data.val_dataloader()):
        assert next(iter(loader))["image"].shape == (16, 3, 128, 128)


def test_the_config_of_coco_names_its_command_and_gives_batches_of_a_stand_in(hub, tmp_path):
    path = shipped_configs() / "data" / "coco.yaml"
    lines, settings = path.read_text().splitlines(), yaml.safe_load(path.read_text())
    assert lines[0] == f"# shvit-pl fit --config detection/retinanet_s1.yaml --config data/{path.name}"
    assert len(lines) < 25
    names = [f"class {number}" for number in range(80)]
    boxes = [(1, 2, 60, 30), (30.5, 16, 40, 31.25)]  # the first one alone would pass as corner and size, too
    scenes = {
        split: [formats.Scene(f"{n}.png", [formats.Thing(box, n) for box in boxes]) for n in numbers]
        for split, numbers in (("train", range(80)), ("validation", range(7)))
    }
    splits = formats.detection_datasets_coco(tmp_path, scenes, names)
    formats.on_hub(hub, "detection-datasets/coco", splits, validation="val")
    data = ObjectsDataModule(**settings["data"], num_workers=0)
    assert (data.rows("train"), data.rows("validate"), data.class_names) == (80, 7, names)
    assert data.chosen.note == VALIDATION
    batch = next(iter(data.train_dataloader()))
    assert batch["sizes"] == [(667, 1333)] * 2
    truth = next(iter(data.val_dataloader()))["truth"][0]
    assert truth["boxes"].tolist() == [list(box) for box in boxes]
    assert truth["labels"].tolist() == [0, 0]


def test_a_config_trains_by_its_command_and_a_class_that_no_training_image_has_is_named(hub, capsys):
    splits = {"train": [*range(99)] * 5, "test": [99]}  # a fifth is held out, of each class one
    hub.commit("uoft-cs/cifar100", standins.with_card("cifar100", "cifar100", splits, "img", standins.FINE))
    assert main(["fit", "--config=s1.yaml", "--config=data/cifar100.yaml", *QUICK]) == 0
    assert "no training images: fine 99" in capsys.readouterr().out
