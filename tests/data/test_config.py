"""Settings that are impossible, or contradict each other, are refused before anything is opened."""

from dataclasses import asdict

import pytest

from shvit_pl import HFImageDataModule
from shvit_pl.cli import main
from shvit_pl.data.config import DataConfig
from shvit_pl.data.views import Views
from shvit_pl.errors import UserError

STREAM = {"streaming": True, "steps_per_epoch": 3}
REFUSED = [
    ({"batch_size": 1}, "data.batch_size 1: allowed is 2 or more"),
    ({"image_size": 0}, "data.image_size 0: allowed is 1 or more, or auto"),
    ({"crop_pct": 1.5}, "data.crop_pct 1.5: allowed is above 0 and at most 1"),
    ({"train_fraction": 0.0}, "data.train_fraction 0.0: allowed is above 0"),
    ({"validation_fraction": 1.0}, "data.validation_fraction 1.0: allowed is above 0 and below 1"),
    ({"split_seed": -1}, "data.split_seed -1: allowed is 0 or more"),
    ({"color_jitter": -0.1}, "data.color_jitter -0.1: allowed is 0 (none) or more"),
    ({"erasing": 2.0}, "data.erasing 2.0: allowed is from 0 (never) to 1 (always)"),
    ({"repeats": 0}, "data.repeats 0: allowed is 1 (none) or more"),
    ({"shuffle_buffer": 0}, "data.shuffle_buffer 0: allowed is 1 or more"),
    ({"prefetch": 0}, "data.prefetch 0: allowed is 1 batch per worker"),
    ({"num_workers": -1}, "data.num_workers -1: allowed is 0 to"),
    ({"num_workers": 100_000}, "data.num_workers 100000: allowed is 0 to"),
    ({"steps_per_epoch": 3}, "data.steps_per_epoch 3: only for --data.streaming true"),
    ({"streaming": True}, "data.steps_per_epoch None: a stream has no length"),
    ({"streaming": True, "steps_per_epoch": 0}, "data.steps_per_epoch 0: a stream has no length"),
    ({**STREAM, "train_fraction": 0.5}, "data.train_fraction 0.5: streaming requires 1. Set --data.streaming false."),
    ({**STREAM, "repeats": 3}, "data.repeats 3: streaming requires 1"),
    ({"augment_on": "device", "augment": "shift"}, "data.augment_on device: data.augment shift works in the workers"),
    ({"augment_on": "device", "augment": "none"}, "data.augment_on device: data.augment none works in the workers"),
    ({"augment_on": "device", "auto_augment": "3a"}, "data.augment_on device: data.auto_augment 3a works in the work"),
    *(
        ({"auto_augment": name}, f"data.auto_augment {name!r}: allowed are timm's 'rand-...', such as 'rand-m9-mstd0.5")
        for name in ("", "rand9", "rand-m9.5", "rand-foo", "rand-m", "augmix", "3b", "original", "rand-n0", "rand-m999")
    ),
]


@pytest.mark.parametrize(("settings", "said"), REFUSED, ids=lambda value: str(value) if isinstance(value, dict) else "")
def test_a_mistake_names_flag_value_and_what_is_allowed(settings, said):
    with pytest.raises(UserError) as error:
        HFImageDataModule(**settings)
    assert str(error.value).startswith(said)
    assert "\n" not in str(error.value)


def test_all_mistakes_of_a_config_are_named_at_once_and_the_command_prints_a_line_for_each(capsys):
    with pytest.raises(UserError) as error:
        DataConfig(batch_size=1, erasing=2.0, auto_augment="foo", steps_per_epoch=3)
    flags = [line.split()[0] for line in str(error.value).splitlines()]
    assert flags == ["data.batch_size", "data.erasing", "data.auto_augment", "data.steps_per_epoch"]
    assert main(["fit", "--data.batch_size=1", "--data.erasing=2"]) == 2
    first, second = capsys.readouterr().err.splitlines()[-2:]
    assert first.startswith("shvit-pl fit: error: data.batch_size 1: ")
    assert second.startswith("shvit-pl fit: error: data.erasing 2.0: ")


def test_settings_are_kept_as_plain_values_and_auto_is_a_size_of_the_command_line():
    assert dict(HFImageDataModule(batch_size=8).hparams) == asdict(DataConfig(batch_size=8))
    with pytest.raises(UserError, match=r"data.image_size auto: from Python, give the side in pixels"):
        HFImageDataModule(image_size="auto").setup("fit")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"augment_on": "device"}, "data.augment_on device: a teacher's answers .* model.distill.cache"),
        ({"batch_size": 31}, "data.batch_size 31: a teacher's answers are kept for pairs .* allowed are 30 and 32"),
        (STREAM, "data.streaming true: a teacher's answers .* model.distill.cache"),
    ],
)
def test_what_a_cache_of_a_teacher_can_not_train_is_refused(settings, said):
    with pytest.raises(UserError, match=said):
        HFImageDataModule(image_size=16, **settings).train_on(Views(40, repeats=1, size=16, mixup=None, views=1))
