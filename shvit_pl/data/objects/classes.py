"""Numbers of classes: from whatever a dataset writes for them to 0, 1, ... without gaps."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shvit_pl.errors import UserError, first_names


@dataclass(frozen=True)
class Classes:
    """The classes of a dataset."""

    indices: NDArray[np.int32]
    """By object."""
    names: list[str]
    """By index."""
    ids: list[int]
    """By index: the dataset's own number."""
    unused: list[str]
    """Listed classes without an object, which are left out."""


def number_classes(
    values: Sequence[Any], listed: dict[Any, str] | None, known: Sequence[str], where: Callable[[int], str]
) -> Classes:
    """Number the classes of all objects in the order of the dataset's own numbers, or of their names.

    Classes without an object are left out. If all are `known`, they have their place there instead. Raises `UserError`
    for what is no class, where numbers and names are mixed, and where two classes share a name.

    Args:
        values: A number or a name by object.
        listed: Names by number; None where values are names, or numbers without names.
        known: Names of a model's classes.
        where: Names an object for a message.
    """
    by_text = {str(value): value for value in listed or ()}  # some list "1", and write 1
    values = [by_text.get(str(plain := _plain(value)), plain) for value in values]
    _check_values(values, listed, where)
    used = set(values)
    if listed is None:
        in_order = sorted(used)
        names = {value: str(value) for value in in_order}
    else:
        in_order = [value for value in sorted(listed, key=_number_first) if value in used]
        names = {value: listed[value] for value in in_order}
    twice = [name for name in names.values() if list(names.values()).count(name) > 1]
    if twice:
        ids = [str(value) for value, name in names.items() if name == twice[0]]
        raise UserError(f"data.path: two classes are called {twice[0]!r} ({', '.join(ids)}). Rename one.")
    own = {value: value if isinstance(value, int) else place for place, value in enumerate(in_order)}
    place = {value: index for index, value in enumerate(in_order)}
    class_names, ids_of = list(names.values()), [own[value] for value in in_order]
    if known and set(class_names) <= set(known):
        by_name = {name: value for value, name in (listed or names).items() if isinstance(value, int)}
        by_name |= {name: own[value] for value, name in names.items()}
        place = {value: list(known).index(name) for value, name in names.items()}
        class_names, ids_of = list(known), _with_free_ids([by_name.get(name) for name in known])
    unused = [] if listed is None else [name for value, name in listed.items() if value not in used]
    return Classes(np.array([place[value] for value in values], np.int32), class_names, ids_of, unused)


def _plain(value: Any) -> Any:
    """Return 3 for 3.0 and numpy's 3, other values as they are."""
    if isinstance(value, float | np.number) and float(value).is_integer():
        return int(value)
    return value


def _number_first(value: Any) -> tuple[bool, Any]:
    return isinstance(value, str), value


def _check_values(values: Sequence[Any], listed: dict[Any, str] | None, where: Callable[[int], str]) -> None:
    strange = [index for index, value in enumerate(values) if not isinstance(value, int | str) or value in (-1, "")]
    if strange:
        value = values[strange[0]]
        raise UserError(
            f"data.path: {len(strange)} object{'s have' if len(strange) > 1 else ' has'} no class: {value!r} in "
            f"{where(strange[0])}. Correct or remove them."
        )
    if listed is not None:
        unlisted = [index for index, value in enumerate(values) if value not in listed]
        if unlisted:
            numbers = sorted({values[index] for index in unlisted}, key=_number_first)
            raise UserError(
                f"data.path: classes that are not listed: {_first(numbers)} (such as {where(unlisted[0])}). "
                f"Listed are {_first(sorted(listed, key=_number_first), 6)}. Add them to the list, or correct them."
            )
        return
    texts = [index for index, value in enumerate(values) if isinstance(value, str)]
    if texts and len(texts) < len(values):
        number = next(index for index, value in enumerate(values) if not isinstance(value, str))
        raise UserError(
            f"data.path: classes are text in some rows ({values[texts[0]]!r} in {where(texts[0])}), numbers in "
            f"others ({values[number]!r} in {where(number)}). Write all of them in one way."
        )
    negative = [index for index, value in enumerate(values) if not isinstance(value, str) and value < 0]
    if negative:
        raise UserError(f"data.path: {values[negative[0]]} is no class ({where(negative[0])}). Correct it.")


def _first(values: Sequence[Any], most: int = 3) -> str:
    return first_names([str(value) for value in values], most)


def _with_free_ids(ids: Sequence[int | None]) -> list[int]:
    """Give classes that the dataset has no number for the numbers after its largest."""
    free = max((number for number in ids if number is not None), default=-1)
    filled = []
    for number in ids:
        free += number is None
        filled.append(free if number is None else number)
    return filled
