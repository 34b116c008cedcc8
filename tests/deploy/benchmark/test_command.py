"""What a benchmark prints and leaves behind."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from shvit_pl.cli import main
from shvit_pl.designs.config import resolve_design
from shvit_pl.designs.cost import cost
from shvit_pl.hub.upload import save_weights
from shvit_pl.models.open_network import open_network
from shvit_pl.runs.finished_run import FinishedRun
from tests.deploy.benchmark.small import QUICK, benchmark, environment, rows
from tests.hub.runs import quick_fit


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return quick_fit(tmp_path_factory.mktemp("benchmarked"))


def test_every_way_to_run_a_network_is_a_row_with_a_ratio_to_the_first(capsys):
    assert benchmark("--mode=official,eager", "--runtime=torch,onnx", "--threads=2") == 0
    found = rows()
    ways = [(row["runtime"], row["mode"], row["dtype"]) for row in found]
    assert ways == [("torch", "official", "fp32"), ("torch", "eager", "fp32"), ("onnx", "", "fp32")]
    first, expected = float(found[0]["images_per_second"]), cost(resolve_design("tiny"), 1000, 64)
    for row in found:
        rate = float(row["images_per_second"])
        assert float(row["ratio"]) == pytest.approx(rate / first, rel=1e-4)
        assert float(row["ms"]) == pytest.approx(2000 / rate, rel=1e-4)
        assert float(row["images_per_second_q1"]) <= rate <= float(row["images_per_second_q3"])
        assert (int(row["params"]), int(row["macs"])) == (expected.params, expected.macs)
    printed = capsys.readouterr().out
    assert all(word in printed for word in ("2 threads", "official", "eager", "onnx", "ratio", "written: benchmark"))
    under = environment()["conditions"]
    assert (under["threads"], under["blocks"], under["seconds"]) == (2, 5, float(QUICK[1].split("=")[1]))
    assert (under["torch"], under["device_type"], under["task"]) == (torch.__version__, "cpu", "infer")
    assert environment()["models"]["tiny"] == {
        "origin": "design",
        "own_image_size": 128,
        "weights": "fresh",
        "folded": "BatchNorm and residuals fused by fuse()",
    }
    assert torch.get_num_threads() == 1  # as before


def test_ratios_are_within_a_batch_and_an_image_size_and_what_cant_run_is_skipped_with_its_reason(capsys):
    sizes = ["--batch-size=1,2", "--image-size=16,64,128"]
    assert benchmark("--mode=eager", models=["tiny", *sizes, "--device=cpu"]) == 0
    assert [(row["batch_size"], row["image_size"]) for row in rows()] == [
        ("1", "64"), ("1", "128"), ("2", "64"), ("2", "128"),
    ]  # fmt: skip
    assert {row["ratio"] for row in rows()} == {"1.0"}
    assert "skipped: tiny, 16 px: image_size 16: this design halves" in " ".join(capsys.readouterr().out.split())
    assert list(environment()["skipped"]) == ["tiny, 16 px"]


@pytest.mark.parametrize(("weights", "kept"), [("raw", "trained"), ("ema", "averaged")])
def test_a_run_folder_is_measured_at_its_size_with_its_accuracy_and_the_chosen_weights(run, weights, kept):
    assert benchmark("--mode=eager", f"--weights={weights}", models=[str(run), "--device=cpu", "--batch-size=2"]) == 0
    (row,) = rows()
    assert (row["image_size"], row["image_size_asked"], row["top1_dataset"]) == ("64", "own", "digits")
    assert 0 <= float(row["top1"]) <= 100
    assert environment()["models"][str(run)]["weights"] == kept
    assert Path("benchmark/accuracy.png").read_bytes()[:4] == b"\x89PNG"


def test_a_repo_of_the_hub_is_measured(run, hub, tmp_path):
    (tmp_path / "saved").mkdir()
    save_weights(FinishedRun.open(run), tmp_path / "saved")
    hub.commit("user/name", {path.name: path.read_bytes() for path in (tmp_path / "saved").iterdir()}, kind="models")
    assert benchmark("--mode=eager", models=["user/name", "--device=cpu", "--batch-size=2"]) == 0
    assert (rows()[0]["model"], rows()[0]["image_size"]) == ("user/name", "64")


def test_models_of_timm_are_reparameterized_and_built_for_the_size_asked_for():
    assert benchmark("--mode=eager", beside=["timm:mobileone_s0", "timm:vit_tiny_patch16_224"]) == 0
    assert environment()["models"]["timm:mobileone_s0"]["folded"].startswith("reparameterized")
    whole = sum(parameter.numel() for parameter in open_network("timm:mobileone_s0").model.parameters())
    assert int(rows()[0]["params"]) < whole / 2
    assert [row["image_size"] for row in rows()] == ["64"] * 3


def test_an_earlier_benchmark_is_compared_and_replaced(capsys):
    assert benchmark("--mode=eager") == 0
    rate = rows()[0]["images_per_second"]
    file = Path("benchmark/benchmark.csv")
    file.write_text(file.read_text().replace(f",{rate},", ",1.0,"))
    assert benchmark("--mode=eager,official", "--compare=benchmark") == 0
    printed = [line.split() for line in capsys.readouterr().out.splitlines() if line.strip().startswith("tiny")]
    now = float(rows()[0]["images_per_second"])
    assert float(printed[1][-1]) == pytest.approx(now, rel=0.01)  # over 1 image/s
    assert printed[2][-1] == f"{float(rows()[1]['ratio']):.2f}"  # official was not measured then
    assert sorted(path.name for path in Path().iterdir()) == ["benchmark"]


def test_steps_of_training_are_measured(capsys):
    assert benchmark("--train", "--mode=official,eager") == 0
    ways = [(row["mode"], row["dtype"]) for row in rows()]
    assert ways == [("official", "fp32"), ("eager", "fp32")]
    assert environment()["conditions"]["task"] == "train"
    assert "training steps on" in capsys.readouterr().out


def test_the_official_protocol_is_one_mean_with_one_thread(capsys):
    flags = ["--protocol=official", "--warm-up=0.01", "--seconds=0.01", "--batch-size=2", "--image-size=64"]
    assert main(["benchmark", "tiny", "--device=cpu", *flags]) == 0
    (row,) = rows()
    assert (row["mode"], row["images_per_second_q1"]) == ("official", "")
    assert "the script's are 10 s and 60 s" in capsys.readouterr().out
    assert environment()["conditions"]["threads"] == 1


def test_ctrl_c_leaves_nothing_behind(monkeypatch):
    def stop(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("shvit_pl.deploy.timing.seconds_per_call", stop)
    assert benchmark("--mode=eager") == 130
    assert list(Path().iterdir()) == []


def test_the_help_is_quick():
    code = "import sys; from shvit_pl.cli import main; main(['benchmark', '--help']); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], env=os.environ, check=True, capture_output=True)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_is_measured_by_its_own_events_with_its_memory():
    models = ["tiny", "--batch-size=8", "--image-size=64"]
    assert benchmark("--mode=official,eager,optimized", "--dtype=fp32,bf16", models=models) == 0
    assert [row["dtype"] for row in rows()] == ["fp16 autocast", "fp32", "bf16", "fp32", "bf16"]
    assert all(float(row["peak_memory_mb"]) > 0 for row in rows())
    assert environment()["conditions"]["device"] == torch.cuda.get_device_name()
    assert benchmark("--train", "--mode=official,eager", "--output=train", models=models) == 0
