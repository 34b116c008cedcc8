"""Rows of a Hugging Face dataset, stored or streamed, as decoded, transformed images."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from io import BytesIO
from itertools import count, islice
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from datasets import Dataset, IterableDataset
from datasets.distributed import split_dataset_by_node
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor
from torchvision.io import decode_image
from torchvision.transforms.v2.functional import pil_to_tensor

from shvit_pl.data import loaders
from shvit_pl.data.config import DataConfig
from shvit_pl.data.rows import ChosenRows
from shvit_pl.data.transforms import PlannedCrop, eval_transform, train_transform
from shvit_pl.errors import first_line
from shvit_pl.randomness import seeded

Item = dict[str, Any]
IGNORED = -1  # the label of what is not evaluated: padding, and images that can't be decoded
_ROTATED_BY_TORCHVISION = (b"\xff\xd8", b"\x89PNG")  # JPEG and PNG; it leaves the others as they are


@dataclass(frozen=True)
class RowReader:
    """Makes an item of one row: `image` uint8 `(3, S, S)`, `file`, `broken` and, where there is a label, `label`.

    `broken` is empty, or says why the image could not be decoded; then the image is black and the label `IGNORED`.
    """

    image_column: str
    """The column of encoded images."""
    label_column: str | None
    """The column of class indices, if there is one."""
    transform: Callable[[Tensor], Tensor | tuple[Tensor, Tensor]]
    """From uint8 `(3, H, W)` to `(3, S, S)`, or to a crop and its `plan` (see `transforms`)."""
    size: int
    """S."""
    exif_rotation: bool = False
    """Turn images upright as their EXIF block says."""

    @classmethod
    def of(cls, config: DataConfig, chosen: ChosenRows, train: bool) -> Self:
        """Return the reader of images to train on (ready to be augmented, with `augment_on` device) or to evaluate."""
        transform: Any = eval_transform(config.side, config.crop_pct, config.resize)
        if train:
            on_device = config.augment_on == "device"
            transform = PlannedCrop(config.side, config.color_jitter) if on_device else train_transform(config)
        return cls(chosen.image_column, chosen.label_column, transform, config.side, config.exif_rotation)

    def read(self, row: dict[str, Any], name: str, key: tuple[int, ...] = ()) -> Item:
        """Decode and transform, drawing random numbers by `key`."""
        stored = row[self.image_column]
        file = (stored and stored["path"]) or name
        try:
            pixels = decode(stored, file, self.exif_rotation)
        except BrokenImage as error:
            return self.placeholder(file, str(error))
        with seeded(*key):
            image = self.transform(pixels)
        plan = {}
        if isinstance(image, tuple):
            image, plan["plan"] = image
        label = {} if self.label_column is None else {"label": row.get(self.label_column, IGNORED)}
        return {"image": image, "file": file, "broken": "", **plan, **label}

    def placeholder(self, file: str = "", broken: str = "") -> Item:
        """Return an item that is not evaluated."""
        image = torch.zeros(3, self.size, self.size, dtype=torch.uint8)
        label = {} if self.label_column is None else {"label": IGNORED}
        return {"image": image, "file": file, "broken": broken, **label}


class ImageDataset(torch.utils.data.Dataset[Item]):
    """Map-style rows, indexed by `Draw`.

    In training, a broken image is replaced by the next whole one, for the batch to keep its size.
    """

    def __init__(self, rows: Dataset, reader: RowReader, training: bool = False) -> None:
        self.rows = rows
        self.reader = reader
        self.training = training

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, draw: loaders.Draw) -> Item:
        if not draw.counted:
            return self.reader.placeholder()
        item = self._read(draw.row, draw.key)
        if not self.training:
            return item
        broken, index = item["broken"], draw.row
        while item["broken"] and (index := (index + 1) % len(self.rows)) != draw.row:
            item = self._read(index, draw.key)
        return {**item, "broken": broken, "key": hash(draw.key)}

    def _read(self, index: int, key: tuple[int, ...]) -> Item:
        return self.reader.read(self.rows[index], f"row {index}", key)


# ---- decoding


class BrokenImage(ValueError):
    """An image that can't be decoded; the message is one line with its name and the reason."""


def decode(image: dict[str, Any] | None, where: str, exif_rotation: bool = False) -> Tensor:
    """Decode one image as `datasets` stores it (`{"bytes", "path"}`) to a uint8 tensor `(3, H, W)`.

    By torchvision's decoder, whose pixels are PIL's, and by PIL where that fails. Gray, palette, CMYK and transparent
    images become RGB as by PIL's `convert("RGB")`, and of an animation the first frame. Of 16 bits the upper 8 are
    kept, also of gray ones, which PIL would clip to white. With `exif_rotation` the image is turned as its EXIF data
    say; ImageNet's figures are without, as in `ImageFolder`.

    Raises:
        BrokenImage: for an image without bytes, and for one that can't be decoded to its end; names `where`.
    """
    data, path = (image or {}).get("bytes"), (image or {}).get("path")
    if data is None and path:
        try:
            data = Path(path).read_bytes()
        except OSError as error:
            raise BrokenImage(f"{where}: the file can't be read ({error.strerror}).") from error
    if not data:
        raise BrokenImage(f"{where}: the image is empty.")
    if not exif_rotation or data.startswith(_ROTATED_BY_TORCHVISION):
        with suppress(RuntimeError):  # a format that it doesn't know, or a broken file: PIL gives the reason
            encoded = torch.frombuffer(bytearray(data), dtype=torch.uint8)
            pixels = decode_image(encoded, mode="RGB", apply_exif_orientation=exif_rotation)
            if pixels.dtype == torch.uint16:
                pixels = (pixels.int() >> 8).to(torch.uint8)
            return pixels[0] if pixels.ndim == 4 else pixels
    try:
        picture: Image.Image = Image.open(BytesIO(data))
        picture.load()
        if exif_rotation:
            with suppress(Exception):  # a broken EXIF or XMP block turns nothing
                picture = ImageOps.exif_transpose(picture)
        if picture.mode.startswith("I;16"):
            picture = Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8))
        return pil_to_tensor(picture.convert("RGB"))
    except UnidentifiedImageError as error:
        raise BrokenImage(f"{where}: not an image of a known format.") from error
    except Exception as error:  # PIL's readers raise whatever their parsing runs into
        raise BrokenImage(f"{where}: not a readable image ({first_line(error)}).") from error


_MAX_IN_A_ROW = 100  # broken images: far more than a run bears


def _worker() -> tuple[int, int]:
    """Return the number of the loader's workers, and this one's number."""
    info = torch.utils.data.get_worker_info()
    return (info.num_workers, info.id) if info is not None else (1, 0)


class _Stream(torch.utils.data.IterableDataset[Item]):
    rows: IterableDataset

    @property
    def shards(self) -> int:
        """Parts of the stream that workers of this process can read at the same time."""
        return int(self.rows.num_shards)


class TrainStream(_Stream):
    """An endless, shuffled stream of training items, shared out over processes and workers.

    Shards are shuffled, and rows within a `buffer`, anew in every pass. Where the shards do not divide by the
    processes, each process reads all rows and keeps its share.
    """

    def __init__(self, rows: IterableDataset, reader: RowReader, seed: int, buffer: int, batch_size: int) -> None:
        replicas, self.rank = loaders.process()
        self.rows = split_dataset_by_node(rows.shuffle(seed=seed, buffer_size=buffer), self.rank, replicas)
        self.reader = reader
        self.seed = seed
        self.batch_size = batch_size
        self._done = 0

    def begin_at(self, batches: int) -> None:
        """Leave out batches that the run has had, as many per worker; their rows are read again, but not decoded."""
        self._done = batches

    def __iter__(self) -> Iterator[Item]:
        """Yield items forever; a broken image is replaced by the next whole one."""
        workers, worker = _worker()
        start = self._done // workers * self.batch_size  # workers give batches in turns
        broken: list[tuple[tuple[int, ...], Item]] = []
        for position, row in islice(enumerate(self._passes()), start, None):
            key = (self.seed, self.rank, worker, position)
            item = self.reader.read(row, f"row {position} of worker {worker}", key)
            if item["broken"] and len(broken) < _MAX_IN_A_ROW:
                broken.append((key, item))
                continue
            for its_key, its_item in broken:
                yield {**self.reader.read(row, "", its_key), "broken": its_item["broken"], "key": hash(its_key)}
            broken.clear()
            yield {**item, "key": hash(key)}

    def _passes(self) -> Iterator[dict[str, Any]]:
        """Yield rows forever; nothing if there are none."""
        for number in count():
            self.rows.set_epoch(number)
            rows = iter(self.rows)
            first = next(rows, None)
            if first is None:
                return
            yield first
            yield from rows


class EvalStream(_Stream):
    """A stream of evaluated items, each once over all processes, which get equally many.

    Every process reads all rows, and decodes its share.
    """

    def __init__(self, rows: IterableDataset, reader: RowReader) -> None:
        self.rows = rows
        self.reader = reader
        self.replicas, self.rank = loaders.process()

    def __iter__(self) -> Iterator[Item]:
        """Yield the items of this process and worker, and one to fill up where others have one more."""
        _, worker = _worker()
        position = -1
        for position, row in enumerate(self.rows):
            if position % self.replicas == self.rank:
                yield self.reader.read(row, f"row {position} of worker {worker}")
        rest = (position + 1) % self.replicas
        if rest and self.rank >= rest:
            yield self.reader.placeholder()
