import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from keypoint_detection.data.coco_parser import instances_by_image, read_coco
from keypoint_detection.data.synthetic import KINDS, draw_image
from keypoint_detection.visibility.synthetic_occluders import draw_occluded, make_occluded

HW = (96, 128)


def labels(kind: str, n_images: int) -> list[tuple[np.ndarray, np.ndarray, np.ndarray, int, int]]:
    """Return of each keypoint: the picture, the same without occluders, x and y, and both visibilities."""
    found = []
    for index in range(n_images):
        plain, before = draw_image(kind, HW, np.random.default_rng([4, index]))
        picture, after = draw_occluded(kind, HW, np.random.default_rng([4, index]))
        for old, new in zip(before, after, strict=True):
            assert list(old.keypoints) == list(new.keypoints)
            for name, point in new.keypoints.items():
                xy = np.array([point.x, point.y])
                found.append((picture, plain, xy, old.keypoints[name].visibility, point.visibility))
    return found


def is_darkened_at_most(picture: np.ndarray, plain: np.ndarray, xy: np.ndarray) -> bool:
    """Tell whether the pixel of a point has its old colour times a factor of at most 1, as in a shadow."""
    column, row = np.rint(xy).astype(int)
    if not (0 <= row < plain.shape[0] and 0 <= column < plain.shape[1]):
        return False
    old, new = plain[row, column].astype(float), picture[row, column].astype(float)
    factor = (old @ new) / max(old @ old, 1.0)
    return bool(factor < 1.02 and np.abs(factor * old - new).max() <= 1.0)


@pytest.mark.parametrize("kind", KINDS)
def test_the_labels_are_what_the_pixels_show(kind: str) -> None:
    uncovered, covered = [], []
    for picture, plain, xy, before, after in labels(kind, 25):
        assert after <= before  # nothing is uncovered
        if after == 2:
            uncovered.append(is_darkened_at_most(picture, plain, xy))
        elif before == 2:
            covered.append(not is_darkened_at_most(picture, plain, xy))
    assert len(uncovered) > 50
    assert len(covered) > 30
    assert np.mean(uncovered) > 0.99  # the pixel of a point at the very border may be outside
    assert np.mean(covered) > 0.97  # two colours may be alike by chance


@pytest.mark.parametrize("kind", KINDS)
def test_both_classes_are_frequent(kind: str) -> None:
    flags = np.array([after for *_, after in labels(kind, 40)])
    assert 0.3 <= (flags == 1).mean() <= 0.5


def test_many_visible_points_have_an_occluder_beside_them() -> None:
    near = []
    for picture, plain, (x, y), _, after in labels("flowers", 25):
        if after == 2:
            change = np.abs(picture.astype(int) - plain).max(-1) > 25
            column, row = round(x), round(y)
            near.append(change[max(row - 9, 0) : row + 10, max(column - 9, 0) : column + 10].any())
    assert np.mean(near) > 0.3


def test_a_data_set_is_written_and_repeats(tmp_path: Path) -> None:
    first = make_occluded(tmp_path / "a", 3, HW, seed=7)
    second = make_occluded(tmp_path / "b", 2, HW, seed=7)
    coco = read_coco(first)
    assert coco.keypoint_names() == list(KINDS["flowers"].keypoints)
    written = sorted(path.name for path in (tmp_path / "a" / "images").iterdir())
    assert written == ["00000.png", "00001.png", "00002.png"]
    for name in written[:2]:
        pictures = [(path.parent / "images" / name).read_bytes() for path in (first, second)]
        assert pictures[0] == pictures[1]
    instances = instances_by_image(coco)
    for index in range(3):
        picture, drawn = draw_occluded("flowers", HW, np.random.default_rng([7, index]))
        stored = cv2.imread(str(tmp_path / "a" / "images" / written[index]))
        assert np.array_equal(stored[..., ::-1], picture)
        assert instances[index + 1] == drawn
    assert (
        json.loads(first.read_text())["annotations"][: len(instances[1])]
        == (json.loads(second.read_text())["annotations"][: len(instances[1])])
    )
    other = make_occluded(tmp_path / "c", 1, HW, seed=8)
    assert (other.parent / "images" / "00000.png").read_bytes() != (
        first.parent / "images" / "00000.png"
    ).read_bytes()


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"n_images": 0}, "expected at least 1 image to draw, got n_images=0"),
        ({"seed": -1}, "expected a seed of 0 or more, got seed=-1"),
        ({"kind": "flower"}, "unknown kind of data set 'flower'"),
        ({"image_hw": (16, 64)}, "at least 32x32 pixels, got 16x64"),
    ],
)
def test_wrong_settings_are_one_line_and_write_nothing(settings: dict, text: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=text) as caught:
        make_occluded(tmp_path / "out", **{"n_images": 1, **settings})
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("image_hw", [(32, 32), (40, 200)])
def test_small_and_long_pictures_can_be_drawn(image_hw: tuple[int, int]) -> None:
    for index in range(8):
        for kind in KINDS:
            picture, _ = draw_occluded(kind, image_hw, np.random.default_rng(index))
            assert picture.shape == (*image_hw, 3)
