import numpy as np
import pytest

from keypoint_detection.utils import visualization_names
from keypoint_detection.utils.colours import channel_colors
from keypoint_detection.utils.visualization_names import NamedPoint, draw_names


class Written:
    """Collect what is written where, in place of drawing it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.texts: list[str] = []
        self.boxes: list[tuple[int, int, int, int]] = []
        monkeypatch.setattr(visualization_names, "put_text", self.put)

    def put(self, canvas, text, corner, scale, color) -> None:
        width, height = visualization_names.text_size(text, scale)
        assert canvas.dtype == np.uint8
        self.texts.append(text)
        self.boxes.append((*corner, corner[0] + width, corner[1] + height))


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> Written:
    return Written(monkeypatch)


def write_names(hw: tuple[int, int], points: np.ndarray, names: list[str]) -> np.ndarray:
    canvas = np.full((*hw, 3), 90, np.uint8)
    colors = channel_colors(len(names))
    named = [NamedPoint(points[i], name, i, colors[i]) for i, name in enumerate(names)]
    draw_names(canvas, named, points, 5.0)
    return canvas


def n_overlaps(boxes: list[tuple[int, int, int, int]]) -> int:
    """Count the pixels that belong to more than one box, pixel by pixel."""
    count = np.zeros((1100, 1100), int)
    for left, top, right, bottom in boxes:
        count[top:bottom, left:right] += 1
    return int((count > 1).sum())


@pytest.mark.parametrize("seed", range(5))
def test_twelve_crowded_names_do_not_cover_each_other(seed: int, written: Written) -> None:
    points = np.random.default_rng(seed).uniform(280, 340, (12, 2))
    names = [f"landmark_{i}" for i in range(12)]
    write_names((480, 640), points, names)
    assert written.texts == names
    assert n_overlaps(written.boxes) == 0
    assert all(x >= 0 and y >= 0 and right <= 640 and bottom <= 480 for x, y, right, bottom in written.boxes)


def test_names_in_the_corners_stay_inside_the_picture(written: Written) -> None:
    points = np.array([[0.0, 0.0], [639.0, 0.0], [0.0, 479.0], [639.0, 479.0]])
    write_names((480, 640), points, ["first", "second", "third", "fourth"])
    assert len(written.texts) == 4
    assert all(x >= 0 and y >= 0 and right <= 640 and bottom <= 480 for x, y, right, bottom in written.boxes)


def test_more_than_22_points_are_numbered_and_listed(written: Written) -> None:
    points = np.stack(np.meshgrid(np.linspace(40, 600, 6), np.linspace(40, 950, 5)), -1).reshape(-1, 2)
    names = [f"landmark_{i}" for i in range(30)]
    write_names((1000, 1000), points, names)
    assert written.texts[:30] == [f"{i} landmark_{i}" for i in range(30)]
    assert set(written.texts[30:]) <= {str(i) for i in range(30)}
    assert len(written.texts[30:]) >= 25  # points below the legend have no number
    assert n_overlaps(written.boxes) == 0


def test_a_legend_without_room_says_how_many_are_left_out(written: Written) -> None:
    points = np.random.default_rng(0).uniform(10, 300, (133, 2))
    write_names((320, 320), points, [f"landmark_{i}" for i in range(133)])
    listed = [text for text in written.texts if "landmark" in text]
    assert 5 < len(listed) < 133
    assert f"+ {133 - len(listed)} more" in written.texts


def test_names_that_do_not_fit_become_numbers(written: Written) -> None:
    points = np.array([[10.0, 10.0], [16.0, 13.0], [20.0, 22.0]])
    write_names((40, 40), points, ["a_very_long_name", "another_long_name", "third_long_name"])
    assert set(written.texts) <= {"0", "1", "2"}
    assert written.texts


def test_points_outside_have_no_name(written: Written) -> None:
    points = np.array([[-3.0, 10.0], [50.0, 20.0], [50.0, 1e5]])
    write_names((100, 100), points, ["a", "b", "c"])
    assert written.texts == ["b"]
