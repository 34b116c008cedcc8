"""BatchNorm's running statistics forget what they began with, and the training of the weights doesn't see it."""

import lightning as L
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from shvit_pl import ClassificationModule
from shvit_pl.modules import base
from shvit_pl.modules.batch_norm import YoungStatistics
from tests.modules.conftest import CLASSES, TINY, batch_of, train


def trained(network, batches):
    """Pass batches through a network in training, with its statistics corrected."""
    statistics = YoungStatistics(network)
    for batch in batches:
        statistics.before_batch()
        network(batch)
        statistics.after_batch()
    return network


@pytest.mark.parametrize("momentum", [0.1, 0.03])
@pytest.mark.parametrize("steps", [1, 2, 12, 40])
def test_after_t_batches_the_statistics_are_the_weighted_mean_of_those_batches_alone(momentum, steps):
    torch.manual_seed(0)
    batches = [3 + 2 * torch.randn(16, 5) * (1 + number / 7) for number in range(steps)]
    norm = trained(nn.BatchNorm1d(5, momentum=momentum), batches)
    weights = torch.tensor([(1 - momentum) ** (steps - 1 - number) for number in range(steps)])
    weights /= weights.sum()
    means, variances = (torch.stack([part(batch) for batch in batches]) for part in (mean, variance))
    torch.testing.assert_close(norm.running_mean, weights @ means)
    torch.testing.assert_close(norm.running_var, weights @ variances)
    assert norm.num_batches_tracked == steps


def mean(batch):
    return batch.mean(dim=0)


def variance(batch):
    return batch.var(dim=0)


@pytest.mark.parametrize(("steps", "difference"), [(150, 1e-6), (625, 1e-6)])  # 625: an epoch of the official recipe
def test_in_the_long_run_they_are_the_layers_own(steps, difference):
    """That the weights are the same to the bit from the first step on: below."""
    torch.manual_seed(0)
    batches = [2 + torch.randn(32, 5) for _ in range(steps)]
    own, ours = nn.BatchNorm1d(5), trained(nn.BatchNorm1d(5), batches)
    for batch in batches:
        own(batch)
    assert (ours.running_mean / own.running_mean - 1).abs().max() <= difference
    assert (ours.running_var / own.running_var - 1).abs().max() <= difference


def test_learned_frozen_and_untracked_statistics_stay_the_layers_own():
    torch.manual_seed(0)
    norms = [nn.BatchNorm2d(3), nn.BatchNorm2d(3), nn.BatchNorm2d(3, track_running_stats=False)]
    norms[0].running_mean.fill_(0.5)  # learned, in a file that doesn't count batches
    norms[1].eval()
    expected = nn.BatchNorm2d(3)
    expected.load_state_dict(norms[0].state_dict())
    batch = torch.randn(4, 3, 5, 5)
    for norm in norms:
        trained(norm, [batch])
    expected(batch)
    torch.testing.assert_close(norms[0].running_mean, expected.running_mean)
    assert norms[1].running_mean.eq(0).all()


@pytest.mark.parametrize("checkpointing", [False, True])
def test_a_run_forgets_its_first_statistics_its_weights_do_not_change_and_it_goes_on_as_one(
    checkpointing, tmp_path, monkeypatch
):
    batch, kept = batch_of(4), tmp_path / "kept.ckpt"
    items = [{"image": image, "label": label} for image, label in zip(batch["image"], batch["label"], strict=True)] * 4

    class Keep(L.Callback):
        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            if trainer.global_step == 2 and not kept.exists():
                trainer.save_checkpoint(kept)

    def run(path=None):
        torch.manual_seed(0)
        module = ClassificationModule(
            design=TINY, class_names=CLASSES, grad_checkpointing=checkpointing, ema={"decay": 0.5}
        )
        return train(module, 4, DataLoader(items, batch_size=4), path, callbacks=[Keep()])

    whole = run()
    resumed = whole if checkpointing else run(kept)  # once is enough
    with monkeypatch.context() as patch:
        patch.setattr(base, "YoungStatistics", lambda network: None)
        own = run()
    for name, tensor in whole.state_dict().items():
        torch.testing.assert_close(resumed.state_dict()[name], tensor, rtol=0, atol=0)
        if "running" not in name:
            torch.testing.assert_close(own.state_dict()[name], tensor, rtol=0, atol=0)
    name = next(name for name in whole.state_dict() if name.startswith("model.") and "running_mean" in name)
    # the stem's own learning rate is small, so that all that differs is the share of the first statistics
    torch.testing.assert_close(own.state_dict()[name], (1 - 0.9**4) * whole.state_dict()[name], rtol=0.05, atol=1e-3)
