"""Maps of explanations: from tokens to the network's frame, onto the image, and how much lies at a point."""

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from keypoint_detection.geometry import (
    Affine,
    heatmap_to_image,
    invert,
    is_inside,
    transform_points,
)

Map = NDArray[np.float64]


def tokens_to_frame(tokens: Map, patch_px: int, frame_hw: tuple[int, int]) -> Map:
    """Resample a map of patches to the pixels of the network's frame, bilinearly.

    Patch `u` lies around pixel `(u + 0.5) * patch_px - 0.5`; what lies over the backbone's own padding, to
    the right and below, is cut off.

    Args:
        tokens: `[rows, columns]`.
        patch_px: Side of a patch in pixels.
        frame_hw: Height and width of the frame.

    Returns:
        `[h, w]`.
    """
    offset = heatmap_to_image(np.zeros(2), patch_px)
    return warp_map(tokens, np.column_stack([patch_px * np.eye(2), offset]), frame_hw)


def over_image(values: Map, to_image: Affine, image_hw: tuple[int, int]) -> Map:
    """Set to 0 what lies in the padding around the image, and let the rest sum to 1.

    Args:
        values: `[h, w]` in the network's frame, not negative.
        to_image: From that frame to the image, `[2, 3]`.
        image_hw: Height and width of the image in pixels.

    Returns:
        `[h, w]`; the same everywhere on the image if there is nothing.
    """
    shown = frame_mask(values.shape, to_image, image_hw)
    kept = np.where(shown, values, 0.0)
    return kept / kept.sum() if kept.sum() > 0 else shown / shown.sum()


def frame_mask(frame_hw: tuple[int, ...], to_image: Affine, image_hw: tuple[int, int]) -> NDArray[np.bool_]:
    """Tell which pixels of the network's frame show the image, `[h, w]`."""
    return is_inside(transform_points(to_image, _pixels(frame_hw)), image_hw)


def mass_near(values: Map, point: NDArray[np.floating], radius_px: float) -> float:
    """Return which share of a map's sum lies on pixels up to `radius_px` from a point, both in its pixels."""
    near = np.linalg.norm(_pixels(values.shape) - point, axis=-1) <= radius_px
    return float(values[near].sum() / values.sum())


def warp_map(values: Map, affine: Affine, to_hw: tuple[int, int]) -> Map:
    """Warp a map by an affine into a frame, bilinearly, its borders continued.

    Along an axis that shrinks, it is first averaged over boxes as wide as a pixel of the frame (an odd
    number, so that nothing moves).

    Args:
        values: `[h, w]`.
        affine: From its pixels to those of the frame, `[2, 3]`.
        to_hw: Height and width of the frame.

    Returns:
        `[to_h, to_w]`.
    """
    box_x, box_y = (
        2 * round(max(0.5 / scale - 0.5, 0.0)) + 1 for scale in np.linalg.norm(affine[:, :2], axis=0)
    )
    if box_x > 1 or box_y > 1:
        values = np.asarray(cv2.blur(values, (box_x, box_y), borderType=cv2.BORDER_REPLICATE), np.float64)
    height, width = values.shape
    places = transform_points(invert(affine), _pixels(to_hw))
    shares = (places + 0.5) / (width, height) * 2 - 1  # the map spans [-1, 1]
    grid, plane = torch.from_numpy(shares)[None], torch.from_numpy(np.ascontiguousarray(values))[None, None]
    return F.grid_sample(plane, grid, padding_mode="border", align_corners=False)[0, 0].numpy()


def map_on_picture(values: Map, to_picture: Affine, picture_hw: tuple[int, int]) -> Map:
    """Resample a map of the network's frame to a picture of the image or of a part of it, for drawing.

    Args:
        values: `[h, w]`, not negative.
        to_picture: From the network's frame to the picture, `[2, 3]`.
        picture_hw: Height and width of the picture in pixels.

    Returns:
        `[h, w]` in [0, 1]; 1 is reached by the highest thousandth, so that one pixel does not hide the rest.
    """
    drawn = warp_map(values, to_picture, picture_hw)
    top = float(np.quantile(drawn, 0.999)) or float(drawn.max())
    return np.clip(drawn / top, 0.0, 1.0) if top > 0 else drawn


def _pixels(hw: tuple[int, ...]) -> Map:
    """Return the centres of all pixels, `[h, w, 2]` as x, y."""
    rows, columns = np.mgrid[: hw[0], : hw[1]]
    return np.stack([columns, rows], axis=-1).astype(np.float64)
