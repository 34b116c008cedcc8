"""What TensorBoard shows of a run."""

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from shvit_pl.callbacks import figures
from shvit_pl.cli import main
from shvit_pl.runs.folder import read_summary
from tests.cli.runs import QUICK, fit

MIXED = ["--model.mix.mixup=0.8", "--model.mix.cutmix=1.0", "--data.erasing=1.0", "--model.ema.decay=0.9"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("runs")
    assert fit(*MIXED, "--trainer.log_every_n_steps=1", f"--trainer.default_root_dir={root}") == 0
    return root / "tiny" / "version_0"


@pytest.fixture(scope="module")
def events(folder):
    return EventAccumulator(str(folder), {"images": 0, "scalars": 0}).Reload()


def test_curves_learning_rate_and_figures_are_there(events):
    assert {"train/loss", "train/lr", "val/acc1", "val/acc1_ema", "val/loss"} <= set(events.Tags()["scalars"])
    assert len(events.Scalars("train/lr")) == 8
    assert set(events.Tags()["images"]) == {"inputs", "curves", "confusion_matrix"}


def test_the_hparams_page_holds_the_settings_and_the_final_metrics(events, folder):
    content = events.summary_metadata["_hparams_/session_start_info"].plugin_data.content
    settings = HParamsPluginData.FromString(content).session_start_info.hparams
    assert settings["model.optim.lr"].number_value == 8e-3
    assert settings["model.design.name"].string_value == "tiny"
    for name, value in read_summary(folder)["metrics"].items():
        assert events.Scalars(f"best/{name}")[-1].value == pytest.approx(value, abs=1e-6)


@pytest.mark.parametrize("cached", [False, True])
def test_the_grid_shows_the_inputs_as_the_network_sees_them(cached, run, monkeypatch, tmp_path):
    flags = [*MIXED, "--trainer.max_epochs=1", "--trainer.num_sanity_val_steps=0"]
    if cached:
        flags += [f"--model.distill.teacher={run}", "--model.distill.cache=cache", "--model.distill.views=1"]
        assert main(["cache-teacher", *QUICK, *flags]) == 0
    seen, drawn = [], []
    from shvit_pl import ClassificationModule
    from shvit_pl.data.batch_transform import denormalize

    forward = ClassificationModule.forward

    def watch(self, images):
        seen.append(images.clone())
        return forward(self, images)

    def keep(images, *rest):
        drawn.append(images.clone())
        return original(images, *rest)

    original = figures.draw_inputs
    monkeypatch.setattr(ClassificationModule, "forward", watch)
    monkeypatch.setattr(figures, "draw_inputs", keep)
    assert fit(*flags) == 0
    expected = denormalize(seen[0], (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    assert torch.equal(drawn[0], expected)
