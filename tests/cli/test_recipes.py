"""The recipes are the paper's training: every value in force is the paper's or the official code's."""

import pytest
import timm
import yaml
from safetensors.torch import save_file

from shvit_pl.command_line.config_files import shipped_configs
from shvit_pl.fit.check import FitCheck
from shvit_pl.modules.config import OptimConfig
from shvit_pl.modules.optim_and_ema import make_schedule
from shvit_pl.runs.folder import read_summary
from tests.cli.runs import main, printed

ONE_STEP = [
    "--data.num_workers=0",
    "--trainer.max_steps=1",
    "--trainer.limit_val_batches=1",
    "--trainer.enable_checkpointing=false",
    "--run_name=run",
]
RECIPES = sorted(path.name for path in (shipped_configs() / "recipes").glob("[!cd]*_*.yaml"))
DISTILL = "--config=distill/regnety_160.yaml"
PAPER = {"s1": 224, "s2": 224, "s3": 224, "s4": 256}


def run(tmp_path, *flags, path="digits"):
    assert main(["fit", *flags, *ONE_STEP, f"--data.path={path}"]) == 0
    folder = tmp_path / "runs" / "run" / "version_0"
    return read_summary(folder), yaml.safe_load((folder / "config.yaml").read_text())


def test_layered_on_a_design_the_recipe_takes_its_own_paper_values():
    """Of the weight decay, auto is the paper's: tests/modules/test_optim_and_ema.py."""
    check, names = FitCheck(), ("model.design.name", "data.image_size", "model.optim.weight_decay", "model.optim.lr")
    for design, size in PAPER.items():
        settings = check.settings([f"--config={design}.yaml", "--config=recipes/imagenet_300e.yaml"])
        assert [settings[name] for name in names] == [design, size, "auto", 1e-3]


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if "512" in name else name for name in RECIPES]
)
def test_every_recipe_trains(name, tmp_path):
    recipe = ["--config=s4.yaml", f"--config=recipes/{name}"]
    summary, config = run(tmp_path, *recipe, "--model.design.name=tiny", "--data.batch_size=2")
    assert summary["steps_trained"] == 1
    model, data = config["model"], config["data"]
    assert (model["mix"]["mixup"], model["mix"]["cutmix"], model["label_smoothing"]) == (0.8, 1.0, 0.1)
    assert (model["optim"]["agc"], model["ema"]["decay"], model["optim"]["name"]) == (0.02, 0.99996, "adamw")
    assert (data["auto_augment"], data["erasing"], data["repeats"]) == ("rand-m9-mstd0.5-inc1", 0.25, 3)
    assert data["augment"] == "crop"


@pytest.mark.parametrize("design", PAPER)
def test_the_distillation_is_the_recipe_with_the_papers_teacher(design, capsys):
    base = printed(capsys, f"--config={design}.yaml", "--config=recipes/imagenet_300e.yaml")
    taught = printed(capsys, f"--config={design}.yaml", DISTILL)
    distill = taught["model"].pop("distill")
    assert [distill[key] for key in ("objective", "alpha", "tau", "heads")] == ["hard", 0.5, 1.0, "dual"]
    assert distill["teacher"] == "regnety_160.deit_in1k"
    assert base["model"].pop("distill")["teacher"] is None
    assert taught == base
    recipe = printed(capsys, f"--config=recipes/distill_{design}_300e.yaml")
    assert recipe["model"].pop("distill") == {**distill, "teacher_size": 256 if design == "s4" else None}
    assert recipe == base


def test_the_distillation_trains(tmp_path):
    save_file(timm.create_model("test_resnet", num_classes=10).state_dict(), tmp_path / "teacher.safetensors")
    teacher = ["--model.distill.teacher=test_resnet", f"--model.distill.weights={tmp_path}/teacher.safetensors"]
    small = ["--model.design.name=tiny", "--data.batch_size=2", "--model.distill.check=false"]
    summary, _ = run(tmp_path, "--config=s1.yaml", DISTILL, *teacher, *small)
    assert summary["steps_trained"] == 1
    assert summary["teacher"].startswith("test_resnet, ")


@pytest.mark.parametrize("size", [384, 512])
def test_fine_tuning_takes_the_authors_posted_values(size):
    recipe = yaml.safe_load((shipped_configs() / "recipes" / f"finetune_{size}.yaml").read_text())
    optim, data = recipe["model"]["optim"], recipe["data"]
    assert optim["lr"] * 2048 / 512 == pytest.approx(4e-5)
    assert [optim[key] for key in ("weight_decay", "warmup_lr", "min_lr", "warmup_epochs")] == [1e-8, 2e-8, 2e-7, 5]
    assert (data["image_size"], data["resize"], recipe["trainer"]["max_epochs"]) == (size, "squash", 30)


def test_few_images_are_fine_tuned_as_photographs_from_given_weights(tmp_path, short_run, image_folder):
    flags = ["--config=tiny.yaml", "--config=recipes/finetune.yaml", f"--model.init_from={short_run}"]
    summary, config = run(tmp_path, *flags, "--data.batch_size=8", path=image_folder)
    assert summary["dataset"]["path"] == str(image_folder)
    assert "short" in summary["init"]
    assert summary["peak_lr"] == pytest.approx(0.008 * 8 / 512)
    assert (summary["dataset"]["augmentation"], summary["epochs"]) == (
        "random resized crop, flip; evaluation: center crop, crop_pct 0.875",
        30,
    )
    assert (config["model"]["optim"]["layer_decay"], config["model"]["freeze_bn"]) == (0.8, False)


def test_coco_1x_has_the_official_values(capsys):
    config = printed(capsys, "--config=detection/retinanet_s4.yaml", "--config=recipes/coco_1x.yaml")
    model, data, optim = config["model"], config["data"], OptimConfig(**config["model"]["optim"])
    assert (config["task"], config["monitor"], model["design"]["name"]) == ("detection", "val/map", "s4")
    assert (model["freeze_bn"], model["init_from"], model["ema"]["decay"]) == ("auto", "timm:shvit_s4.in1k", 0)
    assert (optim.name, optim.weight_decay, optim.agc, optim.layer_decay) == ("adamw", 0.05, 0.0, None)
    assert [data[key] for key in ("min_size", "max_size", "flip", "scales", "keep_empty", "batch_size")] == [
        *(800, 1333, 0.5, None),
        *(False, 2),
    ]
    assert (config["trainer"]["max_epochs"], config["trainer"]["gradient_clip_val"]) == (12, None)
    expected = {"name": "retinanet", "width": 256, "convs": 4, "norm": "none", "anchor_ratios": [0.5, 1.0, 2.0]}
    expected |= {"box_loss": "l1", "score": 0.05, "nms": 0.5, "detections": 100}
    assert {key: model["detector"][key] for key in expected} == expected

    masks = printed(capsys, "--config=detection/mask_rcnn_s4.yaml", "--config=recipes/coco_1x.yaml")
    assert masks["data"] == data
    for key in ("design", "optim", "init_from", "freeze_bn"):
        assert masks["model"][key] == model[key]
    expected |= {"name": "mask_rcnn", "regions": 512}
    assert {key: masks["model"]["detector"][key] for key in expected} == expected

    schedule = make_schedule(optim, global_batch=16, total_steps=12 * 7330, epochs=12)
    rates = [schedule(step) * schedule.peak for step in (0, 250, 500, 8 * 7330 - 1, 8 * 7330, 11 * 7330 - 1, 11 * 7330)]
    assert rates == pytest.approx([1e-7, 5.005e-5, 1e-4, 1e-4, 1e-5, 1e-5, 1e-6])
