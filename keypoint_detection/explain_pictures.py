"""Pictures of explanations: one per keypoint and method, and grids of an image with all of them."""

import math
from collections.abc import Iterator, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from keypoint_detection.explain import KeypointExplanation
from keypoint_detection.explain_maps import Map, map_on_picture
from keypoint_detection.geometry import compose, invert, resize_affine, transform_points, warp_image
from keypoint_detection.utils.colours import channel_colors
from keypoint_detection.utils.visualization import draw_heatmap, draw_keypoints, to_rgb

Picture = NDArray[np.uint8]

ROWS_PER_PAGE = 8
TILE_PX = 240
"""Longer side of an image in a grid."""

_GAP, _LINE, _NAME_COLUMN = 8, 22, 150
_PAPER, _INK, _FAINT = (255, 255, 255), (20, 20, 20), (110, 110, 110)
_OPACITY = 0.6
_LEAST_RADIUS, _PART_RADIUS = 8, 16
"""Of the circle around a point in a tile, in pixels: a smaller one would hide what it is about."""


def draw_map(
    image: Picture,
    shown: KeypointExplanation,
    method: str,
    *,
    to_image: Map,
    to_picture: Map,
    picture_hw: tuple[int, int],
) -> Picture:
    """Draw an image, or a part of it, with a map over it and a circle around what is near the point.

    Args:
        image: `[h, w, c]`, uint8, original.
        shown: Of the channel to draw.
        method: Whose map.
        to_image: From the network's frame to the image, `[2, 3]`.
        to_picture: From the image to the picture, `[2, 3]`, without rotation.
        picture_hw: Height and width of the picture.

    Returns:
        `[*picture_hw, 3]` RGB.
    """
    picture = warp_image(to_rgb(image), to_picture, picture_hw)
    picture = draw_heatmap(
        picture, map_on_picture(shown.maps[method], compose(to_image, to_picture), picture_hw), _OPACITY
    )
    centre = tuple(round(16 * value) for value in transform_points(to_picture, np.array(shown.xy)))
    radius = round(16 * shown.radius_px * to_picture[0, 0])
    for color, width in (((0, 0, 0), 3), ((255, 255, 255), 1)):
        cv2.circle(picture, centre, radius, color, width, cv2.LINE_AA, 4)
    return picture


def window_affine(shown: KeypointExplanation, image_hw: tuple[int, int], tile_hw: tuple[int, int]) -> Map:
    """Return the map from the image to its tile: the whole, or a part around the point where that is small.

    The part is as large as gives the circle around the point a radius of `_PART_RADIUS`, where it would have
    less than `_LEAST_RADIUS` otherwise; it stays on the image.

    Args:
        shown: The point and the radius.
        image_hw: Height and width of the image in pixels.
        tile_hw: Of the tile.

    Returns:
        `[2, 3]`.
    """
    whole = resize_affine(image_hw, tile_hw)
    radius = shown.radius_px * whole[0, 0]
    if radius >= _LEAST_RADIUS:
        return whole
    scale = _PART_RADIUS / radius * whole[[0, 1], [0, 1]]
    half = np.array(tile_hw[::-1]) / 2 / scale  # of the part, in pixels of the image
    size = np.array(image_hw[::-1])
    centre = np.clip(np.array(shown.xy) + 0.5, half, size - half)  # from the corner of the image
    return np.column_stack([np.diag(scale), np.array(tile_hw[::-1]) / 2 - 0.5 - scale * (centre - 0.5)])


def picture_size(image_hw: tuple[int, int]) -> tuple[int, int]:
    """Return the size of a picture of its own: that of the image, small ones enlarged by a whole number."""
    factor = max(1, 384 // max(image_hw))
    return factor * image_hw[0], factor * image_hw[1]


def draw_grids(
    image: Picture, explanations: Sequence[KeypointExplanation], to_image: Map
) -> Iterator[Picture]:
    """Draw the explanations of an image as a table, in pages of `ROWS_PER_PAGE` channels.

    Args:
        image: `[h, w, c]`, uint8, original.
        explanations: Of all channels; each is a row, and each of their methods a column after that of the
            image.
        to_image: From the network's frame to the image, `[2, 3]`.

    Yields:
        Pages `[h, w, 3]` RGB.
    """
    scale = TILE_PX / max(image.shape[:2])
    tile_hw = (max(1, round(image.shape[0] * scale)), max(1, round(image.shape[1] * scale)))
    for first in range(0, len(explanations), ROWS_PER_PAGE):
        channels = range(first, min(first + ROWS_PER_PAGE, len(explanations)))
        yield _page(image, explanations, channels, to_image, tile_hw)


def _page(
    image: Picture,
    explanations: Sequence[KeypointExplanation],
    channels: range,
    to_image: Map,
    tile_hw: tuple[int, int],
) -> Picture:
    titles = ["prediction", *map(title, explanations[0].maps)]
    pitch_x = max(tile_hw[1], 130) + _GAP  # room for the name of a method above a narrow image
    pitch_y = tile_hw[0] + _LINE + _GAP
    size = (_LINE + _GAP + len(channels) * pitch_y, _NAME_COLUMN + len(titles) * pitch_x, 3)
    page = np.full(size, _PAPER, np.uint8)
    for index, text in enumerate(titles):
        put_text(page, text, (_NAME_COLUMN + index * pitch_x, _LINE - 4), pitch_x - _GAP)
    for row, channel in enumerate(channels):
        top = _LINE + _GAP + row * pitch_y
        _put_name(page, explanations[channel], channel_colors(len(explanations))[channel], top)
        for index, (tile, caption) in enumerate(_tiles(image, explanations, channel, to_image, tile_hw)):
            left = _NAME_COLUMN + index * pitch_x
            page[top : top + tile_hw[0], left : left + tile_hw[1]] = tile
            put_text(page, caption, (left, top + tile_hw[0] + _LINE - 6), pitch_x - _GAP, _FAINT)
    return page


def _tiles(
    image: Picture,
    explanations: Sequence[KeypointExplanation],
    channel: int,
    to_image: Map,
    tile_hw: tuple[int, int],
) -> Iterator[tuple[Picture, str]]:
    """Yield the tiles of a channel with their captions: the prediction, then each map."""
    shown, image_hw = explanations[channel], (image.shape[0], image.shape[1])
    whole, to_tile = resize_affine(image_hw, tile_hw), window_affine(shown, image_hw, tile_hw)
    points = [np.empty((0, 2)) for _ in explanations]
    points[channel] = transform_points(whole, np.array([shown.xy]))
    tile = draw_keypoints(warp_image(to_rgb(image), whole, tile_hw), points)
    if "saliency" in shown.maps and not np.array_equal(whole, to_tile):
        corners = np.array([[-0.5, -0.5], [tile_hw[1] - 0.5, tile_hw[0] - 0.5]])
        first, last = np.rint(transform_points(compose(invert(to_tile), whole), corners)).astype(int).tolist()
        for color, width in (((0, 0, 0), 3), ((255, 255, 255), 1)):
            cv2.rectangle(tile, first, last, color, width)
    yield tile, _caption(shown.area_share, "area")
    for method, share in shown.shares.items():
        # Rollout is about the whole image; saliency is often a speck around the point.
        affine = to_tile if method == "saliency" else whole
        tile = draw_map(image, shown, method, to_image=to_image, to_picture=affine, picture_hw=tile_hw)
        yield tile, _caption(share, "map")


def title(name: str) -> str:
    """Return the title of a column of maps: `gradient rollout`, `gradient rollout, discard 0.5`."""
    method, _, ratio = name.partition("rollout_")
    return f"{method}rollout, discard {ratio}".replace("_", " ") if ratio else name.replace("_", " ")


def _caption(share: float, whole: str) -> str:
    return f"{percent(share)} of the {whole} in circle"


def percent(share: float) -> str:
    """Write a share in percent with two digits that count, `40 %` or `0.056 %`."""
    return f"{100 * share:.{max(0, 1 - math.floor(math.log10(max(100 * share, 1e-3))))}f} %"


def _put_name(page: Picture, shown: KeypointExplanation, color: tuple[int, int, int], top: int) -> None:
    """Write the name of a channel at the left of its row: pooled names below each other, then the score."""
    parts = shown.channel.split("=")
    lines = parts if len(parts) <= 5 else [*parts[:4], f"+ {len(parts) - 4} more"]
    page[top : top + _LINE * (len(lines) + 1), 4:8] = color
    for index, line in enumerate(lines):
        put_text(page, line, (14, top + _LINE * (index + 1) - 6), _NAME_COLUMN - 14 - _GAP)
    place = (14, top + _LINE * (len(lines) + 1) - 6)
    put_text(page, f"score {shown.score:.2f}", place, _NAME_COLUMN - 14 - _GAP, _FAINT)


def put_text(
    page: Picture,
    text: str,
    place: tuple[int, int],
    width_px: int,
    color: tuple[int, int, int] = _INK,
) -> None:
    """Write a line of text with its lower left corner at a place, smaller or cut where it is too wide."""
    font, scale = cv2.FONT_HERSHEY_SIMPLEX, 0.45
    while scale > 0.36 and cv2.getTextSize(text, font, scale, 1)[0][0] > width_px:
        scale -= 0.03
    shown = text
    while len(shown) > 1 and cv2.getTextSize(shown, font, scale, 1)[0][0] > width_px:
        text = text[:-1]
        shown = f"{text}..."
    cv2.putText(page, shown, place, font, scale, color, 1, cv2.LINE_AA)
