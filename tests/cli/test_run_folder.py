"""The contract of the run folder: exactly these files, with exactly this in them, and TensorBoard shows it."""

from io import BytesIO

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from shvit_pl import ClassificationModule
from shvit_pl.callbacks import run_figures
from shvit_pl.data.transforms import denormalize
from shvit_pl.designs.cost import cost
from shvit_pl.files import read_rows
from shvit_pl.modules.class_metrics import NAMES
from shvit_pl.runs.folder import read_summary
from tests.cli.runs import cache_teacher, content, fit, metrics

MIXED = ["--model.mix.mixup=0.8", "--model.mix.cutmix=1.0", "--data.erasing=1.0", "--model.ema.decay=0.9"]
DIGITS = [str(digit) for digit in range(10)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("runs")
    flags = [*MIXED, "--run_name=study", "--seed_everything=3", "--trainer.log_every_n_steps=1"]
    assert fit(f"--trainer.default_root_dir={root}", *flags) == 0
    return root / "study" / "version_0"


def test_it_holds_exactly_these_files(folder):
    files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    events = {name for name in files if name.startswith("events.out.tfevents.")}
    assert len(events) == 1
    checkpoints = {f"checkpoints/{name}.ckpt" for name in ("best", "last")}
    drawn = {f"figures/{name}.png" for name in ("inputs", "curves", "confusion_matrix", "reliability")}
    drawn.add("figures/by_class.csv")
    assert files - events - checkpoints - drawn == {"config.yaml", "summary.json", "metrics.csv"}
    assert checkpoints | drawn < files


def test_the_summary_says_what_happened(folder):
    summary = read_summary(folder)
    module = ClassificationModule.load_from_checkpoint(folder / summary["best_checkpoint"], map_location="cpu")
    expected = cost(module.design, 10, 64)
    assert summary.items() >= {"epochs": 2, "steps_trained": 8, "global_batch": 16, "seed": 3}.items()
    assert summary.items() >= {"precision": "32-true", "teacher": None, "classes": DIGITS}.items()
    assert summary.items() >= {"params": expected.params, "macs": expected.macs}.items()
    assert expected.params == sum(p.numel() for p in module.model.parameters())
    assert (summary["design"]["name"], tuple(summary["design"]["embed_dim"])) == ("tiny", module.design.embed_dim)
    assert (summary["dataset"]["path"], summary["dataset"]["revision"]) == ("digits", None)
    names = {f"val/{name}{of}" for name in ("acc1", "acc5", "loss", *NAMES) for of in ("", "_ema")}
    assert set(summary["metrics"]) == names
    rows = read_rows(folder / "figures" / "by_class.csv")
    assert [row["class"] for row in rows] == [row["class"] for row in summary["by_class"]] == DIGITS
    assert np.mean([float(row["recall"]) for row in rows]) == pytest.approx(
        summary["metrics"]["val/acc1_macro"], abs=1e-4
    )
    confused = summary["confusions"][0]
    assert confused["images"] / int(rows[int(confused["true"])]["images"]) == pytest.approx(confused["share"], abs=1e-4)
    assert summary["confusions"] == sorted(summary["confusions"], key=lambda each: -each["images"])
    assert summary["wall_seconds"] > 0
    assert summary["images_per_second"] > 0
    weights = 4e-6 * summary["params"]  # MB; AdamW holds three of them
    assert 3 * weights < summary["peak_memory_mb"] < 1e5
    gpu = torch.cuda.is_available()
    assert summary["peak_memory_of"] == ("allocated on the GPU" if gpu else "resident in the process")
    assert summary["versions"]["torch"] == torch.__version__.split("+")[0]
    assert summary["command"].startswith("shvit-pl fit")


def test_the_metrics_have_a_row_per_logged_step_and_epoch(folder):
    accuracies = list(map(float, metrics(folder, "val/acc1")))
    assert len(accuracies) == 2
    assert len(metrics(folder, "train/lr")) == 8
    assert max(accuracies) == pytest.approx(read_summary(folder)["metrics"]["val/acc1"])


def test_the_config_is_complete_and_runs_again_in_the_next_folder(folder, tmp_path):
    config = yaml.safe_load((folder / "config.yaml").read_text())
    assert config["model"]["design"]["name"] == "tiny"
    assert config["seed_everything"] == 3
    (tmp_path / "study" / "version_0").mkdir(parents=True)
    assert fit(f"--config={folder / 'config.yaml'}", f"--trainer.default_root_dir={tmp_path}") == 0
    assert read_summary(tmp_path / "study" / "version_1")["metrics"] == read_summary(folder)["metrics"]


def test_a_checkpoint_holds_plain_data_and_clean_keys(folder):
    checkpoint = content(folder, "best")
    module = ClassificationModule.load_from_checkpoint(folder / "checkpoints" / "best.ckpt")
    keys = [key for key in checkpoint["state_dict"] if not key.startswith("ema.")]
    assert set(keys) == {f"model.{key}" for key in module.model.state_dict()}
    assert checkpoint["hyper_parameters"]["design"]["name"] == "tiny"
    assert module.class_names == DIGITS


def test_tensorboard_shows_curves_figures_settings_and_final_metrics(folder):
    events = EventAccumulator(str(folder), {"images": 0, "scalars": 0}).Reload()
    scalars = {"train/loss", "train/loss_epoch", "train/lr", "val/acc1", "val/acc1_ema", "val/loss"}
    assert scalars <= set(events.Tags()["scalars"])
    losses = [each.value for each in events.Scalars("train/loss")]
    means = [each.value for each in events.Scalars("train/loss_epoch")]
    assert means == pytest.approx([sum(losses[:4]) / 4, sum(losses[4:]) / 4], rel=1e-5)
    assert len(events.Scalars("train/lr")) == 8
    assert set(events.Tags()["images"]) == {"inputs", "curves", "confusion_matrix", "reliability"}
    assert "by_class/text_summary" in events.Tags()["tensors"]
    for name in events.Tags()["images"]:
        shown = Image.open(BytesIO(events.Images(name)[-1].encoded_image_string))
        assert shown.tobytes() == Image.open(folder / "figures" / f"{name}.png").convert("RGB").tobytes()
    page = events.summary_metadata["_hparams_/session_start_info"].plugin_data.content
    settings = HParamsPluginData.FromString(page).session_start_info.hparams
    assert settings["model.optim.lr"].number_value == 8e-3
    assert settings["model.design.name"].string_value == "tiny"
    for name, value in read_summary(folder)["metrics"].items():
        assert events.Scalars(f"best/{name}")[-1].value == pytest.approx(value, abs=1e-6)


@pytest.mark.parametrize("cached", [False, True])
def test_the_grid_shows_the_inputs_as_the_network_sees_them(cached, run, monkeypatch):
    flags = [*MIXED, "--trainer.max_epochs=1", "--trainer.num_sanity_val_steps=0"]
    if cached:
        flags += [f"--model.distill.teacher={run}", "--model.distill.cache=cache", "--model.distill.views=1"]
        assert cache_teacher(*flags, "--data.train_fraction=0.1") == 0
    seen, drawn, forward, draw = [], [], ClassificationModule.forward, run_figures.draw_inputs

    def watch_forward(self, images):
        seen.append(images.clone())
        return forward(self, images)

    def watch_drawing(images, *rest):
        drawn.append(images.clone())
        return draw(images, *rest)

    monkeypatch.setattr(ClassificationModule, "forward", watch_forward)
    monkeypatch.setattr(run_figures, "draw_inputs", watch_drawing)
    assert fit(*flags, "--data.train_fraction=0.1") == 0
    assert torch.equal(drawn[0], denormalize(seen[0], (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
