import numpy as np
import pytest

from keypoint_detection.data.image_warp import warp_pixels
from keypoint_detection.gaze.samples_images import box_mask, mirrored, stretch_affine, warp_part
from keypoint_detection.geometry import transform_points


def test_the_edges_of_a_box_are_those_of_the_frame() -> None:
    box = np.array([3.25, -4.0, 20.5, 30.0])
    corners = transform_points(stretch_affine(box, (50, 40)), box.reshape(2, 2))
    np.testing.assert_allclose(corners, [[-0.5, -0.5], [39.5, 49.5]])


@pytest.mark.parametrize("box", [
    (0, 0, 12, 12), (-0.5, -0.5, 99.5, 69.5), (60.3, 20.7, 64.1, 23.9), (70, 40, 130, 90), (-30, -30, 5, 140),
    (-40, 10, -20, 30), (-0.5, 30, 99.5, 60),
])  # fmt: skip
@pytest.mark.parametrize("to_hw", [(20, 24), (64, 50)])
def test_a_part_is_warped_as_the_whole_image_is(box: tuple[float, ...], to_hw: tuple[int, int]) -> None:
    image = np.random.default_rng(1).integers(0, 255, (70, 100, 3), dtype=np.uint8)
    affine = stretch_affine(np.array(box, np.float64), to_hw)
    expected = warp_pixels(image, affine, to_hw)
    part = warp_part(image, affine, to_hw)
    assert part.shape == (*to_hw, 3)
    assert np.abs(part.astype(int) - expected).max() <= 1
    grey = warp_part(np.ascontiguousarray(image[..., 0]), affine, to_hw)
    assert np.abs(grey.astype(int) - expected[..., 0]).max() <= 1


def test_a_mask_has_the_area_of_its_box() -> None:
    mask = box_mask(np.array([2.3, 4.1, 9.8, 6.6]), (12, 14))
    assert mask.sum() / 255 == pytest.approx(7.5 * 2.5, abs=0.05)
    outside = box_mask(np.array([-9.0, -9.0, 1.5, 0.5]), (12, 14))
    assert (outside[:1, :2] == 255).all()
    assert outside.sum() == 2 * 255


def test_mirrored_or_not() -> None:
    image = np.arange(6, dtype=np.uint8).reshape(2, 3)
    assert mirrored(image, True).tolist() == [[2, 1, 0], [5, 4, 3]]
    assert mirrored(image, False) is image
