"""Polygons, layers and shadows of the drawn data sets, against hand-worked numbers and dense sampling."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keypoint_detection.data.synthetic_drawing import (
    Layer,
    clip_convex,
    convex_hull,
    covers,
    disc,
    polygon_coverage,
    signed_area,
)
from keypoint_detection.geometry import resize_affine, transform_points


def full_coverage(vertices, image_hw):
    coverage, rows, columns = polygon_coverage(vertices, image_hw)
    image = np.zeros(image_hw)
    image[rows, columns] = coverage
    return image


def test_coverage_of_a_hand_worked_rectangle():
    # From the middle of pixel 1 to a quarter into pixel 3; from the top of row 1 to the middle of row 2.
    rectangle = np.array([[1.0, 0.5], [2.75, 0.5], [2.75, 2.0], [1.0, 2.0]])
    row = np.array([0, 0.5, 1, 0.25, 0])
    expected = np.stack([0 * row, row, 0.5 * row, 0 * row])
    np.testing.assert_allclose(full_coverage(rectangle, (4, 5)), expected, atol=1e-6)


def test_coverage_of_a_concave_polygon_against_dense_sampling():
    arrow = np.array([[2.2, 1.3], [12.7, 6.1], [3.4, 11.8], [6.3, 6.6]])
    factor, grid = 40, np.arange(14 * 40)
    to_image = resize_affine((14 * factor, 14 * factor), (14, 14))
    sampled = np.zeros((14 * factor, 14 * factor))
    for row in grid:
        points = transform_points(to_image, np.stack([grid, np.full_like(grid, row)], axis=1).astype(float))
        crossings = [
            a[0] + (points[0, 1] - a[1]) * (b[0] - a[0]) / (b[1] - a[1])
            for a, b in zip(arrow, np.roll(arrow, -1, axis=0), strict=True)
            if (a[1] <= points[0, 1]) != (b[1] <= points[0, 1])
        ]
        sampled[row] = sum(points[:, 0] > crossing for crossing in crossings) % 2
    expected = sampled.reshape(14, factor, 14, factor).mean(axis=(1, 3))
    np.testing.assert_allclose(full_coverage(arrow, (14, 14)), expected, atol=0.02)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    centre=st.tuples(st.floats(9, 21), st.floats(9, 21)),
    angles=st.lists(st.floats(0, 2 * math.pi), min_size=3, max_size=7),
    radius=st.floats(2, 8),
)
def test_area_and_centroid_of_coverage_are_those_of_the_polygon(centre, angles, radius):
    vertices = np.array([[np.cos(a), np.sin(a)] for a in sorted(angles)]) * radius + centre
    area = signed_area(vertices)
    coverage = full_coverage(vertices, (30, 31))
    # Each edge may be off by half a line, 1/64 px, over its width; all widths together are at most 4 radii.
    assert coverage.sum() == pytest.approx(area, abs=radius / 16 + 1e-4)
    if area > 1.2 * radius**2:
        ends = np.roll(vertices, -1, axis=0)
        cross = vertices[:, 0] * ends[:, 1] - ends[:, 0] * vertices[:, 1]
        centroid = ((vertices + ends) * cross[:, None]).sum(0) / (6 * area)
        y, x = np.indices(coverage.shape)
        found = np.array([(coverage * x).sum(), (coverage * y).sum()]) / coverage.sum()
        np.testing.assert_allclose(found, centroid, atol=0.04)


def test_coverage_is_cut_at_the_border_and_empty_outside():
    square = np.array([[-5.0, -5.0], [1.5, -5.0], [1.5, 1.5], [-5.0, 1.5]])
    assert full_coverage(square, (6, 6)).sum() == pytest.approx(4.0, abs=1e-5)
    for shift in ((-20, 0), (20, 0), (0, 20), (0, -20)):
        assert full_coverage(square + shift, (6, 6)).sum() == 0


def test_neighbours_on_a_layer_leave_no_seam_and_hidden_parts_are_left_out():
    layer = Layer((20, 20))
    left, right = (
        np.array([[2, 3], [9.3, 2], [11.6, 17], [3, 16]]),
        np.array([[9.3, 2], [18, 4], [17, 15], [11.6, 17]]),
    )
    cover = np.array([[5.0, 5.0], [30, 6], [30, 12], [5, 11]])
    layer.add(left, (1, 0, 0), hidden=[cover])
    layer.add(right, (0, 1, 0), hidden=[cover])
    layer.add(clip_convex(cover, np.concatenate([left[:2], right[1:3], left[2:]])), (0, 0, 1))
    np.testing.assert_allclose(layer.pixels[6:14, 6:15, 3], 1.0, atol=1e-5)
    np.testing.assert_allclose(layer.pixels[..., :3].sum(-1), layer.pixels[..., 3], atol=1e-5)


def test_a_shadow_keeps_its_place_at_the_border():
    outline = np.array([[-4.0, 3.0], [6.0, 3.0], [6.0, 12.0], [-4.0, 12.0]])
    small, large = Layer((20, 20)), Layer((60, 60))
    small.pixels[...], large.pixels[...] = 1.0, 1.0
    small.shadow(outline, 1.5, 0.5)
    large.shadow(outline + 20, 1.5, 0.5)
    np.testing.assert_allclose(small.pixels, large.pixels[20:40, 20:40], atol=1e-5)
    assert small.pixels[7, 2, 0] == pytest.approx(0.5, abs=0.03)
    assert small.pixels[7, 15, 0] == 1.0


def test_clipping_hull_and_inside():
    square = np.array([[0.0, 0], [4, 0], [4, 4], [0, 4]])
    triangle = np.array([[2.0, 2], [8, 2], [2, 8]])
    for window in (square, square[::-1]):
        assert abs(signed_area(clip_convex(triangle, window))) == pytest.approx(4.0)
    assert len(clip_convex(triangle + 10, square)) == 0
    assert covers(triangle, np.array([3.0, 3.0]))
    assert not covers(triangle, np.array([6.0, 6.0]))
    assert len(convex_hull(np.concatenate([square, [[2.0, 2.0], [1.0, 3.0]]]))) == 4
    assert abs(signed_area(disc((5, 5), 2.0, 256))) == pytest.approx(4 * math.pi, rel=1e-3)
