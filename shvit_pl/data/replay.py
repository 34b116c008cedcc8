"""Training on views that were drawn before, in pairs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, Protocol

from datasets import Dataset
from torch.utils.data import DistributedSampler

from shvit_pl.data.dataset import ImageDataset, Item, RowReader
from shvit_pl.data.mixing import encode_mix
from shvit_pl.data.samplers import Draw, process
from shvit_pl.data.views import Columns
from shvit_pl.errors import UserError


class Replay(Protocol):
    """Where the views are kept; see `Views`, which draws them.

    Attributes:
        slots: Slots of a view; an even number.
        views: Number of views.
    """

    slots: int
    views: int

    def read(self, slots: Sequence[int]) -> Columns:
        """The columns `row`, `key`, `lam` and `box` of these slots, and any others, which go to the batch as they are.

        Those must be integers: floating-point numbers would be rounded where training is in reduced precision.
        """


def check_replay(streams: bool, batch_size: int = 2, augment_on: str = "workers") -> None:
    """Raise `UserError` for what can't be trained on kept views."""
    if augment_on != "workers":
        raise UserError(
            f"data.augment_on {augment_on}: a teacher's answers are kept for images as the workers make them. Leave it "
            "out, or leave out model.distill.cache."
        )
    if streams:
        raise UserError(
            "data.streaming true: a teacher's answers are kept for rows, which a stream does not have. Set "
            "--data.streaming false, or leave out model.distill.cache."
        )
    if batch_size % 2:
        raise UserError(
            f"data.batch_size {batch_size}: a teacher's answers are kept for pairs of images; allowed are "
            f"{batch_size - 1 or 2} and {batch_size + 1}."
        )


class ReplaySampler(DistributedSampler[int]):
    """In epoch e the slots of view e modulo views: its pairs in a new permutation, shared out over the processes.

    Every process gets as many pairs; at the end, fewer than there are processes may be left out.

    Args:
        replay: The views.
        seed: Seed of the permutations.

    Attributes:
        start: Slots of the epoch to leave out, those that an interrupted run has had already.
    """

    def __init__(self, replay: Replay, seed: int) -> None:
        replicas, rank = process()
        pairs = range(replay.slots // 2)
        super().__init__(pairs, replicas, rank, shuffle=True, seed=seed, drop_last=True)  # type: ignore[arg-type]
        self.start = 0
        self._slots, self._views = replay.slots, replay.views

    def __len__(self) -> int:
        return 2 * super().__len__()

    def __iter__(self) -> Iterator[int]:
        """Yield the slots of this process."""
        first = self.epoch % self._views * self._slots
        slots = (first + 2 * pair + half for pair in super().__iter__() for half in (0, 1))
        yield from islice(slots, self.start, None)


class RangeSampler(DistributedSampler[list[int]]):
    """Batches of slots, in their order and none across the end of a range; every n-th range goes to each process.

    Args:
        ranges: Slots, by the number that decides which process gets them.
        batch_size: Most slots of a batch; pairs stay together.
    """

    def __init__(self, ranges: dict[int, range], batch_size: int) -> None:
        replicas, rank = process()
        super().__init__(list(ranges), replicas, rank, shuffle=False)  # type: ignore[arg-type]
        step = max(batch_size // 2 * 2, 2)
        mine = [slots for number, slots in ranges.items() if number % replicas == rank]
        self._batches = [slots[start : start + step] for slots in mine for start in range(0, len(slots), step)]

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[list[int]]:
        """Yield the batches of this process."""
        yield from map(list, self._batches)


class ReplayDataset(ImageDataset):
    """Rows asked for by slot, many at a time.

    An item is that of a training image, with `slot`, `row`, `draw` (its key), `mix` (see `mixing`), and `teacher`: what
    else the views keep of it.
    """

    def __init__(self, rows: Dataset, reader: RowReader, replay: Replay) -> None:
        super().__init__(rows, reader, training=True)
        self.replay = replay

    def __getitem__(self, slots: Any) -> Any:
        """One item of one slot, or a list of those of many."""
        return self.__getitems__(slots) if isinstance(slots, list) else self.__getitems__([slots])[0]

    def __getitems__(self, slots: list[int]) -> list[Item]:
        columns = self.replay.read(slots)
        mixes = encode_mix(columns.pop("lam"), columns.pop("box"))
        rows, keys = columns.pop("row"), columns.pop("key")
        items = []
        for index, slot in enumerate(slots):
            item = super().__getitem__(Draw(int(rows[index]), tuple(keys[index].tolist())))
            kept = {name: column[index] for name, column in columns.items()}
            of_slot = {"slot": slot, "row": rows[index], "draw": keys[index], "mix": mixes[index], "teacher": kept}
            items.append({**item, **of_slot})
        return items
