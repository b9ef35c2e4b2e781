import zlib

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference.dots import draw_dot

from keypoint_detection.data.image_warp import read_pixels, warp_colors, warp_pixels, write_pixels
from keypoint_detection.data.imageloader import ImageError, load_image
from keypoint_detection.geometry import (
    box_affine,
    identity_affine,
    letterbox_affine,
    resize_affine,
    similarity_affine,
    transform_points,
    warp_image,
)

HW = st.tuples(st.integers(8, 70), st.integers(8, 70))


@settings(max_examples=80, deadline=None)
@given(HW, HW, st.sampled_from([np.uint8, np.uint16]))
def test_no_grey_creeps_in_at_the_border(from_hw, to_hw, dtype):
    """A warp that fills up with grey would darken the outer pixels wherever they fall between two."""
    white = np.full((*from_hw, 3), np.iinfo(dtype).max, dtype)
    found = warp_pixels(white, resize_affine(from_hw, to_hw), to_hw)
    assert found.shape == (*to_hw, 3)
    assert found.dtype == dtype
    assert (found == np.iinfo(dtype).max).all()


def test_a_letterbox_is_grey_beside_the_image_alone():
    """20x40 (h x w) into 60x80: scale 2, ten rows above and below, and no column; one row each is between."""
    white = np.full((20, 40), 255, np.uint8)
    found = warp_pixels(white, letterbox_affine((20, 40), (60, 80)), (60, 80))
    assert (found[11:49] == 255).all()
    assert (found[:9] == 114).all()
    assert (found[51:] == 114).all()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("to_hw", [(60, 200), (48, 64), (101, 77), (40, 30)])
@pytest.mark.parametrize("make", ["resize", "letterbox", "box"])
def test_dot(dtype, to_hw, make):
    xy = np.array([61.7, 44.2])
    affine = {
        "resize": resize_affine((96, 128), to_hw),
        "letterbox": letterbox_affine((96, 128), to_hw),
        "box": box_affine((20.3, 10.1, 80, 70), to_hw, 1.1),
    }[make]
    scale = 1 if dtype == np.uint8 else 257
    pixels = (draw_dot((96, 128), (61.7, 44.2), 4.0).astype(np.uint32) * scale).astype(dtype)
    found = warp_pixels(pixels, affine, to_hw)
    assert found.dtype == dtype
    weight = found / scale - 114.0
    y, x = np.mgrid[: to_hw[0], : to_hw[1]]
    centroid = np.array([(weight * x).sum(), (weight * y).sum()]) / weight.sum()
    assert np.abs(centroid - transform_points(affine, xy)).max() <= 0.05


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_shift_by_whole_pixels_keeps_them(dtype):
    pixels = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, (30, 40, 3), dtype)
    found = warp_pixels(pixels, np.array([[1.0, 0.0, 5.0], [0.0, 1.0, -3.0]]), (27, 45))
    assert (found[:, 5:] == pixels[3:]).all()
    assert (found[:, :5] == (114 if dtype == np.uint8 else 114 * 257)).all()


def test_reading_agrees_with_the_loader(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 65535, (30, 40, 3), np.uint16)
    write_pixels(tmp_path / "a.png", pixels)
    assert (read_pixels(tmp_path / "a.png") == pixels).all()
    expected = np.rint(pixels[..., ::-1] / 257)
    assert (load_image(tmp_path / "a.png") == expected).all()


def test_transparency_that_is_stored_turned(tmp_path):
    """A PNG's EXIF chunk with orientation 6; which way round the labels are is not known."""
    content = cv2.imencode(".png", np.zeros((20, 30, 4), np.uint8))[1].tobytes()
    exif = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0"
    chunk = b"eXIf" + exif
    chunk = len(exif).to_bytes(4, "big") + chunk + zlib.crc32(chunk).to_bytes(4, "big")
    (tmp_path / "a.png").write_bytes(content[:33] + chunk + content[33:])
    if load_image(tmp_path / "a.png").shape[:2] == (20, 30):
        pytest.skip("this OpenCV does not read the EXIF chunk of a PNG")
    with pytest.raises(ImageError, match=r"stored upright.*a\.png"):
        read_pixels(tmp_path / "a.png")


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=200), st.integers(0, 300))
def test_any_bytes_are_an_image_or_one_line(tmp_path_factory, content, cut):
    path = tmp_path_factory.getbasetemp() / "any.png"
    whole = cv2.imencode(".bmp", np.zeros((8, 8, 3), np.uint8))[1].tobytes()
    for bytes_ in (content, whole[:cut] + content):
        path.write_bytes(bytes_)
        try:
            assert read_pixels(path).dtype in (np.uint8, np.uint16)
        except ImageError as error:
            message = str(error)
        else:
            message = ""
        assert "\n" not in message


@pytest.mark.parametrize(
    ("name", "dtype", "message"),
    [
        ("a.jpg", np.uint16, "file name for 16-bit pixels"),
        ("a.xyz", np.uint8, "that can be written"),
        ("a", np.uint8, "that can be written"),
    ],
)
def test_names_that_cannot_hold_the_image(tmp_path, name, dtype, message):
    with pytest.raises(ImageError, match=message):
        write_pixels(tmp_path / name, np.zeros((8, 8), dtype))
    assert not list(tmp_path.iterdir())


def test_a_missing_file_and_other_pixels(tmp_path):
    with pytest.raises(FileNotFoundError, match="found nothing"):
        read_pixels(tmp_path / "a.png")
    cv2.imwrite(str(tmp_path / "a.tiff"), np.zeros((8, 8), np.float32))
    with pytest.raises(ImageError, match="got float32 pixels"):
        read_pixels(tmp_path / "a.tiff")


@given(st.integers(0, 2**31), st.sampled_from([1, 2, 3, 4]))
@settings(max_examples=40, deadline=None)
def test_four_channels_at_once_change_no_value(seed: int, channels: int) -> None:
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (37, 53, channels), dtype=np.uint8)
    scale, degrees = rng.uniform(0.2, 2.5), rng.uniform(-180, 180)
    affine = similarity_affine((37, 53), (41, 64), scale, degrees, (rng.uniform(-9, 9), 2.3))
    assert np.array_equal(warp_colors(image, affine, (41, 64)), warp_image(image, affine, (41, 64)))
    assert warp_colors(image, identity_affine(), (37, 53)) is image
