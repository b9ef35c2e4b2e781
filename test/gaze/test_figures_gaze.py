from pathlib import Path

import cv2
import numpy as np
import pytest

from keypoint_detection.gaze.figures import draw_in_out, draw_spread, draw_within, wilson


def test_wilson_by_hand() -> None:
    low, high = wilson(np.array([0.5, 1.0]), np.array([4, 10]))
    # Wilson (1927) with z = 1.959964: 2 of 4, and 10 of 10
    np.testing.assert_allclose(low, [0.150036, 0.722467], atol=1e-5)
    np.testing.assert_allclose(high, [0.849964, 1.0], atol=1e-5)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_figures_are_drawn_and_always_the_same(tmp_path: Path, theme) -> None:
    rng = np.random.default_rng(0)
    distance, spread, p_in = rng.random((3, 20))
    distance[3] = spread[3] = np.nan
    draws = {
        "within": lambda path: draw_within({"a": distance, "b": distance / 2}, path, theme=theme),
        "spread": lambda path: draw_spread(spread, distance, path, theme=theme),
        "in_out": lambda path: draw_in_out(p_in, rng.random(20) < 2, path, theme=theme),
    }
    for name, draw in draws.items():
        for number in range(2):
            draw(tmp_path / f"{name}{number}.png")
        assert (tmp_path / f"{name}0.png").read_bytes() == (tmp_path / f"{name}1.png").read_bytes()
        picture = cv2.imread(str(tmp_path / f"{name}0.png"))
        assert picture is not None
        assert picture.std() > 5
        assert (picture[0, 0].mean() > 128) == (theme == "light")


def test_ends_of_the_range_can_be_drawn(tmp_path: Path) -> None:
    draw_in_out(np.array([0.0, 1.0]), np.array([False, True]), tmp_path / "a.png")
    draw_within({"one": np.array([0.0])}, tmp_path / "b.png")
    draw_spread(np.zeros(2), np.zeros(2), tmp_path / "c.png")
    assert all((tmp_path / name).stat().st_size > 1000 for name in ("a.png", "b.png", "c.png"))
