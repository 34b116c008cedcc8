"""Where attention maps lie in the image, checked on tokens that know their place."""

import pytest
import timm
import torch
from timm.models.swin_transformer import window_partition

from shvit_pl.analysis.heads.attention.layers import AttentionLayer
from shvit_pl.analysis.heads.attention.places import Places, places_of


def of_swin(block, side):
    """The places of a block of Swin, and for each of its windows the numbers of the tokens in it."""
    model = timm.create_model("swin_tiny_patch4_window7_224", depths=(2, 1, 1, 1))
    layer = AttentionLayer(f"layers.0.blocks.{block}.attn", 3, "", "", -1, 32)
    shift = model.get_submodule(layer.name.removesuffix(".attn")).shift_size
    tokens = torch.arange(side**2).view(1, side, side, 1).roll((-shift[0], -shift[1]), (1, 2))
    windows = window_partition(tokens, (7, 7)).flatten(1)
    return places_of(model, layer, len(windows), 49, 49), windows


@pytest.mark.parametrize("block", [0, 1], ids=["windows", "shifted windows"])
@pytest.mark.parametrize(("row", "column"), [(28, 28), (0, 0), (55, 3), (17, 41)])
def test_a_window_is_put_where_its_tokens_are(block, row, column):
    """A map that holds the number of its key, plus a ten-thousandth of that of its query, for two images."""
    places, windows = of_swin(block, 56)
    known = windows.double()
    maps = known[:, None, None, :] + known[:, None, :, None] / 10_000
    maps = torch.stack([maps, maps + 10_000]).flatten(0, 1)
    picture = places.picture(maps, 2, row, column)
    own = row * 56 + column
    number, _ = (windows == own).nonzero()[0].tolist()
    expected = torch.full((56 * 56,), torch.nan, dtype=torch.float64)
    expected[windows[number]] = known[number] + own / 10_000
    for image, seen in enumerate(picture):
        torch.testing.assert_close(seen[0].flatten(), expected + 10_000 * image, equal_nan=True)


def test_a_whole_map_loses_the_class_token():
    model = timm.create_model("vit_tiny_patch16_224", depth=1)
    places = places_of(model, AttentionLayer("blocks.0.attn", 3, "", "", -1, 64), 1, 197, 197)
    assert places == Places(14, 14, 14, prefix=1)
    maps = torch.rand(2, 3, 197, 197)
    torch.testing.assert_close(places.picture(maps, 2, 6, 7), maps[:, :, 1 + 6 * 14 + 7, 1:].unflatten(-1, (14, 14)))


def test_tokens_that_are_no_square_have_no_place():
    model = timm.create_model("vit_tiny_patch16_224", depth=1)
    assert places_of(model, AttentionLayer("blocks.0.attn", 3, "", "", -1, 64), 1, 150, 150) is None


def test_windows_without_a_known_order_are_not_put_together():
    model = timm.create_model("vit_tiny_patch16_224", depth=1)
    places = places_of(model, AttentionLayer("blocks.0.attn", 3, "", "", -1, 64), 4, 49, 49)
    assert places.alone
    maps = torch.rand(8, 3, 49, 49)
    torch.testing.assert_close(places.picture(maps, 2, 1, 2)[1], maps[6, :, 9].unflatten(-1, (7, 7)))


@pytest.mark.parametrize(("side", "expected"), [(14, (6, 7)), (7, (3, 3)), (56, (26, 30)), (1, (0, 0))])
def test_the_query_stays_in_its_place_in_grids_of_other_sizes(side, expected):
    assert Places(side, side, side).at(6, 7, Places(14, 14, 14)) == expected
