"""A few scenes with objects, written in every format that can be opened: all hold the same."""

import json
from dataclasses import dataclass, field
from io import BytesIO

import numpy as np
from datasets import ClassLabel, Dataset, Features, Image, List, Value
from PIL import Image as PILImage

NAMES = ("ant", "bee", "cat")
FOLDERS = {"train": "train", "validation": "val"}


@dataclass
class Thing:
    """An object: xyxy in whole pixels, a class by number, and a triangle or a rectangle as its mask."""

    box: tuple[float, float, float, float]
    category: int = 0
    crowd: int = 0
    polygon: list[float] = field(default_factory=list)

    def __post_init__(self):
        left, top, right, bottom = self.box
        self.polygon = self.polygon or [left, top, right, top, right, bottom, left, bottom]

    @property
    def xywh(self):
        left, top, right, bottom = self.box
        return [left, top, right - left, bottom - top]

    @property
    def area(self):
        x, y = np.array(self.polygon).reshape(-1, 2).T
        return abs(float(x @ np.roll(y, 1) - y @ np.roll(x, 1))) / 2

    def shares(self, width, height):
        left, top, right, bottom = self.box
        return [
            (left + right) / 2 / width,
            (top + bottom) / 2 / height,
            (right - left) / width,
            (bottom - top) / height,
        ]


@dataclass
class Scene:
    name: str
    things: list[Thing]
    size: tuple[int, int] = (64, 32)

    @property
    def number(self):
        return int(self.name.split(".")[0])


SCENES = {
    "train": [
        Scene("0.png", [Thing((8, 4, 24, 20), 0), Thing((40, 8, 64, 32), 2)]),
        Scene("1.png", []),
        Scene("2.png", [Thing((0, 0, 16, 8), 1, polygon=[0, 0, 16, 0, 16, 8])]),
    ],
    "validation": [Scene("3.png", [Thing((32, 2, 48, 30), 1)], (64, 64))],
}


def picture(path, scene):
    path.parent.mkdir(parents=True, exist_ok=True)
    shade = 40 + 37 * scene.number % 200
    PILImage.new("RGB", scene.size, (shade, 255 - shade, 128)).save(path)


def coco_json(scenes, **changes):
    """What COCO's file of these scenes holds; class numbers have gaps."""
    images, annotations = [], []
    for scene in scenes:
        width, height = scene.size
        images.append({"id": scene.number, "file_name": scene.name, "width": width, "height": height})
        for thing in scene.things:
            entry = {"id": len(annotations) + 1, "image_id": scene.number, "category_id": 10 * thing.category + 1}
            entry |= {"bbox": thing.xywh, "area": thing.area, "iscrowd": thing.crowd, "segmentation": [thing.polygon]}
            annotations.append(entry)
    categories = [{"id": 10 * number + 1, "name": name} for number, name in enumerate(NAMES)]
    return {"images": images, "annotations": annotations, "categories": categories, **changes}


def coco(folder, scenes=SCENES, change=lambda content: content):
    for split, own in scenes.items():
        for scene in own:
            picture(folder / f"{FOLDERS[split]}2017" / scene.name, scene)
        file = folder / "annotations" / f"instances_{FOLDERS[split]}2017.json"
        file.parent.mkdir(exist_ok=True)
        file.write_text(json.dumps(change(coco_json(own))))
    return folder


def roboflow(folder, scenes=SCENES):
    """With its category 0, which no object has."""
    for split, own in scenes.items():
        place = folder / {"train": "train", "validation": "valid"}[split]
        for scene in own:
            picture(place / scene.name, scene)
        content = coco_json(own)
        content["categories"].insert(0, {"id": 0, "name": "insects", "supercategory": "none"})
        (place / "_annotations.coco.json").write_text(json.dumps(content))
    return folder


def fields(scene, names=NAMES):
    """The objects of a scene as lists of their fields."""
    return {
        "bbox": [thing.xywh for thing in scene.things],
        "category": [names[thing.category] if names else thing.category for thing in scene.things],
        "area": [thing.area for thing in scene.things],
        "segmentation": [[thing.polygon] for thing in scene.things],
    }


def one_by_one(lists):
    return [dict(zip(lists, values, strict=True)) for values in zip(*lists.values(), strict=True)]


def metadata(folder, scenes=SCENES, arranged=lambda lists: lists):
    for split, own in scenes.items():
        for scene in own:
            picture(folder / split / scene.name, scene)
        lines = [
            {"file_name": scene.name, "image_id": scene.number, "objects": arranged(fields(scene))} for scene in own
        ]
        (folder / split / "metadata.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def metadata_one_by_one(folder, scenes=SCENES):
    return metadata(folder, scenes, one_by_one)


def yolo(folder, scenes=SCENES, masks=True):
    """Polygons, or boxes; an image without objects has no file of labels."""
    for split, own in scenes.items():
        for scene in own:
            picture(folder / "images" / FOLDERS[split] / scene.name, scene)
            lines = [_line(thing, scene.size, masks) for thing in scene.things]
            labels = folder / "labels" / FOLDERS[split] / f"{scene.number}.txt"
            labels.parent.mkdir(parents=True, exist_ok=True)
            if lines:
                labels.write_text("\n".join(lines) + "\n")
    sets = "".join(f"{FOLDERS[split]}: images/{FOLDERS[split]}\n" for split in scenes)
    (folder / "data.yaml").write_text(f"path: .\n{sets}names: {json.dumps(list(NAMES))}\n")
    return folder


def yolo_boxes(folder, scenes=SCENES):
    return yolo(folder, scenes, masks=False)


def _line(thing, size, masks):
    numbers = thing.shares(*size)
    if masks:
        numbers = (np.array(thing.polygon).reshape(-1, 2) / size).ravel().tolist()
    return " ".join(map(str, [thing.category, *numbers]))


# ---- columns, as datasets on the Hub have them


def rows(folder, scenes, features, row):
    """Datasets by split, of images with their bytes."""
    splits = {}
    for split, own in scenes.items():
        for scene in own:
            picture(folder / "sources" / scene.name, scene)
        files = [(folder / "sources" / scene.name).read_bytes() for scene in own]
        values = [row(scene, {"bytes": data, "path": None}) for scene, data in zip(own, files, strict=True)]
        splits[split] = Dataset.from_list(values, features=features)
    return splits


NUMBERS = List(List(Value("float32"), length=4))


def plain(folder, scenes=SCENES):
    """Lists of fields, classes as text."""
    kinds = {"bbox": NUMBERS, "category": List(Value("string")), "area": List(Value("float64"))}
    kinds["segmentation"] = List(List(List(Value("float32"))))
    features = Features(image=Image(), image_id=Value("int64"), objects=kinds)
    return rows(
        folder,
        scenes,
        features,
        lambda scene, image: {"image": image, "image_id": scene.number, "objects": fields(scene)},
    )


def cppe5(folder, scenes=SCENES):
    """As cppe-5: width and height, xywh, area, ClassLabel; no masks."""
    kinds = {"id": List(Value("int64")), "area": List(Value("int64"))}
    kinds |= {"bbox": NUMBERS, "category": List(ClassLabel(names=list(NAMES)))}
    features = Features(
        image_id=Value("int64"), image=Image(), width=Value("int32"), height=Value("int32"), objects=kinds
    )

    def row(scene, image):
        objects = fields(scene, None) | {"id": list(range(len(scene.things)))}
        objects.pop("segmentation")
        width, height = scene.size
        return {"image_id": scene.number, "image": image, "width": width, "height": height, "objects": objects}

    return rows(folder, scenes, features, row)


def detection_datasets_coco(folder, scenes=SCENES, names=NAMES):
    """As detection-datasets/coco: xyxy, fields bbox_id, category, bbox, area."""
    kinds = {"bbox_id": List(Value("int64")), "category": List(ClassLabel(names=list(names)))}
    kinds |= {"bbox": NUMBERS, "area": List(Value("float64"))}
    features = Features(
        image=Image(), image_id=Value("int64"), width=Value("int64"), height=Value("int64"), objects=kinds
    )

    def row(scene, image):
        objects = fields(scene, None) | {"bbox_id": list(range(len(scene.things)))}
        objects |= {"bbox": [list(thing.box) for thing in scene.things]}
        objects.pop("segmentation")
        width, height = scene.size
        return {"image": image, "image_id": scene.number, "width": width, "height": height, "objects": objects}

    return rows(folder, scenes, features, row)


def clown_rat(folder, scenes=SCENES):
    """As ClownRat/COCO2017: the image is a path, masks are runs."""
    from faster_coco_eval.core import mask as library

    runs = {"counts": Value("string"), "size": List(Value("int64"))}
    kind = {"bbox": List(Value("float64")), "category_id": ClassLabel(names=list(NAMES)), "masks": runs}
    features = Features(image=Value("string"), image_id=Value("int64"), annotations=List(kind))
    splits = {}
    for split, own in scenes.items():
        values = []
        for scene in own:
            picture(folder / "sources" / scene.name, scene)
            width, height = scene.size
            annotations = []
            for thing in scene.things:
                coded = library.merge(library.frPyObjects([thing.polygon], height, width))
                coded = {"counts": coded["counts"].decode(), "size": [height, width]}
                annotations.append({"bbox": thing.xywh, "category_id": thing.category, "masks": coded})
            image = str(folder / "sources" / scene.name)
            values.append({"image": image, "image_id": scene.number, "annotations": annotations})
        splits[split] = Dataset.from_list(values, features=features)
    return splits


def as_parquet(make):
    """Write the datasets as a folder of parquet."""

    def write(folder, scenes=SCENES):
        place = folder / "parquet"
        place.mkdir()
        for split, own in make(folder, scenes).items():
            own.to_parquet(place / f"{split}.parquet")
        return place

    return write


def on_hub(hub, name, splits, **names):
    """Put datasets by split on the Hub; `names` are those of splits that are not as usual."""
    files = {}
    for split, own in splits.items():
        buffer = BytesIO()
        own.to_parquet(buffer)
        files[f"data/{names.get(split, split)}-00000-of-00001.parquet"] = buffer.getvalue()
    return hub.commit(name, files)


parquet = as_parquet(plain)
FORMATS = {
    "coco": coco,
    "roboflow": roboflow,
    "metadata, lists": metadata,
    "metadata, one by one": metadata_one_by_one,
    "parquet": parquet,
    "cppe-5": as_parquet(cppe5),
    "detection-datasets/coco": as_parquet(detection_datasets_coco),
    "ClownRat/COCO2017": as_parquet(clown_rat),
    "yolo polygons": yolo,
    "yolo boxes": yolo_boxes,
}
