"""From rows with objects to batches: images, boxes and masks stay together, whatever is done to them."""

import logging
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image as PILImage
from torchvision.ops import masks_to_boxes

from shvit_pl import HFImageDataModule
from shvit_pl.data.objects.config import ObjectsConfig
from shvit_pl.data.objects.datamodule import ObjectsDataModule
from shvit_pl.data.objects.reading import collate, finish, resized
from shvit_pl.data.objects.scenes import Scenes
from tests.data.objects import formats
from tests.data.objects.formats import Scene, Thing
from tests.refusals import refused

CONFIG = ObjectsConfig(min_size=64, max_size=128, flip=0.0, batch_size=1)
CROWDED = [Scene("0.png", [Thing((8, 4, 24, 20), 0), Thing((40, 8, 64, 32), 2, crowd=1), Thing((0, 0, 8, 8), 1)])]
TRAIN = {**formats.SCENES, "train": CROWDED}


def opened(folder, scenes=formats.SCENES, masks=True, **settings):
    data = ObjectsDataModule(replace(CONFIG, path=str(formats.coco(folder, scenes)), **settings))
    data.with_masks = masks
    data.setup("fit")
    return data


def item(data, row=0, key=(0, 0, 0), stage="train"):
    return data.reader(stage).read(data.chosen.by_stage[stage][row], "name", key)


@pytest.mark.parametrize("write", [formats.coco, formats.as_parquet(formats.plain)], ids=["files", "columns"])
def test_a_classifier_is_told_which_task_boxes_are_for(write, tmp_path):
    path = str(write(tmp_path))
    with refused("To learn boxes ... give --task detection"):
        HFImageDataModule(path=path, image_size=64).setup("fit")
    ObjectsDataModule(replace(CONFIG, path=path)).setup("fit")


@pytest.mark.parametrize("flip", [0.0, 1.0])
@pytest.mark.parametrize("scenes", [formats.SCENES, TRAIN], ids=["plain", "crowded"])
def test_masks_lie_in_their_boxes_resized_and_flipped(flip, scenes, tmp_path):
    read = item(opened(tmp_path, scenes, flip=flip))
    assert read["image"].shape == (3, 64, 128)  # of 32 x 64
    boxes, masks = read["objects"]["boxes"], read["objects"]["masks"]
    assert (masks_to_boxes(masks.bool()) + torch.tensor([0, 0, 1, 1]) - boxes).abs().max() <= 1
    left = {0.0: 16, 1.0: 128 - 48}[flip]
    assert boxes[0].tolist() == [left, 8, left + 32, 40]


def test_a_crowd_is_no_object_to_learn_unless_asked_and_stays_in_the_truth(tmp_path):
    data = opened(tmp_path, TRAIN)
    objects = item(data)["objects"]
    assert objects["labels"].tolist() == [0, 1]
    assert objects["crowds"].tolist() == [[80, 16, 128, 64]]
    objects = item(opened(tmp_path / "as object", TRAIN, crowd="object"))["objects"]
    assert objects["labels"].tolist() == [0, 2, 1]
    assert len(objects["crowds"]) == 0
    truth = data.reader("validate").read(data.chosen.by_stage["train"][0], "name")["truth"]
    assert truth["iscrowd"].tolist() == [False, True, False]
    assert truth["boxes"][1].tolist() == [40, 8, 64, 32]  # in the original image
    assert truth["area"].tolist() == [256, 576, 64]
    assert [rle["size"] for rle in truth["rles"]] == [[32, 64]] * 3


def test_of_many_objects_some_are_drawn_anew_each_time(tmp_path):
    many = [Scene("0.png", [Thing((4 * n, 0, 4 * n + 4, 8), n % 3) for n in range(12)])]
    data = opened(tmp_path, {**formats.SCENES, "train": many}, most_objects=5)
    drawn = [item(data, key=(0, 0, position))["objects"] for position in range(8)]
    assert {len(each["boxes"]) for each in drawn} == {len(each["masks"]) for each in drawn} == {5}
    assert len({tuple(each["boxes"][:, 0].tolist()) for each in drawn}) > 1
    assert {len(each["crowds"]) for each in drawn} == {7}  # the others are no background
    again = item(data, key=(0, 0, 3))["objects"]["boxes"]
    assert torch.equal(again, drawn[3]["boxes"])


def test_scales_are_drawn_by_the_key(tmp_path):
    data = opened(tmp_path, scales=[32, 64])
    heights = [item(data, key=(0, 0, position))["image"].shape[1] for position in range(12)]
    assert set(heights) == {32, 64}
    assert heights == [item(data, key=(0, 0, position))["image"].shape[1] for position in range(12)]
    assert item(data, stage="validate")["image"].shape[1] == 64  # never in an evaluation


@pytest.mark.parametrize(
    ("height", "width", "new"),
    [
        (480, 640, (800, 1067)),
        (640, 480, (1067, 800)),
        (427, 640, (800, 1199)),
        (200, 800, (333, 1333)),
        (1, 9, (148, 1333)),
    ],
)
def test_the_shorter_side_is_800_unless_the_longer_one_would_exceed_1333(height, width, new):
    image, factors = resized(torch.zeros(3, height, width, dtype=torch.uint8), 800, 1333)
    assert image.shape[1:] == new
    assert factors == (new[1] / width, new[0] / height)


def test_a_batch_is_padded_by_zeros_of_normalized_images(tmp_path):
    data = opened(tmp_path)
    items = [item(data, row, stage=stage) for row, stage in ((0, "train"), (1, "train"), (0, "validate"))]
    batch = collate(items)
    assert batch["image"].shape == (3, 3, 64, 128)
    assert batch["sizes"] == [(64, 128), (64, 128), (64, 64)]
    done = finish(batch, data.mean, data.std)["image"]
    assert batch["image"].dtype == torch.uint8
    mean, std = (torch.tensor(values)[:, None, None] for values in (data.mean, data.std))
    expected = (items[2]["image"] / 255 - mean) / std  # 26
    assert torch.allclose(done[2, :, :, :64], expected, atol=1e-6)
    assert (done[2, :, :, 64:] == 0).all()
    assert done[2, :, :, :64].abs().min() > 0
    assert [len(each["boxes"]) for each in batch["objects"][:2]] == [2, 0]
    assert batch["objects"][1]["boxes"].shape == (0, 4)


def test_batches_lie_or_stand_and_resume_with_workers(tmp_path):
    sizes = [(64, 32), (32, 64), (64, 48), (48, 48), (30, 60), (20, 60), (60, 50), (64, 32)]
    scenes = [Scene(f"{number}.png", [Thing((2, 2, 8, 9))], size) for number, size in enumerate(sizes)]
    data = opened(tmp_path, {**formats.SCENES, "train": scenes}, batch_size=2, scales=[32, 48])

    def batches(start=0, **settings):
        data.config = replace(data.config, **settings)
        loader = data.train_dataloader()
        loader.progress = lambda: start
        return [(each["image_id"], each["sizes"], each["image"]) for each in loader]

    whole = batches()
    stands = [{height > width for height, width in sizes} for _, sizes, _ in whole]
    assert [len(each) for each in stands] == [1, 1, 1, 2]  # of five and three, one each is left
    for number, (*rest, images) in enumerate(batches(1, num_workers=2), 1):
        assert rest == list(whole[number][:2])
        assert torch.equal(images, whole[number][2])
    plain = [ids for ids, *_ in batches(group_by_aspect_ratio=False)]
    assert plain != [ids for ids, *_ in whole]
    assert {each for ids in plain for each in ids} == {each for ids, *_ in whole for each in ids}


@pytest.mark.parametrize("split", ["train", "validation"])
def test_a_split_without_objects_is_refused_before_the_run(split, tmp_path):
    empty = [Scene("8.png", []), Scene("9.png", [])]
    with refused(f"none of the 2 {'training' if split == 'train' else split} images has an object"):
        opened(tmp_path, {**formats.SCENES, split: empty})


def test_rows_without_objects_are_background_or_left_out(tmp_path):
    assert opened(tmp_path).rows("train") == 3
    assert opened(tmp_path / "filtered", keep_empty=False).rows("train") == 2


def test_objects_of_each_class_are_counted_also_where_there_are_none_to_train_on(tmp_path):  # 21
    train = [Scene("0.png", [Thing((8, 4, 24, 20), 0), Thing((40, 8, 64, 32), 2), Thing((1, 1, 9, 9), 2)])]
    data = opened(tmp_path, {**formats.SCENES, "train": train})  # a bee in the validation alone
    assert (data.class_names, data.per_class()) == (list(formats.NAMES), [1, 0, 2])


def test_a_broken_image_leaves_with_its_boxes(tmp_path):
    data = opened(tmp_path)
    (tmp_path / "train2017" / "0.png").write_bytes(b"no image")
    dataset = data.train_dataloader().dataset
    replaced = dataset[next(iter(draws for draws in data.train_dataloader().sampler if draws.row == 0))]
    assert "0.png" in replaced["broken"]
    assert len(replaced["objects"]["boxes"]) == 0  # row 1 has none
    evaluated = data.reader("validate").read(data.chosen.by_stage["train"][0], "name")
    assert (evaluated["counted"], evaluated["image"].shape) == (False, (3, 32, 32))
    assert "truth" not in evaluated


def test_an_image_that_is_not_of_its_annotated_size_leaves_with_its_boxes(tmp_path):
    data = opened(tmp_path)
    formats.picture(tmp_path / "train2017" / "0.png", Scene("0.png", [], size=(128, 64)))
    read = item(data)
    assert read["broken"].endswith("0.png: 128 x 64 pixels, annotated are 64 x 32.")
    assert not read["counted"]


def test_crowds_are_no_objects_to_train_on(tmp_path):
    data = opened(tmp_path, TRAIN)
    assert data.per_class() == [1, 1, 0]
    boxes, labels, sizes = data.sampled_objects()
    assert boxes.tolist() == [[16, 8, 48, 40], [0, 0, 16, 16]]
    assert (labels.tolist(), sizes.tolist()) == ([0, 1], [[64, 128]] * 2)


def test_an_image_that_can_not_be_read_is_not_sampled(tmp_path):
    scenes = [Scene(f"{number}.png", [Thing((8, 4, 24, 20), 0)]) for number in range(100)]
    folder = formats.yolo_boxes(tmp_path, {**formats.SCENES, "train": scenes})
    (folder / "images" / "train" / "7.png").write_bytes(b"no image")
    data = ObjectsDataModule(replace(CONFIG, path=str(folder)))
    data.setup("fit")
    assert len(data.sampled_objects()[0]) == 99


@pytest.mark.parametrize(("rotation", "size"), [("auto", (64, 32)), (True, (64, 32)), (False, (32, 64))])
def test_images_that_are_not_annotated_are_turned_upright_to_predict_on(rotation, size, tmp_path):
    exif = PILImage.Exif()
    exif[0x0112] = 6
    PILImage.new("RGB", (64, 32)).save(tmp_path / "0.jpg", exif=exif)
    data = ObjectsDataModule(replace(CONFIG, path=str(tmp_path), exif_rotation=rotation))
    data.setup("predict")
    read = item(data, stage="predict")
    assert (read["size"], read["rotated"]) == (size, rotation is not False)
    assert read["stored"] == str(tmp_path / "0.jpg")


@pytest.mark.parametrize("mode", ["L", "CMYK", "I;16", "P", "RGBA"])
def test_images_of_any_kind_are_three_channels_of_a_byte(mode, tmp_path):  # 25
    data = opened(tmp_path)
    name = "0.tif" if mode == "CMYK" else "0.png"
    picture = PILImage.fromarray(np.full((32, 64), 153 << 8, np.uint16)) if mode == "I;16" else None
    picture = picture or PILImage.new("RGB", (64, 32), (153, 153, 153)).convert(mode)
    picture.save(tmp_path / name)
    row = data.chosen.by_stage["train"][0] | {"image": {"bytes": (tmp_path / name).read_bytes(), "path": None}}
    read = data.reader("train").read(row, "name", (0,))
    assert (read["image"].dtype, read["image"].shape) == (torch.uint8, (3, 64, 128))
    assert read["image"].unique().tolist() == [153]  # which web palettes have
    assert len(read["objects"]["masks"]) == 2


def test_images_that_use_few_of_their_16_bits_are_told(tmp_path, caplog):
    formats.coco(tmp_path)
    for file in tmp_path.rglob("*.png"):
        PILImage.fromarray(np.full(PILImage.open(file).size[::-1], 2040, np.uint16)).save(file)
    with caplog.at_level(logging.WARNING):
        ObjectsDataModule(replace(CONFIG, path=str(tmp_path))).setup("fit")
    assert "Give --data.intensity_range [0,4095] if they hold 12 bits" in caplog.text


def test_scenes_are_drawn_by_their_key_and_never_with_a_digit_held_out():
    trained, held_out = Scenes(held_out=False), Scenes(held_out=True)
    (first, objects), (again, _), (other, _) = (trained.draw(key) for key in ((0, 1, 7), (0, 1, 7), (0, 2, 7)))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert len(trained.labels) + len(held_out.labels) == 1797
    assert not {each.numpy().tobytes() for each in trained.ink} & {each.numpy().tobytes() for each in held_out.ink}
    assert (masks_to_boxes(objects["masks"].bool()) + torch.tensor([0, 0, 1, 1]) == objects["boxes"]).all()
    assert objects["area"].tolist() == objects["masks"].sum((1, 2)).tolist()


def test_any_detector_may_predict_on_scenes():
    data = ObjectsDataModule(min_size=128, max_size=128)
    data.setup("predict")
    assert data.class_names is None


def test_epochs_have_new_scenes_and_a_validation_always_the_same():
    data = ObjectsDataModule(ObjectsConfig(min_size=128, max_size=128, flip=0.0, scenes=4, batch_size=4))
    data.setup("fit")
    loader = data.train_dataloader()
    epochs = []
    for epoch in (0, 1, 0):
        loader.sampler.set_epoch(epoch)
        epochs.append(next(iter(loader))["image"])
    assert torch.equal(epochs[0], epochs[2])
    assert not torch.equal(epochs[0], epochs[1])
    validation = [next(iter(data.val_dataloader())) for _ in range(2)]
    assert torch.equal(validation[0]["image"], validation[1]["image"])
    assert validation[0]["image_id"] == ["0", "1", "2", "3"]
