"""What `analyze runtime` prints and leaves behind, and which bar of the paper's Fig. 7 stands beside which network."""

import pytest
import torch

from shvit_pl.analysis.runtime_report import paper_bar, paper_bars
from shvit_pl.cli import main
from shvit_pl.models.open_network import open_network
from tests.analysis.studies import colors, facts, files, rows

DEIT = "timm:deit_tiny_patch16_224"


def study(*flags):
    assert main(["analyze", "runtime", *flags, "--device=cpu", "--batch_size=1", "--repeats=5"]) == 0
    return facts("runtime/runtime.json")


def test_shares_stand_beside_the_papers_with_conditions_and_operators_and_replace_earlier_ones(capsys):
    study(DEIT, "tiny")
    for name in (DEIT, "tiny"):
        own = {row["kind"]: row for row in rows("runtime/runtime.csv") if row["network"] == name}
        percent = {kind: float(row["percent"]) for kind, row in own.items()}
        bound = percent.pop("memory-bound")
        assert sum(percent.values()) == pytest.approx(100, abs=0.01)
        assert bound == pytest.approx(100 - percent["matrix product"], abs=0.01)
        if name == "tiny":
            assert all(row["paper_percent"] == "" for row in own.values())
        else:
            difference = percent["reshape"] - float(own["reshape"]["paper_percent"])
            assert float(own["reshape"]["difference"]) == pytest.approx(difference, abs=0.002)
    assert colors("runtime/runtime.png") >= 6
    printed = capsys.readouterr().out
    assert all(word in printed for word in ("paper: MHSA, DeiT-T", "difference", "fused attention is switched off"))
    assert "the attention part of the blocks" in printed
    found = study("tiny", "--image_size=64", "--scope=network", "--dtype=bf16")
    under, network = found["conditions"], found["networks"]["tiny"]
    assert (under["scope"], under["dtype"]) == ("network", "bf16")
    assert (under["batch_size"], under["image_size"], under["repeats"]) == (1, {"tiny": 64}, 5)
    assert (under["device_type"], under["torch"]) == ("cpu", torch.__version__)
    assert network["measured"] == "the whole network"
    assert sum(operator["percent"] for operator in network["operators"]) == pytest.approx(100)
    assert [str(row["percent"]) for row in found["rows"]] == [row["percent"] for row in rows("runtime/runtime.csv")]
    assert files("runtime") == ["runtime.csv", "runtime.json", "runtime.png"]


@pytest.mark.gpu
def test_a_gpus_kernels_are_sorted():
    assert main(["analyze", "runtime", "s1", DEIT, "--batch_size=8", "--repeats=5"]) == 0
    assert facts("runtime/runtime.json")["conditions"]["device"] == torch.cuda.get_device_name()
    assert all(float(row["percent"]) < 1 for row in rows("runtime/runtime.csv") if row["kind"] == "other")


def test_the_papers_bars_add_up_to_the_printed_sums():
    sums = {"window MHSA": 49.5, "MHSA": 30.1, "SHSA": 24.5}  # memory-bound
    for bar in paper_bars():
        assert bar.percent["memory-bound"] == pytest.approx(sums[bar.attention])
        assert bar.percent["memory-bound"] + bar.percent["matrix product"] == pytest.approx(100)


@pytest.mark.parametrize(
    ("name", "attention_by_pixels"),
    [
        ("timm:swin_tiny_patch4_window7_224", {224: "window MHSA"}),
        (DEIT, {224: "MHSA", 96: None}),
        ("timm:shvit_s2", {224: "SHSA", 64: None}),
        ("s2", {224: "SHSA", 64: None}),
        ("s4", {256: "SHSA", 384: "SHSA"}),
        ("tiny", {128: None}),
        *((name, {224: None}) for name in ("s3_ratio_1_2", "s3_mhsa", "s3_no_attention", "timm:resnet18")),
    ],
)
def test_a_network_of_the_paper_has_the_bar_of_its_attention_at_the_papers_image_sizes(name, attention_by_pixels):
    opened = open_network(name)
    for pixels, attention in attention_by_pixels.items():
        bar = paper_bar(opened, pixels)
        assert (bar and bar.attention) == attention
        assert paper_bar(opened, pixels, "network") is None
