from dataclasses import replace

import cv2
import numpy as np
import pytest
from judged import NAN

from keypoint_detection.gaze.gaze_prediction import GazePrediction
from keypoint_detection.gaze.overlays import GAZE, HEAD, TRUTH, draw_gaze

BOX, EYE = [20, 60, 60, 100], [40, 80]


def prediction(**changes) -> GazePrediction:
    """Return two candidates in a picture of 300x200: three quarters at (240, 60), a quarter at (240, 140)."""
    heat = np.zeros((20, 30), np.uint8)
    heat[6, 24] = 200
    given = GazePrediction(
        point_xy=np.array([240.0, 60.0]),
        p_in=0.9,
        samples_xy=np.array([[240.0, 60.0]] * 3 + [[240.0, 140.0]]),
        modes_xy=np.array([[240.0, 60.0], [240.0, 140.0]]),
        weights=np.array([0.75, 0.25]),
        mode_std_px=np.array([16.0, 0.0]),
        spread=0.1,
        heat=heat,
    )
    return replace(given, **changes)


def grey() -> np.ndarray:
    return np.full((200, 300, 3), 90, np.uint8)


def is_near(picture: np.ndarray, xy: tuple[float, float], color: tuple[int, int, int]) -> bool:
    x, y = round(xy[0]), round(xy[1])
    part = picture[max(0, y - 2) : y + 3, max(0, x - 2) : x + 3].astype(int)
    return bool((np.abs(part - color).sum(-1) < 90).any())


def test_everything_is_where_it_belongs() -> None:
    image = grey()
    picture = draw_gaze(image, BOX, EYE, prediction(heat=None), [[150, 180], [NAN, NAN]])
    assert (image == 90).all()
    assert picture.shape == image.shape
    for corner in ((20, 60), (60, 60), (60, 100), (20, 100)):
        assert is_near(picture, corner, HEAD)
    for share in (0.3, 0.6):
        for y in (60, 140):
            assert is_near(picture, (40 + share * 200, 80 + share * (y - 80)), GAZE)
    for x, y in ((240 + 16, 60), (240, 60 - 16), (240, 60 + 16)):
        assert is_near(picture, (x, y), GAZE)  # the ring is as large as the standard deviation
    assert is_near(picture, (150, 180), TRUTH)
    assert is_near(picture, (40, 80), HEAD)
    assert (picture[190:, :100] == 90).all()


def test_heat_is_opaque_where_it_is_hot_and_faint_who_looks_out() -> None:
    far = prediction(modes_xy=np.array([[40.0, 80.0]]), weights=np.ones(1), mode_std_px=np.zeros(1))
    # the middle of map pixel (24, 6) of a map of 30x20
    pixel = (int((6.5 / 20) * 200 - 0.5), int((24.5 / 30) * 300 - 0.5))
    shown, faint = (draw_gaze(grey(), BOX, EYE, replace(far, p_in=p_in)) for p_in in (0.9, 0.1))
    change = [int(np.abs(one[pixel].astype(int) - 90).sum()) for one in (shown, faint)]
    assert change[0] > 2 * change[1] > 0
    assert (shown[150:, 200:] == 90).all()


def test_only_the_warm_part_of_a_picture_is_coloured(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []
    colour = cv2.applyColorMap

    def noting(heat: np.ndarray, colours: int) -> np.ndarray:
        sizes.append(heat.shape)
        return colour(heat, colours)

    monkeypatch.setattr("keypoint_detection.gaze.overlays.cv2.applyColorMap", noting)
    plain = draw_gaze(grey(), BOX, EYE, prediction(heat=np.zeros((20, 30), np.uint8)))
    assert not sizes
    np.testing.assert_array_equal(plain, draw_gaze(grey(), BOX, EYE, prediction(heat=None)))
    draw_gaze(grey(), BOX, EYE, prediction())
    # pixel (24, 6) and half of its neighbours: twice 10 pixels of the picture, in rows and columns
    assert sizes == [(20, 20)]


def test_a_map_that_is_low_everywhere_stays_faint() -> None:
    one = prediction(modes_xy=np.array([[40.0, 80.0]]), weights=np.ones(1), mode_std_px=np.zeros(1))
    flat = replace(one, heat=np.full((20, 30), 2, np.uint8))
    change = np.abs(draw_gaze(grey(), BOX, EYE, flat)[150:, 200:].astype(int) - 90)
    assert change.max() < 30
    nothing = replace(one, heat=np.zeros((20, 30), np.uint8))
    assert (draw_gaze(grey(), BOX, EYE, nothing)[150:, 200:] == 90).all()


def test_rays_are_dashed_where_the_person_is_said_to_look_out() -> None:
    along = [(40 + share * 200, 80 - share * 20) for share in np.linspace(0.25, 0.85, 60)]
    for p_in, expected in ((0.9, 1.0), (0.1, 0.5)):
        picture = draw_gaze(grey(), BOX, EYE, prediction(heat=None, p_in=p_in))
        share = np.mean(
            [(np.abs(picture[round(y), round(x)].astype(int) - GAZE).sum() < 90) for x, y in along]
        )
        assert share == pytest.approx(expected, abs=0.2)


def test_the_heavier_ray_is_the_wider_one() -> None:
    picture = draw_gaze(grey(), BOX, EYE, prediction(heat=None, weights=np.array([0.9, 0.1])), longest_px=900)
    column = picture[:, 3 * 160].astype(int)
    wide, thin = (
        int((np.abs(column[rows] - GAZE).sum(-1) < 150).sum()) for rows in (slice(150, 240), slice(240, 420))
    )
    assert wide > thin > 0


def test_candidates_of_hardly_any_map_are_left_out() -> None:
    two = prediction(heat=None, weights=np.array([0.97, 0.03]), mode_std_px=np.zeros(2))
    picture = draw_gaze(grey(), BOX, EYE, two)
    assert is_near(picture, (140, 70), GAZE)
    assert not is_near(picture, (140, 110), GAZE)
    many = replace(
        two, weights=np.full(40, 1 / 40), modes_xy=np.full((40, 2), 240.0), mode_std_px=np.zeros(40)
    )
    assert is_near(draw_gaze(grey(), BOX, EYE, many), (140, 160), GAZE)  # not all of them


@pytest.mark.parametrize("longest_px", [150, 600])
def test_the_picture_can_have_another_size(longest_px: int) -> None:
    scale = longest_px / 300
    picture = draw_gaze(grey(), BOX, EYE, prediction(heat=None), [[150, 180]], longest_px=longest_px)
    assert picture.shape == (round(200 * scale), longest_px, 3)
    assert is_near(picture, ((150 + 0.5) * scale - 0.5, (180 + 0.5) * scale - 0.5), TRUTH)
    assert is_near(picture, ((240 + 16.5) * scale - 0.5, 60.5 * scale - 0.5), GAZE)


def test_an_unknown_eye_is_the_centre_of_the_head() -> None:
    expected = draw_gaze(grey(), BOX, [40, 80], prediction())
    np.testing.assert_array_equal(draw_gaze(grey(), BOX, [NAN, NAN], prediction()), expected)


def test_grey_pictures_and_heads_beyond_the_border() -> None:
    picture = draw_gaze(grey()[..., :1], [-30, -20, 20, 15], [-5, -3], prediction(), np.full((2, 2), NAN))
    assert picture.shape == (200, 300, 3)
    tiny = draw_gaze(np.zeros((1, 1, 3), np.uint8), [-0.5, -0.5, 0.5, 0.5], [0, 0], prediction())
    assert tiny.shape == (1, 1, 3)


def test_what_is_too_far_to_draw_is_left_out() -> None:
    far = draw_gaze(grey(), [1e300, 0, 2e300, 9], [1e300, -1e300], prediction())
    assert far.shape == grey().shape
