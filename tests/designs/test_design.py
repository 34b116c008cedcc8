"""A design is validated: each mistake is one ValueError that names the field, the value and what is allowed."""

import dataclasses
import json
from itertools import product

import pytest

from shvit_pl.designs.config import DesignConfig, resolve_design
from shvit_pl.designs.design import NAMED, Design, design_of
from tests.refusals import refused

MISTAKES = [
    ({"name": "s9"}, ["name", "s9", "s1, s2"]),
    ({"mixers": ("conv", "attn", "conv")}, ["mixers", "attn", "single_head"]),
    ({"mixers": ("conv", "single_haed", "conv")}, ["mixers", "single_haed", "did you mean 'single_head'"]),
    ({"depth": (2, 4)}, ["depth", "2 entries", "3 stages"]),
    ({"stages": 4, "depth": (2, 4, 5)}, ["depth", "3 entries", "4 stages"]),
    ({"stages": 0}, ["stages", "0", "from 1"]),
    ({"embed_dim": (100, 224, 320)}, ["embed_dim", "[100, 224, 320]", "multiple of 8"]),
    ({"depth": (2, 0, 5)}, ["depth", "0", "whole numbers from 1"]),
    ({"partial_ratio": 0.0}, ["partial_ratio", "0.0", "above 0"]),
    ({"partial_ratio": 1e-3}, ["partial_ratio", "0.001", "no channel"]),
    ({"single_head": "half"}, ["single_head", "half", "partial, full, bottleneck"]),
    ({"qk_dim": ()}, ["qk_dim []", "whole numbers from 1"]),
    ({"qk_dim": 0}, ["qk_dim", "0", "whole numbers from 1"]),
    ({"mixers": ("multi_head",) * 3, "num_heads": 3}, ["num_heads", "3", "128"]),
    ({"drop_path": 1.0}, ["drop_path", "1.0", "below 1"]),
    ({"partial_ratio": "1/8"}, ["partial_ratio", "1/8", "a number"]),
    ({"stages": "4"}, ["stages", "4", "whole numbers"]),
    ({"qk_dim": 1.5}, ["qk_dim", "1.5", "whole numbers"]),
    ({"stage1": "conv", "mixers": ("single_head",) * 3}, ["stage1", "conv", "mixers"]),
    ({"patch_siez": 4}, ["patch_siez", "did you mean 'patch_size'"]),
    ({"stage1": "cnv"}, ["stage1", "cnv", "conv, attention"]),
    ({"mixers": "conv"}, ["mixers", "conv", "a list"]),
    ({"embed_dim": 128}, ["embed_dim", "128", "a list"]),
    ({"distilled": "false"}, ["distilled", "false", "True, False"]),
    ({"name": ["s1"]}, ["name", "s1, s2"]),
    ({"name": "tiny", "stages": 5}, ["stages 5", "depth"]),
    ({"embed_dim": ()}, ["embed_dim []", "a list"]),
]


@pytest.mark.parametrize(("changes", "said"), MISTAKES, ids=lambda value: str(value)[:40])
def test_a_mistake_is_one_error_that_names_field_value_and_what_is_allowed(changes, said):
    with refused(*said, error=ValueError):
        resolve_design(**{"name": "s1", **changes})


def test_all_mistakes_are_named_at_once():
    changes = {"patch_size": 5, "drop_path": 2, "depth": (1, 2), "stage1": "conv", "mixers": ("single_head",) * 3}
    with pytest.raises(ValueError, match="patch_size 5") as error:
        resolve_design("s1", **changes)
    assert [line.split()[0] for line in str(error.value).splitlines()] == ["patch_size", "drop_path", "depth", "stage1"]


@pytest.mark.parametrize("name", NAMED)
def test_an_image_below_the_last_stride_is_refused_and_one_as_large_is_not(name):
    design = NAMED[name]
    design.check_image_size(design.strides[-1])
    with pytest.raises(ValueError, match=f"image_size {design.strides[-1] - 1}.*stride {design.strides[-1]}"):
        design.check_image_size(design.strides[-1] - 1)


def test_a_design_is_frozen_and_lists_become_tuples():
    design = Design(embed_dim=[64, 96], depth=[1, 1], mixers=["conv", "single_head"])
    assert design.embed_dim == (64, 96)
    with pytest.raises(dataclasses.FrozenInstanceError):
        design.patch_size = 4
    assert hash(design) == hash(dataclasses.replace(design))


def test_the_papers_ratios_give_the_official_partial_widths_exact_or_rounded():
    official = {"s1": (48, 68), "s2": (66, 96), "s3": (75, 96), "s4": (72, 96)}
    for ratio, (name, widths) in product((3 / 14, 1 / 4.67), official.items()):
        design = resolve_design(name, partial_ratio=ratio)
        assert (design.attended(1), design.attended(2)) == widths
    table_6 = {"s3_ratio_1_8": [44, 56], "s3_ratio_1_2": [176, 224]}  # of the rebuilt models
    assert {name: [NAMED[name].attended(stage) for stage in (1, 2)] for name in table_6} == table_6


def test_what_a_config_does_not_name_stays_as_in_the_base_and_it_holds_any_design():
    for name, design in NAMED.items():
        assert DesignConfig(name).resolved == design
        for changes in ({}, {"distilled": True}, {"qk_dim": 8}, {"drop_path": 0.1}):
            changed = dataclasses.replace(design, **changes)
            found = DesignConfig.from_design(changed).resolved
            assert dataclasses.replace(found, image_size=design.image_size) == changed


# ---- when two designs are the same network

SAME = [
    {"image_size": 128},
    {"drop_path": 0.1},
    {"distilled": True},
    {"partial_ratio": 1 / 4.67},  # as the paper prints it
    {"qk_dim": (16, 16, 16)},
    {"num_heads": 8},  # attention has one
]
OTHER = [
    {"patch_size": 8},
    {"embed_dim": (128, 224, 324)},
    {"depth": (2, 5, 4)},
    {"mixers": ("single_head",) * 3},
    {"mixers": ("conv", "single_head", "multi_head")},
    {"partial_ratio": 1 / 8},
    {"qk_dim": (16, 16, 32)},
    {"local_conv": False},
    {"single_head": "bottleneck"},
    {"single_head": "full"},
]
NO_ATTENTION = {"partial_ratio": 0.5, "qk_dim": 32, "single_head": "bottleneck", "local_conv": False}


@pytest.mark.parametrize(
    ("name", "changes", "same"),
    [
        *(("s1", changes, True) for changes in SAME),
        *(("s1", changes, False) for changes in OTHER),
        ("s3_no_attention", NO_ATTENTION, True),
    ],
)
def test_just_what_changes_the_network_counts(name, changes, same):
    design = NAMED[name]
    assert (dataclasses.replace(design, **changes).fingerprint == design.fingerprint) is same


def test_a_mixer_that_is_no_attention_is_a_network_of_its_own():
    design = dataclasses.replace(NAMED["s1"])
    object.__setattr__(design, "mixers", ("conv", "pooling", "pooling"))  # a name that somebody will add
    assert design.fingerprint != NAMED["s1"].fingerprint


def test_a_summarys_design_is_the_runs():
    design = resolve_design("macro_a", drop_path=0.1)
    listed = json.loads(json.dumps(dataclasses.asdict(design)))  # as in the file: lists, no tuples
    assert design_of({"name": "macro_a", **listed}) == design
