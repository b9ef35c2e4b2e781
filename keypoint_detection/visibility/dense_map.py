"""P(visible) all over an image: the classifier slides over a grid of points."""

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from keypoint_detection.geometry import compose, resize_affine
from keypoint_detection.visibility.evaluate import logits_of_points
from keypoint_detection.visibility.pyramid import Pyramid

if TYPE_CHECKING:
    from keypoint_detection.visibility.classifier import VisibilityClassifier

_SURE = 0.2  # P(visible) below it, or above 1 minus it, at the corners of a cell


@dataclass(frozen=True)
class DenseMap:
    """Hold P(visible) on a grid of points of one image.

    Attributes:
        xy: Points in original-image pixels, float64 `[gh, gw, 2]`.
        p_visible: In [0, 1], float32 `[gh, gw]`; NaN where nothing was asked.
        image_hw: Height and width of the image in pixels.
        stride_px: Distance of neighbouring points in pixels.
    """

    xy: NDArray[np.float64]
    p_visible: NDArray[np.float32]
    image_hw: tuple[int, int]
    stride_px: int

    def in_pixels(self, picture_hw: tuple[int, int] | None = None) -> NDArray[np.float32]:
        """Return P(visible) of every pixel, `[h, w]`, interpolated between the points; NaN stays NaN.

        Args:
            picture_hw: Size of a smaller or larger picture of the whole image; that of the image if None.
        """
        picture_hw = picture_hw or self.image_hw
        (x, y), step = self.xy[0, 0], float(self.stride_px)
        from_grid = np.array([[step, 0, x], [0, step, y]])
        return _sampled(
            self.p_visible, compose(from_grid, resize_affine(self.image_hw, picture_hw)), picture_hw
        )


def dense_map(
    classifier: "VisibilityClassifier",
    pyramid: Pyramid,
    image: int,
    stride_px: int,
    batch_size: int = 256,
    *,
    where: NDArray[np.bool_] | None = None,
    coarse: int = 1,
) -> DenseMap:
    """Classify a grid of points of one image, in batches.

    Args:
        classifier: On any device.
        pyramid: With the levels and channels that the classifier was trained on.
        image: Index of the image in the pyramid.
        stride_px: Distance of neighbouring points in pixels of the image; the cost falls with its square.
        batch_size: Patches in a batch.
        where: Pixels that matter, `[h, w]`, such as those with a depth; other points are left out and NaN.
        coarse: With n > 1, every n-th point of each axis is classified first, and the others only in cells
            whose four corners are not all surely visible or surely not; elsewhere they are interpolated. The
            classifier takes nearly all the time, so that large even regions come much quicker; an island
            smaller than a cell can be missed.

    Raises:
        ValueError: The stride, the batch or `coarse` is below 1, there is no such image, `where` has another
            size, or the pyramid has other levels or channels than the classifier was trained on.
    """
    if not 0 <= image < pyramid.n_images:
        raise ValueError(f"expected an image from 0 to {pyramid.n_images - 1}, got {image}")
    if min(stride_px, batch_size, coarse) < 1:
        raise ValueError(
            f"expected a stride, a batch and coarse of at least 1, got {stride_px}, {batch_size} and {coarse}"
        )
    image_hw = (int(pyramid.image_hw[image][0]), int(pyramid.image_hw[image][1]))
    xy = grid_points(image_hw, stride_px)
    p_visible = np.full(xy.shape[:2], np.nan, np.float32)
    asked = _asked(xy, image_hw, where)

    def classify(chosen: NDArray[np.bool_]) -> None:
        index = np.full(np.count_nonzero(chosen), image, np.int64)
        logits = logits_of_points(classifier, pyramid, index, xy[chosen], batch_size=batch_size)
        p_visible[chosen] = expit(logits)

    cells = _cells(asked.shape, coarse)
    on_corners = np.zeros_like(asked)
    for rows, columns in cells:
        on_corners[np.ix_((rows.start, rows.stop - 1), (columns.start, columns.stop - 1))] = True
    classify(asked & on_corners)
    unsure = [cell for cell in cells if not _is_sure(p_visible[cell])]
    in_unsure = np.zeros_like(asked) if cells else np.ones_like(asked)
    for cell in unsure:
        in_unsure[cell] = True
    classify(asked & in_unsure & ~on_corners)
    for cell in cells:
        left = asked[cell] & np.isnan(p_visible[cell])
        p_visible[cell][left] = _interpolated(p_visible[cell])[left]
    return DenseMap(xy, p_visible, image_hw, stride_px)


def grid_points(image_hw: tuple[int, int], stride_px: int) -> NDArray[np.float64]:
    """Return the points of a grid in the middle of an image, `[gh, gw, 2]`, whole pixels; at least one."""
    axes = []
    for length in image_hw:
        count = max(1, -(-length // stride_px))
        first = max((length - 1 - (count - 1) * stride_px) // 2, 0)
        axes.append(first + stride_px * np.arange(count))
    ys, xs = np.meshgrid(*axes, indexing="ij")
    return np.stack([xs, ys], axis=2).astype(np.float64)


def _cells(shape: tuple[int, ...], coarse: int) -> list[tuple[slice, slice]]:
    """Return the cells between every n-th row and column, borders included, or none without them."""
    if coarse == 1 or min(shape) < 2:
        return []
    axes = []
    for length in shape:
        ends = [*range(0, length - 1, coarse), length - 1]
        axes.append([slice(first, last + 1) for first, last in itertools.pairwise(ends)])
    return list(itertools.product(*axes))


def _is_sure(p_visible: NDArray[np.float32]) -> bool:
    """Tell whether the four corners of a cell are all surely visible, or all surely not; NaN is not sure."""
    corners = p_visible[[0, 0, -1, -1], [0, -1, 0, -1]]
    return bool((corners > 1 - _SURE).all() or (corners < _SURE).all())


def _interpolated(p_visible: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return a cell whose values are interpolated between its corners."""
    down, right = (np.linspace(0, 1, length) for length in p_visible.shape)
    ends = p_visible[np.ix_((0, -1), (0, -1))].astype(np.float64)
    return np.stack([1 - down, down], 1) @ ends @ np.stack([1 - right, right])


def _asked(
    xy: NDArray[np.float64], image_hw: tuple[int, int], where: NDArray[np.bool_] | None
) -> NDArray[np.bool_]:
    if where is None:
        return np.ones(xy.shape[:2], bool)
    if where.shape != image_hw:
        raise ValueError(f"expected a mask of the image's size {image_hw}, got {where.shape}")
    column, row = xy.astype(np.int64).transpose(2, 0, 1)
    return np.asarray(where, bool)[row, column]


def _sampled(
    values: NDArray[np.float32], to_picture: NDArray[np.float64], hw: tuple[int, int]
) -> NDArray[np.float32]:
    """Return values of a grid at every pixel: linear between known points, the nearest beyond the border."""
    known = np.isfinite(values)
    border = cv2.BORDER_REPLICATE
    parts = [
        cv2.warpAffine(
            part.astype(np.float32), to_picture, hw[::-1], flags=cv2.INTER_LINEAR, borderMode=border
        )
        for part in (np.where(known, values, 0), known)
    ]
    share = np.asarray(parts[1])
    result = np.full(hw, np.nan, np.float32)
    np.divide(parts[0], share, out=result, where=share >= 0.5)
    return result
