"""What the browsing page shows, as plain values: keypoints, categories, images, findings and predictions."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from keypoint_detection.browse_predictions import PagePredictions, image_error, names_of_channel
from keypoint_detection.browse_thumbnails import Thumbnail
from keypoint_detection.data.coco_parser import CocoAnnotation, CocoCategory, CocoImage, CocoKeypoints
from keypoint_detection.doctor_findings import Finding
from keypoint_detection.utils.colours import palette


def page_content(
    coco: CocoKeypoints,
    thumbnails: Sequence[Thumbnail],
    *,
    findings: Sequence[Finding] = (),
    splits: Mapping[int, str],
    predictions: PagePredictions | None,
    json_path: Path,
) -> dict[str, Any]:
    """Return the content of the page; every list of numbers refers to another one by position.

    Args:
        coco: The data set.
        thumbnails: One per image, in the order of the file.
        findings: What the doctor found.
        splits: Name of the split by image id; other images keep their own `split` field.
        predictions: Predicted points, or None when there are none.
        json_path: The COCO file, to tell its findings from those of another file.
    """
    names = coco.keypoint_names()
    by_image, others = _findings_by_image(coco, findings, json_path)
    codes = _codes(findings, by_image)
    channels = [] if predictions is None else predictions.channels
    annotations: dict[int, list[CocoAnnotation]] = defaultdict(list)
    for annotation in coco.annotations:
        annotations[annotation.image_id].append(annotation)
    positions = {category.id: position for position, category in enumerate(coco.categories)}
    images = []
    for image, thumbnail in zip(coco.images, thumbnails, strict=True):
        entry = _image(image, thumbnail, splits)
        entry["items"] = [_item(one, positions) for one in annotations[image.id]]
        entry["findings"] = [_finding(one, codes) for one in by_image[image.id]]
        if predictions is not None and image.id in predictions.points:
            labels = _labels(annotations[image.id], coco.categories, positions)
            entry |= _predicted(labels, predictions, image.id)
        images.append(entry)
    return {
        "keypoints": _keypoints(coco, names),
        "categories": [_category(category, names) for category in coco.categories],
        "channels": [{"name": c, "keypoint": _first_position(c, names)} for c in channels],
        "codes": list(codes.values()),
        "findings": [_finding(one, codes) for one in others],
        "predicted": predictions is not None,
        "images": images,
    }


def _keypoints(coco: CocoKeypoints, names: Sequence[str]) -> list[dict[str, Any]]:
    """Return every keypoint name with its colour and how many points of each visibility it has."""
    categories = {category.id: category.keypoints for category in coco.categories}
    counts = Counter(
        (name, int(flag))
        for annotation in coco.annotations
        for name, flag in zip(categories[annotation.category_id], annotation.keypoints[2::3], strict=True)
    )
    return [
        {"name": name, "colour": colour, "counts": [counts[name, flag] for flag in (0, 1, 2)]}
        for name, colour in zip(names, palette(len(names)), strict=True)
    ]


def _category(category: CocoCategory, names: Sequence[str]) -> dict[str, Any]:
    """Return a category; a line of its skeleton that names no two of its keypoints cannot be drawn."""
    count = len(category.keypoints)
    return {
        "name": category.name,
        "keypoints": [names.index(name) for name in category.keypoints],
        "skeleton": [
            [end - 1 for end in pair]
            for pair in category.skeleton or []
            if len(pair) == 2 and all(1 <= end <= count for end in pair)
        ],
    }


def _image(image: CocoImage, thumbnail: Thumbnail, splits: Mapping[int, str]) -> dict[str, Any]:
    """Return the fields of an image; its size is that of the file where it can be read."""
    own_split = (image.model_extra or {}).get("split")
    height, width = thumbnail.image_hw or (image.height, image.width)
    notes = [thumbnail.problem] if thumbnail.problem else []
    if (height, width) != (image.height, image.width):
        notes.append(
            f"the labels say {image.width} x {image.height} pixels, the image has {width} x {height}"
        )
    return {
        "id": str(image.id),  # a script's numbers are exact up to 2**53 only
        "name": image.file_name,
        "w": width,
        "h": height,
        "split": splits.get(image.id, "" if own_split is None else str(own_split)),
        "notes": notes,
    }


def _item(annotation: CocoAnnotation, positions: Mapping[int, int]) -> dict[str, Any]:
    return {
        "id": str(annotation.id),
        "category": positions[annotation.category_id],
        "box": annotation.bbox and [_short(value) for value in annotation.bbox],
        "crowd": bool(annotation.iscrowd),
        "points": [_short(value) for value in annotation.keypoints],
    }


def _short(value: float) -> float:
    """Return a number to a thousandth of a pixel."""
    rounded = round(value, 3)
    return int(rounded) if rounded.is_integer() and abs(rounded) < 1e15 else rounded


def _findings_by_image(
    coco: CocoKeypoints, findings: Iterable[Finding], json_path: Path
) -> tuple[dict[int, list[Finding]], list[Finding]]:
    """Return the findings of every image of this file, and those of the set as a whole or of another file."""
    by_image: dict[int, list[Finding]] = {image.id: [] for image in coco.images}
    image_of = {annotation.id: annotation.image_id for annotation in coco.annotations}
    others = []
    for finding in findings:
        here = not finding.file or Path(finding.file).resolve() == json_path.resolve()
        image_id = finding.image_id
        if image_id is None and finding.annotation_id is not None:
            image_id = image_of.get(finding.annotation_id)
        by_image[image_id].append(finding) if here and image_id in by_image else others.append(finding)
    return by_image, others


def _codes(
    findings: Iterable[Finding], by_image: Mapping[int, Sequence[Finding]]
) -> dict[str, dict[str, Any]]:
    """Return every code with its severity, its position and the number of images that have it."""
    images = Counter(code for found in by_image.values() for code in {one.code for one in found})
    codes: dict[str, dict[str, Any]] = {}
    for one in sorted(findings, key=lambda finding: finding.code):
        entry = {"code": one.code, "severity": one.severity, "images": images[one.code]}
        codes.setdefault(one.code, entry)
    return codes


def _finding(finding: Finding, codes: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    annotation = finding.annotation_id
    return {
        "code": list(codes).index(finding.code),
        "severity": finding.severity,
        "message": finding.message,
        "annotation": None if annotation is None else str(annotation),
        "file": Path(finding.file).name,
    }


def _labels(
    annotations: Iterable[CocoAnnotation], categories: Sequence[CocoCategory], positions: Mapping[int, int]
) -> dict[str, list[tuple[float, float]]]:
    """Return the labelled points of an image by keypoint name; crowds have none of their own."""
    labels: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for annotation in annotations:
        names, values = categories[positions[annotation.category_id]].keypoints, annotation.keypoints
        for name, x, y, flag in zip(names, values[::3], values[1::3], values[2::3], strict=True):
            if flag > 0 and not annotation.iscrowd:
                labels[name].append((x, y))
    return labels


def _predicted(
    labels: Mapping[str, Sequence[tuple[float, float]]], predictions: PagePredictions, image_id: int
) -> dict[str, Any]:
    found, channels = predictions.points[image_id], predictions.channels
    error = image_error(labels, found, channels)
    return {
        "predictions": [
            [channels.index(p.channel), _short(p.x), _short(p.y), round(p.score, 4)] for p in found
        ],
        "error": None if error.mean_px is None else _short(error.mean_px),
        "missed": error.missed,
    }


def _first_position(channel: str, names: Sequence[str]) -> int:
    """Return the position of the first keypoint that a channel pools, or -1 for a name that is unknown."""
    pooled = names_of_channel(channel, names)
    return names.index(pooled[0]) if pooled else -1
