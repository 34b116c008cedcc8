"""Attention maps lie in the image where tokens that know their place are; pictures are means, or of one image."""

import pytest
import timm
import torch
from timm.models.swin_transformer import window_partition

from shvit_pl.analysis.attention_layers import AttentionLayer
from shvit_pl.analysis.attention_maps import AttentionRecorder, TokenGrid, token_grid
from shvit_pl.analysis.command import HeadsOptions
from shvit_pl.analysis.heads_subject import open_subject
from shvit_pl.data.transforms import denormalize

VIT = AttentionLayer("blocks.0.attn", 3, "", -1, 64)


def swin_grid(block, side):
    """The grid of a block of Swin, and for each of its windows the numbers of the tokens in it."""
    model = timm.create_model("swin_tiny_patch4_window7_224", depths=(2, 1, 1, 1))
    layer = AttentionLayer(f"layers.0.blocks.{block}.attn", 3, "", -1, 32)
    shift = model.get_submodule(layer.name.removesuffix(".attn")).shift_size
    tokens = torch.arange(side**2).view(1, side, side, 1).roll((-shift[0], -shift[1]), (1, 2))
    windows = window_partition(tokens, (7, 7)).flatten(1)
    return token_grid(model, layer, len(windows), 49, 49), windows


@pytest.mark.parametrize("block", [0, 1], ids=["windows", "shifted windows"])
def test_a_window_is_put_where_its_tokens_are(block):
    """A map that holds the number of its key, plus a ten-thousandth of that of its query, for two images."""
    grid, windows = swin_grid(block, 56)
    known = windows.double()
    maps = known[:, None, None, :] + known[:, None, :, None] / 10_000
    maps = torch.stack([maps, maps + 10_000]).flatten(0, 1)
    for row, column in [(28, 28), (0, 0), (55, 3), (17, 41)]:
        query = row * 56 + column
        number, _ = (windows == query).nonzero()[0].tolist()
        expected = torch.full((56 * 56,), torch.nan, dtype=torch.float64)
        expected[windows[number]] = known[number] + query / 10_000
        for image, seen in enumerate(grid.query_maps(maps, 2, row, column)):
            torch.testing.assert_close(seen[0].flatten(), expected + 10_000 * image, equal_nan=True)


def test_whole_maps_lose_the_class_token_and_windows_without_a_known_order_are_not_put_together():
    vit = timm.create_model("vit_tiny_patch16_224", depth=1)
    grid = token_grid(vit, VIT, 1, 197, 197)
    assert grid == TokenGrid(14, 14, 14, prefix=1)
    maps = torch.rand(2, 3, 197, 197)
    torch.testing.assert_close(grid.query_maps(maps, 2, 6, 7), maps[:, :, 1 + 6 * 14 + 7, 1:].unflatten(-1, (14, 14)))
    assert token_grid(vit, VIT, 1, 150, 150) is None  # no square
    grid = token_grid(vit, VIT, 4, 49, 49)
    assert grid.middle_window
    maps = torch.rand(8, 3, 49, 49)
    torch.testing.assert_close(grid.query_maps(maps, 2, 1, 2)[1], maps[6, :, 9].unflatten(-1, (7, 7)))


@pytest.mark.parametrize(("side", "expected"), [(14, (6, 7)), (7, (3, 3)), (56, (26, 30)), (1, (0, 0))])
def test_the_query_stays_in_its_place_in_grids_of_other_sizes(side, expected):
    assert TokenGrid(side, side, side).same_place(6, 7, TokenGrid(14, 14, 14)) == expected


def record(**options):
    subject = open_subject(
        HeadsOptions("s3_mhsa", image_size=64, images=6, ablation_images=1, batch_size=4, device="cpu", **options)
    )
    recorder = AttentionRecorder(subject)
    for images, _ in subject.batches(subject.compared_rows):
        recorder.add(images)
    return recorder, subject


def test_pictures_are_the_mean_or_of_one_image():
    mean, _ = record()
    one, subject = record(image=5, query=(0, 0))
    assert (mean.images, mean.drawn_images, one.images, one.drawn_images) == (6, 6, 6, 1)
    assert mean.drawn_image is None
    *_, (last, _) = subject.batches(subject.compared_rows)
    torch.testing.assert_close(one.drawn_image, denormalize(last, subject.opened.mean, subject.opened.std)[1])
    side = mean.first_grid.side
    assert (mean.layers[0].query, one.layers[0].query) == (((side // 2 + 0.5) / side,) * 2, (0.5 / side,) * 2)
    assert not torch.equal(mean.layers[0].picture / 6, one.layers[0].picture)
    for picture in (mean.layers[0].picture / 6, one.layers[0].picture):
        torch.testing.assert_close(picture.sum((1, 2)), torch.ones(len(picture), dtype=torch.float64))
