"""What pictures can hold: each is read right, or refused with its reason, in bounded memory."""

import io
import logging
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import EpsImagePlugin, Image, ImageCms, ImageFile

from tests.test_index_images import image, index
from v2l.configuration.dataset_entries import PICTURES
from v2l.data.images import FORMATS, MOST_PIXELS, open_image, passed_over, square_image

RAMP_HW = np.arange(256, dtype=np.uint16).reshape(16, 16) * 257
COLOURS_HWC = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
COLOURS = Image.fromarray(COLOURS_HWC)


def lab() -> Image.Image:
    profiles = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    return ImageCms.applyTransform(COLOURS, ImageCms.buildTransform(*profiles, "RGB", "LAB"))


@pytest.mark.parametrize("name", ["a.png", "a.tif", "big-endian.tif", "white-is-zero.tif", "a.pgm"])
def test_16_bit_grey_keeps_its_range(tmp_path, name):
    pixels_HW = RAMP_HW.astype(">u2") if name.startswith("big") else RAMP_HW
    tags = {"tiffinfo": {262: 0}} if name.startswith("white") else {}
    if name == "a.pgm":
        (tmp_path / name).write_bytes(b"P5 16 16 65535\n" + RAMP_HW.astype(">u2").tobytes())
    else:
        Image.fromarray(pixels_HW).save(tmp_path / name, **tags)
    found_HW = np.asarray(open_image(tmp_path / name))[..., 0]
    expected_HW = np.arange(256).reshape(16, 16)
    assert (found_HW == (255 - expected_HW if tags else expected_HW)).all()


def test_a_transparent_value_of_16_bit_grey_becomes_white(tmp_path):
    Image.fromarray(RAMP_HW).save(tmp_path / "a.png", transparency=257)
    assert np.asarray(open_image(tmp_path / "a.png"))[0, :3, 0].tolist() == [0, 255, 2]


@pytest.mark.parametrize(
    ("name", "picture", "tolerance"),
    [
        ("cmyk.tif", COLOURS.convert("CMYK"), 0),
        ("ycbcr.tif", COLOURS.convert("YCbCr"), 3),
        ("lab.tif", lab(), 8),
        ("alpha.tif", COLOURS.convert("RGBA"), 0),
        ("frames.gif", COLOURS.quantize(256), 24),
    ],
)
def test_colour_spaces(tmp_path, name, picture, tolerance):
    picture.save(tmp_path / name)
    difference = np.abs(np.asarray(open_image(tmp_path / name), dtype=int) - COLOURS_HWC)
    assert np.percentile(difference, 90) <= tolerance


def test_one_bit_and_palette_with_transparency(tmp_path):
    Image.fromarray(RAMP_HW > 30000).save(tmp_path / "bits.png")
    assert (np.asarray(open_image(tmp_path / "bits.png"))[..., 0] == 255 * (RAMP_HW > 30000)).all()
    palette = COLOURS.quantize(16)
    palette.save(tmp_path / "palette.png", transparency=3)
    white_HW = (np.asarray(open_image(tmp_path / "palette.png")) == 255).all(axis=2)
    assert white_HW[np.asarray(palette) == 3].all()


@pytest.mark.parametrize("name", ["a.eps", "a.png", "a.jpg"])
def test_postscript_is_given_to_no_program(tmp_path, monkeypatch, name):
    """Pillow draws EPS, which it knows by its content, with Ghostscript, a language interpreter."""
    COLOURS.save(tmp_path / name, format="EPS")
    (tmp_path / "gs").write_text(f"#!/bin/sh\ntouch {tmp_path}/EXECUTED\n")
    (tmp_path / "gs").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setattr(EpsImagePlugin, "gs_binary", None)
    for read in (open_image, passed_over):
        with pytest.raises(OSError, match="cannot identify image file"):
            read(tmp_path / name)
    assert not (tmp_path / "EXECUTED").exists()
    with pytest.raises(OSError), Image.open(tmp_path / name) as file:
        file.load()
    assert (tmp_path / "EXECUTED").exists()  # so it would have been


def test_only_formats_that_are_read_for_their_pixels_alone():
    assert tuple(sorted(FORMATS)) == FORMATS and set(FORMATS) - {"HEIF"} <= set(Image.OPEN)
    endings = {ending for ending, name in Image.registered_extensions().items() if name in FORMATS}
    assert set(PICTURES) - {".heic", ".heif"} <= endings


@pytest.mark.parametrize(
    ("name", "picture", "reason"),
    [
        ("float.tif", Image.fromarray(RAMP_HW.astype(np.float32)), "floating-point values, whose white is not known"),
        ("int.tif", Image.fromarray(RAMP_HW.astype(np.int32)), "32-bit integer values, whose white is not known"),
        ("tall.png", Image.new("RGB", (1, 60000)), "1 x 60000 pixels: one side is more than 100 times the other"),
        ("wide.png", Image.new("L", (30000, 20)), "30000 x 20 pixels: one side is more than 100 times the other"),
        ("large.png", Image.new("1", (10000, 10000)), f"10000 x 10000 pixels are more than {MOST_PIXELS}"),
        ("bomb.png", Image.new("1", (20000, 20000)), "DecompressionBombError: Image size"),
    ],
)
def test_refused_with_the_reason_before_anything_is_decoded(tmp_path, monkeypatch, name, picture, reason):
    picture.save(tmp_path / name)
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda file: pytest.fail("decoded"))
    with pytest.raises(OSError, match=reason):
        open_image(tmp_path / name)


def test_a_damaged_further_page_is_no_reason_to_refuse(tmp_path):
    COLOURS.save(tmp_path / "pages.tif", save_all=True, append_images=[COLOURS] * 2)
    content = (tmp_path / "pages.tif").read_bytes()
    (tmp_path / "pages.tif").write_bytes(content[: len(content) * 2 // 3])
    assert (np.asarray(open_image(tmp_path / "pages.tif")) == COLOURS_HWC).all()
    assert isinstance(passed_over(tmp_path / "pages.tif"), list)


def test_a_folder_is_no_image(tmp_path):
    with pytest.raises(OSError, match="not a regular file"):
        open_image(tmp_path)


@pytest.mark.parametrize("fit", ["pad", "crop"])
def test_long_pictures_are_made_square_in_bounded_memory(fit, monkeypatch):
    sizes = []
    made = Image.new

    def new(mode, size, *rest):
        sizes.append(size[0] * size[1])
        return made(mode, size, *rest)

    long = made("RGB", (20000, 200))
    monkeypatch.setattr(Image, "new", new)
    assert square_image(long, 64, fit).size == (64, 64)
    assert max(sizes, default=0) <= MOST_PIXELS


def test_pictures_of_more_than_one_frame_and_turned_ones_are_told(tmp_path, caplog):
    root = tmp_path / "root"
    for number in range(4):
        image(root / "cat" / f"{number}.png")
    COLOURS.save(root / "cat" / "frames.png", save_all=True, append_images=[COLOURS.rotate(90)])
    turned = Image.Exif()
    turned[0x0112] = 6
    for number in range(2):
        COLOURS.resize((20, 10)).save(root / "cat" / f"turned{number}.jpg", exif=turned)
    with caplog.at_level(logging.WARNING):
        manifest = index(tmp_path, {"kind": "folder", "root": str(root), "min_images": 1})
    assert len(manifest.image_id) == 7
    assert "1 images have further frames or pages (only the first is used)" in caplog.text
    assert "2 images have an EXIF orientation (not applied, as in torchvision)" in caplog.text
    assert open_image(root / "cat" / "turned0.jpg").size == (20, 10)


@settings(max_examples=60, deadline=None)
@given(
    mode=st.sampled_from(["1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "I", "I;16", "I;16B", "F", "HSV"]),
    size=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    form=st.sampled_from(["PNG", "TIFF", "GIF", "JPEG", "WEBP", "BMP", "JPEG2000"]),
    cut=st.integers(0, 400),
    flip=st.tuples(st.integers(0, 400), st.integers(0, 255)),
)
def test_any_picture_is_read_or_refused(tmp_path_factory, mode, size, form, cut, flip):
    buffer = io.BytesIO()
    try:
        Image.new(mode, size).save(buffer, form)
    except (OSError, ValueError, KeyError):  # a mode that the format cannot hold
        return
    content = bytearray(buffer.getvalue())
    if flip[0] < len(content):
        content[flip[0]] = flip[1]
    path: Path = tmp_path_factory.getbasetemp() / "any"
    path.write_bytes(content if cut > 200 else content[: max(1, len(content) - cut)])
    try:
        found = open_image(path)
    except OSError:
        return
    assert found.mode == "RGB" and isinstance(passed_over(path), list)
