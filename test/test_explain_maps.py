"""Maps keep their place between tokens, network frame and image, and their mass is counted right."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keypoint_detection.explain_maps import (
    map_on_picture,
    mass_near,
    over_image,
    tokens_to_frame,
    warp_map,
)
from keypoint_detection.geometry import (
    identity_affine,
    invert,
    letterbox_affine,
    resize_affine,
    transform_points,
)


def centroid(values: np.ndarray) -> np.ndarray:
    ys, xs = np.mgrid[: values.shape[0], : values.shape[1]]
    return np.array([(values * xs).sum(), (values * ys).sum()]) / values.sum()


@given(st.integers(0, 3), st.integers(0, 4), st.sampled_from([14, 16, 32]))
def test_one_token_has_its_centre(row: int, column: int, patch_px: int) -> None:
    tokens = np.zeros((6, 7))
    tokens[row + 1, column + 1] = 1.0
    frame = tokens_to_frame(tokens, patch_px, (6 * patch_px - 3, 7 * patch_px - 5))
    expected = (np.array([column + 1, row + 1]) + 0.5) * patch_px - 0.5
    np.testing.assert_allclose(centroid(frame), expected, atol=1e-6)
    assert frame.max() <= 1.0
    assert frame.sum() == pytest.approx(patch_px**2)


def test_padding_of_the_backbone_is_cut_off_and_borders_are_continued() -> None:
    frame = tokens_to_frame(np.array([[1.0, 2.0], [3.0, 4.0]]), 16, (20, 25))
    assert frame.shape == (20, 25)
    assert frame[0, 0] == frame[7, 7] == 1.0
    assert frame[0, 24] == 2.0
    assert frame[7, 15] == pytest.approx(1.0 + 7.5 / 16)


@given(
    st.tuples(st.integers(120, 300), st.integers(120, 300)),
    st.floats(0.4, 0.6),
    st.floats(0.4, 0.6),
)
def test_a_dot_keeps_its_place_from_the_frame_to_the_image(
    image_hw: tuple[int, int], share_x: float, share_y: float
) -> None:
    to_image = invert(letterbox_affine(image_hw, (96, 128)))
    expected = np.array([share_x * image_hw[1], share_y * image_hw[0]])
    point = transform_points(invert(to_image), expected)
    ys, xs = np.mgrid[:96, :128]
    dot = np.exp(-((xs - point[0]) ** 2 + (ys - point[1]) ** 2) / 8)  # wide enough to have no pixel grid
    np.testing.assert_allclose(centroid(warp_map(dot, to_image, image_hw)), expected, atol=0.05)


def test_the_rest_over_the_image_sums_to_one() -> None:
    to_image = invert(letterbox_affine((10, 20), (20, 20)))  # rows 5 to 14 show the image
    values = np.ones((20, 20))
    values[:5] = 100.0
    kept = over_image(values, to_image, (10, 20))
    assert kept.sum() == pytest.approx(1.0)
    assert kept[:5].sum() == kept[15:].sum() == 0.0
    assert kept[5:15] == pytest.approx(1 / 200)
    assert over_image(np.zeros((20, 20)), to_image, (10, 20))[7, 7] == pytest.approx(1 / 200)


def test_mass_by_hand() -> None:
    values = np.arange(25.0).reshape(5, 5)
    # the pixel (2, 2) and its four neighbours hold 12 + 7 + 11 + 13 + 17 = 60 of 300
    assert mass_near(values, np.array([2.0, 2.0]), 1.0) == pytest.approx(0.2)
    assert mass_near(values, np.array([2.0, 2.0]), 0.99) == pytest.approx(12 / 300)
    assert mass_near(values, np.array([2.4, 2.0]), 0.7) == pytest.approx((12 + 13) / 300)
    assert mass_near(values, np.array([-50.0, 2.0]), 3.0) == 0.0


def test_shrinking_averages() -> None:
    values = np.zeros((90, 90))
    values[44, 44] = 9.0  # alone in the block of 3 x 3 pixels around it
    small = warp_map(values, resize_affine((90, 90), (30, 30)), (30, 30))
    assert small.sum() == pytest.approx(1.0)
    assert np.unravel_index(small.argmax(), small.shape) == (14, 14)


def test_what_is_drawn_is_from_0_to_1() -> None:
    values = np.random.default_rng(0).random((100, 100))
    values[3, 3] = 1e6  # one pixel does not hide the rest
    drawn = map_on_picture(values, identity_affine(), (100, 100))
    assert drawn.max() == 1.0
    assert drawn.min() >= 0.0
    assert np.median(drawn) == pytest.approx(0.5, abs=0.02)
    assert map_on_picture(np.zeros((5, 5)), identity_affine(), (5, 5)).max() == 0.0
    spike = np.zeros((100, 100))
    spike[5, 5] = 2.0
    assert map_on_picture(spike, identity_affine(), (100, 100)).max() == 1.0
