import numpy as np
import pytest

from keypoint_detection.utils.visualization_grid import image_grid

RED, BLUE = np.array([200, 0, 0], np.uint8), np.array([0, 0, 200], np.uint8)


def plain(hw: tuple[int, int], color: np.ndarray) -> np.ndarray:
    return np.tile(color, (*hw, 1))


def test_pictures_are_put_row_by_row_into_equal_cells() -> None:
    grid = image_grid([plain((40, 60), RED), plain((40, 60), BLUE), plain((40, 60), RED)], 2)
    assert grid.shape == (82, 122, 3)  # two pixels between cells
    assert (grid[:40, :60] == RED).all()
    assert (grid[:40, 62:] == BLUE).all()
    assert (grid[42:, :60] == RED).all()
    assert (grid[42:, 62:] == grid[41, 61]).all()


def test_a_picture_of_another_shape_keeps_its_aspect_ratio() -> None:
    grid = image_grid([plain((40, 60), RED), plain((20, 10), BLUE)], 2)
    blue = (grid == BLUE).all(-1)
    assert blue.any(1).sum() == pytest.approx(40, abs=2)
    assert blue.any(0).sum() == pytest.approx(20, abs=2)
    columns = np.flatnonzero(blue.any(0))
    assert columns.mean() == pytest.approx(62 + 29.5, abs=0.6)


def test_titles_stand_above_their_pictures() -> None:
    pictures = [plain((100, 150), RED), plain((100, 150), BLUE)]
    bare, titled = image_grid(pictures, 2), image_grid(pictures, 2, ["one", "a title " * 30])
    strip = titled.shape[0] - bare.shape[0]
    assert 10 < strip < 30
    assert np.array_equal(titled[strip:], bare)
    assert titled[:strip, :150].max() > 200
    assert titled[:strip, 150:152].max() < 50  # cut short
    both = image_grid(pictures, 1, ["one", "two"], row_titles=["first", "second"])
    assert both.shape[0] == 2 * (100 + 2 * strip) + 2


def test_grey_pictures_and_a_given_cell_size() -> None:
    grid = image_grid([np.full((10, 10), 90, np.uint8)], 1, cell_hw=(30, 30))
    assert grid.shape == (30, 30, 3)
    assert (grid[2:-2, 2:-2] == 90).all()


@pytest.mark.parametrize(
    ("count", "columns", "titles", "rows", "message"),
    [
        (0, 1, (), (), "at least 1 picture"),
        (1, 0, (), (), "1 column"),
        (2, 1, ("a",), (), "1 titles for 2 pictures"),
        (2, 1, (), ("a",), "1 row titles for 2 rows"),
    ],
)
def test_what_does_not_fit_is_refused(count: int, columns: int, titles, rows, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        image_grid([plain((8, 8), RED)] * count, columns, titles, row_titles=rows)
