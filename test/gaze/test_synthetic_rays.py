import numpy as np
import pytest

from keypoint_detection.gaze.synthetic_rays import (
    Ray,
    clearance_degrees,
    direction_of,
    exit_distance_px,
    is_free,
    ray_towards,
)


def test_clearance_of_worked_discs() -> None:
    ray = Ray(np.array([10.0, 10.0]), direction_of(0))
    centres = np.array([[20.0, 10.0], [10.0, 20.0], [0.0, 10.0], [20.0, 20.0], [11.0, 10.0]])
    radii = np.array([5.0, 5.0, 5.0, 0.0, 2.0])
    # asin(5 / 10) is 30 degrees; the last disc holds the origin
    np.testing.assert_allclose(clearance_degrees(ray, centres, radii), [-30, 60, 150, 45, -180])


@pytest.mark.parametrize(("degrees", "expected"), [(0, 19.5), (90, 9.5), (180, 10.5), (270, 10.5)])
def test_rays_leave_at_the_outer_edge(degrees: float, expected: float) -> None:
    ray = Ray(np.array([10.0, 10.0]), direction_of(degrees))
    assert exit_distance_px(ray, (20, 30)) == pytest.approx(expected)


def test_a_slanted_ray_leaves_at_the_nearer_edge() -> None:
    ray = ray_towards(np.array([0.0, 0.0]), np.array([3.0, 4.0]))
    end = ray.at(exit_distance_px(ray, (20, 30)))
    np.testing.assert_allclose(end, [19.5 * 3 / 4, 19.5])


def test_free_places_keep_the_gap() -> None:
    discs = np.array([[0.0, 0.0, 5.0]])
    places = np.array([[9.9, 0.0], [10.0, 0.0], [0.0, -10.5]])
    assert is_free(places, 3.0, discs, 2.0).tolist() == [False, True, True]
    assert is_free(places, 3.0, np.empty((0, 3)), 2.0).all()
