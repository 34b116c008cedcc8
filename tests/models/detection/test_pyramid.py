"""The feature pyramid: the official one, and every design's at the same strides."""

import json
from pathlib import Path

import pytest
import torch

from shvit_pl.designs.config import resolve_design
from shvit_pl.designs.design import NAMED
from shvit_pl.designs.detector import LEVELS
from shvit_pl.models.detection.pyramid import Features, Pyramid
from shvit_pl.models.detection.starting import from_official
from shvit_pl.models.shvit import build_network

OFFICIAL = json.loads((Path(__file__).parents[2] / "golden" / "official_pyramid.json").read_text())
STAGES = (16, 32, 64)
PREFIX = "backbone.pyramid."


@pytest.mark.parametrize("name", LEVELS)
def test_it_computes_what_the_official_one_does(name):
    """Numbers of the official class, with the weights and inputs that the file describes."""
    official = OFFICIAL["pyramids"][name]
    generator = torch.Generator().manual_seed(OFFICIAL["seed"])
    state = {f"neck.{key}": torch.randn(shape, generator=generator) * 0.05 for key, shape in official["keys"].items()}
    stages = [
        torch.randn(1, channels, 8 // 2**stage, 12 // 2**stage, generator=generator)
        for stage, channels in enumerate(OFFICIAL["channels"])
    ]
    pyramid = Pyramid(OFFICIAL["channels"], STAGES, LEVELS[name], OFFICIAL["width"])
    pyramid.load_state_dict({key.removeprefix(PREFIX): value for key, value in from_official(state).items()})
    with torch.no_grad():
        maps = pyramid(stages)
    assert len(maps) == len(official["levels"])
    for found, expected in zip(maps, official["levels"], strict=True):
        assert list(found.shape) == expected["shape"]
        assert float(found.double().abs().sum()) == pytest.approx(expected["abs_sum"], rel=1e-5)
        for some, numbers in ((found.flatten()[:8], expected["first"]), (found.flatten()[-8:], expected["last"])):
            torch.testing.assert_close(some, torch.tensor(numbers), rtol=0, atol=1e-5)


DESIGNS = NAMED | {
    f"patch {patch}, {stages} stages": resolve_design("tiny", patch_size=patch, stages=stages)
    for patch in (4, 8, 16)
    for stages in (3, 4)
}


@pytest.mark.parametrize("levels", LEVELS.values(), ids=LEVELS)
@pytest.mark.parametrize("design", DESIGNS.values(), ids=DESIGNS)
def test_every_design_has_maps_at_the_same_strides_and_all_of_it_learns(design, levels):
    features = Features(build_network(design, num_classes=0), levels, 32)
    maps = features(torch.randn(2, 3, 128, 256))
    assert {name: tuple(each.shape) for name, each in maps.items()} == {
        str(level): (2, 32, 128 // level, 256 // level) for level in levels
    }
    sum(each.square().sum() for each in maps.values()).backward()
    unused = [name for name, tensor in features.named_parameters() if tensor.grad is None]
    assert unused == []


@pytest.mark.parametrize("size", [(96, 160), (100, 130)])
def test_any_size_of_image_will_do(size):
    for levels in LEVELS.values():
        features = Features(build_network(NAMED["tiny"], num_classes=0), levels, 32)
        maps = features(torch.randn(1, 3, *size))
        assert [each.shape[-2] for each in maps.values()][-2:] == [-(-size[0] // level) for level in levels][-2:]
