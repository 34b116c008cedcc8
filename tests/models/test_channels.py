"""Networks of other channels than three."""

import timm
import torch
from torch.utils.flop_counter import FlopCounterMode

from shvit_pl.designs.cost import cost
from shvit_pl.models import create_model, load_weights


def test_the_cost_counts_the_channels():
    for channels in (1, 3, 6):
        network = create_model("tiny", num_classes=10, in_chans=channels).eval()
        counter = FlopCounterMode(display=False)
        with torch.no_grad(), counter:
            network(torch.zeros(1, channels, 64, 64))
        found = cost(network.design, 10, 64, channels)
        assert found.params == sum(each.numel() for each in network.parameters())
        assert found.macs == counter.get_total_flops() // 2


def test_rgb_weights_are_summed_or_repeated(tmp_path):
    source = create_model("tiny", num_classes=10)
    torch.save(source.state_dict(), tmp_path / "rgb.pth")
    (key, rgb) = next((key, each) for key, each in source.state_dict().items() if each.ndim == 4)
    gray, many = (create_model("tiny", num_classes=10, in_chans=channels) for channels in (1, 5))
    assert "the stem's RGB weights summed to gray" in str(load_weights(gray, str(tmp_path / "rgb.pth")))
    assert torch.allclose(gray.state_dict()[key], rgb.sum(1, keepdim=True))
    assert "repeated and scaled to 5 channels" in str(load_weights(many, str(tmp_path / "rgb.pth")))
    assert torch.allclose(many.state_dict()[key], rgb[:, [0, 1, 2, 0, 1]] * 3 / 5)


def test_timm_rebuilds_a_saved_network(tmp_path):
    network = create_model("tiny", num_classes=10, in_chans=2).eval()
    timm.models.save_for_hf(network, str(tmp_path), safe_serialization=True)
    again = timm.create_model(f"local-dir:{tmp_path}", pretrained=True).eval()
    image = torch.randn(1, 2, 64, 64)
    assert torch.equal(again(image), network(image))
