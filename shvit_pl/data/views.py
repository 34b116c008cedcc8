"""Fixed augmented views of the training images, the same for every batch size, number of processes and run's seed.

They are drawn (`Views`) when a teacher's logits are cached, and replayed from that cache.
"""

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, Protocol

import numpy as np
from datasets import Dataset
from numpy.typing import NDArray
from timm.data import Mixup
from torch.utils.data import DistributedSampler

from shvit_pl.data import decoding, loaders, transforms
from shvit_pl.data.config import DataConfig
from shvit_pl.errors import UserError

Columns = dict[str, NDArray[Any]]
_SEED = 0


def slots_of_view(rows: int, repeats: int) -> int:
    """Return the number of images in a view of so many rows."""
    return len(_sampler(rows, repeats)) // 2 * 2


def place_of(slot: Any, slots: int) -> tuple[Any, Any]:
    """Return the view of a slot (or of an array of them), counted through all views, and the draw in it."""
    view, within = divmod(slot, slots)
    pair, half = divmod(within, 2)
    return view, pair + half * (slots // 2)


class Views:
    """Views of a dataset's rows, each of which is an epoch that one process draws with the seed 0.

    The images of a view are in slots, two and two mixed with each other: of n draws (an odd last one is left out), the
    draws p and p + n/2 are in the slots 2p and 2p + 1, so that copies of an image do not meet. Slots are counted
    through all views. `size` is the side of the images in pixels; `mixup` is as for `draw_mix`, None mixes nothing.
    """

    def __init__(self, rows: int, repeats: int, size: int, mixup: Mixup | None, views: int) -> None:
        self._sampler = _sampler(rows, repeats)
        self.slots, self.views = slots_of_view(rows, repeats), views
        self._size = size
        self._mixup = mixup
        self._drawn: tuple[int, NDArray[np.int32]] | None = None

    def read(self, slots: Sequence[int]) -> Columns:
        """Draw `row` and `key` of the images in n slots, and by what they are mixed: `lam` `(n,)`, `box` `(n, 4)`."""
        # view, draw, half and pair are (n,); slot 2p + half of a view is its draw p + half * slots/2
        view, draw = place_of(np.asarray(slots), self.slots)
        half, pair = divmod(draw, self.slots // 2)
        mixes = [transforms.NOT_MIXED] * len(view)
        if self._mixup is not None:
            keys = [(_SEED, v, p, p + self.slots // 2) for v, p in zip(view.tolist(), pair.tolist(), strict=True)]
            # one draw gives both images of a pair
            drawn = {key: transforms.draw_mix(self._mixup, self._size, key) for key in dict.fromkeys(keys)}
            mixes = [drawn[key][h] for key, h in zip(keys, half.tolist(), strict=True)]
        return {
            "row": np.array([self._rows(v)[d] for v, d in zip(view.tolist(), draw.tolist(), strict=True)], np.int32),
            "key": np.column_stack([np.full_like(draw, _SEED), view, draw]).astype(np.int32),
            "lam": np.array([lam for lam, _ in mixes], np.float32),
            "box": np.array([box for _, box in mixes], np.int16),
        }

    def _rows(self, view: int) -> NDArray[np.int32]:
        """Return the rows that a view draws, one after the other; of one view at a time, to spare memory."""
        if self._drawn is None or self._drawn[0] != view:
            self._sampler.set_epoch(view)
            self._drawn = int(view), np.fromiter((draw.row for draw in self._sampler), np.int32)
        return self._drawn[1]


def _sampler(rows: int, repeats: int) -> loaders.TrainSampler:
    return loaders.TrainSampler(range(rows), _SEED, repeats, shares=(1, 0))


# ---- replaying


class Replay(Protocol):
    """A store of views; see `Views`, which draws them."""

    slots: int
    """Slots of a view; an even number."""
    views: int
    """Number of views."""

    def read(self, slots: Sequence[int]) -> Columns:
        """Return `row`, `key`, `lam` and `box` of these slots, and any others, which go to the batch as they are.

        Those must be integers: floating-point numbers would be rounded where training is in reduced precision.
        """


def check_replay(config: DataConfig) -> None:
    """Raise `UserError` for settings that can't train on cached logits."""
    check_stored(config)
    size = config.batch_size
    if config.augment_on != "workers":
        raise UserError(f"data.augment_on {config.augment_on}: impossible with model.distill.cache; leave out either.")
    if size % 2:
        raise UserError(
            f"data.batch_size {size}: model.distill.cache needs an even number, {size - 1 or 2} or {size + 1}."
        )


def check_stored(config: DataConfig) -> None:
    """Raise `UserError` for a stream, whose rows cached logits can't be matched to, and for draws that views lack."""
    if config.streaming:
        raise UserError("data.streaming true: impossible with model.distill.cache; leave out either.")
    if config.sampler != "random":
        raise UserError(f"data.sampler {config.sampler}: impossible with model.distill.cache; leave out either.")


class ReplaySampler(DistributedSampler[int]):
    """In epoch e the slots of view e modulo views: its pairs in a new permutation, shared out over the processes.

    Every process gets as many pairs; at the end, fewer than there are processes may be left out.
    """

    start = 0
    """Slots of the epoch to leave out, those that an interrupted run has had already."""

    def __init__(self, replay: Replay, seed: int) -> None:
        pairs = range(replay.slots // 2)
        super().__init__(pairs, *loaders.process(), shuffle=True, seed=seed, drop_last=True)  # type: ignore[arg-type]
        self._slots, self._views = replay.slots, replay.views

    def __len__(self) -> int:
        return 2 * super().__len__()

    def __iter__(self) -> Iterator[int]:
        """Yield the slots of this process."""
        first = self.epoch % self._views * self._slots
        slots = (first + 2 * pair + half for pair in super().__iter__() for half in (0, 1))
        yield from islice(slots, self.start, None)


class RangeSampler(DistributedSampler[list[int]]):
    """Batches of slots, in their order and none across the end of a range, for `DataLoader`.

    Ranges are named by numbers, and every n-th goes to each process. Pairs stay together in a batch.
    """

    def __init__(self, ranges: dict[int, range], batch_size: int) -> None:
        replicas, rank = loaders.process()
        super().__init__(list(ranges), replicas, rank, shuffle=False)  # type: ignore[arg-type]
        step = max(batch_size // 2 * 2, 2)
        mine = [slots for number, slots in ranges.items() if number % replicas == rank]
        self._batches = [slots[start : start + step] for slots in mine for start in range(0, len(slots), step)]

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[list[int]]:
        """Yield the batches of this process."""
        yield from map(list, self._batches)


class ReplayDataset(loaders.ImageDataset):
    """Rows indexed by slot, many at a time.

    An item is that of a training image, with `slot`, `row`, `draw` (its key), `mix` (see `transforms`), and `teacher`:
    the other columns of its slot.
    """

    def __init__(self, rows: Dataset, reader: decoding.RowReader, replay: Replay) -> None:
        super().__init__(rows, reader, training=True)
        self.replay = replay

    def __getitem__(self, slots: Any) -> Any:
        """Return one item of one slot, or a list of those of many."""
        return self.__getitems__(slots) if isinstance(slots, list) else self.__getitems__([slots])[0]

    def __getitems__(self, slots: list[int]) -> list[decoding.Item]:
        columns = self.replay.read(slots)
        mixes = transforms.encode_mix(columns.pop("lam"), columns.pop("box"))
        rows, keys = columns.pop("row"), columns.pop("key")
        return [
            {
                **super(ReplayDataset, self).__getitem__(loaders.Draw(int(rows[index]), tuple(keys[index].tolist()))),
                "slot": slot,
                "row": rows[index],
                "draw": keys[index],
                "mix": mixes[index],
                "teacher": {name: column[index] for name, column in columns.items()},
            }
            for index, slot in enumerate(slots)
        ]
