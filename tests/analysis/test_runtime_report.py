"""What `analyze runtime` prints and leaves behind, and which bar of the paper's Fig. 7 stands beside which network."""

import csv
import json
from pathlib import Path

import pytest
import torch

from shvit_pl.analysis.runtime_report import paper_bar, paper_bars
from shvit_pl.cli import main
from shvit_pl.models.open_network import open_network
from tests.analysis.pictures import colors

OWN_SIZE = ["--device=cpu", "--batch_size=1", "--repeats=5"]
SMALL = [*OWN_SIZE, "--image_size=64"]


def rows(folder="runtime"):
    with (Path(folder) / "runtime.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def facts(folder="runtime"):
    return json.loads((Path(folder) / "runtime.json").read_text())


def test_shares_add_up_and_stand_beside_the_papers(capsys):
    networks = ["timm:deit_tiny_patch16_224", "tiny"]
    assert main(["analyze", "runtime", *networks, *OWN_SIZE]) == 0
    for name in networks:
        own = {row["kind"]: row for row in rows() if row["network"] == name}
        percent = {kind: float(row["percent"]) for kind, row in own.items()}
        bound = percent.pop("memory-bound")
        assert sum(percent.values()) == pytest.approx(100, abs=0.01)
        assert bound == pytest.approx(100 - percent["matrix product"], abs=0.01)
        if name == "tiny":
            assert all(row["paper_percent"] == "" for row in own.values())
        else:
            difference = percent["reshape"] - float(own["reshape"]["paper_percent"])
            assert float(own["reshape"]["difference"]) == pytest.approx(difference, abs=0.002)
    assert {file.name for file in Path("runtime").iterdir()} == {"runtime.csv", "runtime.json", "runtime.png"}
    assert colors("runtime/runtime.png") >= 6
    printed = capsys.readouterr().out
    assert all(word in printed for word in ("paper: MHSA, DeiT-T", "difference", "fused attention is switched off"))
    assert "the attention part of the blocks" in printed


def test_the_facts_say_under_which_conditions_and_what_was_counted():
    assert main(["analyze", "runtime", "tiny", "--scope=network", "--threads=2", "--dtype=bf16", *SMALL]) == 0
    under = facts()["conditions"]
    assert (under["scope"], under["threads"], under["dtype"]) == ("network", 2, "bf16")
    assert (under["batch_size"], under["image_size"], under["repeats"]) == (1, {"tiny": 64}, 5)
    assert (under["device_type"], under["torch"]) == ("cpu", torch.__version__)
    network = facts()["networks"]["tiny"]
    assert network["measured"] == "the whole network"
    assert sum(operator["percent"] for operator in network["operators"]) == pytest.approx(100)
    assert [str(row["percent"]) for row in facts()["rows"]] == [row["percent"] for row in rows()]
    assert torch.get_num_threads() == 1  # as before


def test_earlier_results_are_replaced_and_other_files_are_not(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HOME", str(tmp_path))
    out = tmp_path / "out"
    assert main(["analyze", "runtime", "tiny", "--output=~/out", *SMALL]) == 0
    assert main(["analyze", "runtime", "tiny", "--output=out", "--scope=network", *SMALL]) == 0
    assert facts(out)["conditions"]["scope"] == "network"
    assert colors(out / "runtime.png") >= 6
    (out / "mine.txt").write_text("kept")
    capsys.readouterr()
    assert main(["analyze", "runtime", "tiny", "--output=out", *SMALL]) == 2
    assert "--output 'out': it holds other files; give a new folder." in capsys.readouterr().err
    assert (out / "mine.txt").read_text() == "kept"


@pytest.mark.gpu
def test_a_gpus_kernels_are_sorted():
    assert main(["analyze", "runtime", "s1", "timm:deit_tiny_patch16_224", "--batch_size=8", "--repeats=5"]) == 0
    assert facts()["conditions"]["device"] == torch.cuda.get_device_name()
    assert all(float(row["percent"]) < 1 for row in rows() if row["kind"] == "other")


SUMS = {"window MHSA": 49.5, "MHSA": 30.1, "SHSA": 24.5}  # memory-bound, as printed


def test_the_papers_bars_add_up_to_the_printed_sums():
    for bar in paper_bars():
        assert sum(bar.percent.values()) == pytest.approx(100)
        assert 100 - bar.percent["matrix product"] == pytest.approx(SUMS[bar.attention])


@pytest.mark.parametrize(
    ("name", "attention_by_pixels"),
    [
        ("timm:swin_tiny_patch4_window7_224", {224: "window MHSA"}),
        ("timm:deit_tiny_patch16_224", {224: "MHSA", 96: None}),
        ("timm:shvit_s2", {224: "SHSA", 64: None}),
        ("s2", {224: "SHSA", 64: None}),
        ("s4", {256: "SHSA", 384: "SHSA"}),
        ("tiny", {128: None}),
        ("s3_ratio_1_2", {224: None}),
        ("s3_mhsa", {224: None}),
        ("s3_no_attention", {224: None}),
        ("timm:resnet18", {224: None}),
    ],
)
def test_a_network_of_the_paper_has_the_bar_of_its_attention_at_the_papers_image_sizes(name, attention_by_pixels):
    opened = open_network(name)
    for pixels, attention in attention_by_pixels.items():
        bar = paper_bar(opened, pixels)
        assert (bar and bar.attention) == attention
        assert paper_bar(opened, pixels, "network") is None
