"""How far a point moves from the image to the network, into a heatmap and back, stage by stage."""

import math

import numpy as np
import torch
from numpy.typing import NDArray

from keypoint_detection.doctor_samples import LabelSamples, Settings, draw_positions
from keypoint_detection.geometry import heatmap_to_image, image_to_heatmap, is_inside, transform_points
from keypoint_detection.models.inference import DETECTION_THRESHOLD
from keypoint_detection.utils.heatmap import extract_keypoints, generate_heatmaps
from keypoint_detection.utils.heatmap_refine import PATCH_RADIUS

MARGIN_PX = PATCH_RADIUS + 2
"""Heatmap pixels around points beyond which nothing changes how they are decoded."""
PATCH_PIXELS_AT_ONCE = 2**21
STAGES = ("frame", "stride", "decode", "all")


def round_trip(
    samples: LabelSamples, *, max_images: int = 2000, seed: int = 0
) -> dict[str, dict[str, float]]:
    """Return how far the labelled points move in each stage, in pixels of the original image.

    The stages are `frame` (image to network frame and back), `stride` (frame to heatmap and back), `decode`
    (drawn as the target and decoded, each point alone) and `all` of them in a row, everything in float32 as
    a training has it. Points outside their frame are left out: no heatmap shows them.

    Args:
        samples: The samples under the settings to measure.
        max_images: With more samples, this many are drawn by the seed.
        seed: Seed of the draw.

    Returns:
        Per stage `mean_px`, `largest_px`, and `lost`, the share of points that are not found again; the
        errors are 0 where there is no point.
    """
    positions = draw_positions(len(samples), max_images, seed)
    labels, place = samples.labels_of(positions)
    frame_hw = samples.input_hw[samples.sample[labels]]
    shown = samples.counts[labels] & is_inside(samples.frame_xy[labels], (frame_hw[:, 0], frame_hw[:, 1]))
    labels, place = labels[shown], place[shown]
    sample, settings = samples.sample[labels], samples.settings
    original, frame = samples.table.xy[samples.point[labels]], samples.frame_xy[labels]
    to_image, scale = samples.to_image(positions)[place], samples.scale[sample]
    decoded = _decode_alone(samples, labels)
    errors = {
        "frame": np.linalg.norm(transform_points(to_image, frame) - original, axis=1),
        "stride": np.linalg.norm(_there_and_back(frame, settings) - frame, axis=1) / scale,
        "decode": np.linalg.norm(decoded - frame, axis=1) / scale,
        "all": np.linalg.norm(transform_points(to_image, decoded) - original, axis=1),
    }
    return {stage: _summary(errors[stage]) for stage in STAGES}


def decode_patches(
    points: NDArray[np.float32], map_hw: NDArray[np.int64], settings: Settings, *, reach_px: float
) -> NDArray[np.float32]:
    """Draw the k points of each of m heatmaps, and decode them; only a patch around them is drawn.

    Args:
        points: `[m, k, 2]`, heatmap pixels.
        map_hw: `[m, 2]`, the size of each heatmap: a border of it cuts the patch as it cuts the map.
        settings: Give sigma and suppression.
        reach_px: The points of a map are at most this far from their mean.

    Returns:
        `[m, k, 2]`, the best peaks in heatmap pixels, NaN where there are fewer.
    """
    side = 2 * (math.ceil(reach_px) + MARGIN_PX + 1)
    # An even shift, because the decoder rounds halves to even pixels where it looks for a valley.
    corner = 2 * np.round((points.mean(axis=1) - side / 2) / 2)
    corner = np.clip(corner, 0, np.maximum(map_hw[:, ::-1] - side, 0)).astype(np.float32)[:, None]
    local = torch.from_numpy((points - corner)[:, None])
    threshold = 0.0 if settings.input_mode == "instance" else DETECTION_THRESHOLD
    found = []
    for part in local.split(max(1, PATCH_PIXELS_AT_ONCE // side**2)):
        maps = generate_heatmaps(part, torch.ones(part.shape[:3]), (side, side), settings.sigma_px)
        peaks, _ = extract_keypoints(maps, points.shape[1], settings.min_distance_px, threshold)
        found.append(peaks[:, 0].numpy())
    return np.concatenate(found) + corner if found else points


def _decode_alone(samples: LabelSamples, labels: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return where the head finds each label, drawn alone, in pixels of the frame."""
    frame, sample, settings = samples.frame_xy[labels], samples.sample[labels], samples.settings
    if settings.head == "regression":
        size = samples.input_hw[sample, ::-1].astype(np.float32)
        return (frame + 0.5) / size * size - 0.5
    points = image_to_heatmap(frame, settings.stride)[:, None]
    found = decode_patches(points, samples.heatmap_hw[sample], settings, reach_px=0.0)
    return heatmap_to_image(found[:, 0], settings.stride)


def _there_and_back(frame: NDArray[np.float32], settings: Settings) -> NDArray[np.float32]:
    if settings.head == "regression":
        return frame
    return heatmap_to_image(image_to_heatmap(frame, settings.stride), settings.stride)


def _summary(errors: NDArray[np.floating]) -> dict[str, float]:
    known = errors[np.isfinite(errors)]
    return {
        "mean_px": float(known.mean()) if len(known) else 0.0,
        "largest_px": float(known.max(initial=0.0)),
        "lost": float(1 - len(known) / len(errors)) if len(errors) else 0.0,
    }
