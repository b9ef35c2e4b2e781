"""Draw keypoints and heatmaps on uint8 RGB arrays."""

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from keypoint_detection.geometry import resize_affine, warp_image
from keypoint_detection.records import Prediction
from keypoint_detection.utils.colours import channel_colors

_FRACTION_BITS = 4


def draw_keypoints(
    image: NDArray[np.uint8],
    keypoints: Sequence[NDArray[np.floating]],
    scores: Sequence[NDArray[np.floating]] | None = None,
    threshold: float = 0.1,
    enlarge: int = 1,
) -> NDArray[np.uint8]:
    """Draw a ring and a centre dot at each keypoint, at its sub-pixel place.

    Args:
        image: `[h, w, 3]` RGB or `[h, w, 1]`, uint8; not changed.
        keypoints: One array `[k, 2]` per channel, in pixels of `image`; NaN is left out.
        scores: One array `[k]` per channel; points below `threshold` are left out.
        threshold: Least score to draw, in [0, 1].
        enlarge: Whole factor by which the picture is enlarged first.

    Returns:
        `[enlarge * h, enlarge * w, 3]` uint8 RGB.
    """
    canvas = to_rgb(image)
    size = (canvas.shape[1] * enlarge, canvas.shape[0] * enlarge)
    canvas = np.array(cv2.resize(canvas, size, interpolation=cv2.INTER_LINEAR), np.uint8)
    radius = max(3.0, 0.009 * max(canvas.shape))
    for index, (points, color) in enumerate(zip(keypoints, channel_colors(len(keypoints)), strict=True)):
        kept = np.isfinite(points).all(-1)
        if scores is not None:
            kept &= np.asarray(scores[index]) >= threshold
        for x, y in (points[kept] + 0.5) * enlarge - 0.5:
            _disc(canvas, (x, y), radius, (0, 0, 0), 3)
            _disc(canvas, (x, y), radius, color, 1)
            _disc(canvas, (x, y), 1.0, color, cv2.FILLED)
    return canvas


def draw_prediction(
    image: NDArray[np.uint8], prediction: Prediction, threshold: float = 0.1, enlarge: int = 1
) -> NDArray[np.uint8]:
    """Draw the points of a prediction, with a legend of the channels, on the image that it belongs to."""
    points = [
        np.array([(p.x, p.y) for p in channel], np.float64).reshape(-1, 2) for channel in prediction.keypoints
    ]
    scores = [np.array([p.score for p in channel]) for channel in prediction.keypoints]
    canvas = draw_keypoints(image, points, scores, threshold, enlarge)
    size = max(0.35, canvas.shape[0] / 1200)
    for row, (name, color) in enumerate(
        zip(prediction.channel_names, channel_colors(len(points)), strict=True), start=1
    ):
        place = (6, int(6 + 38 * size * row))
        cv2.putText(canvas, name, place, cv2.FONT_HERSHEY_SIMPLEX, size, (0, 0, 0), 2, cv2.LINE_AA)
        cv2.putText(canvas, name, place, cv2.FONT_HERSHEY_SIMPLEX, size, color, 1, cv2.LINE_AA)
    return canvas


def draw_heatmap(
    image: NDArray[np.uint8], heatmap: NDArray[np.floating], opacity: float = 0.5
) -> NDArray[np.uint8]:
    """Lay a heatmap with values in [0, 1] over an image of any larger or equal size.

    Args:
        image: `[h, w, 3]` RGB or `[h, w, 1]`, uint8.
        heatmap: `[h / stride, w / stride]`.
        opacity: Weight of the heatmap where it is 1.

    Returns:
        `[h, w, 3]` uint8 RGB.
    """
    canvas = to_rgb(image)
    hw = (canvas.shape[0], canvas.shape[1])
    levels = np.clip(np.nan_to_num(heatmap) * 255, 0, 255).astype(np.uint8)
    levels = warp_image(levels, resize_affine((levels.shape[0], levels.shape[1]), hw), hw, pad_value=0)
    colors = cv2.cvtColor(cv2.applyColorMap(levels, cv2.COLORMAP_VIRIDIS), cv2.COLOR_BGR2RGB)
    return cv2.addWeighted(canvas, 1.0 - opacity, colors, opacity, 0.0).astype(np.uint8)


def to_rgb(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return `[h, w, 3]`: one channel is repeated, channels after the third are left out."""
    if image.ndim == 2:
        image = image[..., None]
    return (
        np.repeat(image[..., :1], 3, axis=2) if image.shape[2] < 3 else np.ascontiguousarray(image[..., :3])
    )


def _disc(
    canvas: NDArray[np.uint8],
    xy: tuple[float, float],
    radius: float,
    color: tuple[int, int, int],
    thickness: int,
) -> None:
    """Draw an anti-aliased circle with its centre between pixels where it belongs."""
    scale = 1 << _FRACTION_BITS
    centre = (round(xy[0] * scale), round(xy[1] * scale))
    cv2.circle(canvas, centre, round(radius * scale), color, thickness, cv2.LINE_AA, _FRACTION_BITS)
