"""What a benchmark prints and leaves behind."""

import csv
import json
from pathlib import Path

import pytest
import torch

from shvit_pl.cli import main
from shvit_pl.compat import cores_of_process
from shvit_pl.designs.config import resolve_design
from shvit_pl.designs.cost import cost
from shvit_pl.models.open_network import open_network
from tests.fractions import assert_fractions

TINY = ["tiny", "--device=cpu", "--batch-size=2", "--image-size=64"]
QUICK = ["--blocks=5", "--seconds=0.002"]


def benchmark(*flags, models=TINY, quick=QUICK):
    """The rows and `environment.json` of a short `shvit-pl benchmark`, by default of `tiny` at 64 pixels."""
    assert main(["benchmark", *models, *quick, *flags]) == 0
    with Path("benchmark/benchmark.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    return rows, json.loads(Path("benchmark/environment.json").read_text())


@pytest.mark.slow
def test_every_way_to_run_a_network_is_a_row_with_a_ratio_to_the_first(capsys):
    rows, facts = benchmark("--mode=official,eager", "--runtime=torch,onnx")
    ways = [(row["runtime"], row["mode"], row["dtype"]) for row in rows]
    assert ways == [("torch", "official", "fp32"), ("torch", "eager", "fp32"), ("onnx", "", "fp32")]
    first, expected = float(rows[0]["images_per_second"]), cost(resolve_design("tiny"), 1000, 64)
    for row in rows:
        rate = float(row["images_per_second"])
        assert float(row["ratio"]) == pytest.approx(rate / first, rel=1e-4)
        assert float(row["ms"]) == pytest.approx(2000 / rate, rel=1e-4)
        assert float(row["images_per_second_q1"]) <= rate <= float(row["images_per_second_q3"])
        assert float(row["ms_q1"]) == pytest.approx(2000 / float(row["images_per_second_q3"]), rel=1e-4)
        assert (int(row["params"]), int(row["macs"])) == (expected.params, expected.macs)
    printed = capsys.readouterr().out
    assert all(word in printed for word in ("1 thread", "official", "eager", "onnx", "ratio", "written: benchmark"))
    under = facts["conditions"]
    assert (under["threads"], under["blocks"], under["seconds"]) == (1, 5, 0.002)
    assert (under["torch"], under["device_type"], under["task"]) == (torch.__version__, "cpu", "infer")
    folded = "BatchNorm and residuals fused by fuse()"
    expected = {"origin": "design", "own_image_size": 128, "weights": "fresh", "folded": folded}
    assert facts["models"]["tiny"] == expected


def test_ratios_are_within_a_batch_and_an_image_size_and_what_cant_run_is_skipped_with_its_reason(capsys):
    sizes = ["--batch-size=1,2", "--image-size=16,64"]
    rows, facts = benchmark("--mode=eager", models=["tiny", *sizes, "--device=cpu"])
    cells = [(row["batch_size"], row["image_size"], row["ratio"]) for row in rows]
    assert cells == [("1", "64", "1.0"), ("2", "64", "1.0")]
    assert "skipped: tiny, 16 px: --image_size 16: this design halves" in " ".join(capsys.readouterr().out.split())
    assert list(facts["skipped"]) == ["tiny, 16 px"]


@pytest.mark.parametrize(("weights", "kept", "threads"), [("raw", "trained", 1), ("ema", "averaged", 2)])
def test_a_run_folder_is_measured_at_its_size_with_its_accuracy_weights_and_threads(
    run, weights, kept, threads, capsys
):
    threads, models = min(threads, cores_of_process()), [str(run), "--device=cpu", "--batch-size=2"]
    (row,), facts = benchmark("--mode=eager", f"--weights={weights}", f"--threads={threads}", models=models)
    assert (row["image_size"], row["image_size_asked"], row["top1_dataset"]) == ("64", "own", "digits")
    assert 0 <= float(row["top1"]) <= 1
    assert_fractions(capsys.readouterr().out)
    assert (facts["models"][str(run)]["weights"], facts["conditions"]["threads"]) == (kept, threads)
    assert torch.get_num_threads() == 1  # as before
    assert Path("benchmark/accuracy.png").read_bytes()[:4] == b"\x89PNG"


def test_models_of_timm_are_measured_fused_and_at_the_size_asked_for():
    names = ["timm:mobileone_s0", "timm:vit_tiny_patch16_224"]
    rows, facts = benchmark("--mode=eager", models=[*names, *TINY])
    assert [(row["model"], row["image_size"]) for row in rows] == [(name, "64") for name in (*names, "tiny")]
    assert facts["models"]["timm:mobileone_s0"]["folded"].startswith("reparameterized")
    whole = sum(parameter.numel() for parameter in open_network("timm:mobileone_s0").model.parameters())
    assert int(rows[0]["params"]) < whole / 2


def test_an_earlier_benchmark_is_compared_and_replaced(capsys):
    rows, _ = benchmark("--mode=eager")
    file = Path("benchmark/benchmark.csv")
    file.write_text(file.read_text().replace(f",{rows[0]['images_per_second']},", ",1.0,"))
    rows, _ = benchmark("--mode=eager,official", "--compare=benchmark")
    printed = [line.split() for line in capsys.readouterr().out.splitlines() if line.strip().startswith("tiny")]
    assert float(printed[1][-1]) == pytest.approx(float(rows[0]["images_per_second"]), rel=0.01)  # over 1 image/s
    assert printed[2][-1] == f"{float(rows[1]['ratio']):.2f}"  # official was not measured then
    assert [path.name for path in Path().iterdir()] == ["benchmark"]


def test_steps_of_training_are_measured(capsys):
    rows, facts = benchmark("--train", "--mode=official,eager")
    assert [(row["mode"], row["dtype"]) for row in rows] == [("official", "fp32"), ("eager", "fp32")]
    assert (facts["conditions"]["task"], facts["models"]["tiny"]["folded"]) == ("train", "not fused")
    assert "training steps on" in capsys.readouterr().out


def test_the_official_protocol_is_one_mean_with_one_thread(capsys):
    (row,), facts = benchmark("--protocol=official", quick=["--warm-up=0.01", "--seconds=0.01"])
    assert (row["mode"], row["images_per_second_q1"], row["ms_q3"]) == ("official", "", "")
    assert "the script's are 10 s and 60 s" in capsys.readouterr().out
    assert facts["conditions"]["threads"] == 1


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_is_measured_with_its_memory():
    models = ["tiny", "--batch-size=8", "--image-size=64"]
    rows, facts = benchmark("--mode=official,eager,optimized", "--dtype=fp32,bf16", models=models)
    assert [row["dtype"] for row in rows] == ["fp16 autocast", "fp32", "bf16", "fp32", "bf16"]
    assert all(float(row["peak_memory_mb"]) > 0 for row in rows)
    assert facts["conditions"]["device"] == torch.cuda.get_device_name()
    assert main(["benchmark", *models, *QUICK, "--train", "--mode=official,eager", "--output=train"]) == 0
