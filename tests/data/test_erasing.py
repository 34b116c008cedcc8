"""Random erasing: timm's, after normalisation, by the batch's key alone."""

import torch
from timm.data.random_erasing import RandomErasing

from shvit_pl import HFImageDataModule
from shvit_pl.data.batch_transform import erase
from shvit_pl.randomness import seed_all


def test_it_is_timms_with_noise_of_normalised_pixels():
    images = torch.zeros(8, 3, 64, 64)
    seed_all(5)
    expected = RandomErasing(0.5, mode="pixel", device="cpu")(images.clone())
    assert torch.equal(erase(images.clone(), 0.5, key=5), expected)
    erased = expected[expected != 0]
    assert 0.8 < erased.std() < 1.2


def test_training_batches_are_erased_by_what_was_drawn_and_others_are_not():
    def opened(erasing):
        data = HFImageDataModule(image_size=64, batch_size=8, num_workers=0, augment="none", erasing=erasing)
        data.setup("fit")
        return data

    def first(data, loader):
        batch = next(iter(loader))
        return data.on_after_batch_transfer(data.on_before_batch_transfer(batch, 0), 0)["image"]

    data, plain = opened(1.0), opened(0.0)
    training = [first(data, data.train_dataloader()) for _ in range(2)]
    assert torch.equal(*training)
    unchanged = first(plain, plain.train_dataloader())
    assert (training[0] != unchanged).any(dim=1).flatten(1).any(dim=1).all()
    assert torch.equal(first(data, data.val_dataloader()), first(plain, plain.val_dataloader()))
