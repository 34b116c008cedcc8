"""On the device, images are augmented as by the workers: the same ones, not only alike."""

import pytest
import torch
from datasets import ClassLabel, Dataset, Features, Image
from scipy.stats import ks_2samp
from torchvision.transforms import ColorJitter, RandomResizedCrop

from shvit_pl import HFImageDataModule
from shvit_pl.callbacks.measuring import advice
from shvit_pl.data.on_device import PlannedCrop, collate_planned
from shvit_pl.data.views import Views
from shvit_pl.errors import UserError
from tests.cli.runs import assert_same, fit, stop_at, weights
from tests.data import pictures

SIZES = [(50, 40), (300, 200), (120, 90), (33, 200), (64, 64), (1, 60), (5, 5)]


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """240 pictures of many shapes, as parquet."""
    folder = tmp_path_factory.mktemp("photos")
    images = [pictures.encoded(pictures.photo(*SIZES[n % len(SIZES)], seed=n), "PNG") for n in range(240)]
    features = Features({"image": Image(), "label": ClassLabel(names=["a", "b"])})
    rows = {"image": [{"bytes": image, "path": None} for image in images], "label": [0, 1] * 120}
    Dataset.from_dict(rows, features=features).to_parquet(str(folder / "train.parquet"))
    return str(folder)


def batches(path, on, **settings):
    options = {"image_size": 48, "batch_size": 16, "num_workers": 0, "color_jitter": 0.4, "erasing": 0.25}
    data = HFImageDataModule(path, **{**options, **settings}, augment_on=on)
    data.setup("fit")
    loader = data.train_dataloader()
    loader.sampler.set_epoch(settings.pop("epoch", 0))
    return [data.on_after_batch_transfer(data.on_before_batch_transfer(batch, 0), 0) for batch in loader]


@pytest.mark.parametrize("settings", [{}, {"color_jitter": 0.0}, {"erasing": 0.0, "repeats": 3}, {"num_workers": 2}])
def test_every_image_is_the_workers_own(photos, settings):
    ours, theirs = (batches(photos, on, **settings) for on in ("device", "workers"))
    assert len(ours) == len(theirs) > 3
    for mine, other in zip(ours, theirs, strict=True):
        assert torch.equal(mine["image"], other["image"])
        assert torch.equal(mine["label"], other["label"])


def test_an_image_does_not_depend_on_its_batch(photos):
    large, small = (batches(photos, "device", batch_size=size, erasing=0.0) for size in (16, 4))
    whole, parts = (torch.cat([batch["image"] for batch in each])[:64] for each in (large, small))
    assert torch.equal(whole, parts)


def alike(ours, theirs):
    """Whether two samples may be of one distribution (Kolmogorov and Smirnov, at the level of 0.1 %)."""
    return ks_2samp(ours, theirs).pvalue > 1e-3


def test_crops_flips_and_factors_are_distributed_as_torchvisions():
    image, draw, jitter = torch.zeros(3, 100, 120, dtype=torch.uint8), PlannedCrop(400, 0.4), ColorJitter(0.4, 0.4, 0.4)
    torch.manual_seed(0)
    crops, plans = zip(*(draw(image) for _ in range(2000)), strict=True)
    torch.manual_seed(1)
    boxes = [RandomResizedCrop.get_params(image, [0.08, 1.0], [3 / 4, 4 / 3])[2:] for _ in range(2000)]
    factors = [ColorJitter.get_params(jitter.brightness, jitter.contrast, jitter.saturation, None) for _ in range(2000)]
    sides, plan = [crop.shape[1:] for crop in crops], torch.stack(plans).numpy()
    assert alike([height * width for height, width in sides], [height * width for height, width in boxes])
    assert alike([width / height for height, width in sides], [width / height for height, width in boxes])
    assert 0.46 < plan[:, 0].mean() < 0.54
    for column in (1, 2, 3):
        assert alike(plan[:, column], [each[column] for each in factors])
    assert len({tuple(order) for order in plan[:, 4:]}) == 6
    assert not alike(plan[:, 1], [1.1 * each[1] for each in factors])  # so the test can tell


def test_a_large_crop_is_made_small_before_it_is_sent():
    pixels = torch.zeros(3, 700, 900, dtype=torch.uint8)
    torch.manual_seed(0)
    sent = [PlannedCrop(64, 0.0)(pixels)[0] for _ in range(50)]
    assert max(crop[0].numel() for crop in sent) <= 4 * 64 * 64


def test_a_broken_image_has_a_place_in_the_batch_too():
    crop, plan = PlannedCrop(8, 0.4)(torch.zeros(3, 9, 9, dtype=torch.uint8))
    whole = {"image": crop, "plan": plan, "label": 1}
    batch = collate_planned([whole, {"image": torch.zeros(3, 8, 8, dtype=torch.uint8), "label": -1}])
    assert batch["plan"].shape == (2, 7)
    assert batch["image"].numel() == crop.numel() + 3 * 64


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"augment": "shift"}, "data.augment shift"),
        ({"augment": "none"}, "data.augment none"),
        ({"augment": "crop", "auto_augment": "3a"}, "data.auto_augment 3a"),
    ],
)
def test_what_the_device_can_not_do_is_refused(settings, said):
    with pytest.raises(UserError, match=rf"data.augment_on device: {said} works in the workers alone"):
        HFImageDataModule(image_size=32, augment_on="device", **settings)


def test_kept_answers_of_a_teacher_are_refused():
    data = HFImageDataModule(image_size=16, augment_on="device")
    with pytest.raises(UserError, match=r"data.augment_on device: a teacher's answers .* model.distill.cache"):
        data.train_on(Views(40, repeats=1, size=16, mixup=None, views=1))


FLAGS = ["--data.augment=crop", "--data.augment_on=device", "--data.color_jitter=0.3", "--checkpoint_every_n_steps=2"]


def test_a_run_trains_and_resumes_exactly_and_as_with_the_workers(tmp_path, monkeypatch):
    roots = {name: f"--trainer.default_root_dir={tmp_path / name}" for name in ("whole", "workers", "cut")}
    assert fit(*FLAGS, roots["whole"]) == 0
    assert fit(*FLAGS, "--data.augment_on=workers", roots["workers"]) == 0
    with monkeypatch.context() as patch:
        stop_at(patch, epoch=1, batch=3)
        fit(*FLAGS, roots["cut"])
    assert fit(*FLAGS, roots["cut"], "--ckpt_path=last") == 0
    whole, workers, cut = (weights(tmp_path / name / "tiny" / "version_0") for name in roots)
    assert_same(whole, cut)
    assert_same(whole, workers)


def test_the_advice_names_it_where_it_would_help():
    settings = {"path": "photos", "auto_augment": None, "image_size": 64, "augment": "crop", "augment_on": "workers"}
    assert "--data.augment_on device" in advice(0.4, settings, 2, "cuda")
    assert "augment_on" not in advice(0.4, settings | {"augment_on": "device"}, 2, "cuda")
    assert "augment_on" not in advice(0.4, settings | {"auto_augment": "3a"}, 2, "cuda")
    assert "augment_on" not in advice(0.4, settings, 2, "cpu")
