"""Pictures of explanations: their size, their pages, and things drawn where they are."""

import numpy as np
import pytest

from keypoint_detection.explain import KeypointExplanation
from keypoint_detection.explain_pictures import (
    ROWS_PER_PAGE,
    draw_grids,
    draw_map,
    percent,
    picture_size,
    put_text,
    title,
    window_affine,
)
from keypoint_detection.geometry import identity_affine, resize_affine, transform_points


def explanation(
    xy: tuple[float, float] = (40.0, 20.0), radius_px: float = 6.0, channel: str = "nose"
) -> KeypointExplanation:
    values = np.zeros((60, 80))
    values[round(xy[1]) % 60, round(xy[0]) % 80] = 1.0
    return KeypointExplanation(channel, xy, 0.5, radius_px, 0.02, {"saliency": values}, {"saliency": 0.4})


IMAGE = np.full((60, 80, 3), 100, np.uint8)


@pytest.mark.parametrize("count", [1, ROWS_PER_PAGE, ROWS_PER_PAGE + 1, 30])
def test_any_number_of_channels_fits_on_pages(count: int) -> None:
    names = [f"a_keypoint_with_a_rather_long_name_{index}" for index in range(count)]
    pages = list(draw_grids(IMAGE, [explanation(channel=name) for name in names], identity_affine()))
    assert len(pages) == -(-count // ROWS_PER_PAGE)
    assert {page.shape[1] for page in pages} == {pages[0].shape[1]}
    assert all(page.shape[0] <= 8 * 212 + 40 for page in pages)
    assert all((page < 255).any() for page in pages)


@pytest.mark.parametrize("image_hw", [(60, 80), (7, 300), (300, 7), (1, 1), (600, 800)])
def test_odd_images_are_drawn(image_hw: tuple[int, int]) -> None:
    shown = KeypointExplanation(
        "a=b=c=d=e=f=g", (0.0, 0.0), 0.5, 1.0, 0.02, {"saliency": np.full(image_hw, 0.1)}, {"saliency": 0.4}
    )
    for channels in (1, 3):
        image = np.zeros((*image_hw, channels), np.uint8)
        (page,) = draw_grids(image, [shown], identity_affine())
        assert page.ndim == 3


def test_the_map_is_bright_at_its_place() -> None:
    shown = explanation(radius_px=100.0)
    picture = draw_map(
        IMAGE,
        shown,
        "saliency",
        to_image=identity_affine(),
        to_picture=resize_affine((60, 80), (240, 320)),
        picture_hw=(240, 320),
    )
    assert picture.shape == (240, 320, 3)
    green = picture[..., 1].astype(int)  # the bright end of viridis is yellow, the dark end violet
    y, x = np.unravel_index(green.argmax(), green.shape)
    assert (x, y) == pytest.approx(((40.5) * 4 - 0.5, (20.5) * 4 - 0.5), abs=3)
    assert (IMAGE == 100).all()


def test_a_small_circle_is_enlarged_by_a_part_of_the_image() -> None:
    tile_hw, image_hw = (180, 240), (600, 800)
    whole = resize_affine(image_hw, tile_hw)
    assert np.array_equal(window_affine(explanation(radius_px=80.0), image_hw, tile_hw), whole)
    affine = window_affine(explanation((400.0, 300.0), radius_px=8.0), image_hw, tile_hw)
    assert affine[0, 0] * 8.0 == pytest.approx(16.0)
    assert transform_points(affine, np.array([400.0, 300.0])) == pytest.approx([119.5, 89.5])
    at_the_corner = window_affine(explanation((2.0, 597.0), radius_px=8.0), image_hw, tile_hw)
    corner = transform_points(at_the_corner, np.array([-0.5, 599.5]))
    assert corner == pytest.approx([-0.5, 179.5])


def test_small_images_are_enlarged() -> None:
    assert picture_size((60, 80)) == (240, 320)
    assert picture_size((480, 640)) == (480, 640)


@pytest.mark.parametrize(
    ("share", "text"),
    [(0.4, "40 %"), (1.0, "100 %"), (0.0254, "2.5 %"), (0.00036, "0.036 %"), (0.0, "0.0000 %")],
)
def test_percent(share: float, text: str) -> None:
    assert percent(share) == text


def test_titles() -> None:
    names = ["saliency", "rollout", "rollout_0.5", "gradient_rollout", "gradient_rollout_0.9"]
    assert [title(name) for name in names] == [
        *("saliency", "rollout", "rollout, discard 0.5"),
        *("gradient rollout", "gradient rollout, discard 0.9"),
    ]


@pytest.mark.parametrize("text", ["nose", "x" * 300, "ünïcödé keypoint", ""])
def test_text_stays_in_its_width(text: str) -> None:
    page = np.full((40, 300, 3), 255, np.uint8)
    put_text(page, text, (10, 25), 120)
    used = np.flatnonzero((page < 255).any((0, 2)))
    assert (len(used) > 0) == bool(text)
    assert used.max(initial=0) <= 10 + 122
