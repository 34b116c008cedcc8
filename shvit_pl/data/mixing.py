"""Mixup and CutMix of pairs of images whose parameters have been drawn before.

The parameters of an image are five int32 numbers: the bits of its own share lambda (as integers, no reduced precision
rounds them on their way to the device), and top, bottom, left and right of the rectangle that is its partner's. Where
the rectangle is empty, all pixels are blended by lambda.
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from timm.data.mixup import Mixup, cutmix_bbox_and_lam
from torch import Tensor
from torch.nn.functional import one_hot

from shvit_pl.randomness import seeded

Mix = tuple[float, tuple[int, ...]]  # lambda and rectangle
NOT_MIXED: Mix = 1.0, (0, 0, 0, 0)


def draw_mix(mixup: Mixup, size: int, key: tuple[int, ...]) -> list[Mix]:
    """Return what timm's Mixup, seeded by `key`, does to a pair of images of this size: lambda and rectangle of both.

    Read off a black and a white image, as timm has no public function for it; so `mixup` must be for two classes,
    without label smoothing.
    """
    pair = torch.zeros(2, 1, size, size)
    pair[1] = 1
    with seeded(*key):
        mixed, targets = mixup(pair, torch.tensor([0, 1]))
    black, white = mixed[:, 0].numpy()
    return [(float(targets[0, 0]), _extent(black == 1)), (float(targets[1, 1]), _extent(white == 0))]


def _extent(inside: NDArray[np.bool_]) -> tuple[int, ...]:
    """Return top, bottom, left and right of a rectangle in `(S, S)`; zeros where it is empty."""
    rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
    return (int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1) if len(rows) else NOT_MIXED[1]


def encode_mix(lam: NDArray[np.float32], box: NDArray[np.int16]) -> NDArray[np.int32]:
    """Return parameters `(B, 5)` of lambda `(B,)` and rectangles `(B, 4)`."""
    return np.column_stack([lam.astype(np.float32).view(np.int32), box.astype(np.int32)])


def decode_mix(mix: NDArray[np.int32]) -> tuple[NDArray[np.float32], NDArray[np.int16]]:
    """Return lambda and rectangles of what `encode_mix` gave."""
    return np.ascontiguousarray(mix[:, 0]).view(np.float32), mix[:, 1:].astype(np.int16)


def mix_images(images: Tensor, mix: Tensor) -> Tensor:
    """Return the images 0 and 1, 2 and 3, and so on, of `(B, 3, S, S)` mixed by parameters `(B, 5)`.

    Outside and inside of a rectangle they are exact copies.
    """
    return images.lerp(_neighbors(images), _share_of_partner(images, mix))


def mix_targets(labels: Tensor, mix: Tensor, mixup: Mixup) -> Tensor:
    """Return the targets `(B, classes)` of labels `(B,)` mixed by `mix_images`, as timm's `mixup_target` gives them."""
    classes, smoothing = mixup.num_classes, mixup.label_smoothing
    targets = one_hot(labels, classes).float() * (1 - smoothing) + smoothing / classes
    return _neighbors(targets).lerp(targets, _lambda(mix)[:, None])


def _neighbors(values: Tensor) -> Tensor:
    """Return `(B, ...)` with 0 and 1, 2 and 3, and so on swapped."""
    return values.view(-1, 2, *values.shape[1:]).flip(1).view_as(values)


def _share_of_partner(images: Tensor, mix: Tensor) -> Tensor:
    """Return how much of each pixel is the partner's, `(B, 1, S, S)`."""
    lam, (top, bottom, left, right) = _lambda(mix)[:, None, None], mix[:, 1:, None, None].unbind(1)
    y = torch.arange(images.shape[-2], device=images.device)[:, None]
    x = torch.arange(images.shape[-1], device=images.device)
    inside = (y >= top) & (y < bottom) & (x >= left) & (x < right)
    return torch.where(bottom > top, inside.float(), 1 - lam)[:, None]


def _lambda(mix: Tensor) -> Tensor:
    return mix[:, 0].view(torch.float32)


class MixupOfEach(Mixup):
    """timm's Mixup in the modes pair and elem: the same draws, but the batch is mixed as a whole.

    timm goes through the images one by one, and waits for the device.
    """

    def _mix_elem(self, x: Tensor) -> Tensor:
        return self._mix(x, *self._drawn(len(x), x.shape))

    def _mix_pair(self, x: Tensor) -> Tensor:
        lam, box = self._drawn(len(x) // 2, x.shape)
        return self._mix(x, np.concatenate([lam, lam[::-1]]), np.concatenate([box, box[::-1]]))

    def _drawn(self, images: int, shape: torch.Size) -> tuple[NDArray[np.float32], NDArray[np.int16]]:
        """Draw lambda and rectangle of so many images, in timm's order."""
        lam, by_cutmix = self._params_per_elem(images)
        box = np.zeros((images, 4), np.int16)
        for index in np.flatnonzero(by_cutmix & (lam != 1)):
            box[index], lam[index] = cutmix_bbox_and_lam(shape, lam[index], correct_lam=self.correct_lam)
        return lam, box

    def _mix(self, x: Tensor, lam: NDArray[np.float32], box: NDArray[np.int16]) -> Tensor:
        """Mix each image with its mirror in the batch, in place; returns lambda `(B, 1)`."""
        mix = to_device(encode_mix(lam, box), x.device)
        x.lerp_(x.flip(0), _share_of_partner(x, mix).to(x.dtype))
        return _lambda(mix)[:, None].to(x.dtype)


def to_device(values: Tensor | NDArray[Any], device: torch.device) -> Tensor:
    """Copy from the CPU; to a GPU from pinned memory, as from ordinary memory the program would wait."""
    tensor = torch.as_tensor(values)
    if device.type == "cuda":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)
