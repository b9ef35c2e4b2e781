"""The family of drawn boxes: outlines, left and right, hidden and missing points."""

import cv2
import numpy as np
import pytest

from keypoint_detection.data.synthetic_boxes import draw_boxes
from keypoint_detection.data.synthetic_drawing import signed_area


def draw(seed, image_hw, clutter=True):
    return draw_boxes(image_hw, clutter, np.random.default_rng([seed, 0]))


def test_the_area_of_a_box_is_that_of_the_hull_of_the_drawn_pixels():
    for seed in range(16):
        image, instances = draw(seed, (500, 500), clutter=False)
        if len(instances) != 1 or len(instances[0].keypoints) < 6:
            continue
        ys, xs = np.nonzero((image != image[0, 0]).any(axis=2))
        left, top, width, height = instances[0].box
        np.testing.assert_allclose(
            [left, left + width, top, top + height], [xs.min(), xs.max(), ys.min(), ys.max()], atol=1
        )
        hull = cv2.convexHull(np.stack([xs, ys], axis=1).astype(np.float32))
        assert cv2.contourArea(hull) == pytest.approx(instances[0].area, rel=0.02)


def test_mirrored_box_with_names_swapped_is_of_the_same_family():
    """The flap tips lie to the front of the middle of the corners; a mirror turns left and right round."""

    def turn(points):
        middle = np.mean([points[f"corner{i}"] for i in range(4)], axis=0)
        across = points["flap_right"] - points["flap_left"]
        forward = (points["flap_left"] + points["flap_right"]) / 2 - middle
        return across[0] * forward[1] - across[1] * forward[0]

    n_boxes = 0
    for seed in range(60):
        for instance in draw(seed, (64, 64))[1]:
            points = {name: np.array([p.x, p.y]) for name, p in instance.keypoints.items()}
            if len(points) < 6:
                continue
            mirrored = {name: np.array([63 - x, y]) for name, (x, y) in points.items()}
            swap = {"flap_left": "flap_right", "flap_right": "flap_left"}
            assert turn(points) > 0
            assert turn(mirrored) < 0
            assert turn({swap.get(name, name): point for name, point in mirrored.items()}) > 0
            n_boxes += 1
    assert n_boxes > 40


def test_corners_go_round_from_a_random_one():
    starts = set()
    for seed in range(40):
        for instance in draw(seed, (64, 64))[1]:
            if len(instance.keypoints) == 6:
                corners = np.array(
                    [(p.x, p.y) for name, p in instance.keypoints.items() if name.startswith("corner")]
                )
                assert (
                    signed_area(corners) < 0
                )  # front left, front right, back right: against the clock on screen
                starts.add(int(np.argmin(corners[:, 0] - corners[:, 1])))
    assert starts == {0, 1, 2, 3}


def test_boxes_are_mostly_visible_sometimes_covered_cut_or_absent():
    pictures = [draw(seed, (64, 64))[1] for seed in range(160)]
    points = [
        point for instances in pictures for instance in instances for point in instance.keypoints.values()
    ]
    n_possible = 6 * sum(map(len, pictures))
    covered = sum(point.visibility == 1 for point in points) / n_possible
    absent = 1 - len(points) / n_possible
    assert 0.005 < covered < 0.05
    assert 0.002 < absent < 0.05
    assert 0.01 < sum(not instances for instances in pictures) / len(pictures) < 0.1
    assert {len(instances) for instances in pictures} == {0, 1, 2}
