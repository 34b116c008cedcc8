"""What only a GPU can show; skipped where there is none."""

import pytest
import torch
from lightning.fabric.utilities.apply_func import move_data_to_device
from lightning.pytorch.loops.training_epoch_loop import _TrainingEpochLoop

from shvit_pl import HFImageDataModule
from shvit_pl.cli import main
from shvit_pl.data.transforms import denormalize
from shvit_pl.designs.design import NAMED
from shvit_pl.designs.detector import DetectorConfig
from shvit_pl.models.detection.detectors import build_detector
from shvit_pl.runs.folder import read_summary
from tests.cli.runs import fit

pytestmark = pytest.mark.gpu


def test_in_16_bits_with_everything_on_the_device(tmp_path):
    flags = ["--trainer.accelerator=gpu", "--trainer.devices=1", "--trainer.precision=16-mixed"]
    recipe = ["--model.ema.decay=0.9", "--model.mix.mixup=0.8", "--data.erasing=0.25", "--model.optim.agc=0.02"]
    assert fit(*flags, *recipe, "--monitor=val/acc1_ema") == 0
    metrics = read_summary(tmp_path / "runs" / "tiny" / "version_0")["metrics"]
    assert {"val/acc1", "val/acc1_ema"} <= set(metrics)


def test_a_run_on_the_gpu_in_bf16_validates_on_the_cpu(tmp_path):
    flags = ["--trainer.accelerator=gpu", "--trainer.devices=1", "--trainer.precision=bf16-mixed"]
    assert fit(*flags, "--model.channels_last=true") == 0
    folder = tmp_path / "runs" / "tiny" / "version_0"
    summary = read_summary(folder)
    assert "cpu" not in summary["device"]
    assert summary["peak_memory_of"] == "allocated on the GPU"
    assert 0 < summary["peak_memory_mb"] <= torch.cuda.max_memory_allocated() / 1e6 + 0.1
    assert main(["validate", f"--ckpt_path={folder / 'checkpoints' / 'best.ckpt'}", "--trainer.accelerator=cpu"]) == 0


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed", "16-mixed"])
@pytest.mark.parametrize("mode", ["batch", "elem"])
def test_no_step_waits_for_the_device(precision, mode, monkeypatch):
    """CUDA itself refuses to: from the second batch's transfer to the last step's end, but for the loading."""
    advance = _TrainingEpochLoop.advance

    def strict(self, fetcher):
        torch.cuda.set_sync_debug_mode("error" if self.batch_idx >= 1 else "default")
        try:
            advance(self, fetcher)
        finally:
            torch.cuda.set_sync_debug_mode("default")

    monkeypatch.setattr(_TrainingEpochLoop, "advance", strict)
    flags = ["--trainer.accelerator=gpu", "--trainer.devices=1", f"--trainer.precision={precision}"]
    recipe = ["--model.ema.decay=0.9", "--model.mix.mixup=0.8", "--data.erasing=0.25", "--model.optim.agc=0.02"]
    once = ["--trainer.max_epochs=1", "--trainer.limit_train_batches=6", "--trainer.log_every_n_steps=100"]
    assert fit(*flags, *recipe, *once, f"--model.mix.mode={mode}", "--data.num_workers=2") == 0


def test_a_fused_run_of_the_gpu_goes_on_on_the_cpu(tmp_path):
    flags = ["--trainer.limit_train_batches=4", "--trainer.max_epochs=1"]
    assert fit("--trainer.accelerator=gpu", "--trainer.devices=1", *flags) == 0
    last = tmp_path / "runs" / "tiny" / "version_0" / "checkpoints" / "last.ckpt"
    more = ["--trainer.accelerator=cpu", "--extend_to=2"]
    assert fit(flags[0], *more, f"--ckpt_path={last}") == 0


def test_the_gpu_augments_as_the_workers_do(image_folder):
    batches = []
    for on in ("device", "workers"):
        data = HFImageDataModule(
            path=str(image_folder), image_size=64, batch_size=8, num_workers=0, color_jitter=0.4, augment_on=on
        )
        data.setup("fit")
        batch = next(iter(data.train_dataloader()))
        batches.append(data.on_after_batch_transfer(move_data_to_device(batch, torch.device("cuda")), 0)["image"])
    ours, theirs = (denormalize(images, data.mean, data.std) * 255 for images in batches)
    assert (ours - theirs).abs().max() < 4.5  # a level of the resizing or of a change, which later factors magnify
    assert (ours - theirs).abs().mean() < 0.5


@pytest.mark.parametrize(("kind", "images"), [("retinanet", 16), ("mask_rcnn", 8)])
def test_a_paper_detector_trains_a_step_of_full_images_in_bf16(kind, images):
    """At 800 x 1333 pixels, padded; seven objects in each image."""
    torch.manual_seed(0)
    height, width = 800, 1344
    model = build_detector(NAMED["s4"], DetectorConfig(name=kind), 80).cuda().train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    corners = torch.rand(images, 7, 2) * 400
    boxes = torch.cat([corners, corners + 20 + torch.rand(images, 7, 2) * 300], dim=-1).cuda()
    targets = [{"boxes": own, "labels": torch.randint(80, (7,), device="cuda")} for own in boxes]
    for target in targets:
        target["masks"] = torch.zeros(7, height, width, dtype=torch.uint8, device="cuda")
        for mask, (left, top, right, bottom) in zip(target["masks"], target["boxes"].long().tolist(), strict=True):
            mask[top:bottom, left:right] = 1
    before = model.backbone.net.patch_embed[0].c.weight.detach().clone()
    with torch.autocast("cuda", torch.bfloat16):
        losses = model(torch.randn(images, 3, height, width, device="cuda"), [(800, 1333)] * images, targets)
    sum(losses.values()).backward()
    optimizer.step()
    assert all(torch.isfinite(loss) for loss in losses.values())
    assert all(torch.isfinite(parameter).all() for parameter in model.parameters())
    assert not torch.equal(model.backbone.net.patch_embed[0].c.weight, before)
