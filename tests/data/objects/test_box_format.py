"""What the four numbers of a box are, by evidence."""

from contextlib import suppress

import numpy as np
import pytest

from shvit_pl.data.objects.box_format import Boxes, decide, to_corners
from shvit_pl.errors import UserError
from tests.refusals import refused

FORMATS = ("xywh", "xyxy", "cxcywh", "yolo")
SIZE = np.array([640.0, 480.0])


def corners(kind, count=400):
    """True boxes in shares of an image: small and everywhere, large, or at an edge."""
    generator = np.random.default_rng(0)
    low, high = {"small": (0.03, 0.1), "large": (0.6, 0.95), "edge": (0.1, 0.3)}[kind]
    sides = generator.uniform(low, high, (count, 2))
    start = generator.uniform(0, 1 - sides)
    if kind == "edge":
        axis = np.arange(count) % 2
        start[np.arange(count), axis] = np.where(np.arange(count) % 4 < 2, 0, (1 - sides)[np.arange(count), axis])
    return np.concatenate([start, start + sides], axis=1)


def written(shares, form):
    """Boxes as a format has them."""
    scale = 1 if form == "yolo" else np.tile(SIZE, 2)
    left, right = shares[:, :2], shares[:, 2:]
    first, second = {"xywh": (left, right - left), "xyxy": (left, right)}.get(form, ((left + right) / 2, right - left))
    return np.concatenate([first, second], axis=1) * scale


def boxes(kind, form, areas=True, extents=False):
    shares = corners(kind)
    pixels = shares * np.tile(SIZE, 2)
    none = np.full(len(shares), np.nan)
    area = (pixels[:, 2:] - pixels[:, :2]).prod(1) if areas else none
    extent = pixels if extents else np.tile(none[:, None], 4)
    return Boxes(written(shares, form), np.tile(SIZE, (len(shares), 1)), area, extent)


@pytest.mark.parametrize("kind", ["small", "large", "edge"])
@pytest.mark.parametrize("form", FORMATS)
def test_auto_finds_the_format_and_says_why(form, kind):
    found, evidence = decide(boxes(kind, form))
    assert found == form
    assert "%" in evidence
    assert np.allclose(to_corners(written(corners(kind), form), SIZE[None], form), corners(kind) * np.tile(SIZE, 2))


@pytest.mark.parametrize("form", ["xywh", "xyxy", "cxcywh"])
def test_boxes_that_leave_their_image_rule_out_where_no_area_is_given(form):
    assert decide(boxes("small", form, areas=False))[0] == form


@pytest.fixture
def undecidable():
    """Large boxes near the corner, by functions of their masks' extents: xywh and xyxy alike are inside the image."""
    near = np.random.default_rng(0).uniform(0.02, 0.1, (50, 2)) * SIZE
    numbers, none = np.concatenate([near, SIZE - 2 * near], axis=1), np.full((50, 4), np.nan)
    sizes = np.tile(SIZE, (50, 1))
    extents = {"none": none, "xywh": to_corners(numbers, sizes, "xywh"), "xyxy": numbers}
    return {name: Boxes(numbers, sizes, none[:, 0], own) for name, own in extents.items()}


def test_what_is_undecidable_is_refused_and_decided_by_masks_or_by_the_custom_of_a_known_dataset(undecidable):
    with refused("data.box_format auto: the boxes could be xywh or xyxy ... --data.box_format xywh"):
        decide(undecidable["none"])
    for form in ("xywh", "xyxy"):
        assert decide(undecidable["none"], form, "a/b")[0] == form
        assert decide(undecidable[form])[0] == form


def test_a_bad_box_rules_out_nothing():
    good = boxes("small", "xyxy", areas=False)
    numbers = good.numbers[:100].copy()
    numbers[3, 2] = numbers[3, 0]
    assert decide(Boxes(numbers, good.sizes[:100], good.areas[:100], good.extents[:100]))[0] == "xyxy"


@pytest.mark.parametrize("form", ["xywh", "xyxy"])
def test_shares_that_are_no_centers_are_refused(form):
    given = boxes("small", form)
    shares = Boxes(given.numbers / np.tile(SIZE, 2), given.sizes, given.areas, given.extents)
    with refused(f"data.box_format auto: no number is above 1.5 ... they seem to be {form} ... --data.box_format yolo"):
        decide(shares)


def test_it_is_never_wrong_about_boxes_of_any_kind_and_number():
    """It may refuse: few boxes, or large ones, or none at an edge, fit into several formats."""
    generator = np.random.default_rng(1)
    right = 0
    for _ in range(500):
        count, form = int(generator.choice([3, 10, 40, 300])), FORMATS[generator.integers(4)]
        low, high = [(0.01, 0.1), (0.05, 0.5), (0.4, 0.95), (0.8, 1)][generator.integers(4)]
        sides = generator.uniform(low, high, (count, 2))
        start = (1 - sides) * generator.uniform(*([0, 1] if generator.random() < 0.7 else [0.35, 0.65]), (count, 2))
        shares, sizes = np.concatenate([start, start + sides], axis=1), generator.integers(64, 1200, (count, 2)) * 1.0
        numbers = written(shares, form) / (1 if form == "yolo" else np.tile(SIZE, 2) / np.tile(sizes, 2))
        if form != "yolo" and generator.random() < 0.5:
            numbers = numbers.round()
        filled = [np.nan, 1, generator.uniform(0.5, 0.9, count)][generator.integers(3)]
        given = Boxes(numbers, sizes, (sides * sizes).prod(1) * filled, np.full((count, 4), np.nan))
        with suppress(UserError):
            assert decide(given)[0] == form
            right += 1
    assert right > 300
