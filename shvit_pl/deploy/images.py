"""Real images, on which an export is verified, calibrated and measured, and heads are studied."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from textwrap import shorten
from typing import Any

import torch
from torch import Tensor

from shvit_pl.data import config, datamodule, decoding, loaders, sources, transforms
from shvit_pl.errors import UserError, one_line
from shvit_pl.hub_errors import offline
from shvit_pl.models.open_network import OpenedNetwork
from shvit_pl.runs.folder import explain_moved, started_in

# settings that choose the images
_WHICH_IMAGES = (*config.ROW_SETTINGS, *config.COLUMN_SETTINGS, "exif_rotation", "intensity_range")


class RealImages:
    """Images of a dataset as a network takes them.

    Args:
        opened: The network.
        image_size: Side in pixels.
        path: The dataset, as `--data.path` of fit; None: that of the network's run, else the digits.
        normalized: Normalize as the network needs it, instead of giving pixels from 0 to 1.
        held_out: Leave out the rows that a run of ours trains on; else take all rows of the split for evaluation.
        labeled: False: images without labels will do; then all of them count, and labels are 0.
        streamed: Stream what the run has streamed; then only `validation` works, and gives the first images.

    Raises `UserError` for a dataset that can't be opened.
    """

    def __init__(
        self,
        opened: OpenedNetwork,
        image_size: int,
        path: str | None,
        normalized: bool,
        held_out: bool = True,
        labeled: bool = True,
        streamed: bool = False,
    ) -> None:
        settings: dict[str, Any] = {"path": path or config.EMBEDDED}
        if not path and opened.origin == "checkpoint":
            settings = own_settings(opened) or settings
            for each in [settings["path"]] if isinstance(settings["path"], str) else settings["path"]:
                if start := started_in(opened.checkpoint, each):
                    raise UserError(explain_moved("data.path", each, start))
            if streamed and (opened.data or {}).get("streaming"):
                settings |= {"streaming": True, "steps_per_epoch": 1}
        self.data = datamodule.HFImageDataModule(
            **settings,
            image_size=image_size,
            crop_pct=opened.crop_pct,
            resize=opened.resize,
            batch_size=2,
            num_workers=0,
        )
        self.data.mean = tuple(opened.mean) if normalized else (0.0, 0.0, 0.0)
        self.data.std = tuple(opened.std) if normalized else (1.0, 1.0, 1.0)
        self.data.held_out = held_out
        self.path, self.stage = sources.joined_path(settings["path"]), "validate"
        try:
            self.data.setup("fit" if held_out else "validate")
        except UserError:
            if labeled:
                raise
            self.stage = "predict"
            self.data.setup(self.stage)

    def validation(self, most: int) -> tuple[Tensor, Tensor]:
        """Return up to `most` validation images `(N, 3, S, S)`, evenly spaced, and their labels `(N,)`.

        Broken ones are left out; raises `UserError` where all are.
        """
        batches = list(self.data.validation_sample(most, self.stage))
        images, labels = torch.cat([batch["image"] for batch in batches]), torch.cat([*map(_labels, batches)])
        whole = labels != decoding.IGNORED
        if not whole.any():
            raise UserError(f"data.path {self.path!r}: none of {len(whole)} {self.images} can be read.")
        return images[whole], labels[whole]

    @property
    def images(self) -> str:
        """Kind of the images."""
        return "validation images" if self.stage == "validate" else "images"

    @property
    def rows(self) -> int:
        """Number of validation images, or of all without labels."""
        return len(self.data.chosen.by_stage[self.stage])

    @property
    def class_names(self) -> list[str]:
        """Names of the dataset's classes, index by index."""
        return list(self.data.class_names or [])

    def batches(self, rows: Sequence[int], size: int, workers: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield numbered validation images in batches `(size, 3, S, S)`, and labels; `IGNORED` where one is broken."""
        draws: Any = [loaders.Draw(row) for row in rows]
        dataset = self.data.evaluated(self.stage)
        for batch in torch.utils.data.DataLoader(
            dataset, size, sampler=draws, num_workers=workers, generator=torch.Generator()
        ):
            self.data.broken[self.stage].count(batch["broken"])
            yield transforms.normalize(batch["image"], self.data.mean, self.data.std), _labels(batch)

    def training(self, most: int) -> Iterator[Tensor]:
        """Yield single training images `(1, 3, S, S)`, evenly spaced and not augmented; broken ones are left out."""
        for batch in self.data.validation_sample(most, "train"):
            yield from batch["image"][batch["label"] != decoding.IGNORED][:, None]


def _labels(batch: transforms.Batch) -> Tensor:
    """Return the labels `(N,)`; of images without labels 0, and `IGNORED` where one is broken."""
    labels: Tensor = batch.get("label", torch.tensor([decoding.IGNORED * bool(reason) for reason in batch["broken"]]))
    return labels


def own_settings(opened: OpenedNetwork) -> dict[str, Any]:
    """Return the settings that choose the images of a network's run; empty where it is of none."""
    known = opened.data or {}
    return {key: known[key] for key in _WHICH_IMAGES if key in known} if "path" in known else {}


def verification_images(
    opened: OpenedNetwork, image_size: int, path: str | None, normalized: bool, most: int
) -> tuple[Tensor, str]:
    """Return up to `most` real images `(N, 3, S, S)`, and their source in words.

    They are those of the dataset `path`, else of the network's run where they are on this machine, else the digits.
    Raises `UserError` where `path` can't be opened.
    """

    def images_of(path: str | None, network: OpenedNetwork = opened, streamed: bool = False) -> tuple[Tensor, str]:
        images = RealImages(network, image_size, path, normalized, labeled=not path, streamed=streamed)
        return images.validation(most)[0], f"{images.images} of {images.path}"

    if path:
        return images_of(path)
    reason, own = "as its run is not known", own_settings(opened)
    if own:
        with offline():  # nothing large is downloaded
            try:
                return images_of(None, replace(opened, origin="checkpoint"), streamed=True)
            except Exception as error:  # files, decoders and `datasets` have errors of their own
                paths = [own["path"]] if isinstance(own["path"], str) else own["path"]
                start = any(started_in(opened.checkpoint, path) for path in paths)
                is_here = all(Path(path).expanduser().exists() for path in paths)
                why = (
                    one_line(error).replace("data.path", "data")
                    if is_here or start
                    else f"{own['path']!r} is not on this machine"
                )
                reason = f"as those of the run can't be read here: {shorten(why, 300, placeholder=' ...')}"
    pictures, _ = images_of(config.EMBEDDED)
    return pictures, f"images of digits, {reason}"


def in_batches(images: Tensor, sizes: Sequence[int]) -> list[Tensor]:
    """Return images `(N, 3, S, S)` in batches of these sizes; missing images are repeated."""
    order = torch.arange(sum(sizes)) % len(images)
    return list(images[order].split(list(sizes)))  # type: ignore[no-untyped-call]
