"""Sets of images with hard cases, and what pycocotools says of them."""

import contextlib
import io
import json

import numpy as np
import torch
from pycocotools import mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

NAMES = ["cat", "dog", "a horse", "never there", "only a crowd"]
CATEGORIES = [1, 3, 17, 44, 90]  # with gaps
SIZE = (240, 320)


def ellipse(box):
    """The RLE of an ellipse in a box."""
    x1, y1, x2, y2 = box
    rows, columns = np.ogrid[: SIZE[0], : SIZE[1]]
    x, y = (x1 + x2) / 2, (y1 + y2) / 2
    inside = ((columns - x) / max(x2 - x1, 1) * 2) ** 2 + ((rows - y) / max(y2 - y1, 1) * 2) ** 2 <= 1
    rle = mask.encode(np.asfortranarray(inside.astype(np.uint8)))
    return {"size": list(SIZE), "counts": rle["counts"].decode()}


def hard_set(images=12, seed=0, masks=True):
    """Found and true objects of images: crowds, empty ones, all sizes, equal scores, absent and crowd-only classes."""
    draw = np.random.default_rng(seed)
    found, truth = [], []
    for number in range(images):
        count = 0 if number % 5 == 3 else int(draw.integers(1, 7))
        sides = draw.choice([12, 40, 130], size=(count, 2)) * draw.uniform(0.8, 1.2, (count, 2))
        corners = draw.uniform(0, 1, (count, 2)) * (np.array(SIZE[::-1]) - sides)
        boxes = np.concatenate([corners, corners + sides], axis=1).astype(np.float32)
        crowd = draw.random(count) < 0.2
        labels = np.where(draw.random(count) < 0.1, 4, draw.integers(0, 3, count))
        crowd |= labels == 4
        rles = [ellipse(box) for box in boxes]
        area = np.array([mask.area(rle) for rle in rles], np.float64) if masks else sides.prod(axis=1)
        truth.append(
            {
                "boxes": torch.from_numpy(boxes.reshape(-1, 4)),
                "labels": torch.from_numpy(labels),
                "area": torch.from_numpy(area.reshape(-1)),
                "iscrowd": torch.from_numpy(crowd),
                "image_id": json.dumps(number * 7 + 3),
                "file": f"{number}.jpg",
                "size": SIZE,
                "rles": rles,
            }
        )
        repeated = np.repeat(boxes, 3, axis=0) + draw.normal(0, 3, (3 * count, 4))
        noise = draw.uniform(0, 150, (0 if number % 5 == 2 else 6, 4))
        noise[:, 2:] = noise[:, :2] + draw.uniform(5, 90, (len(noise), 2))
        guesses = np.concatenate([repeated, noise]).astype(np.float32)
        guesses[:, 2:] = np.maximum(guesses[:, 2:], guesses[:, :2] + 1)
        classes = np.concatenate([np.repeat(labels, 3), draw.integers(0, 5, len(noise))])
        found.append(
            {
                "boxes": torch.from_numpy(guesses),
                "labels": torch.from_numpy(classes),
                "scores": torch.from_numpy(draw.uniform(0, 1, len(guesses)).round(1).astype(np.float32)),
                "rles": [ellipse(box) for box in guesses],
            }
        )
    return found, truth


def annotations(objects, image_id, **extra):
    """COCO's annotations of an image's objects; `extra` are columns."""
    boxes = objects["boxes"].double()
    boxes[:, 2:] -= boxes[:, :2]
    for index, (box, label) in enumerate(zip(boxes.tolist(), objects["labels"].tolist(), strict=True)):
        own = {name: values[index].item() for name, values in extra.items()}
        shape = {"segmentation": objects["rles"][index]} if "rles" in objects else {}
        yield {"image_id": image_id, "category_id": CATEGORIES[label], "bbox": box, **shape, **own}


def coco_truth(truth):
    """pycocotools' data set."""
    images = [json.loads(each["image_id"]) for each in truth]
    rows = [
        {**row, "id": 0}
        for each, number in zip(truth, images, strict=True)
        for row in annotations(each, number, area=each["area"], iscrowd=each["iscrowd"].int())
    ]
    for number, row in enumerate(rows, 1):
        row["id"] = number
    data = COCO()
    data.dataset = {
        "info": {},
        "images": [{"id": number, "height": SIZE[0], "width": SIZE[1]} for number in images],
        "annotations": rows,
        "categories": [{"id": number} for number in CATEGORIES],
    }
    with contextlib.redirect_stdout(io.StringIO()):
        data.createIndex()
    return data


def by_pycocotools(data, results, kind):
    """Metrics by our names, and class AP, of a list or a file of COCO results."""
    with contextlib.redirect_stdout(io.StringIO()):
        if isinstance(results, list) and kind == "segm":  # with boxes, it would take their area
            results = [{name: value for name, value in row.items() if name != "bbox"} for row in results]
        evaluator = COCOeval(data, data.loadRes(results), kind)
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    names = ["map", "map_50", "map_75", "map_small", "map_medium", "map_large", None, None, "mar_100"]
    stats = {name: value for name, value in zip(names, evaluator.stats, strict=False) if name and value > -1}
    precision = evaluator.eval["precision"][..., 0, 2]
    means = [values[values > -1] for values in np.moveaxis(precision, 2, 0)]
    return stats, [each.mean() if each.size else None for each in means]
