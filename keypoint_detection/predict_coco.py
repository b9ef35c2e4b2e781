"""Predictions as COCO results: one instance per image, the best point of every channel.

A keypoint is x, y and its score. Where it is known which points are occluded, its third number is COCO's flag
instead (0 missing, 1 occluded, 2 visible), and the entry has the scores in `keypoint_scores` and, of a
visibility classifier, the probabilities in `p_visible` (null for a missing one).
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keypoint_detection.data.channels import Channels, channel_name
from keypoint_detection.data.coco_parser import CocoCategory, CocoKeypoints
from keypoint_detection.files import atomic_write
from keypoint_detection.predict_store import Record


@dataclass(frozen=True)
class CocoTarget:
    """Hold what COCO results refer to.

    Attributes:
        category_id: The category of every entry.
        names: The channel of each keypoint of the category, in its order.
        image_ids: Id by the place in the source; None numbers the images from 1, and tells in every entry
            which image that is.
    """

    category_id: int
    names: tuple[str, ...]
    image_ids: tuple[int, ...] | None = None

    def image_id(self, index: int) -> int:
        """Return the id of an image by its place in the source."""
        return index + 1 if self.image_ids is None else self.image_ids[index]


def check_one_keypoint_each(channels: Channels, form: str) -> None:
    """Raise a ValueError when a channel holds several keypoints, which a form cannot hold."""
    pooled = [channel for channel in channels if len(channel) > 1]
    if pooled:
        raise ValueError(
            f"{form} need one keypoint per channel, got {' = '.join(pooled[0])} in one; train "
            "with a channel per keypoint, or use predictions.csv"
        )


def coco_target(channels: Channels, coco: CocoKeypoints | None = None) -> CocoTarget:
    """Return category 1 with the channels as keypoints, or the category of a file that has these channels.

    Args:
        channels: Keypoint names per channel, one each.
        coco: The file; None numbers everything from 1.

    Raises:
        ValueError: A channel holds several keypoints, or not exactly one category of the file fits.
    """
    check_one_keypoint_each(channels, "COCO results")
    names = [channel_name(channel) for channel in channels]
    if coco is None:
        return CocoTarget(1, tuple(names))
    categories = [category for category in coco.categories if category.keypoints]
    fitting = [category for category in categories if {*category.keypoints} <= {*names}]
    if len(fitting) != 1:
        raise ValueError(_no_category(names, categories, fitting))
    return CocoTarget(fitting[0].id, tuple(fitting[0].keypoints))


def _no_category(
    names: Sequence[str], categories: Sequence[CocoCategory], fitting: Sequence[CocoCategory]
) -> str:
    expected = "--json_dataset_path: expected one category whose keypoints all have a channel in the model"
    if fitting:
        return f"{expected}, got {', '.join(category.name for category in fitting)}; give a file with one"
    lacking = [
        f"{category.name} ({', '.join(name for name in category.keypoints if name not in names)} missing)"
        for category in categories
    ]
    return f"{expected} ({', '.join(names)}), got {', '.join(lacking) or 'no category with keypoints'}"


def image_ids(paths: Sequence[Path], coco: CocoKeypoints, json_path: Path) -> tuple[int, ...]:
    """Return the ids that a COCO file gives to images: by path, or else by a file name that is there once.

    Args:
        paths: The images.
        coco: The file.
        json_path: Where it is; its file names are relative to that folder.

    Raises:
        ValueError: An image is not in the file, or only by a name that several have.
    """
    by_path = {(json_path.parent / image.file_name).resolve(): image.id for image in coco.images}
    file_names = [Path(image.file_name).name for image in coco.images]
    counts = Counter(file_names)
    by_name = {name: image.id for name, image in zip(file_names, coco.images, strict=True)}
    ids: list[int] = []
    for path in paths:
        known = by_path.get(path.resolve(), by_name.get(path.name))
        if known is None or (path.resolve() not in by_path and counts[path.name] > 1):
            raise ValueError(
                f"--json_dataset_path: expected each image once in {json_path}, found {path.name} "
                f"{counts[path.name]} times; leave the flag out to number the images from 1"
            )
        ids.append(known)
    return tuple(ids)


def write_coco_results(
    path: Path, records: Iterable[Record], target: CocoTarget, *, has_flags: bool = False
) -> None:
    """Write an entry per image in which something was found, one per line; a missing keypoint has score 0.

    Args:
        path: The file.
        records: The predictions.
        target: What the entries refer to.
        has_flags: Whether it is known which points are occluded: then the third number of a keypoint is
            COCO's flag.
    """
    with atomic_write(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        separator = "[\n"
        for record in records:
            entry = _entry(record, target, has_flags=has_flags)
            if entry is not None:
                file.write(separator + json.dumps(entry, allow_nan=False))
                separator = ",\n"
        file.write("[]\n" if separator == "[\n" else "\n]\n")


def _entry(record: Record, target: CocoTarget, *, has_flags: bool) -> dict[str, Any] | None:
    missing: Mapping[str, float] = {"x": 0.0, "y": 0.0, "score": 0.0}
    found = [record.entry["keypoints"][name] for name in target.names]
    if not any(found):
        return None
    best = [points[0] if points else missing for points in found]
    scores = [point["score"] for point in best]
    flags = [int(points[0].get("visibility", 2)) if points else 0 for points in found]
    triples = zip(best, flags if has_flags else scores, strict=True)
    entry = {
        "image_id": target.image_id(record.index),
        "category_id": target.category_id,
        "keypoints": [number for point, third in triples for number in (point["x"], point["y"], third)],
        "score": sum(scores) / len(scores),
    }
    if has_flags:
        entry["keypoint_scores"] = scores
    if any("p_visible" in point for point in best):
        entry["p_visible"] = [point.get("p_visible") for point in best]
    if target.image_ids is None and "frame" not in record.entry:
        entry["file_name"] = record.entry["source"]
    return entry
