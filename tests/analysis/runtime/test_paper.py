"""The paper's Fig. 7, and whose bar is whose."""

import pytest

from shvit_pl.analysis.runtime.paper import bars, paper_bar
from shvit_pl.models.open_network import open_network

SUMS = {"window MHSA": 49.5, "MHSA": 30.1, "SHSA": 24.5}  # memory-bound, as printed


def test_the_bars_add_up_to_the_printed_sums():
    for bar in bars():
        assert sum(bar.percent.values()) == pytest.approx(100)
        assert 100 - bar.percent["matrix product"] == pytest.approx(SUMS[bar.attention])


@pytest.mark.parametrize(
    ("name", "pixels", "attention"),
    [
        ("timm:swin_tiny_patch4_window7_224", 224, "window MHSA"),
        ("timm:deit_tiny_patch16_224", 224, "MHSA"),
        ("timm:shvit_s2", 224, "SHSA"),
        ("s2", 224, "SHSA"),
        ("s4", 256, "SHSA"),
        ("s4", 384, "SHSA"),
        ("timm:deit_tiny_patch16_224", 96, None),
        ("timm:shvit_s2", 64, None),
        ("s2", 64, None),
        ("tiny", 128, None),
        ("s3_ratio_1_2", 224, None),
        ("s3_mhsa", 224, None),
        ("s3_no_attention", 224, None),
        ("timm:resnet18", 224, None),
    ],
)
def test_a_network_of_the_paper_has_the_bar_of_its_attention_at_the_papers_image_sizes(name, pixels, attention):
    bar = paper_bar(open_network(name), pixels)
    assert (bar and bar.attention) == attention
    assert paper_bar(open_network(name), pixels, "network") is None
