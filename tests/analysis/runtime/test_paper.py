"""The paper's Fig. 7, and whose bar is whose."""

import pytest

from shvit_pl.analysis.runtime.paper import bars, paper_bar
from shvit_pl.networks import open_network

SUMS = {"window MHSA": 49.5, "MHSA": 30.1, "SHSA": 24.5}  # memory-bound, as printed


def test_the_bars_add_up_to_the_printed_sums():
    for bar in bars():
        assert sum(bar.percent.values()) == pytest.approx(100)
        assert 100 - bar.percent["matrix product"] == pytest.approx(SUMS[bar.attention])


@pytest.mark.parametrize(
    ("name", "attention"),
    [
        ("timm:swin_tiny_patch4_window7_224", "window MHSA"),
        ("timm:deit_tiny_patch16_224", "MHSA"),
        ("s2", "SHSA"),
        ("timm:shvit_s2", "SHSA"),
        ("s3_mhsa", None),
        ("s3_no_attention", None),
        ("timm:resnet18", None),
    ],
)
def test_a_network_has_the_bar_of_its_attention(name, attention):
    bar = paper_bar(open_network(name))
    assert (bar and bar.attention) == attention
    assert paper_bar(open_network(name), "network") is None
