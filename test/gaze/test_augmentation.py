from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keypoint_detection.gaze.augmentation import (
    GazeAugmentation,
    change_colors,
    draw_change,
    grow_box,
    image_box,
    no_change,
)

HW = (60, 80)
BOX = np.array([10.5, 20.0, 22.5, 30.0])
POINTS = np.array([[60.0, 40.0], [np.nan, np.nan], [16.0, 22.0]])
ALWAYS = GazeAugmentation(
    box_probability=1, crop_probability=1, flip_probability=1, color_probability=1, crop_size=0.2
)
NEVER = GazeAugmentation(box_probability=0, crop_probability=0, flip_probability=0, color_probability=0)


def changes(config: GazeAugmentation, count: int) -> list:
    return [draw_change(config, np.random.default_rng(seed), BOX, POINTS, HW) for seed in range(count)]


def test_a_box_grows_on_both_sides_alike() -> None:
    np.testing.assert_allclose(grow_box(BOX, 0.1), [9.9, 19.5, 23.1, 30.5])
    np.testing.assert_allclose(grow_box(BOX, np.array([0.5, 0.0]), np.array([1.0, 0.0])), [4.5, 20, 22.5, 30])


def test_the_jittered_box_holds_the_box_and_is_bounded() -> None:
    boxes = np.stack([change.head_box for change in changes(ALWAYS, 300)])
    assert (boxes[:, :2] <= BOX[:2]).all()
    assert (boxes[:, 2:] >= BOX[2:]).all()
    growth = (boxes[:, 2:] - boxes[:, :2]) / (BOX[2:] - BOX[:2]) - 1
    assert 0.17 < growth.max() <= 0.2
    before = (BOX[:2] - boxes[:, :2]).mean(axis=0)
    after = (boxes[:, 2:] - BOX[2:]).mean(axis=0)
    np.testing.assert_allclose(before, after, rtol=0.15)  # no side grows more than the other


@given(
    seed=st.integers(0, 2**32),
    box=st.tuples(st.floats(-8, 60), st.floats(-8, 40), st.floats(1, 40), st.floats(1, 40)),
    point=st.tuples(st.floats(-0.5, 79.5), st.floats(-0.5, 59.5)),
)
def test_a_crop_keeps_head_and_points_and_stays_in_the_image(seed: int, box: tuple, point: tuple) -> None:
    head = np.array([box[0], box[1], box[0] + box[2], box[1] + box[3]])
    change = draw_change(ALWAYS, np.random.default_rng(seed), head, np.array([point]), HW)
    shown, whole, slack = change.shown_box, image_box(HW), 1e-9
    seen = np.clip(change.head_box.reshape(2, 2), whole[:2], whole[2:])
    for corner in (*seen, point):
        assert (shown[:2] <= np.asarray(corner) + slack).all()
        assert (shown[2:] >= np.asarray(corner) - slack).all()
    assert (shown[:2] >= whole[:2] - slack).all()
    assert (shown[2:] <= whole[2:] + slack).all()
    assert (shown[2:] - shown[:2] >= 0.2 * (whole[2:] - whole[:2]) - slack).all()


def test_crops_are_of_all_sizes_and_places() -> None:
    config = GazeAugmentation(crop_probability=1)
    points, whole = np.full((1, 2), np.nan), image_box(HW)
    boxes = [draw_change(config, np.random.default_rng(s), BOX, points, HW).shown_box for s in range(200)]
    shown = np.stack(boxes)
    share = (shown[:, 2:] - shown[:, :2]) / (whole[2:] - whole[:2])
    assert share.min() < 0.6
    assert share.max() > 0.95
    assert np.ptp(shown[:, 0]) > 8
    assert np.ptp(shown[:, 1]) > 15


def test_nothing_changes_at_probability_0() -> None:
    for change in changes(NEVER, 20):
        expected = no_change(BOX, HW)
        np.testing.assert_array_equal(change.head_box, BOX)
        np.testing.assert_array_equal(change.shown_box, expected.shown_box)
        assert not change.is_mirrored
        assert change.color is None


def test_each_change_happens_as_often_as_it_is_to() -> None:
    drawn = changes(GazeAugmentation(), 400)
    assert 0.4 < np.mean([change.is_mirrored for change in drawn]) < 0.6
    assert 0.4 < np.mean([not np.array_equal(change.head_box, BOX) for change in drawn]) < 0.6
    assert 0.4 < np.mean([not np.array_equal(change.shown_box, image_box(HW)) for change in drawn]) < 0.6
    assert 0.82 < np.mean([change.color is not None for change in drawn]) < 0.93  # 1 - 0.5 ** 3


def test_a_setting_leaves_the_draws_of_the_others_alone() -> None:
    for first, second in zip(changes(GazeAugmentation(), 50), changes(ALWAYS, 50), strict=True):
        if not np.array_equal(first.head_box, BOX):
            np.testing.assert_array_equal(first.head_box, second.head_box)
    rngs = [np.random.default_rng(1), np.random.default_rng(1)]
    for config, rng in zip((ALWAYS, NEVER), rngs, strict=True):
        draw_change(config, rng, BOX, POINTS, HW)
    assert rngs[0].random() == rngs[1].random()


def test_colors_change_as_said() -> None:
    image = np.random.default_rng(0).integers(0, 256, (9, 11, 3), dtype=np.uint8)
    off: dict[str, Any] = {"brightness": (1.0, 1.0), "contrast": (1.0, 1.0), "saturation": (1.0, 1.0)}
    cases = {
        "brightness": (0.5, image * 0.5),
        "contrast": (1.5, (image - 127.5) * 1.5 + 127.5),
        "saturation": (0.0, np.repeat((image @ [0.299, 0.587, 0.114])[..., None], 3, axis=2)),
    }
    for name, (factor, expected) in cases.items():
        options: dict[str, Any] = off | {name: (factor, factor), "color_probability": 1}
        config = GazeAugmentation(**options)
        change = draw_change(config, np.random.default_rng(0), BOX, POINTS, HW)
        changed = change_colors(image, change.color)
        assert changed.dtype == np.uint8
        assert np.abs(changed - np.clip(expected, 0, 255)).max() <= 1


def test_colors_stay_in_their_bounds() -> None:
    grey = np.full((4, 4, 3), 100, np.uint8)
    levels = [int(change_colors(grey, change.color)[0, 0, 0]) for change in changes(GazeAugmentation(), 300)]
    # brightness and contrast at their extremes: 1.5 * (0.5 * 100) - 63.75 and 1.5 * (1.5 * 100) - 63.75
    assert 11 <= min(levels) < 60
    assert 140 < max(levels) <= 161
    assert change_colors(grey, None) is grey


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"flip_probability": 1.5}, "flip_probability: expected a number from 0 to 1, got 1.5"),
        ({"box_jitter": float("nan")}, "box_jitter: expected a number from 0 to 1, got nan"),
        ({"contrast": (1.5, 0.5)}, r"contrast: expected two numbers, 0 <= low <= high, got \[1.5, 0.5\]"),
    ],
)
def test_wrong_strengths_are_one_line(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        GazeAugmentation(**options)
