"""A person's gaze drawn on the picture: head, rays, heatmap, candidate targets and annotators."""

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from keypoint_detection.gaze.gaze_prediction import GazePrediction
from keypoint_detection.geometry import resize_affine, transform_points, warp_image
from keypoint_detection.utils.colours import Rgb
from keypoint_detection.utils.visualization_marks import (
    BLACK,
    SMALLEST_TEXT,
    WHITE,
    Picture,
    is_drawable,
    outline_of,
    put_disc,
    put_dot,
    put_line,
    put_text,
    text_size,
    to_rgb,
)

HEAD: Rgb = (245, 245, 245)
GAZE: Rgb = (240, 228, 66)
TRUTH: Rgb = (86, 180, 233)
"""White, yellow and sky blue: told apart with every colour vision deficiency, on the heat too."""

_HEAT_COLOURS = cv2.COLORMAP_INFERNO
_OPACITY = 0.75
_FAINT = 0.25
_LEAST_PEAK = 0.25  # a map that is low everywhere stays faint
_LEAST_WEIGHT = 0.05  # candidates below this share of the maps are left out
_DASH_PX = 7


def draw_gaze(
    image: NDArray[np.uint8],
    head_box: ArrayLike,
    eye: ArrayLike,
    prediction: GazePrediction,
    truth: ArrayLike | None = None,
    *,
    longest_px: int | None = None,
) -> Picture:
    """Draw where a person is said to look, and where it does.

    The box of the head; from the eye a ray to each candidate target, as wide as its weight; a ring around it
    whose radius is the standard deviation of its maps, with the weight where there are several; the heatmap,
    the more opaque the hotter; blue dots where the annotators pointed. Rays are dashed and the heat is faint
    where the person is said to look out of the picture.

    Args:
        image: `[h, w, c]` uint8, the picture that the prediction is of; not changed.
        head_box: `(x0, y0, x1, y1)` in pixels of it.
        eye: `(x, y)` likewise; NaN is the centre of the head.
        prediction: Of this person.
        truth: Points of the annotators `[a, 2]`, NaN left out; None draws none.
        longest_px: Longer side of the result in pixels; None keeps the size.

    Returns:
        RGB `[h', w', 3]`.
    """
    canvas, to_canvas = _resized(image, longest_px)
    box = transform_points(to_canvas, np.asarray(head_box, np.float64).reshape(2, 2))
    start = transform_points(to_canvas, np.asarray(eye, np.float64))
    start = start if np.isfinite(start).all() else box.mean(0)
    is_in = prediction.p_in >= 0.5
    if prediction.heat is not None:
        canvas = _heated(canvas, prediction.heat, 1.0 if is_in else _FAINT)
    _put_box(canvas, box)
    scale = float(np.sqrt(abs(np.linalg.det(to_canvas[:, :2]))))
    _put_modes(canvas, start, to_canvas, prediction, scale)
    if truth is not None:
        points = transform_points(to_canvas, np.asarray(truth, np.float64).reshape(-1, 2))
        _put_truth(canvas, points)
    if is_drawable(start):
        put_dot(canvas, start, 2.0 * _line_px(canvas), HEAD)
    _put_label(canvas, box, f"in {prediction.p_in:.2f}")
    return canvas


def _resized(image: NDArray[np.uint8], longest_px: int | None) -> tuple[Picture, NDArray[np.float64]]:
    """Return an RGB copy whose longer side is `longest_px`, and the map to it `[2, 3]`."""
    height, width = image.shape[:2]
    scale = 1.0 if longest_px is None else longest_px / max(height, width)
    hw = (max(1, round(height * scale)), max(1, round(width * scale)))
    to_canvas = resize_affine((height, width), hw)
    if hw == (height, width):
        return to_rgb(image).copy(), to_canvas
    if scale > 1:  # without a grey border, where the picture ends between two pixels
        larger = cv2.resize(to_rgb(image), hw[::-1], interpolation=cv2.INTER_LINEAR)
        return np.asarray(larger, np.uint8), to_canvas
    return warp_image(to_rgb(image), to_canvas, hw), to_canvas


def _heated(canvas: Picture, heat: NDArray[np.uint8], strength: float) -> Picture:
    """Return a picture below a map that covers it: the hotter, the more opaque."""
    size = (canvas.shape[1], canvas.shape[0])
    share = np.asarray(heat, np.float32) / 255
    share = share / max(float(share.max()), _LEAST_PEAK)
    share = np.asarray(cv2.resize(share, size, interpolation=cv2.INTER_LINEAR)).clip(0, 1)
    rows, columns = (np.flatnonzero(share.any(axis)) for axis in (1, 0))
    if not len(rows):
        return canvas
    warm = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)  # the rest stays as it is
    colours = cv2.applyColorMap(np.rint(255 * share[warm]).astype(np.uint8), _HEAT_COLOURS)[..., ::-1]
    opacity = (strength * _OPACITY * np.sqrt(share[warm]))[..., None]
    heated = canvas.copy()
    heated[warm] = np.rint(canvas[warm] * (1 - opacity) + colours * opacity).astype(np.uint8)
    return heated


def _line_px(canvas: Picture) -> int:
    return max(1, round(max(canvas.shape[:2]) / 260))


def _text_scale(canvas: Picture) -> float:
    return max(SMALLEST_TEXT, max(canvas.shape[:2]) / 750)


def _put_box(canvas: Picture, box: NDArray[np.float64]) -> None:
    corners = box[[0, 1, 1, 0], 0], box[[0, 0, 1, 1], 1]
    places = np.stack(corners, axis=1)
    width = _line_px(canvas)
    if not is_drawable(places).all():
        return
    for ink, thickness in ((BLACK, width + 2), (HEAD, width)):
        for start, end in zip(places, np.roll(places, -1, axis=0), strict=True):
            put_line(canvas, start, end, ink, thickness)


def _put_modes(
    canvas: Picture,
    start: NDArray[np.float64],
    to_canvas: NDArray[np.float64],
    prediction: GazePrediction,
    scale: float,
) -> None:
    """Draw the rays, then the rings above them, the heaviest last."""
    chosen = np.flatnonzero(prediction.weights >= min(_LEAST_WEIGHT, prediction.weights.max()))[::-1]
    ends = transform_points(to_canvas, prediction.modes_xy)
    thin = _line_px(canvas)
    for mode in chosen:
        width = max(1, round(2.5 * thin * float(prediction.weights[mode])))
        _put_ray(canvas, start, ends[mode], width, is_dashed=prediction.p_in < 0.5)
    for mode in chosen:
        radius = max(scale * float(prediction.mode_std_px[mode]), 2.5 * thin + 2.5)
        for ink, thickness in ((outline_of(GAZE), thin + 2), (GAZE, thin)):
            put_disc(canvas, ends[mode], radius, ink, thickness)
        if len(chosen) > 1:
            text = f"{100 * prediction.weights[mode]:.0f} %"
            corner = (round(ends[mode, 0] + radius + 3), round(ends[mode, 1] + radius))
            _put_inside(canvas, text, corner, GAZE)


def _put_ray(
    canvas: Picture, start: NDArray[np.float64], end: NDArray[np.float64], width: int, *, is_dashed: bool
) -> None:
    if not is_drawable(np.stack([start, end])).all():
        return
    n_dashes = max(1, round(float(np.linalg.norm(end - start)) / (2 * _DASH_PX * width)))
    cuts = np.linspace(0, 1, 2 * n_dashes) if is_dashed else np.array([0.0, 1.0])
    for ink, thickness in ((outline_of(GAZE), width + 2), (GAZE, width)):
        for first, last in cuts.reshape(-1, 2):
            put_line(canvas, start + first * (end - start), start + last * (end - start), ink, thickness)


def _put_truth(canvas: Picture, points: NDArray[np.float64]) -> None:
    radius = 1.5 * _line_px(canvas) + 1.5
    for point in points[is_drawable(points)]:
        put_disc(canvas, point, radius + 1.5, WHITE)
        put_disc(canvas, point, radius + 0.8, BLACK)
        put_disc(canvas, point, radius, TRUTH)


def _put_label(canvas: Picture, box: NDArray[np.float64], text: str) -> None:
    """Write above the head, or below where there is no room."""
    height = text_size(text, _text_scale(canvas))[1]
    above, below = round(box[0, 1]) - height - 2, round(box[1, 1]) + 4
    _put_inside(canvas, text, (round(box[0, 0]), above if above >= 0 else below), HEAD)


def _put_inside(canvas: Picture, text: str, corner: tuple[int, int], color: Rgb) -> None:
    """Write with the top-left corner at a pixel, or as near to it as the picture allows."""
    scale = _text_scale(canvas)
    size = text_size(text, scale)
    left, top = (
        max(0, min(place, room - length))
        for place, room, length in zip(corner, canvas.shape[1::-1], size, strict=True)
    )
    put_text(canvas, text, (left, top), scale, color)
