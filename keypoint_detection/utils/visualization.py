"""Draw keypoints, skeletons, trails and heatmaps on uint8 RGB arrays."""

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from keypoint_detection.geometry import resize_affine, warp_image
from keypoint_detection.records import Prediction
from keypoint_detection.utils.colours import Rgb, channel_colors
from keypoint_detection.utils.visualization_marks import (
    BLACK,
    WHITE,
    Picture,
    enlarged,
    is_drawable,
    line_width,
    point_radius,
    put_dashed_ring,
    put_disc,
    put_dot,
    put_line,
    put_ring,
    to_rgb,
)
from keypoint_detection.utils.visualization_names import NamedPoint, draw_names

__all__ = [
    "draw_heatmap",
    "draw_heatmaps",
    "draw_keypoints",
    "draw_prediction",
    "draw_sample",
    "draw_trails",
    "to_rgb",
]


def draw_keypoints(
    image: NDArray[np.uint8],
    keypoints: Sequence[NDArray[np.floating]],
    scores: Sequence[NDArray[np.floating]] | None = None,
    threshold: float = 0.1,
    enlarge: int = 1,
) -> Picture:
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
    canvas = enlarged(image, enlarge)
    _put_rings(canvas, _drawn_points(keypoints, scores, threshold, enlarge))
    return canvas


def draw_prediction(
    image: NDArray[np.uint8],
    prediction: Prediction,
    threshold: float = 0.1,
    enlarge: int = 1,
    *,
    skeleton: Sequence[tuple[int, int]] = (),
    names: bool = True,
) -> Picture:
    """Draw the points of a prediction with their skeleton and names on the image that it belongs to.

    An occluded point has a dashed ring; any other a ring with a dot in it. The name of a channel stands
    beside its best point. Where names would cover each other, and with more than 22 of them, the points are
    numbered, and a legend in a corner lists as many names as there is room for.

    Args:
        image: `[h, w, 3]` RGB or `[h, w, 1]`, uint8; not changed.
        prediction: Points in pixels of `image`, best score first.
        threshold: Least score to draw, in [0, 1].
        enlarge: Whole factor by which the picture is enlarged first.
        skeleton: Pairs of channels; a line joins the best points of each pair.
        names: Whether to write the names of the channels.

    Returns:
        `[enlarge * h, enlarge * w, 3]` uint8 RGB.
    """
    points = [
        np.array([(p.x, p.y) for p in channel], np.float64).reshape(-1, 2) for channel in prediction.keypoints
    ]
    scores = [np.array([p.score for p in channel]) for channel in prediction.keypoints]
    canvas = enlarged(image, enlarge)
    drawn = _drawn_points(points, scores, threshold, enlarge)
    occluded = [np.array([p.visibility == 1 for p in channel], bool) for channel in prediction.keypoints]
    are_drawn = _are_drawn(points, scores, threshold)
    _put_skeleton(canvas, [channel[:1] for channel in drawn], skeleton)
    _put_rings(canvas, drawn, [flags[kept] for flags, kept in zip(occluded, are_drawn, strict=True)])
    if names:
        _put_names(canvas, drawn, prediction.channel_names)
    return canvas


def draw_sample(
    image: NDArray[np.uint8],
    keypoints: Sequence[NDArray[np.floating]],
    visibility: Sequence[NDArray[np.integer]],
    *,
    skeleton: Sequence[tuple[int, int]] = (),
    names: Sequence[str] = (),
    enlarge: int = 1,
) -> Picture:
    """Draw labelled points: a filled disc where the point is visible, a ring where it is occluded.

    Args:
        image: `[h, w, 3]` RGB or `[h, w, 1]`, uint8; not changed.
        keypoints: One array `[k, 2]` per channel, in pixels of `image`; NaN is left out.
        visibility: One array `[k]` per channel of COCO's 0, 1 or 2; 0 is left out.
        skeleton: Pairs of channels; a line joins row i of one with row i of the other, so that with a
            skeleton the rows are the objects, the same in every channel.
        names: One name per channel, written beside its first point; none to write nothing.
        enlarge: Whole factor by which the picture is enlarged first.

    Returns:
        `[enlarge * h, enlarge * w, 3]` uint8 RGB.
    """
    canvas = enlarged(image, enlarge)
    kept = [
        np.where((np.asarray(flags) > 0)[:, None], (np.asarray(points) + 0.5) * enlarge - 0.5, np.nan)
        for points, flags in zip(keypoints, visibility, strict=True)
    ]
    _put_skeleton(canvas, kept, skeleton)
    radius = point_radius(canvas, sum(len(points) for points in kept))
    for points, flags, color in zip(kept, visibility, channel_colors(len(kept)), strict=True):
        for xy, flag in zip(points, flags, strict=True):
            if is_drawable(xy):
                _put_labelled(canvas, xy, radius, color, is_visible=bool(flag == 2))
    if names:
        _put_names(canvas, [points[is_drawable(points)] for points in kept], names)
    return canvas


def draw_trails(image: NDArray[np.uint8], history: NDArray[np.floating], *, enlarge: int = 1) -> Picture:
    """Draw where the points of each channel came from: lines that fade with their age.

    Args:
        image: `[h, w, 3]` RGB or `[h, w, 1]`, uint8; not changed.
        history: `[t, c, 2]` in pixels of `image`, oldest first; NaN leaves a gap.
        enlarge: Whole factor by which the picture is enlarged first.

    Returns:
        `[enlarge * h, enlarge * w, 3]` uint8 RGB.
    """
    canvas = enlarged(image, enlarge)
    places = (np.asarray(history, np.float64) + 0.5) * enlarge - 0.5
    width, colors = line_width(canvas) + 1, channel_colors(places.shape[1])
    colored, opacity = canvas.copy(), np.zeros(canvas.shape[:2], np.uint8)
    for age in range(1, len(places)):
        level = round(230 * age / (len(places) - 1)) + 25
        drawable = is_drawable(places[age - 1 : age + 1]).all(0)
        for channel, color in enumerate(colors):
            if drawable[channel]:
                ends = places[age - 1, channel], places[age, channel]
                put_line(colored, *ends, color, width + 2)  # wider, so that soft edges have the full colour
                put_line(opacity, *ends, level, width)
    return _blend(canvas, colored, opacity)


def draw_heatmap(image: NDArray[np.uint8], heatmap: NDArray[np.floating], opacity: float = 0.85) -> Picture:
    """Lay a heatmap with values in [0, 1] over an image of any larger or equal size, in viridis.

    Where the heatmap is 0 the image stays as it is; the weight of the colour is the root of the value.

    Args:
        image: `[h, w, 3]` RGB or `[h, w, 1]`, uint8.
        heatmap: `[h / stride, w / stride]`.
        opacity: Weight of the colour where the heatmap is 1, in [0, 1].

    Returns:
        `[h, w, 3]` uint8 RGB.
    """
    canvas = to_rgb(image)
    hw = (canvas.shape[0], canvas.shape[1])
    levels = np.clip(np.nan_to_num(heatmap) * 255, 0, 255).astype(np.uint8)
    levels = warp_image(levels, resize_affine((levels.shape[0], levels.shape[1]), hw), hw, pad_value=0)
    colors = cv2.cvtColor(cv2.applyColorMap(levels, cv2.COLORMAP_VIRIDIS), cv2.COLOR_BGR2RGB)
    weight = opacity * np.sqrt(levels[..., None] / np.float32(255))
    return (canvas + weight * (colors.astype(np.float32) - canvas)).round().astype(np.uint8)


def draw_heatmaps(image: NDArray[np.uint8], heatmaps: NDArray[np.floating], opacity: float = 0.85) -> Picture:
    """Lay the heatmaps of all channels over a darkened grey image, each in the colour of its channel.

    Args:
        image: `[h, w, 3]` RGB or `[h, w, 1]`, uint8.
        heatmaps: `[c, h / stride, w / stride]` with values in [0, 1].
        opacity: Weight of a heatmap where it is 1.

    Returns:
        `[h, w, 3]` uint8 RGB.
    """
    canvas = to_rgb(image)
    grey = cv2.cvtColor(canvas, cv2.COLOR_RGB2GRAY)[..., None] * np.float32(0.6)
    heat = np.clip(np.nan_to_num(heatmaps), 0.0, 1.0).astype(np.float32)
    colors = np.array(channel_colors(len(heat)), np.float32).reshape(-1, 3)
    # The colours of channels that overlap are mixed by their heat; the hottest one gives the weight.
    mixed = np.einsum("chw,cd->hwd", heat, colors) / np.maximum(heat.sum(0), 1e-6)[..., None]
    weight = heat.max(0, initial=0.0)[..., None] * np.float32(opacity)
    layers = cv2.resize(np.dstack([mixed * weight, weight]), canvas.shape[1::-1])
    return np.round(grey * (1.0 - layers[..., 3:]) + layers[..., :3]).astype(np.uint8)


def _drawn_points(
    keypoints: Sequence[NDArray[np.floating]],
    scores: Sequence[NDArray[np.floating]] | None,
    threshold: float,
    enlarge: int,
) -> list[NDArray[np.floating]]:
    """Return the points per channel `[k, 2]` that are drawn, in pixels of the enlarged picture."""
    kept = _are_drawn(keypoints, scores, threshold)
    return [
        (np.asarray(points)[is_drawn] + 0.5) * enlarge - 0.5
        for points, is_drawn in zip(keypoints, kept, strict=True)
    ]


def _are_drawn(
    keypoints: Sequence[NDArray[np.floating]],
    scores: Sequence[NDArray[np.floating]] | None,
    threshold: float,
) -> list[NDArray[np.bool_]]:
    """Tell per channel, `[k]`, which points are drawn."""
    kept = [is_drawable(points) for points in keypoints]
    if scores is None:
        return kept
    return [places & (np.asarray(channel) >= threshold) for places, channel in zip(kept, scores, strict=True)]


def _put_rings(
    canvas: Picture,
    points: Sequence[NDArray[np.floating]],
    occluded: Sequence[NDArray[np.bool_]] | None = None,
) -> None:
    """Draw a ring with a dot per point `[k, 2]` of each channel, or a dashed ring where `[k]` is set."""
    radius = point_radius(canvas, sum(len(channel) for channel in points))
    occluded = [np.zeros(len(channel), bool) for channel in points] if occluded is None else occluded
    for channel, flags, color in zip(points, occluded, channel_colors(len(points)), strict=True):
        for xy, is_occluded in zip(channel, flags, strict=True):
            if is_occluded:
                put_dashed_ring(canvas, xy, max(radius, 4.0) + 3.0, color)
            else:
                put_ring(canvas, xy, radius, color)
                put_disc(canvas, xy, 1.0, color)


def _put_labelled(
    canvas: Picture, xy: NDArray[np.floating], radius: float, color: Rgb, *, is_visible: bool
) -> None:
    if is_visible:
        put_dot(canvas, xy, radius, color)
    else:
        put_ring(canvas, xy, max(radius, 4.0) + 1.0, color)  # large enough to be hollow within its outline


def _put_skeleton(
    canvas: Picture, points: Sequence[NDArray[np.floating]], skeleton: Sequence[tuple[int, int]]
) -> None:
    """Join row i of both channels of each pair; a missing or unpaired row is left out."""
    width = line_width(canvas)
    ends = [pair for first, second in skeleton for pair in zip(points[first], points[second], strict=False)]
    ends = [pair for pair in ends if is_drawable(np.array(pair)).all()]
    for color, extra in ((BLACK, 2), (WHITE, 0)):
        for start, end in ends:
            put_line(canvas, start, end, color, width + extra)


def _put_names(canvas: Picture, points: Sequence[NDArray[np.floating]], names: Sequence[str]) -> None:
    colors = channel_colors(len(points))
    named = [
        NamedPoint(points[index][0], name, index, colors[index])
        for index, name in enumerate(names)
        if len(points[index])
    ]
    marks = np.concatenate(points) if len(points) else np.empty((0, 2))
    draw_names(canvas, named, marks, point_radius(canvas, len(marks)))


def _blend(below: Picture, above: Picture, opacity: NDArray[np.uint8]) -> Picture:
    """Return `above` laid over `below` with an opacity `[h, w]` of 0 to 255."""
    rows, columns = (np.asarray(opacity.any(axis)) for axis in (1, 0))
    if not rows.any():
        return below
    top, left = int(rows.argmax()), int(columns.argmax())
    part = np.s_[
        top : len(rows) - int(rows[::-1].argmax()), left : len(columns) - int(columns[::-1].argmax())
    ]
    weight = opacity[part].astype(np.float32) / 255
    below[part] = cv2.blendLinear(below[part], above[part], 1 - weight, weight)
    return below
