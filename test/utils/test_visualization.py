import numpy as np
import pytest

from keypoint_detection.records import Keypoint, Prediction
from keypoint_detection.utils.colours import channel_colors
from keypoint_detection.utils.visualization import (
    draw_heatmap,
    draw_heatmaps,
    draw_keypoints,
    draw_prediction,
    draw_sample,
    draw_trails,
    to_rgb,
)

GREY = np.full((40, 60, 3), 90, np.uint8)


def centroid_of_change(picture: np.ndarray, before: np.ndarray) -> tuple[float, float]:
    weight = np.abs(picture.astype(float) - before).sum(-1)
    rows, columns = np.mgrid[: weight.shape[0], : weight.shape[1]]
    return (columns * weight).sum() / weight.sum(), (rows * weight).sum() / weight.sum()


@pytest.mark.parametrize("enlarge", [1, 3])
def test_a_point_is_drawn_where_it_is(enlarge: int) -> None:
    picture = draw_keypoints(GREY, [np.array([[20.3, 17.6]])], enlarge=enlarge)
    assert picture.shape == (40 * enlarge, 60 * enlarge, 3)
    x, y = centroid_of_change(picture, np.full(picture.shape, 90.0))
    assert abs((x + 0.5) / enlarge - 0.5 - 20.3) < 0.15
    assert abs((y + 0.5) / enlarge - 0.5 - 17.6) < 0.15


def test_missing_and_unsure_points_are_left_out_and_the_image_stays() -> None:
    points = [np.array([[np.nan, np.nan], [20.0, 10.0]])]
    picture = draw_keypoints(GREY, points, [np.array([0.9, 0.05])])
    assert np.array_equal(picture, GREY)
    assert not np.array_equal(draw_keypoints(GREY, points, [np.array([0.9, 0.5])]), GREY)
    assert (GREY == 90).all()


def test_a_heatmap_of_another_stride_is_laid_over_at_its_place() -> None:
    heatmap = np.zeros((10, 15), np.float32)
    heatmap[4, 9] = 1.0
    before = draw_heatmap(GREY, np.zeros_like(heatmap))
    x, y = centroid_of_change(draw_heatmap(GREY, heatmap), before)
    assert (x, y) == pytest.approx(((9 + 0.5) * 4 - 0.5, (4 + 0.5) * 4 - 0.5), abs=0.1)


def test_a_heatmap_leaves_the_image_where_it_is_cold() -> None:
    heatmap = np.zeros((40, 60), np.float32)
    heatmap[4, 9], heatmap[30, 20] = 1.0, 0.25
    picture = draw_heatmap(GREY, heatmap, opacity=0.8)
    hottest, mild = (253, 231, 37), (59, 82, 139)  # viridis at 1 and at 0.25, to a few levels
    assert np.abs(picture[4, 9] - (0.2 * 90 + 0.8 * np.array(hottest))).max() <= 3
    assert np.abs(picture[30, 20] - (0.6 * 90 + 0.4 * np.array(mild))).max() <= 6
    picture[4, 9] = picture[30, 20] = 90
    assert np.array_equal(picture, GREY)


@pytest.mark.parametrize("shape", [(8, 9), (8, 9, 1), (8, 9, 2), (8, 9, 4)])
def test_any_number_of_channels_becomes_rgb(shape: tuple[int, ...]) -> None:
    assert to_rgb(np.zeros(shape, np.uint8)).shape == (8, 9, 3)


def prediction_of(points: np.ndarray, names: list[str], hw: tuple[int, int]) -> Prediction:
    channels = tuple((Keypoint(float(x), float(y), 0.9),) for x, y in points)
    return Prediction(channels, tuple(names), hw)


def test_a_name_is_written_beside_its_point_and_the_rest_stays() -> None:
    ground = np.full((200, 300, 3), 90, np.uint8)
    prediction = prediction_of(np.array([[100.0, 120.0]]), ["stem"], (200, 300))
    picture = draw_prediction(ground, prediction)
    bare = draw_prediction(ground, prediction, names=False)
    changed = (picture != bare).any(-1)
    rows, columns = np.nonzero(changed)
    assert columns.min() > 103
    assert columns.max() < 150
    assert 105 < rows.min() < rows.max() < 135
    assert np.array_equal(picture[:, :90], ground[:, :90])
    assert (ground == 90).all()


def test_a_prediction_without_points_leaves_the_image_as_it_is() -> None:
    assert np.array_equal(draw_prediction(GREY, Prediction(((), ()), ("a", "b"), (40, 60))), GREY)


def test_a_skeleton_joins_the_best_points_below_the_rings() -> None:
    ground = np.full((200, 300, 3), 90, np.uint8)
    channels = (
        (Keypoint(50.0, 100.0, 0.9), Keypoint(50.0, 20.0, 0.8)),
        (Keypoint(250.0, 100.0, 0.9),),
        (Keypoint(250.0, 180.0, 0.01),),
    )
    prediction = Prediction(channels, ("a", "b", "c"), (200, 300))
    bare = draw_prediction(ground, prediction, names=False)
    picture = draw_prediction(ground, prediction, names=False, skeleton=[(0, 1), (1, 2)])
    rows, columns = np.nonzero((picture != bare).any(-1))
    assert (rows.min(), rows.max()) == pytest.approx(
        (100, 100), abs=3
    )  # no line to an unsure or a second point
    assert columns.min() >= 52  # the middle of the ring is drawn over the line
    assert columns.max() <= 252
    assert (picture[100, 100:200] > 200).all()
    assert (picture[98:103, 100:200] < 30).any(0).all()  # outlined


def test_all_of_133_channels_are_drawn() -> None:
    rng = np.random.default_rng(0)
    grid = np.stack(np.meshgrid(np.arange(20), np.arange(7)), -1).reshape(-1, 2)[:133]
    points = grid * 45.0 + 40.0 + rng.uniform(-3, 3, (133, 2))
    ground = np.full((400, 1000, 3), 90, np.uint8)
    prediction = prediction_of(points, [f"landmark_{i}" for i in range(133)], (400, 1000))
    picture = draw_prediction(ground, prediction, names=False)
    for x, y in points:
        assert (picture[round(y) - 3 : round(y) + 4, round(x) - 3 : round(x) + 4] != 90).any()
    named = draw_prediction(ground, prediction)
    assert (named != picture).any()
    assert (named != picture).any(-1).mean() < 0.6


def test_a_trail_fades_with_age_and_has_a_gap_where_a_point_is_missing() -> None:
    ground = np.full((40, 120, 3), 90, np.uint8)
    history = np.stack([np.stack([np.arange(11) * 10.0 + 5, np.full(11, 20.0)], -1)], 1)
    history[4] = np.nan
    change = np.abs(draw_trails(ground, history).astype(int) - ground).sum(-1)
    assert change[20, 100] > change[20, 75] > change[20, 10] > 0
    assert (change[:, 38:53] == 0).all()
    assert (change[:10] == 0).all()
    assert draw_trails(ground, history, enlarge=2).shape == (80, 240, 3)
    assert np.array_equal(draw_trails(ground, history[:1]), ground)
    assert np.array_equal(draw_trails(ground, history[:0]), ground)


def test_occluded_points_are_hollow_and_absent_ones_are_not_drawn() -> None:
    points = [np.array([[15.0, 20.0], [30.0, 20.0], [45.0, 20.0]])]
    picture = draw_sample(GREY, points, [np.array([2, 1, 0])])
    assert tuple(picture[20, 15]) == channel_colors(1)[0]
    assert tuple(picture[20, 30]) == (90, 90, 90)
    assert (picture[14:27, 24:37] != 90).any()
    assert np.array_equal(picture[:, 40:], GREY[:, 40:])


def test_a_sample_joins_the_points_of_each_object() -> None:
    ground = np.full((60, 90, 3), 90, np.uint8)
    first = np.array([[10.0, 15.0], [10.0, 45.0]])
    second = np.array([[80.0, 15.0], [np.nan, np.nan]])
    picture = draw_sample(ground, [first, second], [np.array([2, 2])] * 2, skeleton=[(0, 1)])
    assert (picture[15, 30:60] != 90).all()
    assert (picture[45, 30:60] == 90).all()


@pytest.mark.parametrize("shape", [(40, 60), (40, 60, 1), (40, 60, 16)])
def test_grey_and_many_channel_images_take_all_marks(shape: tuple[int, ...]) -> None:
    image = np.full(shape, 90, np.uint8)
    prediction = prediction_of(np.array([[30.0, 20.0], [10.0, 9.0]]), ["a", "b"], (40, 60))
    assert draw_prediction(image, prediction, skeleton=[(0, 1)]).shape == (40, 60, 3)
    assert draw_trails(image, np.zeros((3, 2, 2))).shape == (40, 60, 3)
    assert draw_heatmaps(image, np.zeros((3, 10, 15))).shape == (40, 60, 3)
    assert (image == 90).all()


@pytest.mark.parametrize("xy", [(-20.0, 5.0), (1e5, -1e5), (1e30, 3.0), (np.inf, 1.0), (np.nan, np.nan)])
def test_points_outside_the_image_are_left_out_without_a_crash(xy: tuple[float, float]) -> None:
    prediction = prediction_of(np.array([xy, xy]), ["a", "b"], (40, 60))
    assert np.array_equal(draw_prediction(GREY, prediction, names=True), GREY)
    draw_prediction(GREY, prediction, skeleton=[(0, 1)], enlarge=2)
    draw_trails(GREY, np.array([[xy], [(5.0, 5.0)]]))


def test_heatmaps_have_the_colours_of_their_channels() -> None:
    heatmaps = np.zeros((2, 10, 15), np.float32)
    heatmaps[0, 4, 3] = heatmaps[1, 4, 10] = 1.0
    heatmaps[0, 0, 0] = np.nan
    picture = draw_heatmaps(GREY, heatmaps, opacity=1.0).astype(int)
    colors = np.array(channel_colors(2))
    for (x, y), color in zip(((13.5, 17.5), (41.5, 17.5)), colors, strict=True):
        around = picture[int(y) : int(y) + 2, int(x) : int(x) + 2].reshape(-1, 3).mean(0)
        assert np.abs(around - color).max() < 60
        assert np.argmax(around) == np.argmax(color)
    assert (picture[:10] == round(0.6 * 90)).all()


def test_an_occluded_detection_has_a_dashed_ring_without_a_dot() -> None:
    ground = np.full((200, 300, 3), 90, np.uint8)
    points = (
        Keypoint(60.0, 80.0, 0.9),
        Keypoint(150.0, 80.0, 0.05, visibility=1),
        Keypoint(240.0, 80.0, 0.9, 1),
    )
    picture = draw_prediction(ground, Prediction((points,), ("stem",), (200, 300)), names=False)
    is_drawn = (picture != 90).any(-1)
    assert is_drawn[80, 60]
    assert not is_drawn[:, 120:180].any()  # its score is too low
    assert not is_drawn[79:82, 239:242].any()
    assert is_drawn[70:91, 230:251].any()
    seen = Prediction((tuple(Keypoint(p.x, p.y, p.score) for p in points),), ("stem",), (200, 300))
    same = draw_prediction(ground, seen, names=False)
    assert np.array_equal(picture[:, :120], same[:, :120])
    assert same[80, 240].tolist() != [90, 90, 90]
