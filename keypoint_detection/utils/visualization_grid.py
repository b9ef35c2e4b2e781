"""Put pictures side by side in one picture, with titles."""

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from keypoint_detection.geometry import letterbox_affine, warp_image
from keypoint_detection.utils.colours import Rgb
from keypoint_detection.utils.visualization_marks import (
    Picture,
    put_text,
    text_scale,
    text_size,
    to_rgb,
)
from keypoint_detection.utils.visualization_text import ascii_text, shortened

_GROUND = 24
_INK: Rgb = (236, 236, 236)
_GAP_PX = 2


def image_grid(
    pictures: Sequence[NDArray[np.uint8]],
    columns: int,
    titles: Sequence[str] = (),
    *,
    row_titles: Sequence[str] = (),
    cell_hw: tuple[int, int] | None = None,
) -> Picture:
    """Put pictures into equal cells, row by row; each is fitted into its cell with its aspect ratio kept.

    Args:
        pictures: RGB or grey, uint8 `[h, w, c]`, of any sizes; at least one.
        columns: Pictures in a row, at least 1.
        titles: One line above each picture, or none. A title that is too long for its cell is cut short.
        row_titles: One line above each row, or none.
        cell_hw: Height and width of a cell in pixels; the greatest of the pictures if None.

    Returns:
        One RGB picture on a dark ground.

    Raises:
        ValueError: There is no picture or no column, or the numbers of titles do not fit.
    """
    rows = -(-len(pictures) // columns) if columns > 0 else 0
    _check(len(pictures), columns, rows, titles, row_titles)
    if cell_hw is None:
        cell_hw = max(p.shape[0] for p in pictures), max(p.shape[1] for p in pictures)
    cells = [_fitted(picture, cell_hw) for picture in pictures]
    scale = text_scale(cells[0])
    if titles:
        cells = [
            np.vstack([_title(title, cell_hw[1], scale), cell])
            for title, cell in zip(titles, cells, strict=True)
        ]
    blank = np.full_like(cells[0], _GROUND)
    cells += [blank] * (rows * columns - len(cells))
    bands = []
    for row in range(rows):
        band = _joined(cells[row * columns : (row + 1) * columns], axis=1)
        if row_titles:
            band = np.vstack([_title(row_titles[row], band.shape[1], scale), band])
        bands.append(band)
    return _joined(bands, axis=0)


def _check(
    n_pictures: int, columns: int, rows: int, titles: Sequence[str], row_titles: Sequence[str]
) -> None:
    if n_pictures < 1 or columns < 1:
        raise ValueError(
            f"expected at least 1 picture and 1 column for a grid, got {n_pictures} and {columns}"
        )
    if titles and len(titles) != n_pictures:
        raise ValueError(
            f"expected one title per picture or none, got {len(titles)} titles for {n_pictures} pictures"
        )
    if row_titles and len(row_titles) != rows:
        raise ValueError(
            f"expected one title per row or none, got {len(row_titles)} row titles for {rows} rows"
        )


def _fitted(picture: NDArray[np.uint8], hw: tuple[int, int]) -> Picture:
    """Return a picture as large as fits into a cell, in its middle."""
    picture = to_rgb(picture)
    return warp_image(picture, letterbox_affine((picture.shape[0], picture.shape[1]), hw), hw, _GROUND)


def _title(text: str, width: int, scale: float) -> Picture:
    """Return a strip `[line height, width]` with a text, cut short where it is too long."""
    text = ascii_text(text)
    length = len(text)
    while length > 1 and text_size(shortened(text, length), scale)[0] > width - 8:
        length -= 1
    strip = np.full((text_size("Ag", scale)[1] + 6, width, 3), _GROUND, np.uint8)
    if text:
        put_text(strip, shortened(text, length), (4, 3), scale, _INK)
    return strip


def _joined(parts: Sequence[Picture], axis: int) -> Picture:
    """Return pictures below or beside each other, some pixels apart."""
    bottom, right = (_GAP_PX, 0) if axis == 0 else (0, _GAP_PX)
    border = (_GROUND,) * 3
    apart = [
        cv2.copyMakeBorder(part, 0, bottom, 0, right, cv2.BORDER_CONSTANT, value=border)
        for part in parts[:-1]
    ]
    return np.concatenate([*apart, parts[-1]], axis=axis).astype(np.uint8)
