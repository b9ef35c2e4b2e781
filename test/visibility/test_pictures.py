import numpy as np
import pytest

from keypoint_detection.visibility.dense_map import DenseMap, grid_points
from keypoint_detection.visibility.pictures import (
    NOT_VISIBLE,
    UNSURE,
    VISIBLE,
    colors_of,
    compare_points,
    compare_regions,
    draw_map,
    draw_points,
    draw_region,
    shrunken,
)

GREY = np.full((120, 200, 3), 100, np.uint8)
WRONG = (213, 30, 60)


def test_colours_go_from_orange_over_white_to_blue() -> None:
    assert colors_of(np.array([0.0, 0.5, 1.0])).tolist() == [list(NOT_VISIBLE), list(UNSURE), list(VISIBLE)]


def test_points_have_the_colour_of_their_probability_at_their_place() -> None:
    xy = np.array([[20.0, 30], [100, 60], [180, 90], [np.nan, 5]])
    picture = draw_points(GREY, xy, np.array([0.0, 1.0, np.nan, 1.0]))
    assert tuple(picture[30, 20]) == NOT_VISIBLE
    assert tuple(picture[60, 100]) == VISIBLE
    assert (picture[80:, 150:] == 100).all()  # a point without a probability is not drawn
    assert (GREY == 100).all()


def test_wrong_points_have_a_ring_and_right_ones_none() -> None:
    xy, label = np.array([[50.0, 60], [150, 60]]), np.array([1, 1])
    picture = draw_points(GREY, xy, np.array([0.9, 0.2]), label=label)
    is_red = (picture == WRONG).all(-1)
    assert not is_red[:, :100].any()
    assert is_red[:, 100:].sum() > 8


def test_regions_are_tinted_and_unlabelled_ground_stays() -> None:
    label = np.full((120, 200), 2, np.uint8)
    label[:40], label[40:80] = 1, 0
    picture = draw_region(GREY, label)
    assert tuple(picture[10, 10]) == tuple(np.rint((np.array(VISIBLE) + 100) / 2).astype(int))
    assert tuple(picture[60, 10]) == tuple(np.rint((np.array(NOT_VISIBLE) + 100) / 2).astype(int))
    assert (picture[80:] == 100).all()


def test_maps_have_a_line_where_visibility_ends_and_none_at_the_border() -> None:
    xy = grid_points((120, 200), 10)
    p = (xy[..., 1] > 60).astype(np.float32)
    picture = draw_map(GREY, DenseMap(xy, p, (120, 200), 10))
    is_line = (picture == 255).all(-1)
    assert is_line[:, 100].any()
    assert is_line[50:75, 100].sum() == is_line[:, 100].sum()
    assert is_line[60, 5:-5].any() or is_line[61, 5:-5].any() or is_line[50:75, 5:-5].any(0).all()
    assert not is_line[-3:].any()


def test_side_by_side_keeps_the_three_and_explains_the_colours() -> None:
    xy, label = np.array([[50.0, 60], [150, 60]]), np.array([1, 0])
    picture = compare_points(GREY, xy, label, np.array([0.9, 0.8]))
    assert picture.shape[1] == 3 * 200 + 2 * 2
    top = next(row for row in range(picture.shape[0]) if (picture[row, :200] == 100).all())
    panels = [picture[top : top + 120, start : start + 200] for start in (0, 202, 404)]
    assert (panels[0] == 100).all()
    assert tuple(panels[1][60, 50]) == VISIBLE
    assert tuple(panels[1][60, 150]) == NOT_VISIBLE
    legend = picture[top + 120 :]
    for color in (VISIBLE, NOT_VISIBLE, UNSURE, WRONG):
        assert (legend == color).all(-1).any(), color


def test_large_images_are_shrunk_with_their_points() -> None:
    image = np.zeros((400, 800, 3), np.uint8)
    image[200:, 400:] = 255
    small, to_small = shrunken(image, 100)
    assert small.shape == (50, 100, 3)
    assert to_small @ np.array([399.5, 199.5, 1]) == pytest.approx([49.5, 24.5])
    found = DenseMap(grid_points((400, 800), 40), np.ones((10, 20), np.float32), (400, 800), 40)
    picture = compare_regions(image, np.zeros((400, 800), np.uint8), found, longest_px=100)
    assert picture.shape[1] == 304
    with pytest.raises(ValueError, match="labels of the image's size"):
        compare_regions(image, np.zeros((4, 8), np.uint8), found)
