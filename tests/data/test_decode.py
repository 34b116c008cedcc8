"""Decoding: the pixels of PIL, from any mode and format, and an error that names what is broken."""

import pickle
import struct
import zlib
from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from shvit_pl.data.decode import BrokenImage, decode
from tests.data.pictures import encoded, photo

BROKEN = (
    {"exif": b"Exif\0\0not a header" + bytes(99)},
    {"exif": b"Exif\0\0II*\0\xff\xff\xff\xff" + bytes(range(99))},
    {"xmp": b"<x:xmpmeta \xff\xfe\x80 tiff:Orientation"},
)
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")


def stored(data):
    return {"bytes": data, "path": None}


def pixels(data, **options):
    tensor = decode(stored(data), "it", **options)
    assert tensor.dtype == torch.uint8
    return tensor.permute(1, 2, 0).numpy()


def by_pil(data):
    return np.asarray(Image.open(BytesIO(data)).convert("RGB"))


def in_mode(mode):
    image = photo()
    if mode in ("LA", "RGBA"):
        image.putalpha(Image.linear_gradient("L").resize(image.size))
    return image.convert(mode)


@pytest.mark.parametrize(
    ("mode", "form"),
    [(mode, "PNG") for mode in ("1", "L", "LA", "P", "RGB", "RGBA")]
    + [(mode, "JPEG") for mode in ("L", "RGB", "CMYK", "YCbCr")]
    + [(mode, "WEBP") for mode in ("RGB", "RGBA")]
    + [(mode, "GIF") for mode in ("L", "P", "RGBA")]
    + [(mode, "TIFF") for mode in ("1", "L", "LA", "RGB", "CMYK", "LAB")]
    + [("P", "BMP"), ("RGB", "BMP")],
)
def test_every_kind_of_image_becomes_rgb_as_pil_does_it(mode, form):
    data = encoded(in_mode(mode), form)
    np.testing.assert_array_equal(pixels(data), by_pil(data))


@pytest.mark.parametrize("form", ["PNG", "GIF"])
def test_a_transparent_palette_colour_is_that_colour_as_for_pil(form):
    data = encoded(photo().convert("P"), form, transparency=3)
    np.testing.assert_array_equal(pixels(data), by_pil(data))


@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:2", "4:2:0"])
@pytest.mark.parametrize("progressive", [False, True])
def test_every_kind_of_jpeg_has_pils_pixels(subsampling, progressive):
    data = encoded(photo(91, 67), "JPEG", subsampling=subsampling, progressive=progressive)
    np.testing.assert_array_equal(pixels(data), by_pil(data))


@pytest.mark.parametrize("form", ["PNG", "TIFF"])
def test_gray_of_16_bits_keeps_the_upper_8(form):
    gray = np.random.default_rng(0).integers(0, 2**16, (5, 6), dtype=np.uint16)
    expected = np.repeat((gray >> 8)[..., None], 3, axis=2)
    np.testing.assert_array_equal(pixels(encoded(Image.fromarray(gray), form)), expected)


def png_of_16_bits(colours):
    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    height, width, _ = colours.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in colours)
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def test_colours_of_16_bits_keep_the_upper_8():
    colours = np.random.default_rng(0).integers(0, 2**16, (5, 6, 3), dtype=np.uint16)
    np.testing.assert_array_equal(pixels(png_of_16_bits(colours)), colours >> 8)


@pytest.mark.parametrize("form", ["GIF", "WEBP", "PNG", "TIFF"])
def test_an_animation_is_its_first_frame(form):
    data = encoded(photo(), form, save_all=True, append_images=[photo(seed=1)])
    np.testing.assert_array_equal(pixels(data), by_pil(data))


@pytest.mark.parametrize(
    ("form", "orientation"), [*(("JPEG", n) for n in range(1, 9)), ("PNG", 5), ("WEBP", 6), ("TIFF", 8)]
)
def test_exif_turns_the_image_only_when_asked(form, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(photo(), form, exif=exif)
    np.testing.assert_array_equal(pixels(data), by_pil(data))
    turned = np.asarray(ImageOps.exif_transpose(Image.open(BytesIO(data))).convert("RGB"))
    np.testing.assert_array_equal(pixels(data, exif_rotation=True), turned)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("broken", BROKEN)
@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_a_broken_exif_or_xmp_block_breaks_nothing(form, broken):
    data = encoded(photo(), form, **broken)
    for rotation in (False, True):
        np.testing.assert_array_equal(pixels(data, exif_rotation=rotation), by_pil(data))


def test_a_file_is_read_where_there_are_no_bytes(tmp_path):
    (tmp_path / "photo.jpg").write_bytes(encoded(photo(), "JPEG"))
    tensor = decode({"bytes": None, "path": str(tmp_path / "photo.jpg")}, "it")
    np.testing.assert_array_equal(tensor.permute(1, 2, 0), by_pil((tmp_path / "photo.jpg").read_bytes()))


@pytest.mark.parametrize("form", FORMATS)
def test_a_truncated_file_is_a_broken_image(form):
    data = encoded(photo(), form)
    for share, rotation in ((0.02, False), (0.5, True), (0.9, False), (0.9, True)):
        with pytest.raises(BrokenImage, match=r"^row 7: not "):
            decode(stored(data[: int(share * len(data))]), "row 7", rotation)


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        (None, "empty"),
        ({"bytes": None, "path": None}, "empty"),
        ({"bytes": b"", "path": "photo.jpg"}, "empty"),
        ({"bytes": None, "path": "missing.jpg"}, "can't be read .No such file"),
        (stored(b"no image at all"), "known format"),
        (stored(bytes(1000)), "known format"),
    ],
)
def test_what_is_no_image_is_a_broken_image_in_one_line(image, reason):
    with pytest.raises(BrokenImage, match=rf"^cat/1.jpg: .*{reason}") as caught:
        decode(image, "cat/1.jpg")
    assert "\n" not in str(caught.value)
    assert isinstance(pickle.loads(pickle.dumps(caught.value)), BrokenImage)  # workers send it
