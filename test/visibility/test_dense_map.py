from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from keypoint_detection.visibility.classifier import VisibilityClassifier
from keypoint_detection.visibility.dense_map import DenseMap, _cells, _interpolated, dense_map, grid_points
from keypoint_detection.visibility.pyramid import Pyramid, build_pyramid, crop_patches

FACTORS, PATCH_PX, HW = (2, 4), 16, (60, 90)


@pytest.fixture(scope="module")
def pyramid(tmp_path_factory: pytest.TempPathFactory) -> Pyramid:
    """Return two drawn images of noise."""
    folder, rng = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    paths = [folder / name for name in ("a.png", "b.png")]
    for path in paths:
        cv2.imwrite(str(path), rng.integers(0, 256, (*HW, 3), np.uint8))
    return build_pyramid(folder / "pyramid", paths, [HW] * 2, None, FACTORS, image_names=["a.png", "b.png"])


@pytest.fixture(scope="module")
def classifier() -> VisibilityClassifier:
    torch.manual_seed(0)
    return VisibilityClassifier(FACTORS, 3, patch_px=PATCH_PX, size_hidden=8)


def test_every_point_of_the_grid_gets_what_its_patch_alone_gets(
    classifier: VisibilityClassifier, pyramid: Pyramid
) -> None:
    found = dense_map(classifier, pyramid, 1, 25, batch_size=3)
    assert found.p_visible.shape == (3, 4)
    assert found.xy.shape == (3, 4, 2)
    patches = crop_patches(pyramid, 1, found.xy.reshape(-1, 2), PATCH_PX)
    expected = np.array([float(classifier.predict_proba(patch[None])[0]) for patch in patches])
    assert found.p_visible.ravel() == pytest.approx(expected, abs=1e-5)
    assert found.p_visible.std() > 0
    other = dense_map(classifier, pyramid, 0, 25, batch_size=100)
    assert not np.allclose(other.p_visible, found.p_visible)


def test_points_that_do_not_matter_are_left_out(classifier: VisibilityClassifier, pyramid: Pyramid) -> None:
    everything = dense_map(classifier, pyramid, 0, 10)
    where = np.zeros(HW, bool)
    where[30:] = True
    found = dense_map(classifier, pyramid, 0, 10, where=where)
    is_asked = found.xy[..., 1] >= 30
    assert 0 < is_asked.sum() < is_asked.size
    assert np.isnan(found.p_visible[~is_asked]).all()
    assert found.p_visible[is_asked] == pytest.approx(everything.p_visible[is_asked], abs=1e-6)
    nothing = dense_map(classifier, pyramid, 0, 10, where=np.zeros(HW, bool))
    assert np.isnan(nothing.p_visible).all()


def test_wrong_arguments_are_named(classifier: VisibilityClassifier, pyramid: Pyramid) -> None:
    with pytest.raises(ValueError, match="image from 0 to 1, got 2"):
        dense_map(classifier, pyramid, 2, 10)
    with pytest.raises(ValueError, match="stride, a batch and coarse of at least 1"):
        dense_map(classifier, pyramid, 0, 0)
    with pytest.raises(ValueError, match="mask of the image's size"):
        dense_map(classifier, pyramid, 0, 10, where=np.ones((3, 3), bool))
    with pytest.raises(ValueError, match="trained on levels 2 "):
        dense_map(VisibilityClassifier((2,), 3, patch_px=16, size_hidden=8), pyramid, 0, 10)


@given(st.tuples(st.integers(1, 200), st.integers(1, 200)), st.integers(1, 300))
def test_grids_lie_on_the_image_in_its_middle(image_hw: tuple[int, int], stride: int) -> None:
    xy = grid_points(image_hw, stride)
    for axis, length in enumerate(image_hw[::-1]):
        values = np.unique(xy[..., axis])
        assert values[0] >= 0
        assert values[-1] <= length - 1
        assert (np.diff(values) == stride).all()
        before, after = values[0], length - 1 - values[-1]
        assert abs(before - after) <= 1  # in the middle
        assert before + after < stride  # no room for one more point


def test_pixels_are_interpolated_linearly_at_their_place() -> None:
    xy = grid_points((41, 61), 10)
    slope = (xy[..., 0] / 100 + xy[..., 1] / 200).astype(np.float32)
    found = DenseMap(xy, slope, (41, 61), 10)
    ys, xs = np.mgrid[:41, :61]
    assert found.in_pixels()[:, :] == pytest.approx(xs / 100 + ys / 200, abs=2e-3)
    half = found.in_pixels((82, 122))  # pixel centres of the larger picture are at (x + .5) / 2 - .5
    assert half[41, 60] == pytest.approx(((60.5 / 2) - 0.5) / 100 + ((41.5 / 2) - 0.5) / 200, abs=3e-3)


def test_pixels_near_no_known_point_stay_unknown() -> None:
    xy = grid_points((30, 41), 10)
    values = np.full(xy.shape[:2], np.nan, np.float32)
    values[:, :2] = 0.75
    found = DenseMap(xy, values, (30, 41), 10).in_pixels()
    edge = int(xy[0, 1, 0]) + 5
    assert np.isnan(found[:, edge + 1 :]).all()
    assert found[:, : edge - 1] == pytest.approx(0.75)


class HalfVisible(VisibilityClassifier):
    """Call points visible where their finest patch is bright, and count them."""

    n_asked = 0

    def forward(self, patches: torch.Tensor) -> torch.Tensor:
        type(self).n_asked += len(patches)
        middle = patches.shape[-1] // 2
        return (patches[:, 0, middle, middle].float() - 128) / 20


@pytest.mark.parametrize("has_mask", [False, True])
def test_a_coarse_grid_finds_the_same_limit_with_fewer_patches(has_mask: bool, tmp_path: Path) -> None:
    image = np.zeros((200, 300, 3), np.uint8)
    image[120:] = 255
    cv2.imwrite(str(tmp_path / "a.png"), image)
    pyramid = build_pyramid(
        tmp_path / "p", [tmp_path / "a.png"], [(200, 300)], None, (2,), image_names=["a.png"]
    )
    where = np.ones((200, 300), bool)
    where[:45, :130] = not has_mask
    maps, counts = [], []
    for coarse in (1, 4):
        HalfVisible.n_asked = 0
        maps.append(dense_map(HalfVisible((2,), 3, patch_px=8), pyramid, 0, 7, where=where, coarse=coarse))
        counts.append(HalfVisible.n_asked)
    assert counts[0] == np.isfinite(maps[0].p_visible).sum()
    assert counts[1] < 0.5 * counts[0]
    assert np.nan_to_num(maps[1].p_visible, nan=-1) == pytest.approx(
        np.nan_to_num(maps[0].p_visible, nan=-1), abs=0.01
    )


def test_cells_cover_the_grid_and_values_between_corners_are_linear() -> None:
    for shape in ((2, 2), (5, 9), (6, 7)):
        covered = np.zeros(shape, int)
        for cell in _cells(shape, 4):
            covered[cell] += 1
        assert covered.min() >= 1
    cell = np.full((3, 3), np.nan, np.float32)
    cell[[0, 0, 2, 2], [0, 2, 0, 2]] = [0.0, 0.2, 0.4, 0.6]
    assert _interpolated(cell)[1] == pytest.approx([0.2, 0.3, 0.4])
    assert _cells((1, 9), 4) == []
