"""What is wrong with datasets of objects in the wild: mended and counted, or refused in a line."""

import json
import logging
import shutil
from contextlib import suppress

import numpy as np
import pytest
from PIL import Image as PILImage

from shvit_pl.data.objects.config import ObjectsConfig
from shvit_pl.data.objects.datamodule import ObjectsDataModule
from shvit_pl.data.objects.opening import open_objects
from shvit_pl.errors import UserError
from tests.data.objects import formats
from tests.data.objects.formats import Scene, Thing, coco_json, one_by_one
from tests.refusals import refused


def many():
    """Three scenes of 60 things each, of which one is less than 1 %."""
    generator = np.random.default_rng(0)

    def things(start):
        corners = generator.integers(1, 45, (60, 2))
        sides = generator.integers(3, 18, (60, 2))
        return [
            Thing((*corner.tolist(), *(corner + side).tolist()), (start + n) % 3)
            for n, (corner, side) in enumerate(zip(corners, sides, strict=True))
        ]

    return {
        "train": [Scene(f"{n}.png", things(n), (64, 64)) for n in range(2)],
        "validation": [Scene("2.png", things(2), (64, 64))],
    }


def opened(path, **settings):
    return open_objects(ObjectsConfig(path=str(path), **settings))


def with_annotation(**values):
    """COCO's files whose first training annotation has these values."""

    def change(content):
        if content["images"][0]["id"] == 0:
            content["annotations"][0] |= values
        return content

    return lambda folder: formats.coco(folder, many(), change)


def with_all(change_annotation=lambda entry: entry, **lists):
    """COCO's files whose annotations are changed, and whose lists of other entries are."""

    def change(content):
        for entry in content["annotations"]:
            entry |= change_annotation(entry) or {}
        for name, change_list in lists.items():
            content[name] = change_list(content[name])
        return content

    return lambda folder: formats.coco(folder, many(), change)


def then(write, *actions):
    def both(folder):
        path = write(folder)
        for action in actions:
            action(path)
        return path

    return both


def plain(folder):
    return formats.coco(folder, many())


FULL = [1, 1, 20, 20]

# ---- mended

REPAIRED = {
    "2 no width": (with_annotation(bbox=[5, 5, 0, 9]), {"boxes": 179, "boxes dropped: no width or height": 1}),
    "3 clipped": (with_annotation(bbox=[50, 50, 20, 10]), {"boxes": 180, "boxes clipped": 1}),
    "3 almost outside": (with_annotation(bbox=[63.5, 5, 20, 9]), {"boxes dropped: outside the image": 1}),
    "3 a fifth": (with_annotation(bbox=[61, 5, 20, 9]), {"boxes dropped: outside the image": 1, "boxes clipped": 0}),
    "18 two points": (with_annotation(segmentation=[[1, 1, 9, 9]]), {"boxes dropped: an empty mask": 1}),
    "18 nothing": (with_annotation(segmentation=[]), {"boxes dropped: an empty mask": 1}),
    "18 a line": (with_annotation(segmentation=[[1, 1, 9, 9, 1, 1]]), {"boxes dropped: an empty mask": 1}),
    "18 runs": (
        with_annotation(segmentation={"size": [64, 64], "counts": [10, 5, 64 * 64 - 15]}, iscrowd=1),
        {"boxes": 180, "crowds": 1},
    ),
    "numbers of images and classes as text": (
        with_all(lambda entry: {name: str(entry[name]) for name in ("image_id", "category_id")}),
        {"images": 3, "boxes": 180},
    ),
    "text for numbers": (with_annotation(iscrowd="0", area="12", category_id=1.0), {"boxes": 180, "crowds": 0}),
    "a stray": (
        with_all(annotations=lambda all_: [*all_, {**all_[0], "image_id": 99}][: len(all_) + (len(all_) > 100)]),
        {"boxes": 180, "boxes dropped: of an image that is not listed": 1},
    ),
    "10 an empty image": (
        lambda folder: formats.coco(folder, many() | {"validation": [Scene("2.png", [])]}),
        {"images": 3, "images without objects": 1, "boxes": 120},
    ),
}


@pytest.mark.parametrize("case", REPAIRED)
def test_what_is_mended_is_counted(case, tmp_path):
    write, counts = REPAIRED[case]
    objects = opened(write(tmp_path))
    assert {name: objects.counts.get(name) for name in counts} == counts
    assert (
        sum(len(row["objects"]["bbox"]) for rows in objects.splits.values() for row in rows) == objects.counts["boxes"]
    )
    assert objects.has_masks
    if any("dropped" in name for name in counts):
        assert any("1 dropped, " in note and ("image_id 0" in note or "of 99" in note) for note in objects.notes)


def test_what_is_clipped_ends_at_the_border(tmp_path):
    write, _ = REPAIRED["3 clipped"]
    assert opened(write(tmp_path)).splits["train"][0]["objects"]["bbox"][0] == [50, 50, 64, 60]


def test_the_box_format_is_said_with_its_evidence(tmp_path):  # 1
    notes = opened(plain(tmp_path)).notes
    assert any(note.startswith("180 boxes in 3 images; xywh (") and "xyxy" in note for note in notes)


def corners_in_coco(entry):
    left, top, width, height = entry["bbox"]
    return {"bbox": [left, top, left + width, top + height]}


def test_files_of_coco_that_hold_corners_are_known_by_the_boxes(tmp_path):  # 1
    objects = opened(with_all(corners_in_coco)(tmp_path))
    assert objects.splits["train"][0]["objects"]["bbox"][0] == list(map(float, many()["train"][0].things[0].box))


def test_ids_are_kept_and_numbered_without_gaps(tmp_path):  # 8, 22
    write = with_all(
        lambda entry: {"image_id": f"a{entry['image_id']}"},
        images=lambda images: [{**image, "id": f"a{image['id']}"} for image in images],
    )
    objects = opened(write(tmp_path))
    assert objects.category_ids == [1, 11, 21]
    assert objects.splits["train"]["image_id"][:] == ['"a0"', '"a1"']


def test_unused_categories_are_left_out_and_said(tmp_path):  # 9
    objects = opened(formats.roboflow(tmp_path))
    assert objects.class_names == list(formats.NAMES)
    assert "classes without an object are left out: insects" in objects.notes


def test_unlisted_images_are_counted_and_named(tmp_path):  # 13
    formats.metadata(tmp_path, many())
    formats.picture(tmp_path / "train" / "9.png", Scene("9.png", []))
    assert opened(tmp_path).files == "3 images used; left out: 1 not in the annotations (train/9.png)"


@pytest.mark.parametrize("place", ["elsewhere/0.png", "other\\folder\\0.png", "/somewhere/train/0.png"])
def test_images_are_found_by_path_then_by_a_name_that_is_there_once(place, tmp_path):  # 14
    def moved(images):
        return [{**image, "file_name": image["file_name"].replace("0.png", place)} for image in images]

    assert opened(with_all(images=moved)(tmp_path)).counts["images"] == 3


def turned(names, orientation=6):
    """Store images on their side, with an EXIF block that turns them upright."""

    def write(folder):
        for name in names:
            (path,) = folder.glob(f"*/{name}")
            image = PILImage.open(path)
            exif = PILImage.Exif()
            exif[0x0112] = orientation
            image.transpose(PILImage.Transpose.ROTATE_90).save(path, exif=exif)

    return write


def upright_scenes():
    scenes = many()
    for scene in [*scenes["train"], *scenes["validation"]]:
        scene.size = (64, 96)
    return scenes


def test_images_are_turned_where_only_so_they_have_the_annotated_size(tmp_path):  # 15
    path = then(lambda folder: formats.coco(folder, upright_scenes()), turned(["0.png", "1.png"]))(tmp_path)
    objects = opened(path)
    assert objects.splits["train"]["rotate"][:] == [True, True]
    assert any("turned as their EXIF block says: only so 2" in note for note in objects.notes)


def test_images_are_not_turned_where_they_are_annotated_as_stored(tmp_path):  # 15
    def as_stored(path):
        file = path / "annotations" / "instances_train2017.json"
        content = json.loads(file.read_text())
        for image in content["images"]:
            image |= {"width": 96, "height": 64}
        file.write_text(json.dumps(content))

    scenes = upright_scenes()
    path = then(lambda folder: formats.coco(folder, scenes), turned(["0.png", "1.png"]), as_stored)(tmp_path)
    assert opened(path).splits["train"]["rotate"][:] == [False, False]


def test_yolo_has_sizes_of_turned_images(tmp_path):  # 15
    path = formats.yolo(tmp_path, upright_scenes())
    turned(["0.png"])(path / "images")
    row = opened(path).splits["train"][0]
    assert (row["width"], row["height"], row["rotate"]) == (64, 96, True)
    assert row["objects"]["bbox"][0] == pytest.approx(upright_scenes()["train"][0].things[0].box)


def test_many_crowds_are_warned_of_and_can_be_objects(tmp_path, caplog):  # 17
    path = with_all(lambda entry: {"iscrowd": 1})(tmp_path)
    for _ in range(2):  # also where rows are read from the cache
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            assert opened(path).counts["crowds"] == 180
        assert "--data.crowd object" in caplog.text
    assert opened(path, crowd="object").counts["crowds"] == 0
    settings = {"path": str(path), "min_size": 64, "max_size": 64, "batch_size": 1}
    with refused("data.crowd ignore: all objects of the 2 training images are crowds"):
        ObjectsDataModule(**settings).setup("fit")
    data = ObjectsDataModule(**settings, crowd="object")
    data.setup("fit")
    assert sum(data.facts()["objects_per_class"]) == len(data.sampled_objects()[0]) == 120


def yolo_with(change):
    """YOLO's folder whose lines' numbers are changed."""

    def write(folder):
        path = formats.yolo_boxes(folder, many())
        for file in path.rglob("labels/**/*.txt"):
            lines = [line.split() for line in file.read_text().splitlines()]
            file.write_text("\n".join(f"{c} {' '.join(map(str, change(*map(float, box))))}" for c, *box in lines))
        return path

    return write


@pytest.mark.parametrize(
    "change",
    [
        lambda x, y, w, h: (x - w / 2, y - h / 2, x + w / 2, y + h / 2),
        lambda x, y, w, h: (x + w, y + h, 2 * w, 2 * h),
    ],
    ids=["corners", "beyond"],
)
def test_yolo_boxes_that_leave_their_image_are_refused_unless_given(change, tmp_path, caplog):
    path = yolo_with(change)(tmp_path)
    with refused("of the boxes leave their image or end before they begin, if they are yolo"):
        opened(path)
    with caplog.at_level(logging.WARNING), suppress(UserError):  # too many are dropped then
        opened(path, box_format="yolo")


def test_a_given_format_that_does_not_fit_is_warned_of(tmp_path, caplog):
    things = [Thing((n, n, n + 8, n + 8), 0) for n in range(1, 20)]
    scenes = {split: [Scene(f"{n}.png", things, (64, 64))] for n, split in enumerate(("train", "validation"))}
    path = formats.coco(tmp_path, scenes)
    with caplog.at_level(logging.WARNING):
        opened(path, box_format="xywh")
    assert caplog.text == ""
    with caplog.at_level(logging.WARNING), suppress(UserError):
        opened(path, box_format="cxcywh")
    assert "of the boxes leave their image or end before they begin, if they are cxcywh. Look at" in caplog.text


def test_masks_that_lie_elsewhere_than_their_boxes_are_not_used(tmp_path, caplog):
    write = with_all(lambda entry: {"segmentation": [[number / 64 for number in entry["segmentation"][0]]]})
    with caplog.at_level(logging.WARNING):
        objects = opened(write(tmp_path))
    assert not objects.has_masks
    assert "masks hardly overlap their box, as in train image 0" in caplog.text
    assert any(note.startswith("masks are not used") for note in objects.notes)


def test_boxes_of_less_than_a_pixel_are_dropped_and_many_stop_the_run(tmp_path):
    shares = with_all(lambda entry: {"bbox": [0.1, 0.2, 0.3, 0.4]} if entry["image_id"] == 1 else {})
    with refused("60 of 180 boxes can't be used: 60 less than a pixel wide and high"):
        opened(shares(tmp_path / "many"), box_format="xywh")
    assert opened(with_annotation(bbox=[0.1, 0.2, 0.3, 0.4])(tmp_path / "one")).counts["boxes"] == 179


@pytest.mark.parametrize(("orientation", "size"), [(3, (64, 96)), (6, (64, 64))], ids=["half a turn", "square"])
def test_an_orientation_that_sizes_do_not_decide_is_told(orientation, size, tmp_path):
    scenes = {split: [Scene(f"{n}.png", [Thing((8, 4, 24, 20))], size)] for n, split in enumerate(formats.FOLDERS)}
    path, exif = formats.coco(tmp_path, scenes), PILImage.Exif()
    exif[0x0112] = orientation
    for file in path.rglob("*.png"):
        PILImage.open(file).copy().save(file, exif=exif)
    assert "2 of 2 images have an EXIF rotation that their size does not decide" in str(opened(path).notes)
    assert "does not decide" not in str(opened(path, exif_rotation=True).notes)


def test_a_folder_that_yolos_file_names_for_validation_is_there(tmp_path):
    path = formats.yolo_boxes(tmp_path)
    (path / "images" / "val").rename(path / "images" / "other")
    with refused("names 'images/val' for val, which is not there. Correct it, or take val out"):
        opened(path)


def test_names_of_another_number_than_yolos_file_says_are_refused(tmp_path):
    path = formats.yolo_boxes(tmp_path)
    (path / "data.yaml").write_text((path / "data.yaml").read_text() + "\nnc: 4\n")
    with refused("has nc: 4, and names 3 classes"):
        opened(path)


def test_two_rows_of_one_id_are_refused(tmp_path):
    path = formats.metadata(tmp_path)
    for file in path.rglob("metadata.jsonl"):
        rows = [json.loads(line) | {"image_id": 1} for line in file.read_text().splitlines()]
        file.write_text("\n".join(map(json.dumps, rows)))
    with refused("rows 0 and 1 of train both have image_id 1. Give each image one row"):
        opened(path)


@pytest.mark.parametrize("write", [formats.coco, formats.yolo_boxes], ids=["COCO", "YOLO"])
def test_a_field_of_a_table_is_not_for_files_with_fixed_ones(write, tmp_path):
    with refused("data.bbox_key 'foo': for columns of a table"):
        opened(write(tmp_path), bbox_key="foo")


def test_few_masks_are_not_used(tmp_path):  # 18
    write = with_all(lambda entry: {"segmentation": entry["segmentation"] if entry["id"] % 2 else []})
    objects = opened(write(tmp_path))
    assert (objects.has_masks, objects.counts["boxes"]) == (False, 180)
    assert any(note.startswith("masks are not used: 90 of 180 objects have none") for note in objects.notes)


def test_points_and_runs_of_every_kind_are_one_mask(tmp_path):  # 18
    from faster_coco_eval.core import mask as library

    counts = [10, 5, 64 * 64 - 15]
    text = library.frPyObjects({"size": [64, 64], "counts": counts}, 64, 64)["counts"].decode()
    for kind in (counts, text):
        path = tmp_path / str(type(kind))
        path.mkdir()
        objects = opened(with_annotation(segmentation={"size": [64, 64], "counts": kind})(path))
        first = objects.splits["train"][0]["objects"]
        assert (first["rle"][0], first["polygons"][0]) == (text, [])
    points = [[[1, 1], [9, 1], [9, 9]]]
    objects = opened(with_annotation(segmentation=points)(tmp_path))
    assert objects.splits["train"][0]["objects"]["polygons"][0] == [[1, 1, 9, 1, 9, 9]]


def test_images_in_two_splits_are_counted(tmp_path, caplog):  # 24
    path = plain(tmp_path)
    (path / "val2017" / "2.png").write_bytes((path / "train2017" / "1.png").read_bytes())
    with caplog.at_level(logging.WARNING):
        opened(path)
    assert "1 of 1 images of validation are in train, too (such as val2017/2.png)" in caplog.text


# ---- refused


def rename(old, new):
    def act(path):
        (path / old).rename(path / new)

    return act


def two_things(category):
    scenes = many()
    return lambda folder: formats.metadata(folder, scenes, lambda lists: category(lists))


def mixed(lists):
    return lists | {"category": [0 if number else "ant" for number in range(len(lists["category"]))]}


def corners(path):
    for file in path.glob("annotations/*.json"):
        content = json.loads(file.read_text())
        for image in content["images"]:
            image["width"] += 8
        file.write_text(json.dumps(content))


def empty_columns(folder):
    return formats.parquet(folder, {"train": [Scene("0.png", [])], "validation": [Scene("1.png", [])]})


REFUSED = {
    "1 corners as sizes": (plain, {"box_format": "xyxy"}, "boxes can't be used: ... Is --data.box_format xyxy right?"),
    "2 many": (
        with_all(lambda entry: {"bbox": [5, 5, 0, 5]} if entry["id"] < 3 else {}),
        {},
        "data.path: 4 of 180 boxes can't be used: 4 no width or height (such as train image 0, image_id 0",
    ),
    "4 shares": (
        with_all(lambda entry: {"bbox": [number / 64 for number in entry["bbox"]]}),
        {},
        "data.box_format auto: no number of a box is above 1.5 ... --data.box_format yolo",
    ),
    "4 shares, given": (
        with_all(lambda entry: {"bbox": [number / 64 for number in entry["bbox"]]}),
        {"box_format": "xywh"},
        "data.box_format xywh: no number of a box is above 1.5 ... --data.box_format yolo",
    ),
    "4 pixels": (plain, {"box_format": "yolo"}, "data.box_format yolo: numbers of boxes reach ... so they are pixels"),
    "5 NaN": (
        with_annotation(bbox=[1, 2, float("nan"), 4]),
        {},
        "data.path: 1 box is not four finite numbers: [1, 2, nan, 4] in train image 0, image_id 0 ... object 0",
    ),
    "5 infinite": (
        with_annotation(bbox=[1, 2, float("inf"), 4]),
        {},
        "not four finite numbers: [1, 2, inf, 4] in train",
    ),
    "5 three": (with_annotation(bbox=[1, 2, 3]), {}, "data.path: 1 box is not four finite numbers: [1, 2, 3] in train"),
    "5 none": (with_annotation(bbox=None), {}, "data.path: 1 box is not four finite numbers: None in train image 0"),
    "6 -1": (with_annotation(category_id=-1), {}, "data.path: 1 object has no class: -1 in train image 0, image_id 0"),
    "6 none": (with_annotation(category_id=None), {}, "data.path: 1 object has no class: None in train image 0"),
    "7 unmapped": (
        with_annotation(category_id=4),
        {},
        "data.path: classes that are not listed: 4 (such as train image 0, ... Listed are 1, 11, 21.",
    ),
    "two of a name": (
        with_all(categories=lambda categories: [{**category, "name": "ant"} for category in categories]),
        {},
        "data.path: two classes are called 'ant' (1, 11, 21). Rename one.",
    ),
    "11 no box": (with_all(annotations=lambda _: []), {}, "data.path: no split has a box."),
    "11 empty columns": (empty_columns, {}, "data.path: no split has a box (objects: empty in all rows)."),
    "12 text and numbers": (
        lambda folder: formats.metadata(folder, many(), mixed),
        {},
        "data.path: classes are text in some rows ('ant' in train line 0, image_id 0 ... numbers in others (0 in train",
    ),
    "14 missing": (
        then(plain, lambda path: (path / "train2017" / "0.png").unlink()),
        {},
        "data.path: 1 of 3 images are not there (0.png), and more than 1% stops a run.",
    ),
    "14 of images that are not listed": (
        with_all(lambda entry: {"image_id": 99} if entry["id"] % 2 else {}),
        {},
        "90 of 180 boxes can't be used: 90 of an image that is not listed ... stops a run. Correct or remove them.",
    ),
    "14 in another split": (
        then(
            lambda folder: formats.coco(
                folder, many() | {"validation": [Scene("0.png", many()["train"][0].things, (64, 64))]}
            ),
            lambda path: (path / "train2017" / "0.png").unlink(),
        ),
        {},
        "data.path: 1 of 3 images are not there (0.png)",
    ),
    "14 twice": (
        with_all(images=lambda images: [*images, {**images[0], "id": 77}]),
        {},
        "data.path: two images of ... have the file '0.png' (ids 0 and 77). Keep one of them.",
    ),
    "14 same id": (
        with_all(images=lambda images: [*images, images[0]]),
        {},
        "data.path: two images of ... have the id 0. Keep one of them.",
    ),
    "15 contradictory": (
        then(lambda folder: formats.coco(folder, upright_scenes()), turned(["0.png"]), lambda path: lying(path)),
        {},
        "data.exif_rotation auto: some annotations are of the image turned by its EXIF block (train image 0",
    ),
    "16 another size": (
        then(plain, corners),
        {},
        "data.path: 3 of 3 images are not of their annotated size: train image 0, image_id 0 (train2017/0.png) has "
        "64 x 64 pixels, annotated are 72 x 64",
    ),
    "19 another size of mask": (
        with_annotation(segmentation={"size": [32, 64], "counts": [64 * 32]}),
        {},
        "data.mask_key: 1 mask does not fit: 64 x 32 pixels, and its image 64 x 64 in train image 0",
    ),
    "19 fewer masks": (
        lambda folder: formats.metadata(
            folder, many(), lambda lists: lists | {"segmentation": lists["segmentation"][1:]}
        ),
        {},
        "data.path: fields of different length in train line 0, image_id 0 ... 60 bbox, 60 category, 60 area, 59",
    ),
    "25 unreadable": (
        then(formats.metadata, lambda path: (path / "train" / "0.png").write_bytes(b"no image")),
        {},
        "data.path: 1 of 4 images can't be read, and more than 1% stops a run: train line 0, image_id 0 (train/0.png).",
    ),
    "18 runs that don't add up": (
        with_annotation(segmentation={"size": [64, 64], "counts": [64 * 32]}),
        {},
        "data.mask_key: 1 mask does not fit: its runs don't add up to its size in train image 0",
    ),
}


def lying(path):
    """The second training image is turned, too, and annotated as it is stored."""
    turned(["1.png"])(path)
    file = path / "annotations" / "instances_train2017.json"
    content = json.loads(file.read_text())
    content["images"][1] |= {"width": 96, "height": 64}
    file.write_text(json.dumps(content))


@pytest.mark.parametrize("case", REFUSED)
def test_what_can_not_be_mended_is_refused(case, tmp_path):
    write, settings, words = REFUSED[case]
    path = write(tmp_path)
    with refused(words):
        opened(path, **settings)


# ---- formats


def images_and_table(folder):
    formats.picture(folder / "0.png", Scene("0.png", []))
    (folder / "boxes.csv").write_text("image_path,xmin,ymin,xmax,ymax,label\n0.png,1,2,9,9,ant\n")
    return folder


MISTAKES = {
    "no annotations": (lambda folder: folder, "data.path ... no annotations in the folder. Give one of COCO"),
    "no JSON": (
        then(plain, lambda path: (path / "annotations" / "instances_val2017.json").write_text("{")),
        "instances_val2017.json can't be read as JSON",
    ),
    "not COCO": (
        then(plain, lambda path: (path / "annotations" / "instances_val2017.json").write_text("[]")),
        "has no list of 'images', as COCO's files have",
    ),
    "a file of annotations": (
        lambda folder: plain(folder) / "annotations" / "instances_val2017.json",
        "instances_val2017.json': a file of annotations. Give the folder that it and its images are in.",
    ),
    "images with a table": (
        images_and_table,
        "data.path: there are images alone, and no column of objects.",
    ),
    "a list for a number": (
        with_all(images=lambda images: [{**image, "id": [1]} for image in images]),
        "has an entry whose 'id' is no number or text: {'id': [1], 'file_name'",
    ),
    "yolo, no labels": (
        then(formats.yolo, lambda path: shutil.rmtree(path / "labels")),
        "data.yaml has a file of labels, such as ... 0.txt. Put them there.",
    ),
    "two formats": (
        lambda folder: formats.yolo(formats.coco(folder)),
        "it has annotations of YOLO and COCO. Leave one of them there.",
    ),
    "other categories": (
        then(
            plain,
            lambda path: (path / "annotations" / "instances_val2017.json").write_text(
                json.dumps(coco_json(many()["validation"], categories=[{"id": 1, "name": "dog"}]))
            ),
        ),
        "data.path: category 1 is 'ant' in one file and 'dog' in",
    ),
    "yolo, no names": (
        then(formats.yolo, lambda path: (path / "data.yaml").write_text("train: images/train\n")),
        "data.yaml has no names of classes. Add them: names: [cat, dog].",
    ),
    "yolo, no folder": (
        then(formats.yolo, lambda path: (path / "data.yaml").write_text("train: x\nnames: [a]\n")),
        "the folders of images that ... data.yaml names are not there (x).",
    ),
    "yolo, pixels": (
        then(formats.yolo, lambda path: (path / "labels" / "train" / "0.txt").write_text("0 3 4 10 10\n")),
        "0.txt, line 1: 10 is no share of the image. A line is a class and a box",
    ),
    "yolo, six numbers": (
        then(formats.yolo, lambda path: (path / "labels" / "train" / "0.txt").write_text("0 .1 .1 .1 .1 .9\n")),
        "0.txt, line 1: 6 numbers.",
    ),
    "yolo, a class too many": (
        then(formats.yolo, lambda path: (path / "labels" / "train" / "0.txt").write_text("3 .5 .5 .1 .1\n")),
        "data.path: classes that are not listed: 3 (such as train image 0, image_id 'images/train/0.png', object 0)",
    ),
    "a line that is no JSON": (
        then(formats.metadata, lambda path: (path / "train" / "metadata.jsonl").write_text("{}\n{\n")),
        "data.path: line 2 of ... is not JSON",
    ),
    "no column": (
        then(
            formats.metadata,
            *(
                lambda path, split=split: (path / split / "metadata.jsonl").write_text('{"file_name": "0.png"}\n')
                for split in ("train", "validation")
            ),
        ),
        "data.objects_column: nothing holds boxes; there are file_name. Name it with --data.objects_column.",
    ),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_files_that_are_wrong_are_named(case, tmp_path):
    write, words = MISTAKES[case]
    with refused(words):
        opened(write(tmp_path))


def test_a_column_or_field_that_is_ambiguous_or_not_there_is_named(tmp_path):
    path = formats.metadata(tmp_path, arranged=lambda lists: one_by_one(lists | {"corners": lists["bbox"]}))
    assert opened(path).counts["boxes"] == 4  # by its usual name
    for settings, words in (
        ({"objects_column": "image_id"}, "data.objects_column 'image_id': it holds no boxes"),
        ({"objects_column": "objets"}, "data.objects_column 'objets': not there (did you mean 'objects'?)"),
        ({"bbox_key": "boxs"}, "data.bbox_key 'boxs': not there"),
        ({"category_key": "class"}, "data.category_key 'class': not there; there are bbox, category, area"),
        ({"mask_key": "mask"}, "data.mask_key 'mask': not there"),
    ):
        with refused(words):
            opened(path, **settings)


@pytest.mark.parametrize(
    ("images", "words"),
    [(1, "there is only 1 image to divide."), (3, "of 3 images, one part would be empty; allowed are 0.333 to 0.667.")],
)
def test_images_that_are_too_few_to_divide_are_refused(images, words, tmp_path):
    path = formats.coco(tmp_path, {"train": [Scene(f"{n}.png", [Thing((2, 2, 9, 9))]) for n in range(images)]})
    with refused(f"data.validation_fraction 0.9: {words}"):
        ObjectsDataModule(path=str(path), validation_fraction=0.9, batch_size=1).setup("fit")
