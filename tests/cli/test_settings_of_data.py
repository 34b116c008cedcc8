"""What suits the embedded digits belongs to the digits: on other images, a design trains as on photographs."""

import json

import pytest
import yaml
from safetensors.torch import save_file

from shvit_pl.cli import main
from shvit_pl.data.config import DataConfig
from shvit_pl.fit.check import FitCheck
from shvit_pl.modules.config import MixConfig
from tests.cli.runs import only_run, printed, weights

NAMES = ["data.image_size", "data.augment", "data.crop_pct", "trainer.max_epochs"]
DIGITS, TINY_DIGITS = [128, "shift", 1.0, 5], [64, "shift", 1.0, 5]


def photographs(size):
    return [size, "crop", 0.875, 10]


@pytest.fixture(scope="module")
def check():
    return FitCheck()


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["--config=s1.yaml"], DIGITS),
        (["--config=s4.yaml", "--data.path=digits"], DIGITS),
        (["--config=tiny.yaml"], TINY_DIGITS),
        (["--model.design.name=s2"], DIGITS),
        (["--config=s1.yaml", "--data.path=images"], photographs(224)),
        (["--config=s4.yaml", "--data.path", "images"], photographs(256)),
        (["--config=tiny.yaml", "--data.path=images"], photographs(64)),
        (["--data.path=images", "--config=s1.yaml"], photographs(224)),
        (["--config=s1.yaml", "--config=mine.yaml"], photographs(224)),
        (["--config=mine.yaml", "--config=s1.yaml", "--data.path=digits"], DIGITS),
        (["--config=s1.yaml", "--config=flipped.yaml"], [128, "crop", 1.0, 5]),
        (["--config=flipped.yaml", "--config=s1.yaml"], [128, "crop", 1.0, 5]),
        (["--config=s1.yaml", "--data.augment=none", "--trainer.max_epochs=2"], [128, "none", 1.0, 2]),
        (["--config=s1.yaml", "--data.image_size=auto"], [224, "shift", 1.0, 5]),
        (["--config=s1.yaml", "--config=data/digits.yaml", "--data.path=images"], DIGITS),  # asked for
        (["--config=s1.yaml", "--config=data/cifar10.yaml"], [128, "crop", 1.0, 10]),
        (["--config=s4.yaml", "--config=data/imagenette.yaml"], photographs(256)),
        (["--config=s1.yaml", "--config=distill/digits.yaml"], DIGITS),
        (["--config=s4.yaml", "--config=recipes/imagenet_300e.yaml", "--data.path=digits"], [256, "crop", 0.875, 300]),
    ],
)
def test_the_settings_of_the_digits_are_taken_with_the_digits_alone_and_below_all_others(
    check, tmp_path, flags, expected
):
    (tmp_path / "mine.yaml").write_text("data: {path: images}")
    (tmp_path / "flipped.yaml").write_text("data: {augment: crop}")
    settings = check.settings(flags)
    assert [settings[name] for name in NAMES[:3]] + [check.cli.config.trainer.max_epochs] == expected


def test_the_printed_settings_are_those_of_the_run_and_mean_the_same_when_given_again(check, tmp_path, capsys):
    for flags in ([], ["--data.path=images"]):
        config = printed(capsys, "--config=s1.yaml", *flags)
        (tmp_path / "all.yaml").write_text(yaml.safe_dump(config))
        assert check.settings(["--config=all.yaml"]) == check.settings(["--config=s1.yaml", *flags])
        assert config["trainer"]["max_epochs"] == (10 if flags else 5)


def test_the_table_and_the_summary_of_a_run_have_the_augmentation_and_other_commands_keep_it(
    tmp_path, image_folder, capsys
):
    quick = ["--config=tiny.yaml", "--data.batch_size=8", "--data.num_workers=0", "--trainer.max_epochs=1"]
    assert main(["fit", *quick, f"--data.path={image_folder}", "--model.mix.mixup=0.2"]) == 0
    words = "random resized crop, flip, Mixup 0.2; evaluation: center crop, crop_pct 0.875"
    assert f"64 px; training: {words}" in " ".join(capsys.readouterr().out.split())
    run = only_run(tmp_path)
    assert json.loads((run / "summary.json").read_text())["dataset"]["augmentation"] == words
    settings = yaml.safe_load((run / "config.yaml").read_text())["data"]
    assert [settings[name.partition(".")[2]] for name in NAMES[:3]] == photographs(64)[:3]
    config = _data_of_predict(f"--ckpt_path={run}", "--data.path=digits")  # as the network was trained
    assert (config.image_size, config.crop_pct) == (64, 0.875)


def test_bare_weights_are_measured_on_the_digits_as_the_digits_are_seen(short_run, tmp_path):
    own = {key: tensor.contiguous() for key, tensor in weights(short_run).items()}
    bare = {key.removeprefix("model."): tensor for key, tensor in own.items() if key.startswith("model.")}
    save_file(bare, tmp_path / "bare.safetensors")
    config = _data_of_predict("--config=tiny.yaml", f"--model.init_from={tmp_path}/bare.safetensors")
    assert (config.image_size, config.crop_pct) == (64, 1.0)


def _data_of_predict(*flags):
    from shvit_pl.fit.lightning_cli import ShvitCLI

    return ShvitCLI(["predict", *flags]).data_config


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"augment": "none", "crop_pct": 1.0}, "not augmented; evaluation: center crop, crop_pct 1"),
        ({"augment": "shift", "resize": "squash"}, "shifted, with black borders; evaluation: squashed to a square, "),
        ({"auto_augment": "3a", "color_jitter": 0.3}, "random resized crop, flip, 3a, color jitter 0.3; "),
        (
            {"auto_augment": "rand-m9", "color_jitter": 0.3, "erasing": 0.25, "repeats": 3},
            "rand-m9, erasing 0.25, 3 re",
        ),
    ],
)
def test_the_augmentation_is_described_as_it_is(settings, words):
    assert words in DataConfig(**settings).augmentation()
    assert DataConfig(**settings).augmentation(MixConfig(mixup=0.8, cutmix=1).description).count("Mixup 0.8, CutMix 1;")


@pytest.mark.parametrize(("path", "augment"), [("digits", "shift"), ("images", "crop")])
def test_the_cache_of_a_teacher_is_made_with_the_settings_of_the_fit_that_reads_it(path, augment, check):
    from shvit_pl.fit.lightning_cli import CacheCLI

    flags = ["--config=tiny.yaml", f"--data.path={path}", "--model.distill.teacher=test_resnet"]
    flags += ["--model.distill.cache=logits"]
    cached = CacheCLI(["cache-teacher", *flags])
    check.settings(flags)
    assert cached.data_config == check.cli.data_config
    assert (cached.data_config.augment, cached.config.trainer.max_epochs) == (augment, 5 if path == "digits" else 10)
