"""The numbers of an evaluation for readers: what each is called and means, and in which order they come."""

import json
import re
from collections.abc import Mapping
from typing import Any

from keypoint_detection.compare_table import lower_is_better
from keypoint_detection.metric_contract import HASH
from keypoint_detection.utils.colours import palette

ORDER = (
    *("map", "ap@", "oks_ap", "mean_error_px", "missed", "pck@", "pck_auc@"),
    *("visibility_accuracy", "visibility_auroc"),
    *("nme", "rmse_px", "image_rmse_px", "oks_"),
)
"""Most important first; the longest one that a name starts with counts."""

LABELS = {
    "map": "AP (mean)",
    "ap@": "AP at {at}",
    "pck@": "PCK at {at}",
    "pck_auc@": "PCK area to {at}",
    "mean_error_px": "Mean error",
    "missed": "Missed",
    "nme": "Normalised error",
    "rmse_px": "RMSE",
    "image_rmse_px": "RMSE per image",
    "oks_ap": "OKS-AP",
    "oks_ar": "OKS-AR",
    "visibility_accuracy": "Visibility accuracy",
    "visibility_auroc": "Visibility AUROC",
}

MEANINGS = {
    "map": "Average precision, the mean over channels and thresholds; 0 to 1.",
    "ap@": "Average precision where a detection counts as found {rule}, the mean over channels; 0 to 1.",
    "pck@": "Share of labels with a detection closer than {at} x {length}; a missed label is wrong; 0 to 1.",
    "pck_auc@": "Area under PCK from 0 to {at} x {length}, divided by {at}; 0 to 1.",
    "mean_error_px": "Mean distance of a label to its detection, in pixels of the original image; without "
    "missed labels.",
    "missed": "Labels without any detection, a count.",
    "nme": "Mean distance of a label to its detection, divided by the {length}; without missed labels.",
    "rmse_px": "Root of the mean squared distance over all labels, in pixels of the original image.",
    "image_rmse_px": "Root of the mean squared distance within an image, then the mean over images; pixels.",
    "oks_ap": "COCO's average precision of whole instances{part}; 0 to 1.",
    "oks_ar": "COCO's average recall of whole instances{part}; 0 to 1.",
    "visibility_accuracy": "Share of detected labels that are told rightly to be visible or occluded, the "
    "mean over these two classes; 0 to 1.",
    "visibility_auroc": "Chance that a visible label is told to be more visible than an occluded one; 0.5 is "
    "guessing, 1 is best.",
}

PARTS = {
    "": ", the mean over OKS 0.50 to 0.95",
    "50": " at OKS 0.50",
    "75": " at OKS 0.75",
    "_medium": " of medium size",
    "_large": " of large size",
}


def headline(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return every metric with its label, value, interval and meaning, the most important first."""
    return [
        {
            "name": name,
            "label": _label(name),
            "value": metric["value"],
            "interval": metric.get("interval"),
            "meaning": _meaning(name, report["contract"]),
            **({"digits": 0} if name == "missed" else {}),  # a count, though its interval need not be whole
        }
        for name, metric in _ordered(report["metrics"])
    ]


def per_keypoint(report: Mapping[str, Any], labels_per_channel: Mapping[str, int]) -> dict[str, Any]:
    """Return the table with a row per channel: every metric that is defined per channel.

    Args:
        report: The content of `metrics.json`.
        labels_per_channel: Labels that count, by channel.
    """
    chosen = [(name, metric) for name, metric in _ordered(report["metrics"]) if metric.get("per_channel")]
    columns = [
        {
            "name": name,
            "label": _label(name),
            "better": "low" if lower_is_better(name) else "high",
            "digits": 0 if name == "missed" else 2 if name.endswith("_px") else 3,
        }
        for name, _ in chosen
    ]
    colours = palette(len(labels_per_channel))
    rows = [
        {
            "channel": channel,
            "colour": colour,
            "labels": count,
            "cells": [
                {
                    "value": metric["per_channel"].get(channel),
                    "interval": metric.get("per_channel_interval", {}).get(channel),
                }
                for _, metric in chosen
            ],
        }
        for (channel, count), colour in zip(labels_per_channel.items(), colours, strict=True)
    ]
    return {"columns": columns, "rows": rows if columns else []}


def contract_rows(contract: Mapping[str, Any], prefix: str = "") -> list[list[str]]:
    """Return every field of the contract but the hash as name and text; a nested one is named with a dot."""
    rows: list[list[str]] = []
    for name, value in contract.items():
        if isinstance(value, Mapping):
            rows += contract_rows(value, f"{prefix}{name}.")
        elif value is not None and (prefix or name != HASH):
            rows.append([prefix + name, plain_text(value)])
    return rows


def plain_text(value: Any) -> str:
    """Return a plain value as text: lists with commas, numbers short."""
    if isinstance(value, list | tuple):
        return ", ".join(plain_text(part) for part in value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _ordered(metrics: Mapping[str, Any]) -> list[tuple[str, Any]]:
    return sorted(metrics.items(), key=lambda item: ORDER.index(_kind(item[0], ORDER)))


def _kind(name: str, kinds: Any) -> str:
    """Return the kind of a metric: its own name, else the longest one that it starts with."""
    fitting = [kind for kind in kinds if name == kind or (kind[-1] in "@_" and name.startswith(kind))]
    return max(fitting, key=len, default=ORDER[-1])


def _label(name: str) -> str:
    kind = _kind(name, LABELS)
    if name.startswith(("oks_ap", "oks_ar")):
        rest = name[6:].replace("_", " ").strip()
        return f"{LABELS[name[:6]]} {rest}".strip()
    return LABELS.get(kind, name).format(at=_at(name))


def _meaning(name: str, contract: Mapping[str, Any]) -> str:
    oks = name[:6] if name.startswith(("oks_ap", "oks_ar")) else ""
    text = MEANINGS.get(oks or _kind(name, MEANINGS), "")
    length = contract.get("pck", {}).get("length", "length of the instance")
    at = name.partition("@")[2]
    rule = f"within {_at(name)} of a label" if at.endswith("px") else f"from {_at(name)} on"
    return text.format(at=_at(name), rule=rule, length=length, part=PARTS.get(name[6:], name[6:]))


def _at(name: str) -> str:
    """Return the limit in a name, such as `2 px` of `ap@2px` and `OKS 0.5` of `ap@oks0.5`."""
    at = name.partition("@")[2]
    return f"OKS {at[3:]}" if at.startswith("oks") else re.sub("px$", " px", at)
