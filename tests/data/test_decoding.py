"""Decoding: the pixels of PIL, from any mode and format, and an error that names what is broken."""

import pickle
import re
import struct
import zlib
from io import BytesIO

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image, ImageOps

from shvit_pl.data.decoding import BrokenImage, dark_images, decode
from tests.data.pictures import encoded, photo, ready


def pixels(data, **options):
    tensor = decode({"bytes": data, "path": None}, "it", **options)
    assert tensor.dtype == torch.uint8
    return tensor.permute(1, 2, 0).numpy()


def by_pil(data):
    return np.asarray(Image.open(BytesIO(data)).convert("RGB"))


MODES = {
    "PNG": ("1", "L", "LA", "P", "RGB", "RGBA"),
    "JPEG": ("L", "RGB", "CMYK", "YCbCr"),
    "WEBP": ("RGB", "RGBA"),
    "GIF": ("L", "P", "RGBA"),
    "TIFF": ("1", "L", "LA", "RGB", "CMYK", "LAB"),
    "BMP": ("P", "RGB"),
}
KINDS = [(form, mode, {}) for form, modes in MODES.items() for mode in modes]
KINDS += [(form, "P", {"transparency": 3}) for form in ("PNG", "GIF")]
KINDS += [
    ("JPEG", "RGB", {"subsampling": subsampling, "progressive": progressive})
    for subsampling in ("4:4:4", "4:2:2", "4:2:0")
    for progressive in (False, True)
]
KINDS += [(form, "RGB", {"save_all": True}) for form in ("GIF", "WEBP", "PNG", "TIFF")]  # animated


@pytest.mark.parametrize(("form", "mode", "options"), KINDS, ids=str)
def test_every_kind_of_image_becomes_rgb_as_pil_does_it_and_an_animation_its_first_frame(form, mode, options):
    image = photo()
    if mode in ("LA", "RGBA"):
        image.putalpha(Image.linear_gradient("L").resize(image.size))
    if "save_all" in options:
        options = {**options, "append_images": [photo(seed=1)]}
    data = encoded(image.convert(mode), form, **options)
    np.testing.assert_array_equal(pixels(data), by_pil(data))


def png_of_16_bits(colors):
    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    height, width, _ = colors.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in colors)
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def test_of_16_bits_the_upper_8_are_kept():
    colors = np.random.default_rng(0).integers(0, 2**16, (5, 6, 3), dtype=np.uint16)
    np.testing.assert_array_equal(pixels(png_of_16_bits(colors)), colors >> 8)
    gray = np.ascontiguousarray(colors[..., 0])
    for form in ("PNG", "TIFF"):
        expected = np.repeat((gray >> 8)[..., None], 3, axis=2)
        np.testing.assert_array_equal(pixels(encoded(Image.fromarray(gray), form)), expected)


@pytest.mark.parametrize(
    ("kind", "values", "limits", "expected"),
    [
        (np.float32, [0.0, 0.5, 1.0, 2.0], (0, 1), [0, 128, 255, 255]),
        (np.float32, [-1000, 0, np.nan, 400], (-1000, 400), [0, 182, 182, 255]),  # CT, in Hounsfield units
        (np.int32, [0, 2048, 4095, 100_000], (0, 4095), [0, 128, 255, 255]),
        (np.uint16, [0, 2048, 4095, 65535], (0, 4095), [0, 128, 255, 255]),
        (np.uint16, [0, 256, 4095, 65535], None, [0, 1, 15, 255]),
    ],
)
def test_intensities_of_more_than_8_bits_are_scaled_by_the_range(kind, values, limits, expected):
    data = encoded(Image.fromarray(np.array([values], kind)), "TIFF")
    np.testing.assert_array_equal(pixels(data, intensity_range=limits)[0], np.array([expected] * 3).T)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (np.ones((2, 2), np.float32), "intensities from 1 to 1; give --data.intensity_range, such as [0, 1]"),
        (np.array([[0, 60000]], np.int32), "from 0 to 60000; give --data.intensity_range, such as [0, 60000]"),
        (np.array([[-1000, 400]], np.float32), "from -1000 to 400; give --data.intensity_range, such as [-1000, 400]"),
        (np.zeros((2, 2), np.float32), "from 0 to 0; give --data.intensity_range, such as [0, 1]"),
    ],
)
def test_without_a_range_intensities_of_32_bits_are_broken_and_the_flag_is_named(values, words):
    with pytest.raises(BrokenImage, match=re.escape(words)):
        pixels(encoded(Image.fromarray(values), "TIFF"))


def test_signed_8_bits_need_a_range_and_color_of_16_bits_can_have_none():
    values = np.array([[-100, 60, 100]], np.int8)
    signed = encoded(Image.fromarray(values.view(np.uint8)), "TIFF", tiffinfo={339: 2})
    with pytest.raises(BrokenImage, match=r"from -100 to 100; give --data.intensity_range, such as \[-100, 100\]"):
        pixels(signed)
    np.testing.assert_array_equal(pixels(signed, intensity_range=(-100, 100))[0, :, 0], [0, 204, 255])
    color = np.random.default_rng(0).integers(0, 2**16, (4, 5, 3), dtype=np.uint16)
    deep = BytesIO()
    tifffile.imwrite(deep, color, photometric="rgb")
    np.testing.assert_array_equal(pixels(deep.getvalue()), color >> 8)
    with pytest.raises(BrokenImage, match="can't be applied to a color TIFF of 16 bits; convert it to PNG"):
        pixels(deep.getvalue(), intensity_range=(0, 4095))


@pytest.mark.parametrize(
    ("largest", "limits"),
    [
        (200, "[0,255]"),
        (700, "[0,1023]"),
        (3000, "[0,4095]"),
        (4095, "[0,4095]"),
        (8191, "[0,16383]"),
        (8192, None),
        (0, None),
    ],
)
def test_images_that_use_few_of_16_bits_are_told_with_the_range_to_give(largest, limits):
    gray = np.array([[0, largest]], np.uint16)
    color = np.stack([gray] * 3, axis=-1)
    for data in (encoded(Image.fromarray(gray), "PNG"), encoded(Image.fromarray(gray), "TIFF"), png_of_16_bits(color)):
        stored = {"bytes": data, "path": None}
        said = dark_images([None, stored, {"bytes": b"torn", "path": None}, stored])
        assert (said is None) == (limits is None)
        assert (
            said is None
            or f"of 2 of them is {largest}), so they become dark. Give --data.intensity_range {limits} " in said
        )
    assert dark_images([{"bytes": encoded(Image.fromarray(gray.astype(np.uint8)), "PNG"), "path": None}]) is None


def test_a_data_module_warns_of_dark_images_once_where_there_is_no_range(tmp_path, caplog):
    for number in range(20):
        path = tmp_path / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(np.full((8, 8), 100 * number, np.uint16)).save(path)
    data = ready(path=str(tmp_path))
    data.setup("validate")
    assert caplog.text.count("--data.intensity_range [0,4095]") == 1
    caplog.clear()
    for stage in ("fit", "predict"):
        ready(stage, path=str(tmp_path), intensity_range=(0, 4095))
    assert caplog.text == ""


@pytest.mark.slow
@pytest.mark.parametrize("form", ["BMP", "TIFF"])
def test_no_format_has_a_limit_of_pixels(form, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)  # as this module was imported
    big = Image.new("1", (14_000, 14_000))
    assert pixels(encoded(big, form)).shape == (14_000, 14_000, 3)


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
@pytest.mark.parametrize(
    "broken",
    [
        {"exif": b"Exif\0\0not a header" + bytes(99)},
        {"exif": b"Exif\0\0II*\0\xff\xff\xff\xff" + bytes(range(99))},
        {"xmp": b"<x:xmpmeta \xff\xfe\x80 tiff:Orientation"},
    ],
)
@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_a_broken_exif_or_xmp_block_breaks_nothing(form, broken):
    data = encoded(photo(), form, **broken)
    for rotation in (False, True):
        np.testing.assert_array_equal(pixels(data, exif_rotation=rotation), by_pil(data))


def test_a_file_is_read_where_there_are_no_bytes(tmp_path):
    (tmp_path / "photo.jpg").write_bytes(encoded(photo(), "JPEG"))
    tensor = decode({"bytes": None, "path": str(tmp_path / "photo.jpg")}, "it")
    np.testing.assert_array_equal(tensor.permute(1, 2, 0), by_pil((tmp_path / "photo.jpg").read_bytes()))


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"])
def test_a_truncated_file_is_a_broken_image(form):
    data = encoded(photo(), form)
    for share, rotation in ((0.02, False), (0.5, True), (0.9, False), (0.9, True)):
        with pytest.raises(BrokenImage, match=r"^it: not "):
            pixels(data[: int(share * len(data))], exif_rotation=rotation)


@pytest.mark.parametrize(
    ("content", "path", "reason"),
    [
        (None, None, "empty"),
        (b"", "photo.jpg", "empty"),
        (None, "missing.jpg", "can't be read .No such file"),
        (b"no image at all", None, "known format"),
        (bytes(1000), None, "known format"),
    ],
)
def test_what_is_no_image_is_a_broken_image_in_one_line(content, path, reason):
    with pytest.raises(BrokenImage, match=rf"^cat/1.jpg: .*{reason}") as caught:
        decode({"bytes": content, "path": path}, "cat/1.jpg")
    assert "\n" not in str(caught.value)
    assert isinstance(pickle.loads(pickle.dumps(caught.value)), BrokenImage)  # workers send it
