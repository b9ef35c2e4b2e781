import numpy as np
import pytest

from keypoint_detection.utils.colours import palette
from keypoint_detection.utils.visualization_marks import (
    outline_of,
    point_radius,
    put_dashed_ring,
    put_dot,
    put_line,
    put_ring,
    put_text,
    text_size,
)


def luminance(color: tuple[int, ...]) -> float:
    """Return the relative luminance as WCAG 2 defines it."""
    parts = [c / 3294.6 if c <= 10 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in color]
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]


def contrast(first: tuple[int, ...], second: tuple[int, ...]) -> float:
    low, high = sorted((luminance(first), luminance(second)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("colour", palette(21))
def test_a_colour_or_its_outline_stands_out_on_every_grey(colour: str) -> None:
    color = (int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16))
    worst = min(
        max(contrast(color, ground), contrast(outline_of(color), ground))
        for ground in [(level,) * 3 for level in range(256)]
    )
    assert worst > 2.0  # a single mid grey reaches 1.0


@pytest.mark.parametrize("put", [put_dot, put_ring, put_dashed_ring])
@pytest.mark.parametrize("xy", [(30.0, 30.0), (30.31, 29.62), (30.5, 30.5)])
def test_the_centroid_of_a_mark_is_its_point(put, xy: tuple[float, float]) -> None:
    canvas = np.full((60, 60, 3), 90, np.uint8)
    put(canvas, np.array(xy), 6.0, (86, 180, 233))
    weight = np.abs(canvas.astype(float) - 90).sum(-1)
    rows, columns = np.mgrid[:60, :60]
    centroid = (columns * weight).sum() / weight.sum(), (rows * weight).sum() / weight.sum()
    assert centroid == pytest.approx(xy, abs=0.15)


def test_a_line_lies_between_pixels_where_it_belongs() -> None:
    canvas = np.zeros((40, 60, 3), np.uint8)
    put_line(canvas, np.array([10.0, 20.3]), np.array([50.0, 20.3]), (255, 255, 255), 3)
    weight = canvas[:, 30, 0].astype(float)
    assert (np.arange(40) * weight).sum() / weight.sum() == pytest.approx(20.3, abs=0.15)


@pytest.mark.parametrize("scale", [0.38, 0.61, 2.0])
@pytest.mark.parametrize("text", ["x", "left_ear (tip)", "j|_g"])
def test_a_text_stays_in_its_box_and_fills_its_width(text: str, scale: float) -> None:
    canvas = np.full((120, 600, 3), 90, np.uint8)
    put_text(canvas, text, (20, 30), scale, (240, 228, 66))
    rows, columns = np.nonzero((canvas != 90).any(-1))
    width, height = text_size(text, scale)
    assert columns.min() >= 20
    assert columns.max() < 20 + width
    assert rows.min() >= 30
    assert rows.max() < 30 + height
    assert columns.max() - columns.min() + 1 >= width - 2
    dark, light = (canvas.sum(-1) < 60).sum(), (canvas[..., 0] > 200).sum()
    assert dark > 0
    assert light > 0


def test_marks_grow_with_the_picture_and_shrink_in_a_crowd() -> None:
    small, large = np.zeros((64, 64, 3), np.uint8), np.zeros((1000, 2000, 3), np.uint8)
    assert point_radius(large, 5) > 4 * point_radius(small, 5)
    assert point_radius(large, 133) < point_radius(large, 5)


def test_a_dashed_ring_is_hollow_and_has_gaps() -> None:
    canvas = np.full((81, 81, 3), 90, np.uint8)
    put_dashed_ring(canvas, np.array([40.0, 40.0]), 20.0, (230, 60, 60))
    assert (canvas[30:51, 30:51] == 90).all()
    turns = np.radians(np.arange(360))
    rows, columns = (np.rint(40 + 20 * wave(turns)).astype(int) for wave in (np.sin, np.cos))
    red = np.max([canvas[rows + y, columns + x, 0] for y in (-1, 0, 1) for x in (-1, 0, 1)], axis=0)
    dashes = red > 120  # ground and outline have less
    assert (dashes & ~np.roll(dashes, 1)).sum() == 4
    assert not dashes[[0, 90, 180, 270]].any()
    assert dashes[[45, 135, 225, 315]].all()
    assert (canvas[rows, columns] != 90).any(-1).all()  # the outline goes all around
