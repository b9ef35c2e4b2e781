"""What the settings of a training cost on a data set, before anything is trained."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from keypoint_detection.data.coco_dataset_table import read_table
from keypoint_detection.doctor_ceiling import ceiling
from keypoint_detection.doctor_findings import Finding
from keypoint_detection.doctor_merging import crowded_channels, merging_pairs, merging_points
from keypoint_detection.doctor_remedies import raising, separating
from keypoint_detection.doctor_round_trip import STAGES, round_trip
from keypoint_detection.doctor_samples import LabelSamples, Settings, label_samples
from keypoint_detection.geometry import is_inside
from keypoint_detection.metrics.average_precision import similarity_of_thresholds

LEAST_CEILING = 0.99
LARGEST_BIAS_PX = 0.1
LARGEST_UPSCALE = 1.5
PRECISION_HEATMAP_PX = 0.1
"""Heatmap pixels that a trained network is hardly ever more precise than: twice the decoder's mean error
when white noise of a twentieth of the peak lies on the map."""
STAGE_TEXTS = {
    "frame": "image -> network -> image",
    "stride": "network -> heatmap -> network",
    "decode": "target -> decoded point",
    "all": "all together",
}


def settings_findings(
    json_path: str | Path, settings: Settings, *, max_images: int = 500, seed: int = 0
) -> tuple[list[Finding], dict[str, Any]]:
    """Measure what settings cost on a data set; no image is read.

    Args:
        json_path: The COCO file.
        settings: The settings.
        max_images: Samples for the ceiling; four times as many for the round trip, all for the rest.
        seed: Seed of the samples that are drawn.

    Returns:
        Findings, one per kind of loss, and plain numbers for reports: `settings`, `samples`, `points`,
        `scale`, `round_trip`, `merging`, `crowded`, `cut`, `ceiling`.

    Raises:
        FileNotFoundError: The file or an image is missing.
        ValueError: The file is not valid, has no point to measure with, or the settings do not fit to it.
    """
    samples = label_samples(read_table(json_path), settings)
    if not samples.counts.any():
        raise ValueError(
            f"{json_path}: expected labelled keypoints in the channels to measure with, got none"
        )
    numbers = {
        "settings": asdict(settings),
        "samples": len(samples),
        "points": int(samples.counts.sum()),
        "scale": float(np.median(samples.scale)),
        "round_trip": round_trip(samples, max_images=4 * max_images, seed=seed),
        "merging": merging_points(samples),
        "crowded": crowded_channels(samples),
        "cut": _cut_points(samples),
    }
    findings = [*_crowded(numbers), *_merging(samples, numbers), *_cut(numbers), *_bias(numbers)]
    findings += [*_upscale(samples, numbers), *_precision(samples, numbers)]
    if settings.head == "regression" and numbers["crowded"]["samples"]:
        return findings, {**numbers, "ceiling": None}  # there is no target to be perfect at
    numbers["ceiling"] = ceiling(samples, max_images=max_images, seed=seed)
    return [*findings, *_ceiling(samples, numbers)], numbers


def settings_text(numbers: dict[str, Any]) -> str:
    """Return the numbers of `settings_findings` as a table for the console."""
    lines = [f"{'what moves a point (original pixels)':40}{'mean':>10}{'largest':>10}"]
    for stage in STAGES:
        row = numbers["round_trip"][stage]
        lines.append(f"  {STAGE_TEXTS[stage]:38}{row['mean_px']:10.4f}{row['largest_px']:10.4f}")
    merging, crowded, top = numbers["merging"], numbers["crowded"], numbers["ceiling"]
    lines += [
        f"points that merge: {merging['points']} of {numbers['points']} ({merging['share']:.2%}), in "
        f"{merging['images']} images; pairs closer than 2.3 sigma: {merging['blurred']}",
        f"most points in a channel: {crowded['most']}, detections at most: {crowded['limit']}",
        f"points outside their crop: {numbers['cut']['points']}",
    ]
    return "\n".join(lines + (_ceiling_lines(top) if top else ["ceiling: not defined"]))


def _ceiling_lines(top: dict[str, Any]) -> list[str]:
    """Return the scores of a perfect network, over all and per channel."""
    shown = [
        name
        for name in top["scores"]
        if "/" not in name and (name.startswith(("ap@", "pck@")) or name in ("map", "mean_error_px"))
    ]
    channels = list(dict.fromkeys(n.removesuffix("/map") for n in top["scores"] if n.endswith("/map")))
    width = max([len("all channels"), *map(len, channels)]) + 2
    lines = [f"ceiling: a perfect network on {top['samples']} of {top['of']} samples (seed {top['seed']})"]
    lines.append(" " * width + "".join(f"{_short(name):>12}" for name in shown))
    for channel in (None, *channels):
        values = [top["scores"].get(name if channel is None else f"{channel}/{name}") for name in shown]
        cells = "".join(f"{'-' if value is None else f'{value:.4f}':>12}" for value in values)
        lines.append(f"{channel or 'all channels':{width}}" + cells)
    return lines


def _short(name: str) -> str:
    return name.replace("mean_error_px", "error px")


def _cut_points(samples: LabelSamples) -> dict[str, Any]:
    """Return how many labels lie outside their crop, and the annotation that loses most of them."""
    if samples.settings.input_mode == "image":
        return {"points": 0, "annotations": 0, "worst": None}
    frame_hw = samples.input_hw[samples.sample]
    outside = samples.counts & ~is_inside(samples.frame_xy, (frame_hw[:, 0], frame_hw[:, 1]))
    instance = samples.table.instance[samples.point[outside]]
    cut, lost = np.unique(instance, return_counts=True)
    worst = None
    if len(cut):
        row = int(samples.row[samples.sample[outside][instance == cut[lost.argmax()]][0]])
        worst = {
            "image_id": int(samples.table.image_ids[row]),
            "annotation_id": int(samples.table.instance_ids[cut[lost.argmax()]]),
        }
    return {"points": int(outside.sum()), "annotations": len(cut), "worst": worst}


def _crowded(numbers: dict[str, Any]) -> list[Finding]:
    crowded = numbers["crowded"]
    if not crowded["samples"]:
        return []
    remedy = f"--max_keypoints {crowded['most']}"
    if crowded["head"] == "regression":
        remedy = "--head heatmap, as regression gives one point per channel"
    message = (
        f"expected at most {crowded['limit']} points per channel, got {crowded['most']} in channel "
        f"{crowded['worst']['channel']} of {crowded['worst']['file_name']} (too many in "
        f"{crowded['samples']} of {numbers['samples']} samples); use {remedy}"
    )
    return [Finding("too-many-points", "error", message, image_id=crowded["worst"]["image_id"])]


def _merging(samples: LabelSamples, numbers: dict[str, Any]) -> list[Finding]:
    merging, settings = numbers["merging"], samples.settings
    if not merging["pairs"]:
        return []
    worst = merging["examples"][0]
    message = (
        f"{merging['pairs']} pairs of points of one channel ({merging['share']:.2%} of the points, in "
        f"{merging['images']} images) come back as one at stride {settings.stride} and sigma "
        f"{settings.sigma_px:g}, {merging['suppressed']} of them within the radius of suppression, the "
        f"closest {' and '.join(worst['names'])} in {worst['file_name']}, {worst['distance_px']:.2f} px "
        f"apart ({worst['heatmap_distance_px']:.2f} heatmap px); "
        f"{separating(samples, merging_pairs(samples))}"
    )
    return [Finding("points-merge", "warning", message, worst["image_id"], worst["annotation_ids"][0])]


def _cut(numbers: dict[str, Any]) -> list[Finding]:
    cut = numbers["cut"]
    if not cut["points"]:
        return []
    message = (
        f"{cut['points']} points of {cut['annotations']} annotations lie outside their crop, where the "
        "network cannot find them; correct the boxes, or enlarge them more than --box_padding "
        f"{numbers['settings']['box_padding']:g}"
    )
    return [Finding("crop-cuts-points", "warning", message, **cut["worst"])]


def _bias(numbers: dict[str, Any]) -> list[Finding]:
    stages = numbers["round_trip"]
    bias, largest = stages["all"], max(STAGES[:-1], key=lambda stage: stages[stage]["mean_px"])
    if bias["mean_px"] <= LARGEST_BIAS_PX and not bias["lost"]:
        return []
    message = (
        f"expected points to come back within {LARGEST_BIAS_PX} px of the original image, got "
        f"{bias['mean_px']:.3f} px on average, {bias['largest_px']:.2f} px at worst, and {bias['lost']:.2%} "
        f"lost, most of it in the stage {STAGE_TEXTS[largest]!r}; use a larger --image_size, a smaller "
        "stride or a sigma from 1 to 3"
    )
    return [Finding("bias-large", "warning", message)]


def _upscale(samples: LabelSamples, numbers: dict[str, Any]) -> list[Finding]:
    scale, frame_hw = numbers["scale"], samples.settings.image_hw
    if samples.settings.input_mode == "instance" or frame_hw is None or scale <= LARGEST_UPSCALE:
        return []
    message = (
        f"--image_size {frame_hw[0]}x{frame_hw[1]} enlarges the images {scale:.1f} times, which costs about "
        f"{scale**2:.0f} times the time and memory and adds nothing to see; use their own size"
    )
    return [Finding("upscale", "warning", message)]


def _precision(samples: LabelSamples, numbers: dict[str, Any]) -> list[Finding]:
    """Find thresholds in pixels that are finer than a trained network is."""
    settings = samples.settings
    if similarity_of_thresholds(settings.thresholds) == "oks":
        return []
    stride = 1 if settings.head == "regression" else settings.stride
    heatmap_px = stride / numbers["scale"]
    precision = PRECISION_HEATMAP_PX * heatmap_px
    below = [threshold for threshold in settings.thresholds if threshold < precision]
    if not below:
        return []
    message = (
        f"expected thresholds of at least {precision:.2f} px, got {', '.join(f'{t:g}' for t in below)}: "
        f"a heatmap pixel is {heatmap_px:.1f} px of the original, and networks are rarely within a tenth of "
        "one; use larger --maximal_gt_keypoint_pixel_distances, a larger --image_size or a smaller stride"
    )
    return [Finding("threshold-below-precision", "warning", message)]


def _ceiling(samples: LabelSamples, numbers: dict[str, Any]) -> list[Finding]:
    """Find the thresholds that even a perfect network does not meet; the advice is for the lowest of them."""
    top = numbers["ceiling"]
    aps = {name: ap for name, ap in top["scores"].items() if name.startswith("ap@") and ap is not None}
    low = {name: ap for name, ap in aps.items() if ap < LEAST_CEILING}
    if not low:
        return []
    advice = raising(samples, top["worst"], min(low, key=lambda name: low[name]), LEAST_CEILING)
    message = (
        f"expected a perfect network to reach an AP of {LEAST_CEILING}, got "
        f"{', '.join(f'{name} {ap:.3f}' for name, ap in low.items())} on {top['samples']} of {top['of']} "
        f"samples: these settings lose the rest; {advice}"
    )
    return [Finding("ceiling-low", "warning", message)]
