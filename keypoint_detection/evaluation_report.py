"""The content of `metrics.json`: every number with its interval and its definition; and the text of it."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from keypoint_detection.data.channels import format_channels
from keypoint_detection.metric_contract import with_hash
from keypoint_detection.metrics.average_precision import similarity_of_thresholds
from keypoint_detection.models.inference import DETECTION_THRESHOLD
from keypoint_detection.models.scores import DEFAULT_ALPHAS

if TYPE_CHECKING:
    from keypoint_detection.evaluation_labels import EvaluationLabels
    from keypoint_detection.models.detector import KeypointDetector

AREA_RULE = "of the annotation; where missing, width x height of its box"

WHOLE_IMAGE = "whole image"

VISIBLE_ONLY = "visible; occluded ones are ignored"

FEW_UNITS = 20
"""A bootstrap over fewer images or groups than this gives intervals that are too narrow."""

SHOWN_PER_CHANNEL = ("map", "mean_error_px", "rmse_px", "missed", "visibility_accuracy")

VISIBILITY_SCORES = (
    "sign of the map at the detection that errors assign to a label, visible against occluded: balanced "
    "accuracy, and AUROC of the signed value"
)


def metric_contract(detector: "KeypointDetector", labels: "EvaluationLabels") -> dict[str, Any]:
    """Return every definition that the numbers depend on, with a short hash of it."""
    hparams = detector.hparams
    scoring = hparams["scoring"] or {}
    thresholds = list(hparams["maximal_gt_keypoint_pixel_distances"])
    definition: dict[str, Any] = {
        "labels": labels.fingerprint(),
        "images": len(labels.image_ids),
        "channels": format_channels(hparams["keypoint_channel_configuration"]),
        "box_source": labels.box_source,
    }
    if labels.has_labels:
        visible_only = hparams["detect_only_visible_keypoints"]
        definition["visibility"] = VISIBLE_ONLY if visible_only else "visible and occluded"
        definition |= _channel_contract(labels, thresholds, scoring, hparams["input_mode"])
        if detector.head.is_signed:
            definition["visibility_scores"] = VISIBILITY_SCORES
    return with_hash({**definition, "oks_ap": _oks_contract(labels)})


def _channel_contract(
    labels: "EvaluationLabels", thresholds: list[float], scoring: Mapping[str, Any], input_mode: str
) -> dict[str, Any]:
    """Return the definitions of the numbers per channel: AP, errors and PCK."""
    similarity = similarity_of_thresholds(thresholds)
    detections = f"peaks of a probability above {DETECTION_THRESHOLD:g}"
    definition: dict[str, Any] = {
        "pixel_space": "original image, an integer is the centre of a pixel",
        "detections": detections if input_mode == "image" else "the best peaks of each crop",
        "thresholds": thresholds,
        "similarity": "distance <= threshold px" if similarity == "distance" else "OKS >= threshold",
        "matching": "greedy by score, nearest free label within the threshold; equal scores as one step",
        "ignored": "detections on labels that the visibility rule excludes, or inside crowd boxes",
        "interpolation": {"all": "all points", "101": "101 recalls"}[scoring.get("ap_interpolation", "all")],
        "errors": "the m best detections of a channel, optimally assigned to its m labels",
        "pck": {
            "alpha": list(scoring.get("pck_alpha", DEFAULT_ALPHAS)),
            "length": labels.normalizer.describe(),
            "correct": "distance < alpha * length; a missed label is incorrect",
        },
    }
    if similarity == "oks":
        definition["oks"] = {**_sigmas(labels), "area": AREA_RULE}
    return definition


def _sigmas(labels: "EvaluationLabels") -> dict[str, Any]:
    return {"sigmas": labels.sigmas.by_name(), "sigmas_source": labels.sigmas.source}


def _oks_contract(labels: "EvaluationLabels") -> dict[str, Any] | str:
    """Return the definition of COCO's OKS-AP, or why there is none."""
    if isinstance(labels.instances, str):
        return f"not defined: {labels.instances}"
    return {
        **_sigmas(labels),
        "area": AREA_RULE,
        "thresholds": "0.50:0.05:0.95",
        "interpolation": "101 recalls",
        "max_detections": 20,
        "visibility": "labelled keypoints, visible or occluded",
        "ignored": "crowds, and instances without labelled keypoints",
        "instance_score": "box score times the mean score of its keypoints",
        "suppression": "none",
        "matcher": "COCO's, as in pycocotools",
    }


def metrics_report(
    values: Mapping[str, float],
    intervals: Mapping[str, Sequence[float]],
    channel_names: Sequence[str],
    contract: Mapping[str, Any],
) -> dict[str, Any]:
    """Return the content of `metrics.json`; NaN becomes null.

    Args:
        values: Numbers by name, `map` and `stem/map`.
        intervals: `(value, low, high)` by the same names; may be empty.
        channel_names: The channels.
        contract: Of `metric_contract`.
    """
    metrics = {
        name: {
            "value": _number(value),
            "interval": _interval(intervals.get(name)),
            "per_channel": {
                c: _number(values[f"{c}/{name}"]) for c in channel_names if f"{c}/{name}" in values
            },
            "per_channel_interval": {
                c: _interval(intervals[f"{c}/{name}"]) for c in channel_names if f"{c}/{name}" in intervals
            },
        }
        for name, value in values.items()
        if "/" not in name
    }
    return {"contract": dict(contract), "metrics": metrics}


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _interval(interval: Sequence[float] | None) -> list[float] | None:
    """Return `[low, high]` of `(value, low, high)`, or None where they are not defined."""
    if interval is None or not all(math.isfinite(end) for end in interval[1:3]):
        return None
    return [float(end) for end in interval[1:3]]


def scores_table(report: Mapping[str, Any]) -> str:
    """Return the content of `metrics.json` as text: every number and its interval, then a row per channel."""
    metrics = report["metrics"]
    made = report.get("intervals", {})
    has_intervals = any(metric["interval"] is not None for metric in metrics.values())
    heading = (
        f"{made.get('level', 0.95):.0%} interval by {made.get('unit', 'image')}" if has_intervals else ""
    )
    first = max(18, *(len(name) + 1 for name in metrics))
    lines = [f"{'metric':<{first}}{'value':>10}   {heading}".rstrip()]
    for name, metric in metrics.items():
        lines.append(
            f"{name:<{first}}{_text(metric['value']):>10}   {_interval_text(metric['interval'])}".rstrip()
        )
    shown = [name for name in metrics if name in SHOWN_PER_CHANNEL or name.startswith("ap@")]
    channels = list(dict.fromkeys(c for name in shown for c in metrics[name]["per_channel"]))
    if channels:
        width = max(len(channel) for channel in [*channels, "channel"]) + 2
        columns = {name: max(15, len(name) + 2) for name in shown}
        lines += ["", "channel".ljust(width) + "".join(name.rjust(wide) for name, wide in columns.items())]
        lines += [
            channel.ljust(width)
            + "".join(
                _text(metrics[name]["per_channel"].get(channel)).rjust(wide) for name, wide in columns.items()
            )
            for channel in channels
        ]
    return "\n".join([*lines, "", *_notes(report)])


def _notes(report: Mapping[str, Any]) -> list[str]:
    """Return what belongs beside the numbers: what is not defined, what to trust, and the hash."""
    contract, intervals = report["contract"], report.get("intervals", {})
    notes = []
    if isinstance(contract.get("oks_ap"), str):
        notes.append(f"oks_ap {contract['oks_ap']}")
    elif contract.get("box_source", WHOLE_IMAGE) != WHOLE_IMAGE:
        notes.append(f"boxes of the instances: {contract['box_source']}")
    if report["metrics"].get("visibility_accuracy", {"value": 0.0})["value"] is None:
        notes.append(
            "visibility_accuracy not defined: it needs a visible and an occluded label, both with a detection"
        )
    units = intervals.get("units", FEW_UNITS)
    if units < 2 and intervals.get("resamples"):
        notes.append(f"no intervals: they need at least 2 of the {intervals['unit']}s that are resampled")
    elif units < FEW_UNITS and intervals.get("resamples"):
        notes.append(
            f"intervals from {units} {intervals['unit']}s are too narrow; trust them from {FEW_UNITS}"
        )
    return [*notes, f"metric contract {contract['hash']}"]


def _text(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def _interval_text(interval: Sequence[float] | None) -> str:
    return "" if interval is None else f"{_text(interval[0])} to {_text(interval[1])}"
