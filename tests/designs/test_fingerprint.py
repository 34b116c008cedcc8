"""Two designs are the same network exactly when they compute the same."""

from dataclasses import asdict, replace

import pytest

from shvit_pl.designs.config import resolve_design
from shvit_pl.designs.fingerprint import design_of, fingerprint

S1 = resolve_design("s1")
SAME = {
    "meant for another size": {"image_size": 128},
    "stochastic depth": {"drop_path": 0.1},
    "a second classifier": {"distilled": True},
    "the ratio as the paper prints it": {"partial_ratio": 1 / 4.67},
    "one number per stage": {"qk_dim": (16, 16, 16)},
    "heads, where attention has one": {"num_heads": 8},
}
OTHER = {
    "patch size": {"patch_size": 8},
    "width": {"embed_dim": (128, 224, 324)},
    "depth": {"depth": (2, 5, 4)},
    "mixers": {"mixers": ("single_head",) * 3},
    "heads": {"mixers": ("conv", "single_head", "multi_head")},
    "ratio": {"partial_ratio": 1 / 8},
    "queries": {"qk_dim": (16, 16, 32)},
    "no local convolution": {"local_conv": False},
    "bottleneck": {"single_head": "bottleneck"},
    "full": {"single_head": "full"},
}


@pytest.mark.parametrize("changes", SAME.values(), ids=SAME)
def test_what_does_not_change_the_network_does_not_count(changes):
    assert fingerprint(replace(S1, **changes)) == fingerprint(S1)


@pytest.mark.parametrize("changes", OTHER.values(), ids=OTHER)
def test_whatever_changes_the_network_counts(changes):
    assert fingerprint(replace(S1, **changes)) != fingerprint(S1)


def test_all_of_attention_is_left_out_where_there_is_none():
    plain = resolve_design("s3_no_attention")
    changed = replace(plain, partial_ratio=0.5, qk_dim=32, single_head="bottleneck", local_conv=False)
    assert fingerprint(changed) == fingerprint(plain)


def test_a_summarys_design_is_the_runs(tmp_path):
    design = resolve_design("macro_a", drop_path=0.1)
    listed = {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(design).items()}
    assert design_of({"design": {"name": "macro_a", **listed}}) == design
