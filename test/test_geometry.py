import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reference.dots import centroid, draw_dot

from keypoint_detection.geometry import (
    PAD_VALUE,
    box_affine,
    compose,
    heatmap_to_image,
    horizontal_flip_affine,
    identity_affine,
    image_to_heatmap,
    invert,
    is_inside,
    letterbox_affine,
    resize_affine,
    similarity_affine,
    transform_points,
    vertical_flip_affine,
    warp_image,
)

IMAGE_HW = (120, 160)
NAN = math.nan


def mapped(affine: np.ndarray, *points: tuple[float, float]) -> list[list[float]]:
    return transform_points(affine, np.array(points)).tolist()


def test_identity_keeps_points() -> None:
    assert mapped(identity_affine(), (3.25, -7.0)) == [[3.25, -7.0]]


def test_resize_maps_corners_to_corners_and_pixel_centres_by_the_convention() -> None:
    affine = resize_affine((10, 20), (20, 80))  # y doubles, x quadruples
    assert mapped(affine, (-0.5, -0.5), (19.5, 9.5)) == [[-0.5, -0.5], [79.5, 19.5]]
    assert mapped(affine, (0.0, 0.0), (3.0, 2.0)) == [
        [1.5, 0.5],
        [13.5, 4.5],
    ]  # (3.5 * 4 - 0.5, 2.5 * 2 - 0.5)


def test_letterbox_fits_centred_with_the_aspect_ratio_kept() -> None:
    affine = letterbox_affine((20, 40), (40, 40))  # scale 1, ten rows above and below
    assert mapped(affine, (0.0, 0.0), (39.0, 19.0)) == [[0.0, 10.0], [39.0, 29.0]]
    affine = letterbox_affine((100, 50), (50, 50))  # scale 1/2, 12.5 columns left and right
    assert mapped(affine, (-0.5, -0.5), (49.5, 99.5)) == [[12.0, -0.5], [37.0, 49.5]]


def test_a_box_is_centred_in_its_frame_with_the_aspect_ratio_kept() -> None:
    # From the corner of the image, columns 10 to 30 and rows 20 to 60: the centre is at pixel (19.5, 39.5).
    affine = box_affine((10, 20, 20, 40), (80, 80), padding=1.0)  # scale 2, twenty columns left and right
    assert mapped(affine, (19.5, 39.5), (9.5, 19.5), (29.5, 59.5)) == [
        [39.5, 39.5],
        [19.5, -0.5],
        [59.5, 79.5],
    ]
    affine = box_affine((10, 20, 20, 40), (60, 100), padding=1.25)  # scale 60 / 50
    assert np.allclose(mapped(affine, (19.5, 39.5), (9.5, 19.5)), [[49.5, 29.5], [37.5, 5.5]])
    whole = box_affine((0, 0, 50, 100), (50, 50), padding=1.0)
    assert np.allclose(whole, letterbox_affine((100, 50), (50, 50)))


@given(
    st.tuples(st.floats(-50, 200), st.floats(-50, 200), st.floats(0.5, 300), st.floats(0.5, 300)),
    st.floats(0.5, 3.0),
)
def test_the_enlarged_box_fills_one_side_of_the_frame(
    box: tuple[float, float, float, float], padding: float
) -> None:
    to_hw = (96, 72)
    x, y, width, height = box
    corners = np.array([(x - 0.5, y - 0.5), (x + width - 0.5, y + height - 0.5)])
    middle = corners.mean(0)
    low, high = transform_points(box_affine(box, to_hw, padding), middle + padding * (corners - middle))
    assert np.allclose(low + high, (71, 95))  # centred
    share = (high - low) / (72, 96)
    assert share.max() == pytest.approx(1.0)


@pytest.mark.parametrize("box", [(0, 0, 0, 5), (0, 0, 5, -1), (NAN, 0, 5, 5), (0, 0, math.inf, 5)])
def test_a_box_without_size_is_an_error(box: tuple[float, float, float, float]) -> None:
    with pytest.raises(ValueError, match=r"^expected a box .*, got \(") as error:
        box_affine(box, (64, 64))
    assert "\n" not in str(error.value)


def test_rotation_is_clockwise_on_screen_about_the_centre() -> None:
    affine = similarity_affine((11, 21), (11, 21), degrees=90)
    assert np.allclose(
        mapped(affine, (10.0, 5.0), (15.0, 5.0)), [[10.0, 5.0], [10.0, 10.0]]
    )  # right goes down


def test_similarity_scales_about_the_centre_and_shifts() -> None:
    affine = similarity_affine((11, 21), (31, 41), scale=2.0, shift_xy=(3.0, -1.0))
    assert np.allclose(mapped(affine, (10.0, 5.0), (12.0, 5.0)), [[23.0, 14.0], [27.0, 14.0]])


def test_flips_mirror_pixel_centres() -> None:
    assert mapped(horizontal_flip_affine(10), (0.0, 3.0), (9.5, 3.0)) == [[9.0, 3.0], [-0.5, 3.0]]
    assert mapped(vertical_flip_affine(10), (2.0, 0.25)) == [[2.0, 8.75]]


def test_compose_applies_the_first_map_first() -> None:
    flip_then_resize = compose(horizontal_flip_affine(10), resize_affine((10, 10), (20, 20)))
    assert mapped(flip_then_resize, (0.0, 0.0)) == [[18.5, 0.5]]  # 0 -> 9 -> 9.5 * 2 - 0.5
    assert np.array_equal(compose(), identity_affine())


def test_singular_affines_have_no_inverse() -> None:
    with pytest.raises(np.linalg.LinAlgError):
        invert(np.zeros((2, 3)))


def test_heatmap_pixels_of_a_stride() -> None:
    points = np.array([[0.0, 7.5], [3.0, NAN]])
    expected = np.array([[-0.375, 1.5], [0.375, NAN]])  # (0.5 / 4 - 0.5, 8 / 4 - 0.5), (3.5 / 4 - 0.5)
    assert np.array_equal(image_to_heatmap(points, 4), expected, equal_nan=True)
    assert np.array_equal(heatmap_to_image(expected, 4), points, equal_nan=True)


def test_batched_affines_of_torch_go_with_the_first_axis() -> None:
    affines = np.stack([horizontal_flip_affine(10), similarity_affine((8, 8), (8, 8), 1.5, 30.0)])
    points = np.random.default_rng(0).uniform(0, 9, (2, 3, 4, 2))
    points[1, 2, 3] = NAN
    together = transform_points(torch.from_numpy(affines), torch.from_numpy(points)).numpy()
    for row in range(2):
        assert np.allclose(together[row], transform_points(affines[row], points[row]), equal_nan=True)
    assert np.isnan(together[1, 2, 3]).all()
    assert np.isfinite(together).sum() == together.size - 2


def test_inside_takes_the_borders_of_the_outer_pixels_and_leaves_out_nan() -> None:
    points = np.array(
        [[-0.5, -0.5], [9.5, 4.5], [9.51, 0.0], [0.0, 4.51], [-0.51, 0.0], [0.0, -0.51], [NAN, 0.0]]
    )
    assert is_inside(points, (5, 10)).tolist() == [True, True, False, False, False, False, False]
    assert is_inside(torch.from_numpy(points), (5, 10)).tolist() == is_inside(points, (5, 10)).tolist()


def test_inside_with_an_image_for_every_point() -> None:
    points = np.array([[12.0, 3.0], [12.0, 3.0], [12.0, 3.0]])
    assert is_inside(points, (np.array([4, 3, 4]), np.array([20, 20, 12]))).tolist() == [True, False, False]


@given(
    st.floats(0.2, 4.0),
    st.floats(-180.0, 180.0),
    st.tuples(st.floats(-30, 30), st.floats(-30, 30)),
    st.booleans(),
)
@settings(max_examples=50, deadline=None)
def test_the_inverse_gives_points_back(
    scale: float, degrees: float, shift: tuple[float, float], flip: bool
) -> None:
    affine = similarity_affine(IMAGE_HW, (77, 91), scale, degrees, shift)
    if flip:
        affine = compose(affine, horizontal_flip_affine(91))
    points = np.array([[0.0, 0.0], [159.5, 3.25], [80.0, 119.0]])
    assert np.allclose(transform_points(invert(affine), transform_points(affine, points)), points, atol=1e-9)


def test_warps_that_only_move_pixels_are_exact() -> None:
    image = np.random.default_rng(0).integers(0, 256, (7, 9, 3), dtype=np.uint8)
    assert np.array_equal(warp_image(image, horizontal_flip_affine(9), (7, 9)), image[:, ::-1])
    assert np.array_equal(warp_image(image, vertical_flip_affine(7), (7, 9)), image[::-1])
    quarter = warp_image(image, similarity_affine((7, 9), (9, 7), degrees=90), (9, 7))
    assert np.array_equal(quarter, np.rot90(image, k=-1))
    moved = warp_image(image, letterbox_affine((7, 9), (11, 9)), (11, 9))
    assert np.array_equal(moved[2:9], image)
    assert (moved[:2] == PAD_VALUE).all()
    assert (moved[9:] == PAD_VALUE).all()


def test_halving_averages_the_four_pixels() -> None:
    image = np.random.default_rng(0).integers(0, 256, (8, 12), dtype=np.uint8)
    blocks = image.reshape(4, 2, 6, 2).astype(float).mean((1, 3))
    assert np.abs(warp_image(image, resize_affine((8, 12), (4, 6)), (4, 6)) - blocks).max() <= 1.0


def test_fine_texture_does_not_alias_when_shrunk() -> None:
    checkerboard = (np.indices((240, 240)).sum(0) % 2 * 255).astype(np.uint8)
    for scale in (0.5, 0.3, 0.2, 0.09):
        small = warp_image(checkerboard, similarity_affine((240, 240), (16, 16), scale, 10.0), (16, 16))
        assert np.abs(small.astype(float) - 127.5).max() < 32  # a plain bilinear warp is off by 127


@pytest.mark.parametrize("channels", [(), (1,), (2,), (3,), (4,), (6,)])
def test_warp_keeps_the_number_of_channels(channels: tuple[int, ...]) -> None:
    image = np.full((20, 30, *channels), 200, np.uint8)
    for scale in (1.0, 0.3):
        warped = warp_image(image, similarity_affine((20, 30), (25, 35), scale), (25, 35))
        assert warped.shape == (25, 35, *channels)
        assert (warped[12, 17] == 200).all()
        assert (warped[0, 0] == PAD_VALUE).all()


def test_a_picture_shrinks_to_one_pixel() -> None:
    image = np.full((3, 500, 3), 50, np.uint8)
    assert (warp_image(image, resize_affine((3, 500), (1, 1)), (1, 1)) == 50).all()


def test_nothing_to_do_returns_the_image_itself() -> None:
    image = np.zeros((4, 5, 3), np.uint8)
    assert warp_image(image, identity_affine(), (4, 5)) is image


OFFERED = {
    "box": (box_affine((50, 30, 60, 70), (96, 72)), (96, 72)),
    "identity": (identity_affine(), IMAGE_HW),
    "enlarge": (resize_affine(IMAGE_HW, (300, 410)), (300, 410)),
    "shrink": (resize_affine(IMAGE_HW, (70, 110)), (70, 110)),
    "halve": (resize_affine(IMAGE_HW, (60, 80)), (60, 80)),
    "shrink one axis more": (resize_affine(IMAGE_HW, (40, 150)), (40, 150)),
    "shrink three times": (resize_affine(IMAGE_HW, (40, 53)), (40, 53)),
    "letterbox square": (letterbox_affine(IMAGE_HW, (128, 128)), (128, 128)),
    "letterbox tall": (letterbox_affine(IMAGE_HW, (200, 61)), (200, 61)),
    "letterbox small": (letterbox_affine(IMAGE_HW, (36, 36)), (36, 36)),
    "horizontal flip": (horizontal_flip_affine(160), IMAGE_HW),
    "vertical flip": (vertical_flip_affine(120), IMAGE_HW),
    "rotate": (similarity_affine(IMAGE_HW, IMAGE_HW, degrees=33.0), IMAGE_HW),
    "quarter turn": (similarity_affine(IMAGE_HW, (160, 120), degrees=90.0), (160, 120)),
    "shift": (similarity_affine(IMAGE_HW, IMAGE_HW, shift_xy=(5.3, -8.6)), IMAGE_HW),
    "all": (
        compose(
            letterbox_affine(IMAGE_HW, (96, 96)),
            similarity_affine((96, 96), (96, 96), 0.9, -70.0, (4.4, 3.3)),
            horizontal_flip_affine(96),
            vertical_flip_affine(96),
        ),
        (96, 96),
    ),
}


def dot_error_px(affine: np.ndarray, to_hw: tuple[int, int], xy: tuple[float, float]) -> float:
    """Return how far the dot of the warped image is from the mapped point, in frame pixels."""
    scale = np.linalg.norm(affine[:, :2], axis=0).min()
    sigma_px = max(1.5, 0.6 / scale)  # the dot is small, but no smaller than what the frame can show
    warped = warp_image(draw_dot(IMAGE_HW, xy, sigma_px), affine, to_hw)
    return float(np.abs(centroid(warped) - transform_points(affine, np.array(xy))).max())


@pytest.mark.parametrize("name", OFFERED)
def test_dot(name: str) -> None:
    affine, to_hw = OFFERED[name]
    for xy in [(80.0, 60.0), (71.3, 48.8), (90.5, 66.25)]:
        assert dot_error_px(affine, to_hw, xy) <= 0.05


@given(
    st.floats(0.12, 2.0),
    st.floats(-180.0, 180.0),
    st.tuples(st.floats(50, 110), st.floats(45, 75)),
    st.tuples(st.booleans(), st.booleans()),
)
@settings(max_examples=100, deadline=None)
def test_dot_under_any_composition(
    scale: float, degrees: float, xy: tuple[float, float], flips: tuple[bool, bool]
) -> None:
    side = math.ceil(200 * scale) + 8
    affine = similarity_affine(IMAGE_HW, (side, side), scale, degrees, (0.3, -0.7))
    affine = compose(affine, horizontal_flip_affine(side)) if flips[0] else affine
    affine = compose(affine, vertical_flip_affine(side)) if flips[1] else affine
    assert dot_error_px(affine, (side, side), xy) <= 0.05
