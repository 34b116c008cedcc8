"""Detections of `predict`: COCO results or a CSV, and pictures of them."""

import csv
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import lightning as L
import torch
from PIL import Image

from shvit_pl.callbacks.drawing import above, draw_objects, drawn_score, image_of
from shvit_pl.callbacks.inference import PredictedFile
from shvit_pl.data.decoding import BrokenImage, decode
from shvit_pl.display import counted, say
from shvit_pl.errors import UserError
from shvit_pl.files import remove, replacing

_COLUMNS = ("file", "image_id", "category_id", "label", "score", "x", "y", "width", "height")


class DetectionsWriter(PredictedFile):
    """All detections, as COCO results (`.json`) or as a CSV (`.csv`), and pictures of those above a score.

    Boxes are x, y, width and height, masks compressed RLE, both in pixels of the original image; images and categories
    have the data set's own ids. Images without ids are numbered from 1, and `NAME.images.json` lists their files.
    pycocotools takes the area of masks that come with boxes from the boxes; without `bbox` in the rows, from the masks.

    Args:
        path: The file, which appears when complete.
        strict: Write nothing if an image can't be decoded.
        draw: A new folder of PNGs, one per image; default: none.
        score: The least score to draw; default: the module's `best_score`.

    Raises `UserError` for another kind of file, and for a folder that has files.
    """

    lacking = "no detections"

    def __init__(self, path: str, strict: bool = False, draw: str | None = None, score: float | None = None) -> None:
        super().__init__(path, strict)
        if self.path.suffix not in (".json", ".csv"):
            raise UserError(f"output {path!r}: allowed are files that end in .json (COCO's results) or .csv.")
        if draw is not None and Path(draw).exists() and (not Path(draw).is_dir() or any(Path(draw).iterdir())):
            is_what = "already contains files" if Path(draw).is_dir() else "is a file"
            raise UserError(f"draw {draw!r}: {is_what}; give a new folder.")
        self.draw, self.score = None if draw is None else Path(draw), score
        self._pictures = None if self.draw is None else self.draw.with_name(f".{self.draw.name}.{os.getpid()}")
        self._as_json = self.path.suffix != ".csv"
        self._numbered: list[dict[str, Any]] = []  # the images without ids
        self._names: set[str] = set()
        self.detections = 0

    def on_predict_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Begin the file, and the folder of pictures; raises `UserError` where they can't be written."""
        if self._pictures is not None:
            try:
                self._pictures.mkdir(parents=True)
            except OSError as error:
                raise UserError(f"draw {str(self.draw)!r}: can't be written ({error.strerror}).") from error
        super().on_predict_start(trainer, pl_module)

    def on_predict_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Give the files their names; raises `UserError` as with any written predictions."""
        super().on_predict_end(trainer, pl_module)
        if self._numbered and self._as_json:
            with replacing(self.path.with_suffix(".images.json")) as partial:
                partial.write_text(json.dumps(self._numbered, indent=2) + "\n", encoding="utf-8")
        if self.draw is not None and self._pictures is not None:
            if self.draw.exists():
                self.draw.rmdir()  # it is empty
            self._pictures.replace(self.draw)
            score = self._least_score(pl_module)
            say(f"{counted(len(self._names), 'picture')} of scores from {score:.3g} in {self.draw}")

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Remove what is incomplete."""
        super().on_exception(trainer, pl_module, exception)
        if self._pictures is not None:
            remove(self._pictures)

    def begin(self) -> None:
        """Open the list, or write the names of the columns."""
        if self._as_json:
            self.file.write("[")
        else:
            csv.writer(self.file).writerow([*_COLUMNS, "segmentation"])

    def write(self, trainer: L.Trainer, pl_module: Any, outputs: Any, batch: Any) -> None:
        """Write the detections of the images that could be decoded; `outputs` has an element for each of these."""
        whole = [index for index, broken in enumerate(batch["broken"]) if not broken]
        for index, found in zip(whole, outputs, strict=True):
            file = batch["file"][index]
            image_id = self._image_id(batch, index)
            for row in _rows(found, image_id, pl_module.category_ids):
                self._write_row(row, file, pl_module)
            if self._pictures is not None:
                height, width = map(int, batch["size"][index])
                image = _image(trainer.datamodule, batch, index)  # type: ignore[attr-defined]
                shown = above(found, self._least_score(pl_module))
                picture = draw_objects(image, shown, pl_module.class_names, (height, width))
                Image.fromarray(picture).save(self._pictures / self._free_name(file))

    def finish(self) -> str:
        """Close the list; returns the number of detections and images."""
        if self._as_json:
            self.file.write("\n]\n")
        listed = f" (ids are listed in {self.path.stem}.images.json)" if self._numbered and self._as_json else ""
        return f"{counted(self.detections, 'detection')} in {counted(self.images - len(self.broken), 'image')}{listed}"

    def _image_id(self, batch: Mapping[str, Any], index: int) -> Any:
        given = batch.get("image_id")
        if given is not None and given[index]:
            return json.loads(given[index])
        number, (height, width) = self.images + index + 1, map(int, batch["size"][index])
        self._numbered.append({"id": number, "file_name": batch["file"][index], "height": height, "width": width})
        return number

    def _write_row(self, row: dict[str, Any], file: str, pl_module: Any) -> None:
        if self._as_json:
            self.file.write(f"{',' * (self.detections > 0)}\n{json.dumps(row)}")
        else:
            label = pl_module.class_names[list(pl_module.category_ids).index(row["category_id"])]
            mask = json.dumps(row["segmentation"]) if "segmentation" in row else ""
            cells = [file, row["image_id"], row["category_id"], label, row["score"], *row["bbox"], mask]
            csv.writer(self.file).writerow(cells)
        self.detections += 1

    def _least_score(self, pl_module: Any) -> float:
        return drawn_score(getattr(pl_module, "best_score", None)) if self.score is None else self.score

    def _free_name(self, file: str) -> str:
        """Return a name that no other picture has: images of several folders may be called the same."""
        stem, number = Path(file).stem or "image", 1
        while (name := f"{stem}{f'_{number}' if number > 1 else ''}.png") in self._names:
            number += 1
        self._names.add(name)
        return name


def _image(data: Any, batch: Mapping[str, Any], index: int) -> torch.Tensor:
    """Return an image `(3, H, W)` in uint8: from its file, or where it has none, as the network sees it."""
    if path := batch["stored"][index]:
        with suppress(BrokenImage):  # it is gone since it was read
            return decode({"bytes": None, "path": path}, path, batch["rotated"][index], data.config.intensity_range)
    return image_of(batch, index, data.mean, data.std)


def _rows(found: Mapping[str, Any], image_id: Any, category_ids: Any) -> Iterator[dict[str, Any]]:
    """Yield an image's detections as COCO results, in whole precision: evaluated, they are what was measured."""
    boxes = found["boxes"].detach().cpu().double()
    labels, scores = found["labels"].tolist(), found["scores"].tolist()
    for index, (x1, y1, x2, y2) in enumerate(boxes.tolist()):
        mask = {"segmentation": found["rles"][index]} if "rles" in found else {}
        category = int(category_ids[labels[index]])
        box = [x1, y1, x2 - x1, y2 - y1]
        yield {"image_id": image_id, "category_id": category, "bbox": box, "score": scores[index], **mask}
